"""Bring an experiment back: its files, then its commit, then what MLflow recorded."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_gaze.errors import CustomGazeError, InputError
from custom_gaze.remote import repository
from custom_gaze.remote.connection import connect
from custom_gaze.remote.display import Say, Traffic
from custom_gaze.remote.mlflow_runs import import_tracked
from custom_gaze.remote.objects import Cache, fetch_objects, outs_of
from custom_gaze.remote.settings import Settings


@dataclass(frozen=True)
class Fetched:
    """One experiment that is here now; `files` is how many had to be brought."""

    name: str
    commit: str
    files: int
    was_here: bool


def fetch(
    settings: Settings, root: Path, run: dict[str, Any], traffic: Traffic, say: Say
) -> list[Fetched]:
    """Bring the experiments of a run that has ended.

    Files come first: an experiment that `dvc exp show` lists here can be applied.

    Raises:
        CustomGazeError: the run has not ended or has no result, the store lacks a file, or
            another experiment here has its name; nothing was changed then.
        Lost: the connection was cut; the same command goes on.
    """
    if run["state"] == "running":
        name = run["name"]
        raise InputError(f"{name} has not ended; read along: custom-gaze remote attach {name}")
    refs = {name: ref for name, ref in run.get("refs", {}).items() if ref}
    if not refs:
        raise InputError(f"{run['name']} {run['state']} there and left no experiment")
    cache, found = Cache(root), []
    with connect(settings.host) as connection, tempfile.TemporaryDirectory() as scratch:
        try:
            for name, ref in refs.items():
                commit = repository.fetch_experiment(
                    connection, root, settings.project, ref, Path(scratch)
                )
                here = repository.experiment_ref(root, name)
                if here is not None and here[1] != commit:
                    raise InputError(
                        f"another experiment here is called {name}; "
                        f"`dvc exp rename {name} NEW`, then fetch again"
                    )
                count = fetch_objects(connection, cache, settings.store, outs_of(root, commit))
                if here is None:
                    repository.name_experiment(root, ref, commit)
                found.append(Fetched(name, commit, count, here is not None))
                say(import_tracked(connection, cache, settings, name))
            connection.ask("fetched", dir=settings.directory, name=run["name"])
        finally:
            traffic.add(connection)
    return found


def apply(root: Path, name: str) -> None:
    """Take an experiment into the workspace: parameters, metrics, models.

    `dvc exp apply` changes files before it finds that one is missing. So everything is looked
    for first.

    Raises:
        InputError: there is no such experiment, or uncommitted changes would be lost.
        CustomGazeError: an object is missing in the cache; nothing was changed.
    """
    here = repository.experiment_ref(root, name)
    if here is None:
        raise InputError(f"no experiment {name} here; `custom-gaze remote fetch {name}` brings it")
    changed, _ = repository.uncommitted(root)
    if changed:
        raise InputError(f"not committed: {', '.join(changed[:5])}; commit it, or take it back")
    outs = outs_of(root, here[1])
    cache = Cache(root)
    missing = [out.path for out in outs if cache.whole([out.md5])[1]]
    if missing:
        raise CustomGazeError(
            f"{name} was not applied, nothing was changed: the cache lacks {', '.join(missing)}; "
            f"bring it: custom-gaze remote fetch {name}, or `dvc pull`"
        )
    command = [sys.executable, "-m", "dvc", "exp", "apply", name]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["?"])[-1]
        raise CustomGazeError(f"dvc exp apply {name}: {last}")
