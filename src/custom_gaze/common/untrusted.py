"""What comes from elsewhere: files that the user names, paths and words out of files and peers.

A file is opened only where it is a regular one of a size that its kind can have: a pipe or a device
would hang, a file of gigabytes would fill the memory. A path out of a file stays in its folder. A
word out of a file or from another machine is printed through `printable`, never raw.
"""

import os
import stat
from pathlib import Path

from custom_gaze.common.errors import InputError

MOST_TEXT_BYTES = 4 << 20  # params.yaml, config.json, a manifest: each is a few kB
MOST_TABLE_BYTES = 64 << 20  # labels.csv, index.csv: about 200 bytes a frame, 2 kB once read
MOST_MODEL_BYTES = 1 << 30  # weights and networks; a ResNet-50 has 0.1 GB, 0.3 with its Adam


def printable(text: object, most: int = 300) -> str:
    """`text` on one line without control characters, cut after `most` characters.

    Runs of white space become one space; what a terminal would act on (escape codes, bidirectional
    marks) is shown as Python escapes it.
    """
    line = visible(" ".join(str(text)[: 4 * most + 100].split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def visible(text: str) -> str:
    """`text` on one line, its spaces kept; what a terminal would act on is shown escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def regular_file(path: Path, most_bytes: int, advice: str = "") -> Path:
    """Return `path` where it is a regular file of at most `most_bytes`, links followed.

    Args:
        path: what the user, or a file of theirs, names.
        most_bytes: more than a file of this kind can have.
        advice: what to do, said behind the reason.

    Raises:
        InputError: it is missing, a folder, a pipe, a device, a loop of links, too large, or no
            path at all (it holds a NUL, or is too long).
    """
    behind = f"; {advice}" if advice else ""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise InputError(f"{printable(path)}: not found{behind}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{printable(path)}: cannot be read ({reason}){behind}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "is a folder, not a file" if stat.S_ISDIR(found.st_mode) else "is no regular file"
        raise InputError(f"{printable(path)}: {kind}{behind}")
    if found.st_size > most_bytes:
        raise InputError(
            f"{printable(path)}: has {found.st_size} bytes, more than the {most_bytes} that such "
            f"a file can have{behind}"
        )
    return path


def read_file(path: Path, most_bytes: int, advice: str = "") -> bytes:
    """The content of a file that `regular_file` accepts.

    Raises:
        InputError: as `regular_file`, or it cannot be read.
    """
    regular_file(path, most_bytes, advice)
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)  # it may have grown meanwhile
    except OSError as error:
        behind = f"; {advice}" if advice else ""
        raise InputError(f"{printable(path)}: cannot be read ({error.strerror}){behind}") from None
    if len(content) > most_bytes:
        raise InputError(f"{printable(path)}: has more than {most_bytes} bytes")
    return content


def read_text(path: Path, most_bytes: int = MOST_TEXT_BYTES, advice: str = "") -> str:
    """The same as text, which has to be UTF-8.

    Raises:
        InputError: as `read_file`, or it is no UTF-8.
    """
    try:
        return read_file(path, most_bytes, advice).decode("utf-8")
    except UnicodeDecodeError as error:
        behind = f"; {advice}" if advice else ""
        raise InputError(f"{printable(path)}: no UTF-8 text (byte {error.start}){behind}") from None


def inside(folder: Path, name: str) -> Path:
    """`folder / name` for a name that a file or a peer gives, where it stays below `folder`.

    Raises:
        InputError: it is empty or absolute, climbs with `..`, holds a NUL or a backslash, or a
            link on its way leads out of the folder.
    """
    if not stays_inside(name):
        raise InputError(f"{folder}: {printable(name, 80)!r} is no path inside this folder")
    path = folder / name
    if not lies_inside(folder, path):
        raise InputError(f"{folder}: {printable(name, 80)!r} leads out of this folder")
    return path


def stays_inside(name: str) -> bool:
    """Whether a relative path stays below its folder, by its words alone."""
    bad_parts = any(part in ("", ".", "..") for part in name.split("/"))
    return not bad_parts and not set(name) & {"\0", "\\"}


def lies_inside(folder: Path, path: Path) -> bool:
    """Whether `path`, its links followed, is still somewhere below `folder`."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # links that go in a circle, a NUL
        return False
