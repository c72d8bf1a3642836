"""The agent: what is known of runs and of their processes.

A run is a folder runs/NAME with run.json, log and, when it has ended, result.json. Every process
of a run carries CUSTOM_GAZE_RUN in its environment, whatever session DVC has put it in: that is
how all of them are found.
"""

import contextlib
import glob
import json
import os
import signal
import time
from typing import Any, TypedDict, cast

from custom_gaze.remote.agent import Refused, git
from custom_gaze.remote.frames import Header

MARK = "CUSTOM_GAZE_RUN"
DONE, FAILED, STOPPED, DIED, RUNNING = "done", "failed", "stopped", "died", "running"
MACHINE = "machine.json"  # which Python runs use, and the requirements that it was made of
TERMINATE_S = 5.0  # between asking a run's processes to end and ending them


class Asked(TypedDict):
    """One experiment of a run; `set` are its changes to params.yaml, as `-S` takes them."""

    name: str
    set: list[str]


class Run(TypedDict, total=False):
    """What is known of a run; `code`, `ended` and `refs` of one that has ended."""

    name: str
    commit: str
    jobs: int
    experiments: list[Asked]
    started: float  # seconds since 1970, as `ended`
    state: str
    folder: str
    code: int
    ended: float
    refs: dict[str, str]  # experiment → the full name of its ref, or nothing


def experiment_ref(project: str, name: str) -> str:
    """The full name of an experiment's ref, or nothing."""
    pattern = f"refs/exps/*/*/{name}"
    found = git(project, "for-each-ref", "--format=%(refname)", pattern, check=False).split()
    return found[0] if found else ""


def all_runs(directory: str) -> list[Run]:
    """Every run with its state, the newest last."""
    runs = []
    for path in glob.glob(os.path.join(directory, "runs", "*", "run.json")):
        run = read(path)
        if run is None:
            continue
        folder = os.path.dirname(path)
        result = read(os.path.join(folder, "result.json"))
        if result is None:
            result = {"state": RUNNING if supervisor(folder) else DIED}
        runs.append(cast(Run, {**run, **result, "folder": folder}))
    return sorted(runs, key=lambda run: float(run["started"]))


def find(directory: str, name: str) -> Run:
    """The run of this name, or the one that goes on (else the newest) where none is given.

    Raises:
        Refused: there is none.
    """
    runs = all_runs(directory)
    if not name and runs:
        active = [run for run in runs if run["state"] == RUNNING]
        return (active or runs)[-1]
    for run in runs:
        if run["name"] == name:
            return run
    known = ", ".join(run["name"] for run in runs[-5:]) or "none yet"
    raise Refused(f"no run {name or 'at all'} there; the latest: {known}", 2)


def supervisor(folder: str) -> int:
    """The process that runs the run, 0 where it has gone."""
    who = read(os.path.join(folder, "pid.json"))
    if who is None or ticks(who["pid"]) != who["ticks"]:
        return 0
    return int(who["pid"])


def ticks(pid: int) -> str:
    """When a process started: tells it from a later one with the same number."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def all_ended(folder: str) -> bool:
    return os.path.exists(os.path.join(folder, "result.json")) or not supervisor(folder)


def end_processes(folder: str) -> int:
    """Ask the processes of a run (of all, given the folder of all) to end, then end them.

    Returns how many there were.
    """
    count = 0
    deadline = time.monotonic() + TERMINATE_S
    asked: set[int] = set()
    while found := marked(folder):
        late = time.monotonic() > deadline
        for pid in found:
            if late or pid not in asked:
                count += pid not in asked
                asked.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.05)
    return count


def marked(folder: str) -> list[int]:
    """The processes of the runs in and below a folder, found by what their environment says."""
    wanted = f"{MARK}={folder}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                variables = file.read().split(b"\0")
        except OSError:
            continue
        inside = any(v == wanted or v.startswith(wanted + b"/") for v in variables)
        if inside and ticks(int(name)):
            found.append(int(name))
    return found


def end_of(path: str, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - size))
            return file.read(size)
    except OSError:
        return b""


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
