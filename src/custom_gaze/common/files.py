"""Files and folders that appear whole or not at all."""

import ctypes
import errno
import hashlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.temporary import temporary_place

# The system's, not the paths' fault.
CANNOT_SWAP = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # Linux: fcntl.h, linux/fs.h
RENAME_SWAP = 2  # macOS: stdio.h


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the path of a new file to write; on success it replaces `path`, on failure it vanishes.

    Raises:
        CustomGazeError: the operating system refused a write (full disk, no permission). An error
            about another file, or of a connection, that comes out of the block stays as it is.
    """
    with _place(path) as place:
        new = place / f"new{path.suffix.lower()}"
        with _writing(path, place):
            yield new
        with _writing(path):
            _move(os.replace, new, path)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder to fill; on success it replaces `path`, else it vanishes.

    Killed at any instant, `path` is the old folder or the new one. Where the system cannot swap two
    folders, the old one may lie beside it for an instant; the next use of `path` puts it back.

    Raises:
        CustomGazeError: as `whole_file`.
    """
    with _place(path) as place:
        new = place / "new"
        with _writing(path):
            _put_back(path)
            new.mkdir()
        with _writing(path, place):
            yield new
        with _writing(path):
            _move(_replace_folder, new, path)


@contextmanager
def _place(path: Path) -> Iterator[Path]:
    """A private folder to make `path` in; its parent is made where it is missing."""
    with ExitStack() as stack:
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            place = stack.enter_context(temporary_place(path))
        yield place


@contextmanager
def _writing(path: Path, place: Path | None = None) -> Iterator[None]:
    """Say that `path` cannot be written; where `place` is named, only for errors of writing there.

    Raises:
        CustomGazeError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        if place is not None and not _is_of_writing(error, place):
            raise
        reason = error.strerror or str(error)
        raise CustomGazeError(
            f"{path}: cannot be written ({reason}{_where(error, place)}); it is left as it was"
        ) from error


def _is_of_writing(error: OSError, place: Path) -> bool:
    if isinstance(error, (ConnectionError, TimeoutError)) or error.errno is None:
        return False
    names = _names(error)  # none where a write fails, source and target where a copy does
    return not names or any(name.is_relative_to(place) for name in names)


def _names(error: OSError) -> list[Path]:
    named = (error.filename, error.filename2)
    return [Path(os.fsdecode(n)) for n in named if isinstance(n, (str, bytes, os.PathLike))]


def _where(error: OSError, place: Path | None) -> str:
    """Which file it is about; of a new one its name in the folder, for the place goes away."""
    names = _names(error)
    if place is None:
        return f" at {names[0]}" if names else ""
    inside = [name.relative_to(place).parts[1:] for name in names if name.is_relative_to(place)]
    return f" at {'/'.join(inside[0])}" if inside and inside[0] else ""


def _move(put: Callable[[Path, Path], None], new: Path, path: Path) -> None:
    """`put` the new one in its place."""
    try:
        put(new, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # One file system mounted twice, as containers do: the same device, yet no renames between.
        with temporary_place(path, beside=True) as place:
            copied = place / new.name
            if new.is_dir():
                shutil.copytree(new, copied, symlinks=True)
            else:
                shutil.copy2(new, copied)
            put(copied, path)


def _replace_folder(new: Path, path: Path) -> None:
    if not os.path.lexists(path):
        os.replace(new, path)
        return
    if exchange(new, path):  # what was there goes with the temporary place
        return
    old = _old(path)
    os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        os.replace(old, path)
        raise
    _remove(old)


def exchange(one: Path, other: Path) -> bool:
    """Swap two paths that both exist, in one step: at no instant is either absent.

    Returns False, with nothing changed, where the system or the file system has no such call.

    Raises:
        OSError: the system refused it.
    """
    names = os.fsencode(one), os.fsencode(other)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if sys.platform == "darwin":
            failed = libc.renamex_np(*names, ctypes.c_uint(RENAME_SWAP))
        else:
            flags = ctypes.c_uint(RENAME_EXCHANGE)
            failed = libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], flags)
    except AttributeError:  # the C library has no such function
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in CANNOT_SWAP:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _put_back(path: Path) -> None:
    """Undo or finish a replacement that was killed between its two renames."""
    old = _old(path)
    if not os.path.lexists(old):
        return
    if os.path.lexists(path):
        _remove(old)
    else:
        os.replace(old, path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def no_more_open_than(path: Path, *sources: Path) -> None:
    """Take from `path` what one of its `sources`, which it is made of, permits to nobody else.

    Raises:
        OSError: one of them is not there.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    for source in sources:
        mode &= source.stat().st_mode
    path.chmod(mode | (0o700 if path.is_dir() else 0o600))  # its owner keeps what is theirs


def write_bytes(path: Path, content: bytes, made_of: Sequence[Path] = ()) -> None:
    """Write `content` to `path`, whole or not at all, no more open than what it is made of."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
        no_more_open_than(temporary, *made_of)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinity are refused, they are not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
