"""The sessions of a project as `custom-gaze session list` and `show` tell them."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.common.yaml_files import read_yaml
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import check_session_id
from custom_gaze.data.dvc_sessions import dvc_file, is_tracked
from custom_gaze.data.held import images_on_disk, listed_files, session_ids
from custom_gaze.data.prepared import MANIFEST_FILE, LeftOut, Suspect, read_manifest
from custom_gaze.data.session_file import Exclusion, SessionFile, read_session_file
from custom_gaze.data.sessions import FRAME_NAME, Session, read_session
from custom_gaze.data.splits import number_targets
from custom_gaze.geometry import ScreenGeometry

Use = Literal["trained", "tested", "not named"]


@dataclass(frozen=True)
class SessionInfo:
    """One session. None stands for what cannot be known while its frames are not on disk.

    `frames` are usable, `excluded` are none of them; `days` are those of the capture here, as
    2026-01-31; `use` is what params.yaml names it for; `problem` says why it cannot be read.
    """

    id: str
    frames: int | None
    targets: int | None
    excluded: int
    days: tuple[str, ...]
    size_bytes: int | None
    use: Use
    on_disk: bool
    in_dvc: bool
    geometry: ScreenGeometry | None  # its own; None: params.yaml's
    problem: str | None = None


@dataclass(frozen=True)
class SessionDetail:
    """One session and its frames that are not used or perhaps should not be.

    `suspects` are of the last `prepare`, without those excluded since; None where there was none.
    """

    session: SessionInfo
    excluded: tuple[Exclusion, ...]
    left_out: tuple[LeftOut, ...]
    suspects: tuple[Suspect, ...] | None


def session_of(name: str, paths: Paths) -> Path:
    """The folder of a session, be it on disk or not.

    Raises:
        InputError: there is no such session; the message names those there are.
    """
    check_session_id(name, "session")
    there = session_ids(paths)
    if name not in there:
        known = f"there are {', '.join(there)}" if there else "there are none yet"
        raise InputError(f"{paths.sessions}: has no session {name!r}; {printable(known)}")
    return paths.sessions / name


def list_sessions(params: Params, paths: Paths) -> list[SessionInfo]:
    """All sessions of the project, by id."""
    return [_look(name, params, paths)[0] for name in session_ids(paths)]


def show_session(name: str, params: Params, paths: Paths) -> SessionDetail:
    """One session in detail.

    Raises:
        InputError: there is no such session, or its file is not what it should be.
    """
    folder = session_of(name, paths)
    said = read_session_file(folder)
    info, session = _look(name, params, paths)
    excluded = said.reasons()
    manifest = paths.dataset / name / MANIFEST_FILE
    suspects = None
    with suppress(InputError):  # not prepared, or by an earlier version
        known = read_manifest(manifest, name).suspects
        suspects = tuple(entry for entry in known if entry.filename not in excluded)
    left_out = session.left_out if session else ()
    return SessionDetail(
        info, said.excluded, tuple(entry for entry in left_out if not entry.excluded), suspects
    )


def frame_names(folder: Path, paths: Paths) -> list[str] | None:
    """The images of a session, from its folder or else from DVC's list of it in the cache; None
    where neither is here."""
    if folder.is_dir():
        return sorted((path.name for path in images_on_disk(folder)), key=_milliseconds)
    names = listed_files(folder, paths)
    if names is None:
        return None
    images = [name for name in names if name.endswith(".jpg") and FRAME_NAME.fullmatch(name)]
    return sorted(images, key=_milliseconds)


def _look(name: str, params: Params, paths: Paths) -> tuple[SessionInfo, Session | None]:
    folder = paths.sessions / name
    said, session, problem = _read(folder, params)
    names = frame_names(folder, paths)
    frames = len(names) - len(said.excluded) if names is not None else None
    targets = None
    if session is not None:
        frames = len(session.frames)
        targets = int(number_targets(session.frames, params.split.same_target_px).max()) + 1
    size = _out(folder).get("size")
    if folder.is_dir():
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    info = SessionInfo(
        id=name,
        frames=frames,
        targets=targets,
        excluded=len(said.excluded),
        days=_days(names or ()),
        size_bytes=size if isinstance(size, int) else None,
        use=_use(name, params),
        on_disk=folder.is_dir(),
        in_dvc=is_tracked(folder),
        geometry=said.geometry,
        problem=problem,
    )
    return info, session


def _use(name: str, params: Params) -> Use:
    if name in params.sessions:
        return "trained"
    return "tested" if name in params.evaluate.sessions else "not named"


def _read(folder: Path, params: Params) -> tuple[SessionFile, Session | None, str | None]:
    """What is said of a session, itself where it is on disk, and why it cannot be read."""
    said = SessionFile(excluded=(), geometry=None)
    try:
        said = read_session_file(folder)
        if not folder.is_dir():
            return said, None, None
        geometry = said.geometry_or(params.geometry)
        return said, read_session(folder, geometry, said.reasons()), None
    except InputError as error:
        return said, None, str(error)


def _out(folder: Path) -> dict[str, object]:
    """What the session's .dvc file says of its folder; nothing where it is none of DVC's."""
    try:
        content = read_yaml(dvc_file(folder))
        (out,) = content["outs"]
        return dict(out)
    except (InputError, LookupError, TypeError, ValueError):
        return {}


def _days(names: Sequence[str]) -> tuple[str, ...]:
    days = set()
    for name in names:
        try:
            days.add(datetime.fromtimestamp(_milliseconds(name) / 1000).strftime("%Y-%m-%d"))
        except (OverflowError, ValueError, OSError):  # no time at all
            continue
    return tuple(sorted(days))


def _milliseconds(name: str) -> int:
    return int(name.removeprefix("img_").removesuffix(".jpg"))
