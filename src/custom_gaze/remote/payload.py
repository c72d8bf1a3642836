"""The payload of a run: its commit, its sessions, and what the fetch stage has made here."""

import dataclasses
import hashlib
import os
from pathlib import Path

import yaml

from custom_gaze.common.download import is_address
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.config.params import FetchParams
from custom_gaze.data.dvc_cache import Cache
from custom_gaze.remote import repository
from custom_gaze.remote.committed import Out, outs_of, yaml_of
from custom_gaze.remote.programs import DVC, call, last_line
from custom_gaze.remote.request import Request

_FETCHED = ("models/faces", "models/base.pt")
_NO_FILES = ("embedded", "random")  # words of fetch.detector and fetch.base


@dataclasses.dataclass(frozen=True)
class Payload:
    """The objects that a run needs.

    Each is an object → the path it is of. `here` are in the cache here; `elsewhere` the far machine
    has to have already.
    """

    here: dict[str, str]
    elsewhere: dict[str, str]
    sessions: list[str]


def check_committed(root: Path) -> list[str]:
    """Refuse changes that a run would not see; return the files that git does not know.

    Raises:
        InputError: files that git knows, or the pipeline's own, are not committed.
    """
    changed, unknown = repository.uncommitted(root)
    files = ("dvc.yaml", "dvc.lock", "params.yaml", "requirements.txt")
    part_of_it = ("src/", "data/sessions/", *files)
    changed += [path for path in unknown if path.startswith(part_of_it) or path.endswith(".dvc")]
    if changed:
        listed = ", ".join(sorted(changed)[:5]) + (", …" if len(changed) > 5 else "")
        raise InputError(
            f"not committed, so the run would not see it: {listed}; "
            "`git add` and `git commit` it, or take it back"
        )
    return [path for path in unknown if not path.endswith(".dvc")]


def check_sessions_saved(root: Path, sessions: list[str]) -> None:
    """Refuse a session whose files are not those that its .dvc file names.

    Raises:
        InputError: one has changed since `dvc add`.
    """
    targets = [f"data/sessions/{name}.dvc" for name in sessions]
    folders = [name for name in sessions if (root / "data" / "sessions" / name).exists()]
    if not folders:
        return  # not checked out: there is nothing that could have changed
    if call(*DVC, "status", "--quiet", *targets, root=root).returncode == 0:
        return
    listed = call(*DVC, "status", "--json", *targets, root=root)
    states = yaml.safe_load(listed.stdout) if listed.returncode == 0 else None
    if not isinstance(states, dict):
        raise CustomGazeError(f"dvc status failed: {last_line(listed.stderr)}")
    for name in folders:
        if "modified" in str(states.get(f"data/sessions/{name}.dvc")):
            raise InputError(
                f"data/sessions/{name} has changed since it was added; "
                f"`dvc add data/sessions/{name}`, `git commit`, and again"
            )


def pack(root: Path, cache: Cache, request: Request) -> Payload:
    """The objects that a run needs: its sessions, and what the fetch stage has put in place.

    Raises:
        InputError: a session has no .dvc file in the commit, or a base network or detector lies
            on this machine alone.
    """
    outs = {out.path: out for out in outs_of(root, request.commit)}
    sessions: dict[str, None] = {}
    for entry in request.experiments:
        sessions |= dict.fromkeys([*entry.params.sessions, *entry.params.evaluate.sessions])
    wanted: list[Out] = []
    for name in sessions:
        path = f"data/sessions/{name}"
        if path not in outs:
            raise InputError(
                f"session {name!r} is not part of commit {request.commit[:8]}: "
                f"{path}.dvc is missing; import it, or `git add` and `git commit` it"
            )
        wanted.append(outs[path])
    for fetch in {entry.params.fetch for entry in request.experiments}:
        wanted += _made_by_fetch(root, cache, request.commit, fetch, outs)
    here: dict[str, str] = {}
    elsewhere: dict[str, str] = {}
    for out in wanted:
        found, gone = cache.whole([out.md5])
        here |= dict.fromkeys(found, out.path)
        elsewhere |= dict.fromkeys(gone, out.path)
    return Payload(here, elsewhere, list(sessions))


def _made_by_fetch(
    root: Path, cache: Cache, commit: str, fetch: FetchParams, outs: dict[str, Out]
) -> list[Out]:
    """What the fetch stage has made here, if it spares the run that stage.

    Raises:
        InputError: the stage has to run on the far machine and would not find a file.
    """
    made = [outs[path] for path in _FETCHED if path in outs]
    only_here = _only_here(root, commit, fetch)
    if _is_fetched(root, commit, fetch):
        is_whole = not cache.whole(out.md5 for out in made)[1]
        return made if only_here or is_whole else []
    if only_here:
        raise InputError(
            f"{only_here} lies on this machine alone; write it into params.yaml, run `dvc repro "
            "fetch` and commit params.yaml and dvc.lock: then what fetch made of it is sent"
        )
    return []


def _is_fetched(root: Path, commit: str, wanted: FetchParams) -> bool:
    """Whether the commit's dvc.lock has what this code's fetch stage makes of these parameters.

    Then the run skips the stage: a file that lies here alone has become its outputs.
    """
    stage = (yaml_of(root, commit, "dvc.lock").get("stages") or {}).get("fetch") or {}
    made_of = ((stage.get("params") or {}).get("params.yaml") or {}).get("fetch")
    return made_of == dataclasses.asdict(wanted) and all(
        _md5(root / dep["path"]) == dep.get("md5") for dep in stage.get("deps") or []
    )


def _md5(path: Path) -> str:
    try:
        return hashlib.md5(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _only_here(root: Path, commit: str, wanted: FetchParams) -> str:
    """A source that the run's fetch stage would not find, a path outside of git; or nothing."""
    for key in ("detector", "mesh", "base"):
        source = getattr(wanted, key)
        if source is None or source in _NO_FILES or is_address(source):
            continue
        inside = os.path.normpath(source)
        if os.path.isabs(inside) or inside.startswith(("..", "~")):
            return f"fetch.{key}: {source}"
        if repository.git(root, "ls-tree", "--name-only", commit, "--", inside).strip() != inside:
            return f"fetch.{key}: {source}"
    return ""
