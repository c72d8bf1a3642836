"""Bring an experiment back: its commit under another name, its files, then the name."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.data.dvc_cache import Cache
from custom_gaze.remote import agent_runs, carry, repository
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.engine import ref_of
from custom_gaze.remote.programs import DVC, call
from custom_gaze.remote.replies import NotAsked, Run

_PLAIN_FILE, _NO_FILE = "100644", "000000"  # a commit's modes


@dataclass(frozen=True)
class Fetched:
    """One experiment that is here now; `files` is how many had to be brought."""

    name: str
    files: int
    was_here: bool
    warning: str  # what its commit changes besides parameters, dvc.lock and reports; or nothing


def fetch(connection: Connection, run: Run) -> Iterator[Fetched]:
    """Bring a run's experiments, those that have ended; each is yielded when it is here.

    Files come first: an experiment that `dvc exp show` lists here can be applied.

    Raises:
        CustomGazeError: none has ended or has a result, the store lacks a file, or another
            experiment here has its name; nothing was changed then.
        Lost: the connection was cut; the same command goes on.
    """
    if not run.done and run.state == "running":
        raise InputError(
            f"{run.name} has not ended; read along: custom-gaze remote attach {run.name}"
        )
    if not run.done:
        raise InputError(f"{run.name} {run.state} there and left no experiment")
    for name in run.done:
        if name != run.name and not name.startswith(f"{run.name}-"):
            raise NotAsked(connection.host, f"the experiment {name} for the run {run.name}")
    root = connection.settings.root
    for name in run.done:
        commit = carry.fetch_experiment(connection, run.commit, name)
        here = repository.experiment_commit(root, name)
        if here not in ("", commit):
            raise InputError(
                f"another experiment here is called {name}; "
                f"`dvc exp rename {name} NEW`, then fetch again"
            )
        if here:  # its own ref keeps it
            repository.git(root, "update-ref", "-d", repository.FETCHED)
        outs = repository.outs_of(root, commit)
        count = carry.fetch_objects(connection, Cache(root), commit, outs)
        if not here:  # DVC sees it from here on
            repository.git(root, "update-ref", ref_of(run.commit, name), commit, "0" * 40)
            repository.git(root, "update-ref", "-d", repository.FETCHED)
        yield Fetched(name, count, bool(here), _warning(root, name, commit))
    if run.state != "running":
        connection.ask(agent_runs.fetched, name=run.name)


def _warning(root: Path, name: str, commit: str) -> str:
    """What to say of a commit that changes more than params.yaml, dvc.lock and files of reports/.

    Compared with the last commit that HEAD shares with it. A run changes nothing else; a machine
    that lies might send another pipeline along, which the next `dvc repro` would run.
    """
    git, prefix = repository.git, repository.prefix_of(root)
    shape = ("--raw", "-z", "-r", "--no-renames", "--no-relative", "--no-ext-diff", "--abbrev=40")
    shared = git(root, "merge-base", "HEAD", commit).strip()
    fields, beyond = git(root, "diff-tree", *shape, shared, commit).split("\0"), []
    for about, path in zip(fields[::2], fields[1::2], strict=False):
        inside = path.removeprefix(prefix) if path.startswith(prefix) else "/"
        expected = inside in ("params.yaml", "dvc.lock") or inside.startswith("reports/")
        if not expected or about.split()[1] not in (_PLAIN_FILE, _NO_FILE):
            beyond.append(printable(path, 100))
    more = f" and {len(beyond) - 5} more" if len(beyond) > 5 else ""
    said = (
        f"its commit also changes {', '.join(beyond[:5])}{more}, which no run does; look at it "
        f"(git diff HEAD {commit[:12]}) before you take it with `dvc exp apply {name}`"
    )
    return said if beyond else ""


def apply(root: Path, fetched: Fetched) -> None:
    """Take an experiment that was just fetched into the workspace: parameters, metrics, models.

    `dvc exp apply` changes files before it finds that one is missing; `fetch` has looked for each.

    Raises:
        InputError: uncommitted changes would be lost, or its commit changes more than an experiment
            does; nothing was changed.
    """
    name, (changed, _) = fetched.name, repository.uncommitted(root)
    if changed:
        raise InputError(f"not committed: {', '.join(changed[:5])}; commit it, or take it back")
    if fetched.warning:
        raise InputError(f"{name} was not applied: {fetched.warning}")
    call(*DVC, "exp", "apply", name, root=root, failed=f"dvc exp apply {name}")
