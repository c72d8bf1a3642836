"""Importing a calibration session: checked, copied whole or not at all, put under DVC."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_gaze.common.console import bar
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import no_more_open_than, whole_folder
from custom_gaze.common.untrusted import lies_inside
from custom_gaze.config.params import SplitParams
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import check_new_session_id, sessions_option
from custom_gaze.data.dvc_sessions import (
    dvc_file,
    is_tracked,
    put_under_dvc,
    sessions_lock,
    whole_or_taken_back,
)
from custom_gaze.data.prepared import LeftOut
from custom_gaze.data.sessions import (
    FRAME_NAME,
    MAX_IMAGE_BYTES,
    FrameError,
    Session,
    checked_session,
    is_turned,
    load_frame,
    read_session,
)
from custom_gaze.data.splits import number_targets, points_px
from custom_gaze.geometry import ScreenGeometry

SIDE_FILES = ("calibration.json", "dataset.csv")  # the app's own: kept, never read
REPORTS_FOLDER = "reports"  # the app's own too: JSON files, in folders by date
REPORTS_DEPTH = 3  # folders below it


@dataclass(frozen=True)
class ImportResult:
    """What was imported; `extent_px` is (left, top, right, bottom) of the targets on the screen.

    `not_copied` are files that look like frames and are none of this session; `turned` the frames
    with an EXIF orientation, which nothing heeds. `again` says that the session was there already,
    with the same bytes. `session` has the usable frames, in the folder they came from.
    """

    session_id: str
    folder: Path
    session: Session
    frames: int
    targets: int
    extent_px: tuple[float, float, float, float]
    left_out: tuple[LeftOut, ...]
    not_copied: tuple[LeftOut, ...]
    turned: tuple[str, ...]
    again: bool
    next_command: str


def import_session(
    source: Path,
    session_id: str,
    paths: Paths,
    geometry: ScreenGeometry,
    same_target_px: float = SplitParams.same_target_px,
) -> ImportResult:
    """Check `source`, copy it byte for byte to data/sessions/<id> and put it under DVC.

    Taken is what a session is made of: frames with their JSON files, those that cannot be used too
    (`left_out` names them), the app's side files and its JSON reports; no hidden file, and no link
    that leaves the folder. Who may not read a frame may not read its copy. `source` is only read.
    Where the same bytes are there already, from an import that was killed, it is brought to its
    end.

    Raises:
        InputError: the id is not allowed or taken; `source` is no session or has no usable frame.
        CustomGazeError: writing or `dvc add` failed; the project is then as it was before.
    """
    check_new_session_id(session_id, "--session")
    folder = paths.sessions / session_id
    found = read_session(source, geometry)
    with sessions_lock(paths):
        belonging = tuple(_belonging(source))
        again = _is_there(folder, source, belonging)
        session, turned = _decoded(found)
        if again:
            put_under_dvc(folder, paths)
        else:
            with whole_or_taken_back(folder, paths):
                _copy(source, belonging, folder)
                put_under_dvc(folder, paths)
    points = points_px(session.frames)
    left, top = points.min(axis=0).tolist()
    right, bottom = points.max(axis=0).tolist()
    copied = {str(relative) for relative in belonging}
    return ImportResult(
        session_id=session_id,
        folder=folder,
        session=session,
        frames=len(session.frames),
        targets=int(number_targets(session.frames, same_target_px).max()) + 1,
        extent_px=(left, top, right, bottom),
        left_out=tuple(entry for entry in session.left_out if entry.filename in copied),
        not_copied=tuple(entry for entry in session.left_out if entry.filename not in copied),
        turned=turned,
        again=again,
        next_command=f"dvc exp run {sessions_option([session_id])}",
    )


def _decoded(session: Session) -> tuple[Session, tuple[str, ...]]:
    """`session` with the frames that do not decode moved to `left_out`; the names of those that
    carry an EXIF orientation."""
    frames, turned = [], []
    left_out = list(session.left_out)
    for frame in bar(session.frames, "checking"):
        try:
            load_frame(frame.image)
        except FrameError as error:
            left_out.append(LeftOut(frame.image.name, error.reason))
            continue
        frames.append(frame)
        if is_turned(frame.image):
            turned.append(frame.image.name)
    return checked_session(session.folder, frames, left_out), tuple(turned)


def _belonging(source: Path) -> Iterator[Path]:
    """What belongs to a session and may be copied, as paths relative to `source`."""
    for name in sorted(os.listdir(source)):
        if FRAME_NAME.fullmatch(name) or name in SIDE_FILES:
            yield from _if_allowed(source, Path(name))
    if not lies_inside(source, source / REPORTS_FOLDER):
        return
    for folder, subfolders, names in os.walk(source / REPORTS_FOLDER):
        relative = Path(folder).relative_to(source)
        deepest = len(relative.parts) > REPORTS_DEPTH
        subfolders[:] = [] if deepest else sorted(n for n in subfolders if not n.startswith("."))
        for name in sorted(names):
            if name.endswith(".json") and not name.startswith("."):
                yield from _if_allowed(source, relative / name)


def _if_allowed(source: Path, relative: Path) -> Iterator[Path]:
    path = source / relative
    if lies_inside(source, path) and path.is_file() and path.stat().st_size <= MAX_IMAGE_BYTES:
        yield relative


def _is_there(folder: Path, source: Path, belonging: Sequence[Path]) -> bool:
    """Whether all of the session is in `folder` already; False where it may be copied there.

    Raises:
        InputError: the id is taken by something else.
    """
    if not os.path.lexists(folder) and not is_tracked(folder):
        return False
    present = {
        (Path(around) / name).relative_to(folder)
        for around, _, names in os.walk(folder)
        for name in names
    }
    same = not folder.is_symlink() and all(
        path in belonging and _read(folder, path) == _read(source, path) for path in present
    )
    if same and len(present) == len(belonging):
        return True
    if same and present and not is_tracked(folder):  # a killed `dvc add` was linking its copies
        return False
    if is_tracked(folder):
        advice = f"choose another id, or `dvc remove --outs {dvc_file(folder)}` first"
    else:
        advice = f"choose another id, or keep what is there: `dvc add {folder}`"
    raise InputError(f"--session: {folder.name!r} exists already in {folder.parent}; {advice}")


def _copy(source: Path, belonging: Sequence[Path], folder: Path) -> None:
    with whole_folder(folder) as new:
        for relative in belonging:
            content = _read(source, relative)
            copied = new / relative
            if not copied.parent.exists():
                copied.parent.mkdir(parents=True)
                no_more_open_than(copied.parent, (source / relative).parent)
            copied.write_bytes(content)
            no_more_open_than(copied, source / relative)
        no_more_open_than(new, source)


def _read(source: Path, relative: Path) -> bytes:
    try:
        return (source / relative).read_bytes()
    except OSError as error:
        raise InputError(f"{source / relative}: cannot be read ({error.strerror})") from None
