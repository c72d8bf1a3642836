"""A captured folder that grows: its new frames into the session it has, or a session for each day.

The app keeps adding to one folder. What a session holds already stays byte for byte; its folder is
replaced whole, by one that has the new frames too.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.files import no_more_open_than, whole_folder
from custom_gaze.common.untrusted import MOST_MODEL_BYTES, printable, read_file
from custom_gaze.config.params import SplitParams
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import check_new_session_id, check_session_id
from custom_gaze.data.capture import Capture, copy_file, read_capture, read_member
from custom_gaze.data.dvc_cache import Cache
from custom_gaze.data.dvc_sessions import (
    dvc_file,
    ensure_session_file,
    is_tracked,
    put_under_dvc,
    sessions_lock,
)
from custom_gaze.data.held import held_images, listed_files
from custom_gaze.data.importing import (
    ImportResult,
    held_besides,
    held_words,
    import_new,
    imported,
    nothing_new,
)
from custom_gaze.data.prepared import LeftOut
from custom_gaze.data.session_file import read_session_file
from custom_gaze.data.sessions import FRAME_NAME, Session, read_session
from custom_gaze.geometry import ScreenGeometry


@dataclass(frozen=True)
class Skipped:
    """A day of which no session was made, and why."""

    session_id: str
    reason: str


def update_session(
    source: Path,
    session_id: str,
    paths: Paths,
    geometry: ScreenGeometry,
    same_target_px: float = SplitParams.same_target_px,
) -> ImportResult:
    """Add to a session the frames of `source` that no session holds, and `dvc add` it again.

    Nothing that the session has is changed, whatever `source` has under the same name. Of the
    app's other files those come along that the session has not. Where there is nothing new, the
    session stays as it is; an update that was killed is brought to its end.

    Raises:
        InputError: there is no such session here; `source` is none, or nothing new of it can be
            used.
        CustomGazeError: writing or `dvc add` failed.
    """
    check_session_id(session_id, "--update")
    folder = paths.sessions / session_id
    own = read_session_file(folder).geometry_or(geometry)
    capture = read_capture(source, own)
    with sessions_lock(paths):
        if not folder.is_dir() or folder.is_symlink():
            raise _not_here(folder, source)
        return _update(capture, folder, paths, own, same_target_px)


def import_by_day(
    source: Path,
    prefix: str,
    paths: Paths,
    geometry: ScreenGeometry,
    same_target_px: float = SplitParams.same_target_px,
) -> tuple[list[ImportResult], list[Skipped]]:
    """Make a session `<prefix>-<year>-<month>-<day>` of each day's frames in `source`.

    Days are those of this machine's clock; a frame's time stands in its name. A day's session that
    is there already gets the frames that are new. Files that are no frames belong to no day and
    stay where they are.

    Raises:
        InputError: an id is not allowed or taken by other frames, before anything is written;
            `source` is no session, or other sessions hold all of it.
        CustomGazeError: writing or `dvc add` failed; the days before are made.
    """
    check_new_session_id(f"{prefix}-2026-01-05", "--session")
    capture = read_capture(source, geometry)
    days = _days(capture)
    made: list[ImportResult] = []
    skipped: list[Skipped] = []
    with sessions_lock(paths):
        parts = {f"{prefix}-{day}": capture.only(days[day], rest=False) for day in sorted(days)}
        grown = {name: _has_some_of(part, name, paths) for name, part in parts.items()}
        for name, part in parts.items():
            held = held_besides(name, part, paths)
            if grown[name]:
                folder = paths.sessions / name
                made.append(_update(part, folder, paths, geometry, same_target_px))
            elif held.sessions and not part.without(held.sessions).session.frames:
                skipped.append(Skipped(name, held_words(held)))
            elif not part.session.frames:
                first = part.session.left_out[0]
                skipped.append(Skipped(name, f"{first.filename}: {first.reason}"))
            else:
                made.append(import_new(part, name, paths, same_target_px))
    if not made:
        held = held_besides("", capture, paths)
        raise nothing_new(capture, held)
    return made, skipped


def _days(capture: Capture) -> dict[str, set[str]]:
    """The numbers of a capture's frames by their local day, as 2026-01-05."""
    days: dict[str, set[str]] = {}
    for number in capture.numbers():
        try:
            day = datetime.fromtimestamp(int(number) / 1000).strftime("%Y-%m-%d")
        except (ValueError, OverflowError, OSError):
            raise InputError(
                f"{capture.folder}: img_{number} has no time in its name, so it is of no day; "
                "import the folder as one session, without --split-by-day"
            ) from None
        days.setdefault(day, set()).add(number)
    return days


def _has_some_of(part: Capture, name: str, paths: Paths) -> bool:
    """Whether the session of a day is there with some of its frames; False where it is to be made.

    Raises:
        InputError: the id belongs to other frames.
    """
    folder = paths.sessions / name
    if not is_tracked(folder):  # nothing, or what a killed import left: the next one looks at it
        return False
    if not folder.is_dir():
        raise _not_here(folder, part.folder)
    if held_images(part.folder, part.images(), [name], paths).sessions:
        return True
    raise InputError(
        f"{folder}: has none of that day's frames in {part.folder}, so it is another capture; "
        "give the new sessions other names: --split-by-day --session PREFIX"
    )


def _update(
    capture: Capture, folder: Path, paths: Paths, geometry: ScreenGeometry, same_target_px: float
) -> ImportResult:
    held = held_besides(folder.name, capture, paths)
    own = held_images(capture.folder, capture.images(), [folder.name], paths).sessions
    new, clashing = _that_fit(capture.without({*held.sessions, *own}), folder)
    lost = _lost(folder, paths)
    added, left_out = 0, clashing
    turned: tuple[str, ...] = ()
    again = not new.images() and not lost
    if new.images():
        session, turned = new.decoded()
        added, left_out = len(session.frames), (*session.left_out, *clashing)
    if not again:
        with whole_folder(folder) as made:
            _fill(made, new, folder, lost)
    if again and _is_recorded(folder, paths):
        ensure_session_file(folder, paths)
    else:
        put_under_dvc(folder, paths)
    now = _read_whole(folder, geometry)
    return imported(folder, now, left_out, new, turned, held, added, again, same_target_px)


def _read_whole(folder: Path, geometry: ScreenGeometry) -> Session:
    said = read_session_file(folder)
    return read_session(folder, said.geometry_or(geometry), said.reasons())


def _fill(made: Path, new: Capture, folder: Path, lost: dict[str, Path]) -> None:
    """Everything that the session in `folder` has, what it lost, and what is new, into `made`."""
    for around, _, names in os.walk(folder):
        for name in sorted(names):
            copy_file(folder, (Path(around) / name).relative_to(folder), made)
    for relative, kept in lost.items():
        (made / relative).parent.mkdir(parents=True, exist_ok=True)
        (made / relative).write_bytes(read_file(kept, MOST_MODEL_BYTES))
        no_more_open_than(made / relative, folder)
    for path in new.belonging:
        if not (made / path).exists():
            copy_file(new.folder, path, made)
    no_more_open_than(made, folder)


def _that_fit(new: Capture, folder: Path) -> tuple[Capture, tuple[LeftOut, ...]]:
    """`new` without the frames whose names the session has for others; and those, with the reason.

    A frame's image or JSON file that the session has with the same bytes is no other.
    """
    others = [
        str(path)
        for path in new.belonging
        if FRAME_NAME.fullmatch(str(path))
        and (folder / path).exists()
        and read_member(folder, path) != read_member(new.folder, path)
    ]
    images = {f"{Path(name).stem}.jpg" for name in others}
    reason = f"session {folder.name} has another file of this name"
    return new.without(images), tuple(LeftOut(name, reason) for name in sorted(others))


def _lost(folder: Path, paths: Paths) -> dict[str, Path]:
    """Files of a session that DVC has and its folder has not, with their places in DVC's cache.

    A killed `dvc add` or `dvc checkout` leaves such a folder.

    Raises:
        InputError: one of them is not in the cache either.
    """
    listed = listed_files(folder, paths) or {}
    lost = {name: md5 for name, md5 in listed.items() if not (folder / name).is_file()}
    cache = Cache(paths.root)
    found = {name: cache.path(md5) for name, md5 in lost.items()}
    gone = [name for name, path in found.items() if not path.is_file()]
    if gone:
        raise InputError(
            f"{folder}: {len(gone)} of its files are not on disk, the first is "
            f"{printable(gone[0], 80)}; bring them back: dvc pull {dvc_file(folder)}"
        )
    return found


def _is_recorded(folder: Path, paths: Paths) -> bool:
    """Whether DVC's list of a session names the files that are in its folder."""
    listed = listed_files(folder, paths)
    present: Collection[str] = {
        str((Path(around) / name).relative_to(folder))
        for around, _, names in os.walk(folder)
        for name in names
    }
    return listed is not None and set(listed) == present


def _not_here(folder: Path, source: Path) -> CustomGazeError:
    if is_tracked(folder):
        return InputError(f"{folder}: is not on disk; bring it first: dvc pull {dvc_file(folder)}")
    return InputError(
        f"--update: there is no session {folder.name!r} in {folder.parent}; "
        f"make it: custom-gaze import {source} --session {folder.name}"
    )
