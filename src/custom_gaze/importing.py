"""Importing a calibration session: checked, copied whole or not at all, put under DVC."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from custom_gaze.errors import CustomGazeError, InputError
from custom_gaze.files import whole_folder, write_bytes
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.params import SplitParams
from custom_gaze.paths import Paths
from custom_gaze.progress import bar
from custom_gaze.session_ids import check_new_session_id, sessions_option
from custom_gaze.sessions import (
    FRAME_NAME,
    MAX_IMAGE_BYTES,
    FrameError,
    LeftOut,
    Session,
    checked_session,
    load_frame,
    read_session,
)
from custom_gaze.splits import target_groups
from custom_gaze.untrusted import lies_inside

SIDE_FILES = ("calibration.json", "dataset.csv")  # the app's own: kept, never read
REPORTS_FOLDER = "reports"


@dataclass(frozen=True)
class ImportResult:
    """What was imported; `extent_px` is (left, top, right, bottom) of the targets on the screen."""

    session_id: str
    folder: Path
    frames: int
    targets: int
    extent_px: tuple[float, float, float, float]
    left_out: tuple[LeftOut, ...]
    next_command: str


def import_session(
    source: Path,
    session_id: str,
    paths: Paths,
    geometry: ScreenGeometry,
    same_target_px: float = SplitParams.same_target_px,
) -> ImportResult:
    """Check `source`, copy it byte for byte to data/sessions/<id> and put it under DVC.

    Frames that cannot be used are copied too, so that the raw session is whole; `left_out` names
    them. Links that leave the folder are not followed. `source` is only read.

    Raises:
        InputError: the id is not allowed or taken; `source` is no session or has no usable frame.
        CustomGazeError: writing or `dvc add` failed; the project is then as it was before.
    """
    check_new_session_id(session_id, "--session")
    folder = paths.sessions / session_id
    _check_id_free(folder)
    session = _without_undecodable(read_session(source, geometry))
    with whole_folder(folder) as temporary:
        for relative in _belonging(source):
            content = _read_source(source, relative)
            (temporary / relative).parent.mkdir(parents=True, exist_ok=True)
            (temporary / relative).write_bytes(content)
    put_under_dvc(folder, paths)
    points = np.array([(frame.target_x_px, frame.target_y_px) for frame in session.frames])
    left, top = points.min(axis=0).tolist()
    right, bottom = points.max(axis=0).tolist()
    return ImportResult(
        session_id=session_id,
        folder=folder,
        frames=len(session.frames),
        targets=int(target_groups(points, same_target_px).max()) + 1,
        extent_px=(left, top, right, bottom),
        left_out=session.left_out,
        next_command=f"dvc exp run {sessions_option([session_id])}",
    )


def _without_undecodable(session: Session) -> Session:
    """`session` with the frames that do not decode moved to `left_out`."""
    frames = []
    left_out = list(session.left_out)
    for frame in bar(session.frames, "checking"):
        try:
            load_frame(frame.image)
            frames.append(frame)
        except FrameError as error:
            left_out.append(LeftOut(frame.image.name, error.reason))
    return checked_session(session.folder, frames, left_out)


def _belonging(source: Path) -> Iterator[Path]:
    """What belongs to a session and may be copied, as paths relative to `source`."""
    for name in sorted(os.listdir(source)):
        if FRAME_NAME.fullmatch(name) or name in SIDE_FILES:
            yield from _if_allowed(source, Path(name))
    if not lies_inside(source, source / REPORTS_FOLDER):
        return
    for folder, subfolders, names in os.walk(source / REPORTS_FOLDER):
        subfolders.sort()
        for name in sorted(names):
            yield from _if_allowed(source, (Path(folder) / name).relative_to(source))


def _if_allowed(source: Path, relative: Path) -> Iterator[Path]:
    path = source / relative
    if lies_inside(source, path) and path.is_file() and path.stat().st_size <= MAX_IMAGE_BYTES:
        yield relative


def _read_source(source: Path, relative: Path) -> bytes:
    try:
        return (source / relative).read_bytes()
    except OSError as error:
        raise InputError(f"{source / relative}: cannot be read ({error.strerror})") from None


def _check_id_free(folder: Path) -> None:
    tracked = folder.with_name(f"{folder.name}.dvc")
    if tracked.exists():
        advice = f"choose another id, or `dvc remove --outs {tracked}` first"
    elif folder.exists() or folder.is_symlink():
        advice = f"choose another id, or keep what is there: `dvc add {folder}`"
    else:
        return
    raise InputError(f"--session: {folder.name!r} exists already in {folder.parent}; {advice}")


def put_under_dvc(folder: Path, paths: Paths) -> None:
    """`dvc add` the folder; if that fails, take the copy back."""
    ignore = folder.parent / ".gitignore"  # dvc adds a line to it
    ignored_before = ignore.read_bytes() if ignore.exists() else None
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "add", str(folder.relative_to(paths.root))],
            cwd=paths.root,
            env={**os.environ, "DVC_NO_ANALYTICS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            errors = [line for line in said if line.startswith("ERROR")] or said or ["no message"]
            raise CustomGazeError(
                f"{folder}: dvc add failed ({errors[0].strip()}); the copy was taken back"
            )
    except BaseException:  # Ctrl-C too
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_name(f"{folder.name}.dvc").unlink(missing_ok=True)
        if ignored_before is None:
            ignore.unlink(missing_ok=True)
        elif ignore.read_bytes() != ignored_before:
            write_bytes(ignore, ignored_before)
        raise
