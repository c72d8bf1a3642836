"""The agent: the store of objects and the repository.

The store is a DVC remote and at the same time the cache of the repository beside it, so an object
is written under another name, verified, and moved into place read-only: DVC takes a read-only
object of its cache for verified. (DVC's own push over SSH writes in place; what a cut leaves
behind is found here by its hash and sent again.)
"""

import contextlib
import errno
import hashlib
import json
import os
from typing import IO

from custom_gaze.remote.agent import Link, Refused, git, said
from custom_gaze.remote.frames import PAYLOAD, Header, pieces

PROTECTED = 0o444


def object_path(store: str, name: str) -> str:
    """Where DVC keeps the object of this MD5, e.g. ab/cdef…, or ab/cdef….dir for a folder."""
    return os.path.join(store, "files", "md5", name[:2], name[2:])


def is_whole(store: str, name: str) -> bool:
    """Whether the object is there with the content its name says; a damaged one is removed."""
    path = object_path(store, name)
    try:
        if os.stat(path).st_mode & 0o777 == PROTECTED:
            return True
        digest = hashlib.md5()
        with open(path, "rb") as file:
            while chunk := file.read(PAYLOAD):
                digest.update(chunk)
    except FileNotFoundError:
        return False
    if digest.hexdigest() == name.split(".")[0]:
        os.chmod(path, PROTECTED)
        return True
    os.unlink(path)
    return False


def lacking(link: Link, header: Header) -> None:
    """Which of these objects the store lacks."""
    store = header["store"]
    link.send({"lacking": [name for name in header["objects"] if not is_whole(store, name)]})


def listed(link: Link, header: Header) -> None:
    """These objects with their folders' files: the sizes of those in the store, and the others."""
    sizes, gone = {}, []
    todo = list(header["objects"])
    while todo:
        name = todo.pop()
        if not is_whole(header["store"], name):
            gone.append(name)
            continue
        path = object_path(header["store"], name)
        sizes[name] = os.path.getsize(path)
        if name.endswith(".dir"):
            with open(path, "rb") as file:
                todo += [entry["md5"] for entry in json.load(file) if entry["md5"] not in sizes]
    link.send({"sizes": sizes, "gone": gone})


def put(link: Link, header: Header) -> None:
    """Take objects in until the user's side says `end`."""
    store = header["store"]
    incoming = os.path.join(store, ".incoming")
    os.makedirs(incoming, exist_ok=True)
    for name in os.listdir(incoming):  # what a cut connection left
        os.unlink(os.path.join(incoming, name))
    failed = ""
    taking = _Taking(store, incoming)
    while True:
        message, payload = link.receive()
        if "end" in message:
            break
        try:
            if not failed:
                taking.add(message, payload)
        except OSError as error:
            failed = said(error)
            link.send({"error": failed, "code": 1})  # at once: the rest need not be sent
    if not failed:
        link.send({"taken": 1})


class _Taking:
    """One object after the other, each written apart and moved into place when it is whole."""

    def __init__(self, store: str, incoming: str) -> None:
        self._store, self._incoming = store, incoming
        self._file: IO[bytes] | None = None
        self._digest = hashlib.md5()

    def add(self, message: Header, payload: bytes) -> None:
        name = message["object"]
        temporary = os.path.join(self._incoming, name)
        if self._file is None:
            self._file = open(temporary, "wb")  # noqa: SIM115 - closed with its last piece
            self._digest = hashlib.md5()
        self._file.write(payload)
        self._digest.update(payload)
        if not message["last"]:
            return
        self._file.close()
        self._file = None
        if self._digest.hexdigest() != name.split(".")[0]:
            raise OSError(errno.EIO, f"object {name} arrived damaged; try again")
        final = object_path(self._store, name)
        os.makedirs(os.path.dirname(final), exist_ok=True)
        os.chmod(temporary, PROTECTED)
        os.replace(temporary, final)


def get(link: Link, header: Header) -> None:
    """Send objects; the user's side verifies them."""
    for name in header["objects"]:
        with open(object_path(header["store"], name), "rb") as file:
            _send(link, {"object": name}, file)
    link.send({"end": 1})


def _send(link: Link, header: Header, file: IO[bytes]) -> None:
    for chunk, last in pieces(file):
        link.send({**header, "last": last}, chunk)


def forget(link: Link, header: Header) -> None:
    """Remove one object, the one that setup's proof pushed."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(object_path(header["store"], header["object"]))
    link.send({"forgotten": 1})


def tips(link: Link, header: Header) -> None:
    """The commits known here, for a bundle that holds only what is new."""
    names = git(header["project"], "for-each-ref", "--format=%(objectname)", check=False).split()
    head = git(header["project"], "rev-parse", "--verify", "-q", "HEAD", check=False).split()
    link.send({"tips": sorted({*names, *head})})


def commit(link: Link, header: Header) -> None:
    """Take a bundle, if one is announced, and put the working tree on its commit.

    Raises:
        Refused: somebody changed files of the working tree; they are not overwritten.
    """
    project, wanted = header["project"], header["commit"]
    bundle = os.path.join(project, ".git", "incoming.bundle")
    if header["bundle"]:
        _take_file(link, bundle)
        git(project, "fetch", "-q", bundle, "+HEAD:refs/custom-gaze/sent")
        os.unlink(bundle)
    changed = git(project, "status", "--porcelain", "--untracked-files=no", check=False)
    has_head = git(project, "rev-parse", "--verify", "-q", "HEAD", check=False)
    if changed.strip() and has_head:
        names = ", ".join(line[3:] for line in changed.splitlines()[:5])
        raise Refused(f"{project} has changes of its own there: {names}; commit or remove them")
    git(project, "checkout", "-q", "-B", "main", wanted)
    link.send({"commit": git(project, "rev-parse", "HEAD").strip()})


def _take_file(link: Link, path: str) -> None:
    """Write what comes to a file; what follows a failed write is still read, and dropped."""
    failure: OSError | None = None
    with open(path, "wb", buffering=0) as file:
        while True:
            message, payload = link.receive()
            try:
                if failure is None:
                    file.write(payload)
            except OSError as error:
                failure = error
            if message["last"]:
                break
    if failure is not None:
        os.unlink(path)
        raise failure


def bundle(link: Link, header: Header) -> None:
    """Send one experiment's commits as a bundle, or its commit where that is known already."""
    project = header["project"]
    commit = git(project, "rev-parse", "--verify", header["ref"]).strip()
    if commit in header["known"]:
        link.send({"known": commit})
        return
    path = os.path.join(project, ".git", f"outgoing-{os.getpid()}.bundle")
    known = [f"^{name}" for name in header["known"]]
    try:
        git(project, "bundle", "create", "-q", path, header["ref"], *known)
        with open(path, "rb") as file:
            _send(link, {}, file)
    finally:
        if os.path.exists(path):
            os.unlink(path)
