"""The agent: the store of objects, and the repository's working tree."""

import contextlib
import json
import os
import shutil

from custom_gaze.remote.agent import Header, Link, Refused, git
from custom_gaze.remote.store import is_shared, is_whole, make_incoming, object_path
from custom_gaze.remote.store import take_in as take_objects_in


def lacking(link: Link, header: Header) -> Header:
    """Which of these objects the store lacks; what arrives next has a place."""
    store = header["store"]
    make_incoming(store)
    gone = [name for name in header["objects"] if not is_whole(store, name)]
    return {"lacking": gone, "rsync": bool(shutil.which("rsync"))}


def listed(link: Link, header: Header) -> Header:
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
    return {"sizes": sizes, "gone": gone, "rsync": bool(shutil.which("rsync"))}


def take_in(link: Link, header: Header) -> Header:
    """Move into place what has arrived for a run."""
    store = header["store"]
    damaged = take_objects_in(store, header["run"], header["objects"], is_shared(store))
    return {"damaged": damaged}


def forget(link: Link, header: Header) -> Header:
    """Remove one object, the one that setup's proof pushed."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(object_path(header["store"], header["object"]))
    return {"forgotten": 1}


def commit(link: Link, header: Header) -> Header:
    """Put the working tree on a commit that was pushed.

    Raises:
        Refused: somebody changed files of the working tree; they are not overwritten.
    """
    project = header["project"]
    changed = git(project, "status", "--porcelain", "--untracked-files=no", check=False)
    has_head = git(project, "rev-parse", "--verify", "-q", "HEAD", check=False)
    if changed.strip() and has_head:
        names = ", ".join(line[3:] for line in changed.splitlines()[:5])
        raise Refused(f"{project} has changes of its own there: {names}; commit or remove them")
    git(project, "checkout", "-q", "-B", "main", header["commit"])
    return {"commit": git(project, "rev-parse", "HEAD").strip()}
