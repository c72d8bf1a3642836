"""A folder of DVC's objects, as both sides have one: what it lacks, and what has arrived for it.

Standard library alone: the agent runs it on the far machine. An object on its way lies in
`.incoming/NAME` under the path it will have; there rsync goes on where a cut has stopped it. It is
compared with its hash and moved into place read-only: DVC takes a read-only object for verified.
(DVC's own push over SSH writes in place; what a cut leaves behind is found here by its hash.)
A name becomes part of a path, so each side looks at every name that the other sends.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable

PROTECTED = 0o444
INCOMING = ".incoming"
_FORGOTTEN_S = 7 * 86400.0  # what has been on its way for so long is not waited for
_CHUNK = 1 << 20
_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
_TRANSFER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # a run's name, a commit, a word of ours


def place_of(name: str) -> str:
    """Where an object lies below files/md5, e.g. ab/cdef…, or ab/cdef….dir for a folder.

    Raises:
        OSError: that is no object's name.
    """
    if not isinstance(name, str) or not _OBJECT.fullmatch(name):
        raise OSError(errno.EINVAL, "this is no object's name", str(name)[:80])
    return f"{name[:2]}/{name[2:]}"


def object_path(folder: str, name: str) -> str:
    """Where an object lies in a folder of them.

    Raises:
        OSError: that is no object's name.
    """
    return os.path.join(folder, "files", "md5", place_of(name))


def is_whole(folder: str, name: str) -> bool:
    """Whether the object is there with the content its name says; a damaged one is removed."""
    path = object_path(folder, name)
    try:
        if stat.S_IMODE(os.stat(path).st_mode) == PROTECTED:
            return True
        good = _md5(path) == name[:32]
    except FileNotFoundError:
        return False
    if good:
        with contextlib.suppress(PermissionError):  # another user's, whose store this is too
            os.chmod(path, PROTECTED)
    else:
        os.unlink(path)
    return good


def take_in(folder: str, incoming: str, names: Iterable[str], shared: bool = False) -> list[str]:
    """Move what has arrived in `.incoming/INCOMING` into place; return those that are damaged.

    Nothing but these names is taken, and only plain files; the rest of what lies there goes.

    Raises:
        OSError: a name is none of an object, or of a transfer.
    """
    if not _TRANSFER.fullmatch(incoming):
        raise OSError(errno.EINVAL, "this is no transfer's name", incoming[:80])
    place, damaged = os.path.join(folder, INCOMING, incoming), []
    for name in names:
        source, target = os.path.join(place, place_of(name)), object_path(folder, name)
        try:
            plain = stat.S_ISREG(os.lstat(source).st_mode)
        except FileNotFoundError:
            plain = False
        if not plain or _md5(source) != name[:32]:
            damaged.append(name)
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if shared:  # as DVC has it for `cache.shared = group`
            with contextlib.suppress(PermissionError):  # another user's folder, made so by them
                os.chmod(os.path.dirname(target), 0o2775)
        if is_whole(folder, name):  # another user of this store has sent it meanwhile
            continue
        os.chmod(source, PROTECTED)
        _move(source, target)
    shutil.rmtree(place, ignore_errors=True)
    return damaged


def is_shared(folder: str) -> bool:
    """Whether a group may write into the folder of objects."""
    try:
        return bool(os.stat(os.path.join(folder, "files", "md5")).st_mode & stat.S_IWGRP)
    except FileNotFoundError:
        return False


def _move(source: str, target: str) -> None:
    """A shared store may lie on another file system than what is on its way."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part = f"{target}.{os.getpid()}.part"
        shutil.copy(source, part)
        os.replace(part, target)


def make_incoming(folder: str) -> None:
    """The folder for what is on its way, without what nobody waits for any more."""
    place = os.path.join(folder, INCOMING)
    os.makedirs(place, mode=0o700, exist_ok=True)
    for name in os.listdir(place):
        path = os.path.join(place, name)
        if time.time() - os.lstat(path).st_mtime > _FORGOTTEN_S:
            shutil.rmtree(path, ignore_errors=True)


def _md5(path: str) -> str:
    digest = hashlib.md5()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
