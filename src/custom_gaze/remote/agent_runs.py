"""The agent: the requests about runs. One goes at a time: its supervisor holds the one lock."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from typing import cast

from custom_gaze.remote.agent import Link, Refused, project_of
from custom_gaze.remote.agent_launch import clear_leftovers, remove_old_runs, supervise
from custom_gaze.remote.agent_state import (
    RUNNING,
    Run,
    all_ended,
    all_runs,
    end_of,
    end_processes,
    find,
    write,
)
from custom_gaze.remote.frames import PAYLOAD, Header


def hold(link: Link, header: Header) -> None:
    """Reserve the machine for this connection, until it ends or has started its run.

    Raises:
        Refused: a run goes on, or somebody else is about to start one.
    """
    path = os.path.join(header["dir"], "lock")
    link.lock_file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(link.lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _release(link)
        active = [run for run in all_runs(header["dir"]) if run["state"] == RUNNING]
        raise Refused("busy", active=active[0] if active else None) from None
    end_processes(header["dir"])  # what a killed run left; nothing here is alive
    link.send({"held": 1})


def _release(link: Link) -> None:
    if link.lock_file >= 0:
        os.close(link.lock_file)
    link.lock_file = -1


def start(link: Link, header: Header) -> None:
    """Start the run described by `run` in a session of its own; the lock passes on to it.

    Raises:
        Refused: an experiment that no run of ours has made bears the name.
    """
    run = cast(Run, {**header["run"], "started": time.time()})
    project = project_of(header)
    folder = os.path.join(header["dir"], "runs", run["name"])
    clear_leftovers(project, folder, run)
    remove_old_runs(header["dir"])
    os.makedirs(folder)
    write(os.path.join(folder, "run.json"), run)
    ready, told = os.pipe()
    if os.fork() == 0:
        try:
            os.close(ready)
            link.let_go()
            supervise(header["dir"], project, folder, run, told)
        finally:
            os._exit(0)
    os.close(told)
    os.read(ready, 1)  # it has written down who it is
    os.close(ready)
    _release(link)
    link.send({"started": run["started"]})


def look(link: Link, header: Header) -> None:
    """One run with the last of its log; `missing` instead of a refusal where `may_miss`."""
    try:
        run = find(header["dir"], header["name"])
    except Refused:
        if header.get("may_miss"):
            link.send({"run": None})
            return
        raise
    link.send({"run": run}, end_of(os.path.join(run["folder"], "log"), 1 << 16))


def fetched(link: Link, header: Header) -> None:
    """Note that all of a run has been brought home."""
    run = find(header["dir"], header["name"])
    with open(os.path.join(run["folder"], "fetched"), "w", encoding="utf-8"):
        pass
    link.send({"noted": 1})


def status(link: Link, header: Header) -> None:
    """Every run, the active one's last lines, the graphics card and the disk."""
    runs = all_runs(header["dir"])
    active = [run for run in runs if run["state"] == RUNNING]
    tail = end_of(os.path.join(active[0]["folder"], "log"), 1 << 14) if active else b""
    disk = shutil.disk_usage(header["dir"])
    about = {"free": disk.free, "total": disk.total, "gpu": gpu(), "now": time.time()}
    link.send({"runs": runs, **about}, tail)


def gpu() -> list[str]:
    """A line of nvidia-smi per card: name, used and total memory in MiB, load in percent."""
    query = "--query-gpu=name,memory.used,memory.total,utilization.gpu"
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="surrogateescape", timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def follow(link: Link, header: Header) -> None:
    """Send the log from `offset` on, with `wait` as it grows until the run ends; then the run."""
    run = find(header["dir"], header["name"])
    path = os.path.join(run["folder"], "log")
    position = header["offset"]
    while True:
        # Asked first: what is logged until then is still read.
        ended = not header["wait"] or all_ended(run["folder"])
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            file.seek(position)
            while chunk := file.read(PAYLOAD):
                position += len(chunk)
                link.send({"log": position}, chunk)
        if ended:
            break
        time.sleep(0.1)
    link.send({"ended": find(header["dir"], run["name"])})


def stop(link: Link, header: Header) -> None:
    """End a run with everything it started."""
    run = find(header["dir"], header["name"])
    folder = run["folder"]
    was = run["state"]
    if was == RUNNING:
        with open(os.path.join(folder, "stop"), "w", encoding="utf-8"):
            pass
    ended = end_processes(folder)
    while not all_ended(folder):
        time.sleep(0.05)
    link.send({"run": find(header["dir"], run["name"]), "was": was, "processes": ended})
