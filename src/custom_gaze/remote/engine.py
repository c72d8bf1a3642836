"""The agent: what runs the runs. One interface, and a module for each that there is of it.

A run is a folder runs/NAME: run.json with what was asked for, job.py, `job` with the name that its
engine gave it, a log-N for each experiment N, and result-N.json of each that has ended.
"""

import fcntl
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from custom_gaze.remote.agent import Reply

# run.json: name, commit, jobs, experiments (each a name, and `set`: what `-S` takes), engine (its
# name, and `sbatch`: SLURM's options), repository, sub, python, started (in seconds since 1970).
# Found out besides: folder, state, note (what the engine says of it), code, ended, done (names of
# experiments that are there), logs and ends (the log's path and the result of each experiment).
Run = Reply


class Engine(ABC):
    """Runs jobs and knows them again; a run's folder is all that is kept of it."""

    alone = True  # one run at a time
    every_s = 0.1  # it may be asked so often

    @abstractmethod
    def submit(self, folder: str, run: Run) -> str:
        """Start a run's job, which outlives us; return the name that it has here."""

    @abstractmethod
    def list(self, folders: Sequence[str]) -> dict[str, str]:
        """Those of these runs that go on, each with what there is to say of it."""

    @abstractmethod
    def stop(self, folder: str) -> bool:
        """End all that is left of a run; return whether there was anything."""

    def status(self, folder: str) -> str | None:
        """What there is to say of a run; None where nothing goes on."""
        return self.list([folder]).get(folder)

    def logs(self, folder: str, number: int) -> str:
        """The file with what an experiment has said."""
        return os.path.join(folder, f"log-{number}")

    def job(self, folder: str) -> str:
        """The name that `submit` gave the run."""
        path = Path(folder, "job")
        return path.read_text(encoding="utf-8") if path.exists() else ""


def ref_of(commit: str, name: str) -> str:
    """Where DVC keeps the experiment of this name that was made from a commit."""
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"


def is_held(path: str) -> bool:
    """Whether a process holds the lock of this file."""
    try:
        file = open(path, "r+b")  # noqa: SIM115
    except OSError:
        return False
    with file:
        for _ in range(3):  # another one who only asks is gone in a moment
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.005)
            else:
                return False
    return True
