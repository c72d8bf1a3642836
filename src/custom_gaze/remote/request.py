"""What a run is asked to do, checked here before anything is sent."""

import datetime
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from custom_gaze.errors import CustomGazeError, InputError
from custom_gaze.params import Params, load_params
from custom_gaze.paths import Paths
from custom_gaze.remote import repository
from custom_gaze.remote.objects import Cache, Out, outs_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")  # a number to Hydra, text to YAML 1.1


@dataclass(frozen=True)
class Experiment:
    """One experiment: its name and its changes to params.yaml, as `-S` takes them."""

    name: str
    changes: tuple[str, ...]
    params: Params


@dataclass(frozen=True)
class Request:
    """One run: a name, a commit, and one experiment or several."""

    name: str
    commit: str
    experiments: tuple[Experiment, ...]
    jobs: int = 1

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "commit": self.commit,
            "jobs": self.jobs,
            "experiments": [
                {"name": entry.name, "set": list(entry.changes)} for entry in self.experiments
            ],
        }

    def is_same_as(self, run: dict[str, Any]) -> bool:
        """Whether a run there was started by the same request."""
        return all(run.get(key) == value for key, value in self.as_dict().items())


def check_name(name: str) -> str:
    """Return `name` if an experiment can bear it.

    Raises:
        InputError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name for a run: letters, digits, - and _, at most 64")
    return name


def new_name(sessions: tuple[str, ...]) -> str:
    """A name that says what a run trains on and when it was asked for."""
    now = datetime.datetime.now().strftime("%m%d-%H%M%S")
    return check_name("-".join(sessions)[:48].rstrip("-") + f"-{now}")


def changed_params(paths: Paths, changes: tuple[str, ...]) -> Params:
    """params.yaml with the changes of `-S`, checked.

    Raises:
        InputError: a change is no `key=value`, or what results is not allowed.
    """
    plain = load_params(paths.params)
    if not changes:
        return plain
    content = yaml.safe_load(paths.params.read_text(encoding="utf-8"))
    for change in changes:
        key, sign, value = change.partition("=")
        if not sign or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", key):
            raise InputError(f"-S {change!r}: must be key=value, as in -S train.epochs=20")
        section = content
        *parents, last = key.split(".")
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section:
            raise InputError(f"-S {change!r}: params.yaml has no key {key}")
        section[last] = _value(change, value)
    with tempfile.TemporaryDirectory(prefix="custom-gaze-") as scratch:
        changed = Path(scratch) / "params.yaml"
        changed.write_text(yaml.safe_dump(content), encoding="utf-8")
        try:
            return load_params(changed)
        except InputError as error:
            raise InputError(str(error).replace(str(changed), "params.yaml with -S")) from None


def _value(change: str, text: str) -> Any:
    if _FLOAT.fullmatch(text):
        return float(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"-S {change!r}: its value is not understood") from None


def check_committed(root: Path) -> list[str]:
    """Refuse changes that a run would not see; return the files that git does not know.

    Raises:
        InputError: files that git knows, or the pipeline's own, are not committed.
    """
    changed, unknown = repository.uncommitted(root)
    part_of_it = ("src/", "dvc.yaml", "dvc.lock", "params.yaml", "requirements.txt")
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
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--quiet", *targets], cwd=root, check=False
    )
    if done.returncode == 0:
        return
    listed = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json", *targets],
        cwd=root,
        check=False,
        capture_output=True,
        text=True,
    )
    states = yaml.safe_load(listed.stdout) if listed.returncode == 0 else None
    if not isinstance(states, dict):
        last = (listed.stderr.strip().splitlines() or ["?"])[-1]
        raise CustomGazeError(f"dvc status failed: {last}")
    for name in folders:
        if "modified" in str(states.get(f"data/sessions/{name}.dvc")):
            raise InputError(
                f"data/sessions/{name} has changed since it was added; "
                f"`dvc add data/sessions/{name}`, `git commit`, and again"
            )


def needed(
    root: Path, cache: Cache, request: Request
) -> tuple[list[str], dict[str, str], list[str]]:
    """The objects that a run needs: its sessions, and what the fetch stage has put in place.

    A base network that lies outside the project is known through the fetch stage's output alone.

    Returns:
        The objects that are here; object → path of those that have to be there already; the
        sessions.

    Raises:
        InputError: a session has no .dvc file in the commit.
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
    here, elsewhere = cache.whole(out.md5 for out in wanted)
    paths = {out.md5: out.path for out in wanted}
    if not any(change.startswith("fetch.") for e in request.experiments for change in e.changes):
        fetched = [outs[path] for path in ("models/faces", "models/base.pt") if path in outs]
        for out in fetched:
            objects, gone = cache.whole([out.md5])
            here += [] if gone else objects
    return list(dict.fromkeys(here)), {n: paths.get(n, n) for n in elsewhere}, list(sessions)
