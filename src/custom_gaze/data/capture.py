"""A folder that the app captured, before anything of it is imported: what belongs to a session."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from custom_gaze.common.console import bar
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import no_more_open_than
from custom_gaze.common.untrusted import lies_inside
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
from custom_gaze.geometry import ScreenGeometry

CAPTURE_FILE = "capture.json"  # of `custom-gaze capture`: camera, screen, targets
# Kept, never read: the app's own, and of `capture`.
SIDE_FILES = ("calibration.json", "dataset.csv", CAPTURE_FILE)
REPORTS_FOLDER = "reports"  # the app's own too: JSON files, in folders by date
REPORTS_DEPTH = 3  # folders below it


@dataclass(frozen=True)
class Capture:
    """A captured folder, or some of its frames.

    Attributes:
        session: its frames, as far as they were read; images are not decoded yet.
        belonging: what a session takes of it, as paths relative to its folder.
    """

    session: Session
    belonging: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return self.session.folder

    def images(self) -> list[str]:
        """The images that belong to it, usable or not, by name."""
        return [str(path) for path in self.belonging if _number_of(path, "jpg")]

    def numbers(self) -> set[str]:
        """The numbers of its frames, as in their names."""
        found = (_number_of(path) for path in self.belonging)
        return {number for number in found if number}

    def only(self, numbers: Collection[str], *, rest: bool) -> "Capture":
        """The frames of these numbers; with the `rest` also what is no frame."""

        def stays(name: str | Path) -> bool:
            number = _number_of(name)
            return rest if number is None else number in numbers

        session = Session(
            self.session.id,
            self.folder,
            tuple(frame for frame in self.session.frames if stays(frame.image.name)),
            tuple(entry for entry in self.session.left_out if stays(entry.filename)),
        )
        return Capture(session, tuple(path for path in self.belonging if stays(path)))

    def without(self, images: Collection[str]) -> "Capture":
        """It without these images and their JSON files."""
        gone = {_number_of(name) for name in images}
        return self.only(self.numbers() - gone, rest=True)

    def decoded(self) -> tuple[Session, tuple[str, ...]]:
        """Its session with the frames that do not decode moved to `left_out`; the names of those
        that carry an EXIF orientation.

        Raises:
            InputError: no frame decodes.
        """
        frames, turned = [], []
        left_out = list(self.session.left_out)
        for frame in bar(self.session.frames, "checking"):
            try:
                load_frame(frame.image)
            except FrameError as error:
                left_out.append(LeftOut(frame.image.name, error.reason))
                continue
            frames.append(frame)
            if is_turned(frame.image):
                turned.append(frame.image.name)
        return checked_session(self.folder, frames, left_out), tuple(turned)


def read_capture(source: Path, geometry: ScreenGeometry) -> Capture:
    """Read a captured folder, which is not changed.

    What belongs to a session: frames with their JSON files, those that cannot be used too, the
    app's side files and its JSON reports; no hidden file, and no link that leaves the folder.

    Raises:
        InputError: it is no session, or has no usable frame.
    """
    session = read_session(source, geometry)
    return Capture(session, tuple(_belonging(source)))


def copy_file(source: Path, relative: Path, folder: Path) -> None:
    """Copy a file, whose path is relative to `source`, into `folder`, byte for byte.

    Who may not read it may not read its copy.

    Raises:
        InputError: it cannot be read.
    """
    content = read_member(source, relative)
    copied = folder / relative
    if not copied.parent.exists():
        copied.parent.mkdir(parents=True)
        no_more_open_than(copied.parent, (source / relative).parent)
    copied.write_bytes(content)
    no_more_open_than(copied, source / relative)


def read_member(source: Path, relative: Path) -> bytes:
    """The bytes of a file in `source`.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return (source / relative).read_bytes()
    except OSError as error:
        raise InputError(f"{source / relative}: cannot be read ({error.strerror})") from None


def _number_of(name: str | Path, kind: str | None = None) -> str | None:
    """The number in a frame's name; None for what is no frame, or none of that kind."""
    found = FRAME_NAME.fullmatch(str(name))
    return found[1] if found and kind in (None, found[2]) else None


def _belonging(source: Path) -> Iterator[Path]:
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
