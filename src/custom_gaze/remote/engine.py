"""The agent: what runs the runs. One interface, and a module for each that there is of it.

A run is a folder runs/NAME: run.json with what was asked for, job.py, `job` with the name that its
engine gave it, a log-N for each experiment N, and result-N.json of each that has ended.
"""

import fcntl
import glob
import json
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from custom_gaze.remote.agent import Header

MACHINE = "machine.json"  # which Python runs use, and the requirements that it was made of
DONE, FAILED, STOPPED, DIED, RUNNING = "done", "failed", "stopped", "died", "running"


# run.json: name, commit, jobs, experiments (each a name, and `set`: what `-S` takes), engine (its
# name, and `sbatch`: SLURM's options), repository, sub, python, started (in seconds since 1970).
# Found out besides: folder, state, note (what the engine says of it), code, ended, and refs (an
# experiment's name → its ref).
Run = Header


class Engine(ABC):
    """Runs jobs and knows them again; a run's folder is all that is kept of it."""

    alone = True  # one run at a time
    every_s = 0.1  # it may be asked so often

    @abstractmethod
    def submit(self, folder: str, run: Run) -> str:
        """Start a run's job, which outlives us; return the name that it has here.

        Raises:
            Refused: it could not be started.
        """

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
        try:
            with open(os.path.join(folder, "job"), encoding="utf-8") as file:
                return file.read()
        except OSError:
            return ""


def is_held(path: str) -> bool:
    """Whether a process holds the lock of this file."""
    try:
        lock = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        for _ in range(3):  # another one who only asks is gone in a moment
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.005)
            else:
                return False
        return True
    finally:
        os.close(lock)


def python_of(directory: str) -> str:
    """The Python that setup chose: the environment that it made, or one that the user named."""
    machine = read(os.path.join(directory, MACHINE)) or {}
    return str(machine.get("python", os.path.join(directory, "env", "bin", "python")))


def experiment_ref(run: Run, name: str) -> str:
    return f"refs/exps/{run['commit'][:2]}/{run['commit'][2:]}/{name}"


def remove_copies(folder: str) -> None:
    """The working copies, data included, of a run that did not end by itself."""
    for path in glob.glob(os.path.join(glob.escape(folder), "copy-*")):
        shutil.rmtree(path, ignore_errors=True)


def ended(folder: str, number: int) -> Header | None:
    """How an experiment ended, if it has."""
    return read(os.path.join(folder, f"result-{number}.json"))


def with_state(run: Run, note: str | None) -> Run:
    """A run with what has become of it; `note` as its engine's `status`."""
    folder = run["folder"]
    found = [ended(folder, number) for number in range(len(run["experiments"]))]
    results = [result for result in found if result is not None]
    stopped = os.path.exists(os.path.join(folder, "stop"))
    if len(results) == len(found):
        failed = any(result["code"] for result in results)
        state = STOPPED if stopped else FAILED if failed else DONE
    elif note is not None:
        state = RUNNING
    else:
        state = STOPPED if stopped else DIED
    refs = {e["name"]: r["ref"] for e, r in zip(run["experiments"], found, strict=True) if r}
    more: Header = {"state": state, "note": note or "", "refs": refs}
    if state != RUNNING and results:
        codes = [result["code"] for result in results]
        more["code"] = next((code for code in codes if code), 0)
        more["ended"] = max(result["ended"] for result in results)
    return {**run, **more}


def write(path: str, value: Any) -> None:
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(path + ".part", path)


def read(path: str) -> Header | None:
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
