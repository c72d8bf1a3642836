"""DVC's cache here, and moving its objects to and from the store there.

An object is a file named by its MD5; `<md5>.dir` is the JSON list of a folder's files.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from custom_gaze.errors import CustomGazeError, InputError
from custom_gaze.files import whole_file
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.frames import PAYLOAD
from custom_gaze.remote.settings import read_config

_PROTECTED = 0o444


@dataclass(frozen=True)
class Out:
    """A file or folder that a commit names and DVC keeps."""

    path: str
    md5: str  # `….dir` for a folder


class Cache:
    """The objects of one project."""

    def __init__(self, root: Path) -> None:
        folder = ""
        for name in ("config", "config.local"):
            config = read_config(root / ".dvc" / name)
            folder = config.get("cache", "dir", fallback=folder)
        self.folder = (root / ".dvc" / (folder or "cache")).resolve()

    def path(self, name: str) -> Path:
        return self.folder / "files" / "md5" / name[:2] / name[2:]

    def has(self, name: str) -> bool:
        return self.path(name).is_file()

    def members(self, name: str) -> list[str]:
        """The objects of a folder's files.

        Raises:
            CustomGazeError: the object is damaged.
        """
        try:
            return [entry["md5"] for entry in json.loads(self.path(name).read_bytes())]
        except (ValueError, KeyError, TypeError):
            raise CustomGazeError(f"{self.path(name)}: damaged; remove it and `dvc pull`") from None

    def whole(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """These objects with their folders' files, files first; and those that are not here."""
        found: dict[str, None] = {}
        gone: dict[str, None] = {}
        for name in names:
            inside = self.members(name) if name.endswith(".dir") and self.has(name) else []
            for entry in [*inside, name]:
                (found if self.has(entry) else gone)[entry] = None
        return list(found), list(gone)


def outs_of(root: Path, commit: str) -> list[Out]:
    """What DVC keeps for a commit: outputs in dvc.lock and files with a .dvc file.

    Raises:
        CustomGazeError: the commit is not here, or one of these files cannot be read.
    """
    listing = _git(root, "ls-tree", "-r", "--name-only", "-z", commit).split("\0")
    found = []
    if "dvc.lock" in listing:
        in_git = _kept_in_git(yaml_of(root, commit, "dvc.yaml"))
        stages = (yaml_of(root, commit, "dvc.lock").get("stages") or {}).values()
        for out in (out for stage in stages for out in stage.get("outs") or []):
            if "md5" in out and out["path"] not in in_git:
                found.append(Out(out["path"], out["md5"]))
    for path in listing:
        if path.endswith(".dvc"):
            for out in yaml_of(root, commit, path).get("outs") or []:
                if "md5" in out:
                    folder = os.path.dirname(path)
                    found.append(Out(os.path.join(folder, out["path"]), out["md5"]))
    return found


def _kept_in_git(pipeline: dict[str, Any]) -> set[str]:
    """Outputs with `cache: false`."""
    found = set()
    for stage in (pipeline.get("stages") or {}).values():
        for kind in ("outs", "metrics", "plots"):
            for entry in stage.get(kind) or []:
                if isinstance(entry, dict):
                    found |= {p for p, how in entry.items() if not (how or {}).get("cache", True)}
    return found


def yaml_of(root: Path, commit: str, path: str) -> dict[str, Any]:
    """A YAML file of a commit; empty where it has none.

    Raises:
        InputError: it is no valid YAML.
    """
    if not _git(root, "ls-tree", commit, "--", path):
        return {}
    try:
        content = yaml.safe_load(_git(root, "show", f"{commit}:{path}"))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} of commit {commit[:8]}: no valid YAML: {reason}") from None
    return content if isinstance(content, dict) else {}


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["?"]
        raise CustomGazeError(f"git {words[0]}: {lines[-1]}")
    return done.stdout


def send_objects(connection: Connection, cache: Cache, store: str, names: list[str]) -> list[str]:
    """Send those of these objects that the store lacks; return their names.

    Raises:
        FarError: the disk there is full, or it may not be written.
        Lost: the connection was cut; what was taken whole need not be sent again.
    """
    lacking: list[str] = connection.ask("lacking", store=store, objects=names)["lacking"]
    if not lacking:
        return []
    connection.send({"do": "put", "store": store})
    for name in lacking:
        with cache.path(name).open("rb") as file:
            chunk = file.read(PAYLOAD)
            while True:
                following = file.read(PAYLOAD)
                connection.send({"object": name, "last": not following}, chunk)
                if connection.waiting():  # nothing is said before the end but why it failed
                    connection.receive()
                if not following:
                    break
                chunk = following
    connection.send({"end": 1})
    connection.receive()
    return lacking


def fetch_objects(connection: Connection, cache: Cache, store: str, outs: list[Out]) -> int:
    """Bring the objects of these outputs that are not here; return how many.

    Files come before the folders that list them, each verified and moved into place whole.

    Raises:
        CustomGazeError: the store lacks one (nothing is fetched then), or it arrived damaged.
        Lost: the connection was cut; what has arrived whole is kept.
    """
    wanted = [out.md5 for out in outs]
    answer = connection.ask("listed", store=store, objects=wanted)
    gone = {name for name in answer["gone"] if not cache.has(name)}
    if gone:
        broken = [out.path for out in outs if out.md5 in gone]
        what = ", ".join(broken) or f"{len(gone)} files of folders"
        raise CustomGazeError(
            f"{connection.host}: the store lacks {what}; nothing was changed here. "
            "Run it again there: custom-gaze remote train"
        )
    missing = [name for name in answer["sizes"] if not cache.has(name)]
    missing.sort(key=lambda name: name.endswith(".dir"))
    if not missing:
        return 0
    connection.send({"do": "get", "store": store, "objects": missing})
    for name in missing:
        _receive_object(connection, cache, name)
    connection.receive()
    return len(missing)


def _receive_object(connection: Connection, cache: Cache, name: str) -> None:
    digest = hashlib.md5()
    path = cache.path(name)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        while True:
            header, payload = connection.receive()
            if header.get("object") != name:
                raise CustomGazeError(f"{connection.host}: sent something else than {name}")
            digest.update(payload)
            file.write(payload)
            if header["last"]:
                break
        if digest.hexdigest() != name.split(".")[0]:
            raise CustomGazeError(f"{connection.host}: {name} arrived damaged; try again")
    path.chmod(_PROTECTED)
