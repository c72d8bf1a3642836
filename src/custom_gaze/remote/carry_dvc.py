"""The same objects with DVC's own push and fetch, where rsync is missing on one of the machines.

Slower, and nothing resumes within an object; DVC's connection is verified as ours is (hostkeys.py).
What it brings is compared with its hash like everything else.
"""

import os
import shutil
import tempfile
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import printable
from custom_gaze.data.dvc_cache import Cache
from custom_gaze.remote import repository, store
from custom_gaze.remote.committed import Out
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.programs import DVC, call


def push(connection: Connection, root: Path, paths: list[str]) -> None:
    """Push what the workspace's commit names under these paths.

    Raises:
        CustomGazeError: DVC failed.
    """
    _dvc(connection, root, "push", "-r", connection.host, *sorted(set(paths)))


def fetch(
    connection: Connection,
    cache: Cache,
    commit: str,
    outs: list[Out],
    place: Path,
    names: list[str],
) -> None:
    """Let DVC fetch an experiment's outputs, into a cache of their own; put these into `place`.

    Raises:
        CustomGazeError: DVC failed, or the commit changes more than an experiment does: DVC reads
            the commit's own settings.
    """
    if beyond := repository.changes_beyond_an_experiment(cache.root, commit):
        what = printable(beyond[0], 100)
        raise CustomGazeError(f"without rsync only a run's own changes are fetched, not {what}")
    prefix = repository.git(cache.root, "rev-parse", "--show-prefix").rstrip("\n")
    top = repository.git(cache.root, "rev-parse", "--show-toplevel").rstrip("\n")
    with tempfile.TemporaryDirectory(prefix="custom-gaze-", dir=place.parent) as scratch:
        copy = Path(scratch) / "copy"
        repository.git(cache.root, "clone", "-q", "-s", "--no-checkout", top, str(copy))
        repository.git(copy, "-c", "core.hooksPath=/dev/null", "checkout", "-q", commit)
        project, own = copy / prefix, Path(scratch) / "cache"
        shutil.copy(cache.root / ".dvc" / "config.local", project / ".dvc")
        _dvc(connection, project, "cache", "dir", "--local", str(own))
        _dvc(connection, project, "fetch", "-r", connection.host, *(out.path for out in outs))
        for name in names:
            came, target = Path(store.object_path(str(own), name)), place / store.place_of(name)
            if came.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(came, target)


def _dvc(connection: Connection, root: Path, *words: str) -> None:
    done = call(*DVC, *words, "--quiet", root=root)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        said = printable((errors or ["no word of it"])[0])
        raise CustomGazeError(f"{connection.host}: dvc {words[0]}: {said}")
