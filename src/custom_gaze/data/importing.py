"""Importing a calibration session: checked, copied whole or not at all, put under DVC."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import no_more_open_than, whole_folder
from custom_gaze.config.params import SplitParams
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import check_new_session_id
from custom_gaze.data.capture import Capture, copy_file, read_capture, read_member
from custom_gaze.data.dvc_sessions import (
    is_tracked,
    put_under_dvc,
    sessions_lock,
    whole_or_taken_back,
)
from custom_gaze.data.held import Held, held_images, session_ids
from custom_gaze.data.prepared import LeftOut
from custom_gaze.data.session_file import SessionFile, write_session_file
from custom_gaze.data.sessions import Frame, Session
from custom_gaze.data.splits import number_targets, points_px
from custom_gaze.geometry import ScreenGeometry


@dataclass(frozen=True)
class ImportResult:
    """What was imported; `extent_px` is (left, top, right, bottom) of the targets on the screen.

    `left_out` are the new frames that cannot be used, `not_copied` files that look like frames and
    are none of this session; `turned` the new frames with an EXIF orientation, which nothing heeds.
    `held` are the images that other sessions hold, which were left out. `added` is None for a new
    session, else how many frames one that was there has got. `again` says that nothing had to be
    written. `session` has all its usable frames, in the folder that they were read from.
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
    held: Held
    added: int | None
    again: bool

    @property
    def is_drawn(self) -> bool:
        """Whether all its frames are the demo's."""
        return all(frame.drawn for frame in self.session.frames)

    def copied_frames(self) -> list[Frame]:
        """The session's usable frames where they are now; a data set's were read elsewhere."""
        return [replace(f, image=self.folder / f.image.name) for f in self.session.frames]


def import_session(
    source: Path,
    session_id: str,
    paths: Paths,
    geometry: ScreenGeometry,
    same_target_px: float = SplitParams.same_target_px,
    own_geometry: ScreenGeometry | None = None,
) -> ImportResult:
    """Check `source`, copy it byte for byte to data/sessions/<id> and put it under DVC.

    What `read_capture` finds is taken, but for the images that another session holds. `source` is
    only read. Where the same bytes are there already, from an import that was killed, it is brought
    to its end. `own_geometry`, the session's own screen in place of `geometry`, goes into its file.

    Raises:
        InputError: the id is not allowed or taken; `source` is no session, has no usable frame, or
            none that other sessions do not hold.
        CustomGazeError: writing or `dvc add` failed; the project is then as it was before.
    """
    check_new_session_id(session_id, "--session")
    capture = read_capture(source, own_geometry or geometry)
    with sessions_lock(paths):
        return import_new(capture, session_id, paths, same_target_px, own_geometry)


def import_new(
    capture: Capture,
    session_id: str,
    paths: Paths,
    same_target_px: float,
    own_geometry: ScreenGeometry | None = None,
) -> ImportResult:
    """The same for a capture that was read, under the lock of the sessions."""
    folder = paths.sessions / session_id
    held = held_besides(session_id, capture, paths)
    new = capture.without(held.sessions)
    if held.sessions and not new.session.frames:
        raise nothing_new(capture, held)
    again = _is_there(folder, new)
    session, turned = new.decoded()
    if again:
        put_under_dvc(folder, paths)
    else:
        with whole_or_taken_back(folder, paths):
            if own_geometry is not None:  # first: what a kill leaves here is made anew
                write_session_file(folder, SessionFile(excluded=(), geometry=own_geometry))
            with whole_folder(folder) as made:
                for relative in new.belonging:
                    copy_file(new.folder, relative, made)
                no_more_open_than(made, new.folder)
            put_under_dvc(folder, paths)
    left_out = session.left_out
    return imported(folder, session, left_out, new, turned, held, None, again, same_target_px)


def held_besides(session_id: str, capture: Capture, paths: Paths) -> Held:
    """Which images of a capture other sessions than this one hold."""
    others = [name for name in session_ids(paths) if name != session_id]
    return held_images(capture.folder, capture.images(), others, paths)


def nothing_new(capture: Capture, held: Held) -> InputError:
    """The error for a capture of which other sessions have all that can be used."""
    most = max(held.counts().items(), key=lambda one: one[1])[0]
    return InputError(
        f"{capture.folder}: nothing to import: {held_words(held)} already, and no other frame "
        "can be used; what the app adds to this folder later goes into that session with "
        f"`custom-gaze import {capture.folder} --update {most}`"
    )


def held_words(held: Held) -> str:
    """'32 frames are in session day1', or in several."""
    counts = held.counts()
    total = sum(counts.values())
    frames = "1 frame is" if total == 1 else f"{total} frames are"
    if len(counts) == 1:
        return f"{frames} in session {next(iter(counts))}"
    each = ", ".join(f"{count} in {name}" for name, count in counts.items())
    return f"{frames} in other sessions ({each})"


def imported(
    folder: Path,
    session: Session,
    left_out: tuple[LeftOut, ...],
    new: Capture,
    turned: tuple[str, ...],
    held: Held,
    added: int | None,
    again: bool,
    same_target_px: float,
) -> ImportResult:
    """The result for a session of which `new` was taken and some of that is `left_out`."""
    points = points_px(session.frames)
    left, top = points.min(axis=0).tolist()
    right, bottom = points.max(axis=0).tolist()
    copied = {str(relative) for relative in new.belonging}
    return ImportResult(
        session_id=folder.name,
        folder=folder,
        session=session,
        frames=len(session.frames),
        targets=int(number_targets(session.frames, same_target_px).max()) + 1,
        extent_px=(left, top, right, bottom),
        left_out=tuple(entry for entry in left_out if entry.filename in copied),
        not_copied=tuple(entry for entry in left_out if entry.filename not in copied),
        turned=turned,
        held=held,
        added=added,
        again=again,
    )


def _is_there(folder: Path, capture: Capture) -> bool:
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
        path in capture.belonging and read_member(folder, path) == read_member(capture.folder, path)
        for path in present
    )
    if same and len(present) == len(capture.belonging):
        return True
    if same and present and not is_tracked(folder):  # a killed `dvc add` was linking its copies
        return False
    if is_tracked(folder):
        advice = (
            "choose another id, or add to it what it has not: "
            f"`custom-gaze import {capture.folder} --update {folder.name}`"
        )
    else:
        advice = f"choose another id, or keep what is there: `dvc add {folder}`"
    raise InputError(f"--session: {folder.name!r} exists already in {folder.parent}; {advice}")
