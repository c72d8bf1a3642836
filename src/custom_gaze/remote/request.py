"""A run, checked here before anything is sent: what it is asked to do, and what it needs there."""

import dataclasses
import datetime
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_gaze.common.download import is_address
from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import stays_inside
from custom_gaze.config.params import FetchParams, Params
from custom_gaze.data.dvc_cache import Cache
from custom_gaze.remote import repository
from custom_gaze.remote.programs import DVC, call
from custom_gaze.remote.replies import RUN_NAME
from custom_gaze.remote.store import md5_of

_FETCHED = ("models/faces", "models/base.pt")
_NO_FILES = ("embedded", "random")  # words of fetch.detector and fetch.base
_PART_OF_IT = ("src/", "data/sessions/", "dvc.yaml", "dvc.lock", "params.yaml", "requirements.txt")


def check_name(name: str) -> str:
    """Return `name` if an experiment can bear it."""
    if not re.fullmatch(RUN_NAME, name):
        raise InputError(f"{name!r} is no name for a run: letters, digits, - and _, at most 64")
    return name


def name_of_run(given: str | None, sessions: tuple[str, ...]) -> str:
    """The name that was given, or one that says what a run trains on and when it was asked for."""
    if given:
        return check_name(given)
    now = datetime.datetime.now().strftime("%m%d-%H%M%S")
    return check_name("-".join(sessions)[:48].rstrip("-") + f"-{now}")


@dataclass(frozen=True)
class Payload:
    """The objects that a run needs, each with the path it is of.

    `here` are in the cache here; `elsewhere` the far machine has to have already.
    """

    here: dict[str, str]
    elsewhere: dict[str, str]
    sessions: list[str]


def check_committed(root: Path) -> list[str]:
    """Refuse changes that a run would not see; return the files that git does not know."""
    changed, unknown = repository.uncommitted(root)
    part_of_it = [path for path in unknown if path.startswith(_PART_OF_IT) or path.endswith(".dvc")]
    if changed := sorted(changed + part_of_it):
        listed = ", ".join(changed[:5]) + (", …" if len(changed) > 5 else "")
        raise InputError(
            f"not committed, so the run would not see it: {listed}; "
            "`git add` and `git commit` it, or take it back"
        )
    return unknown


def check_sessions_saved(root: Path, sessions: list[str]) -> None:
    """Refuse a session whose files are not those that its .dvc file names."""
    paths = [f"data/sessions/{name}" for name in sessions]
    if not any((root / path).exists() for path in paths):
        return  # not checked out: there is nothing that could have changed
    words = (*DVC, "status", "--json", *(f"{path}.dvc" for path in paths))
    states = json.loads(call(*words, root=root, failed="dvc status failed").stdout)
    for path in paths:
        if "modified" in str(states.get(f"{path}.dvc")):
            raise InputError(
                f"{path} has changed since it was added; `dvc add {path}`, `git commit`, and again"
            )


def pack(root: Path, cache: Cache, commit: str, params: Sequence[Params]) -> Payload:
    """The objects that a run needs: its sessions, and what the fetch stage has put in place."""
    outs = repository.outs_of(root, commit)
    named = [name for entry in params for name in (*entry.sessions, *entry.evaluate.sessions)]
    sessions = list(dict.fromkeys(named))
    wanted = [f"data/sessions/{name}" for name in sessions]
    for name, path in zip(sessions, wanted, strict=True):
        if path not in outs:
            raise InputError(
                f"session {name!r} is not part of commit {commit[:8]}: "
                f"{path}.dvc is missing; import it, or `git add` and `git commit` it"
            )
    made = [path for path in _FETCHED if path in outs]
    for fetch in {entry.fetch for entry in params}:
        only_here, is_fetched = _only_here(root, commit, fetch), _is_fetched(root, commit, fetch)
        if only_here and not is_fetched:
            raise InputError(
                f"{only_here} lies on this machine alone; write it into params.yaml, run "
                "`dvc repro fetch` and commit params.yaml and dvc.lock: then what fetch made of it "
                "is sent"
            )
        if is_fetched and (only_here or not cache.whole(outs[path] for path in made)[1]):
            wanted += made
    here: dict[str, str] = {}
    elsewhere: dict[str, str] = {}
    for path in wanted:
        found, gone = cache.whole([outs[path]])
        here |= dict.fromkeys(found, path)
        elsewhere |= dict.fromkeys(gone, path)
    return Payload(here, elsewhere, sessions)


def _is_fetched(root: Path, commit: str, wanted: FetchParams) -> bool:
    """Whether the commit's dvc.lock has what this code's fetch stage makes of these parameters.

    Then the run skips the stage: a file that lies here alone has become its outputs.
    """
    stage = repository.locked(root, commit, "fetch")
    made_of = stage.params.get("params.yaml", {}).get("fetch")
    code = [(root / dep.path, dep.md5) for dep in stage.deps]
    return made_of == dataclasses.asdict(wanted) and all(
        path.is_file() and md5_of(str(path)) == md5 for path, md5 in code
    )


def _only_here(root: Path, commit: str, wanted: FetchParams) -> str:
    """A source that the run's fetch stage would not find, a path outside of git; or nothing."""
    for key in ("detector", "mesh", "base"):
        source = getattr(wanted, key)
        if source is None or source in _NO_FILES or is_address(source):
            continue
        words = ("ls-tree", "--name-only", commit, "--", path := os.path.normpath(source))
        if not stays_inside(path) or repository.git(root, *words).strip() != path:
            return f"fetch.{key}: {source}"
    return ""
