"""What a commit says that DVC keeps for it. The commit may come from the far machine."""

import posixpath
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.untrusted import MOST_TEXT_BYTES, printable, stays_inside
from custom_gaze.common.yaml_files import parse_yaml
from custom_gaze.remote.programs import last_line
from custom_gaze.remote.replies import Object

_LOCK, _PIPELINE = "dvc.lock", "dvc.yaml"


@dataclass(frozen=True)
class Out:
    """A file or folder that a commit names and DVC keeps."""

    path: str
    md5: str  # `….dir` for a folder


class _Entry(BaseModel):
    path: str
    md5: Object | None = None


class _Stage(BaseModel):
    outs: list[_Entry] | None = None


class _Lock(BaseModel):
    stages: dict[str, _Stage] | None = None


def outs_of(root: Path, commit: str) -> list[Out]:
    """What DVC keeps for a commit: outputs in dvc.lock and files with a .dvc file.

    Raises:
        CustomGazeError: the commit is not here.
        InputError: one of these files is not what DVC writes, or names a path outside the project.
    """
    found: list[tuple[str, str, _Entry]] = []  # (file, its folder, entry)
    blobs = _blobs(root, commit, "-r")
    if _LOCK in blobs:
        in_git = _kept_in_git(yaml_of(root, commit, _PIPELINE))
        lock = _parsed(_Lock, root, commit, _LOCK, blobs[_LOCK])
        entries = [out for stage in (lock.stages or {}).values() for out in stage.outs or []]
        found += [(_LOCK, "", out) for out in entries if out.path not in in_git]
    for path in (path for path in blobs if path.endswith(".dvc")):
        entries = _parsed(_Stage, root, commit, path, blobs[path]).outs or []
        found += [(path, posixpath.dirname(path), out) for out in entries]
    return [_out(*entry) for entry in found if entry[2].md5 is not None]


def _out(file: str, folder: str, entry: _Entry) -> Out:
    path = posixpath.join(folder, entry.path)
    if not stays_inside(path):
        raise InputError(f"{printable(file)}: {printable(path)!r} is no path inside the project")
    assert entry.md5 is not None
    return Out(path, entry.md5)


def _kept_in_git(pipeline: dict[str, Any]) -> set[str]:
    """Outputs with `cache: false`."""
    stages = pipeline.get("stages")
    found: set[str] = set()
    for stage in stages.values() if isinstance(stages, dict) else ():
        for kind in ("outs", "metrics", "plots"):
            entries = stage.get(kind) if isinstance(stage, dict) else None
            for entry in entries if isinstance(entries, list) else ():
                if isinstance(entry, dict):
                    found |= {p for p, how in entry.items() if not (how or {}).get("cache", True)}
    return found


def yaml_of(root: Path, commit: str, path: str) -> dict[str, Any]:
    """A YAML file of a commit; empty where it has none.

    Raises:
        InputError: it is too large or no valid YAML.
    """
    blobs = _blobs(root, commit, path)
    return _yaml(root, commit, path, blobs[path]) if path in blobs else {}


def _parsed(kind: Any, root: Path, commit: str, path: str, blob: tuple[str, int]) -> Any:
    try:
        return kind.model_validate(_yaml(root, commit, path, blob))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = printable(".".join(map(str, first["loc"])), 80)
        reason = f"{where}: {printable(first['msg'], 120)}"
        raise InputError(f"{_in_commit(path, commit)}: not what DVC writes: {reason}") from None


def _yaml(root: Path, commit: str, path: str, blob: tuple[str, int]) -> dict[str, Any]:
    name, size = blob
    if size > MOST_TEXT_BYTES:
        raise InputError(f"{_in_commit(path, commit)}: has {size} bytes, too many for such a file")
    text = _git(root, "cat-file", "blob", name).decode(errors="replace")
    content = parse_yaml(text, _in_commit(path, commit))
    return content if isinstance(content, dict) else {}


def _in_commit(path: str, commit: str) -> str:
    return f"{printable(path)} of commit {commit[:8]}"


def _blobs(root: Path, commit: str, *words: str) -> dict[str, tuple[str, int]]:
    """The plain files of a commit below the project: path in the project → (blob, bytes)."""
    found = {}
    for line in _git(root, "ls-tree", "-l", "-z", commit, *words).decode("utf-8").split("\0"):
        about, _, path = line.partition("\t")
        mode, _, name, size = [*about.split(), "", "", "", ""][:4]
        if mode.startswith("100"):
            found[path] = (name, int(size))
    return found


def _git(root: Path, *words: str) -> bytes:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=False)
    if done.returncode:
        said = last_line(done.stderr.decode(errors="replace"))
        raise CustomGazeError(f"git {words[0]}: {printable(said)}")
    return done.stdout
