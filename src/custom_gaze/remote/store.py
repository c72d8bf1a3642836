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
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable

from custom_gaze.remote.agent import Place, Replies

INCOMING = ".incoming"
FOLDER = ".dir"  # how the name of a folder's list ends
_PROTECTED = 0o444
_FORGOTTEN_S = 7 * 86400.0  # what has been on its way for so long is not waited for
_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
_TRANSFER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # a run's name, a commit


def place_of(name: str) -> str:
    """Where an object lies below files/md5, e.g. ab/cdef…, or ab/cdef….dir for a folder."""
    if not isinstance(name, str) or not _OBJECT.fullmatch(name):
        raise OSError(errno.EINVAL, "this is no object's name", str(name)[:80])
    return f"{name[:2]}/{name[2:]}"


def object_path(folder: str, name: str) -> str:
    """Where an object lies in a folder of them."""
    return os.path.join(folder, "files", "md5", place_of(name))


def is_whole(folder: str, name: str) -> bool:
    """Whether the object is there with the content its name says; a damaged one is removed."""
    path = object_path(folder, name)
    try:
        if stat.S_IMODE(os.stat(path).st_mode) == _PROTECTED:
            return True
        good = md5_of(path) == name[:32]
    except FileNotFoundError:
        return False
    if good:
        with contextlib.suppress(PermissionError):  # another user's, whose store this is too
            os.chmod(path, _PROTECTED)
    else:
        os.unlink(path)
    return good


def make_incoming(folder: str, transfer: str) -> str:
    """The place for what is on its way, without what nobody waits for any more."""
    if not _TRANSFER.fullmatch(transfer):
        raise OSError(errno.EINVAL, "this is no transfer's name", transfer[:80])
    around = os.path.join(folder, INCOMING)
    os.makedirs(os.path.join(around, transfer), mode=0o700, exist_ok=True)
    for path in (os.path.join(around, name) for name in os.listdir(around) if name != transfer):
        if time.time() - os.lstat(path).st_mtime > _FORGOTTEN_S:
            shutil.rmtree(path, ignore_errors=True)
    return os.path.join(around, transfer)


def take_in(folder: str, transfer: str, names: Iterable[str], shared: bool = False) -> list[str]:
    """Move what has arrived in `.incoming/TRANSFER` into place; return those that are damaged.

    Nothing but these names is taken, and only plain files; the rest of what lies there goes.
    A folder's list, which comes last, is taken where all the files before it were.
    """
    place = make_incoming(folder, transfer)
    damaged: list[str] = []
    for name in names:
        source, target = os.path.join(place, place_of(name)), object_path(folder, name)
        is_file = os.path.isfile(source) and not os.path.islink(source)
        good = is_file and md5_of(source) == name[:32]
        if not good or (damaged and name.endswith(FOLDER)):
            damaged.append(name)
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if shared:  # as DVC has it for `cache.shared = group`
            with contextlib.suppress(PermissionError):  # another user's folder, made so by them
                os.chmod(os.path.dirname(target), 0o2775)
        if is_whole(folder, name):  # another user of this store has sent it meanwhile
            continue
        os.chmod(source, _PROTECTED)
        part = f"{target}.{os.getpid()}.part"
        shutil.move(source, part)  # which copies, where a shared store is on another file system
        os.replace(part, target)
    shutil.rmtree(place, ignore_errors=True)
    return damaged


def is_shared(folder: str) -> bool:
    """Whether a group may write into the folder of objects."""
    path = os.path.join(folder, "files", "md5")
    return os.path.isdir(path) and bool(os.stat(path).st_mode & stat.S_IWGRP)


def md5_of(path: str) -> str:
    """MD5 of a file as 32 hexadecimal digits."""
    with open(path, "rb") as file:
        digest = hashlib.md5()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


# What the agent is asked for on the far machine, where a place's store is such a folder.


def objects(place: Place, names: list[str], transfer: str = "") -> Replies:
    """Of these objects, and of the files in folders, which are gone; sizes, and folders' lists.

    For a transfer, only the first: what arrives next has a place.
    """
    sizes, lists, gone, todo = {}, {}, [], list(dict.fromkeys(names))
    for name in todo:  # which grows
        path = object_path(place.store, name)
        if not is_whole(place.store, name):
            gone.append(name)
        elif name.endswith(FOLDER):
            with open(path, encoding="utf-8") as file:
                lists[name] = file.read()
            todo += {entry["md5"] for entry in json.loads(lists[name])}.difference(todo)
        else:
            sizes[name] = os.path.getsize(path)
    about = {} if transfer else {"sizes": sizes, "lists": lists}
    if transfer and gone:
        make_incoming(place.store, transfer)
    yield {"gone": gone, "rsync": bool(shutil.which("rsync")), **about}


def arrived(place: Place, transfer: str, names: list[str]) -> Replies:
    """Move into place what has arrived; `gone` is what came damaged."""
    yield {"gone": take_in(place.store, transfer, names, is_shared(place.store))}


def forget(place: Place, name: str) -> Replies:
    """Remove one object, the one that setup's proof pushed."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(object_path(place.store, name))
    yield {}
