"""The agent: the requests about runs. An engine runs them; what is known of one is its folder."""

import contextlib
import fcntl
import glob
import os
import shutil
import subprocess
import time
from collections.abc import Iterator

from custom_gaze.remote.agent import Header, Link, Refused, git
from custom_gaze.remote.engine import (
    DONE,
    RUNNING,
    Engine,
    Run,
    ended,
    experiment_ref,
    python_of,
    read,
    remove_copies,
    with_state,
    write,
)
from custom_gaze.remote.engine_local import Local
from custom_gaze.remote.engine_slurm import Slurm
from custom_gaze.remote.engine_systemd import Systemd

KEPT_RUNS = 50
CHUNK = 1 << 16
ENGINES: dict[str, Engine] = {"local": Local(), "systemd": Systemd(), "slurm": Slurm()}


def engine_of(run: Run) -> Engine:
    return ENGINES[run["engine"]["engine"]]


def all_runs(directory: str) -> list[Run]:
    """Every run with its state, the newest last."""
    runs = []
    for path in glob.glob(os.path.join(glob.escape(directory), "runs", "*", "run.json")):
        run = read(path)
        if run is not None and "engine" in run:
            runs.append({**run, "folder": os.path.dirname(path)})
    notes: dict[str, str] = {}
    for name, engine in ENGINES.items():
        its = [run for run in runs if run["engine"]["engine"] == name]
        open_ones = [run["folder"] for run in its if not _is_over(run)]
        notes |= engine.list(open_ones) if open_ones else {}
        for folder in set(open_ones) - set(notes):
            if engine.job(folder):
                _note(folder, "over")  # its engine is asked no more: it may be gone one day
    known = [with_state(run, notes.get(run["folder"])) for run in runs]
    return sorted(known, key=lambda run: float(run["started"]))


def _is_over(run: Run) -> bool:
    all_ended = all(ended(run["folder"], number) for number in range(len(run["experiments"])))
    return all_ended or os.path.exists(os.path.join(run["folder"], "over"))


def _note(folder: str, what: str, text: str = "") -> None:
    with open(os.path.join(folder, what), "w", encoding="utf-8") as file:
        file.write(text)


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


def check_free(directory: str) -> None:
    """Refuse while a run goes on.

    Raises:
        Refused: the run that goes on.
    """
    for run in all_runs(directory):
        if run["state"] == RUNNING:
            raise Refused("busy", active=run)


def start(link: Link, header: Header) -> Header:
    """Let an engine start the run described by `run`.

    Raises:
        Refused: an experiment that no run of ours has made bears the name, or another run goes on
            where the engine takes one at a time.
    """
    directory, place = header["dir"], os.path.join(header["dir"], "project")
    own = {"repository": place, "sub": header["sub"], "python": python_of(directory)}
    run = {**header["run"], **own, "started": time.time()}
    folder = os.path.join(directory, "runs", run["name"])
    with _alone(directory):
        if engine_of(run).alone:
            check_free(directory)
        _clear_leftovers(directory, folder, run)
        os.makedirs(folder)
        _note(folder, "job.py", header["job"])
        write(os.path.join(folder, "run.json"), run)
        try:
            job = engine_of(run).submit(folder, run)
        except Refused:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _note(folder, "job", job)
    return {"started": run["started"]}


@contextlib.contextmanager
def _alone(directory: str) -> Iterator[None]:
    """Nobody else starts a run meanwhile."""
    with open(os.path.join(directory, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _clear_leftovers(directory: str, folder: str, run: Run) -> None:
    """What runs that failed or were killed have left, and what an earlier one of this name was.

    The last runs are kept, and those with a result that nobody has brought home.
    """
    known = all_runs(directory)
    if any(each["folder"] == folder and each["state"] == RUNNING for each in known):
        raise Refused(f"{run['name']} is the name of another run that goes on there", 2)
    known = [each for each in known if each["state"] != RUNNING]
    for each in known:
        if each["state"] != DONE and engine_of(each).alone:  # SLURM leaves nothing
            engine_of(each).stop(each["folder"])
        remove_copies(each["folder"])
    for name in (entry["name"] for entry in run["experiments"]):
        ref = experiment_ref(run, name)
        if git(run["repository"], "rev-parse", "-q", "--verify", ref, check=False):
            if not os.path.exists(folder):
                raise Refused(f"an experiment {name} is there already; take another name", 2)
            git(run["repository"], "update-ref", "-d", ref)
    shutil.rmtree(folder, ignore_errors=True)
    for each in known[:-KEPT_RUNS]:
        if each["state"] != DONE or os.path.exists(os.path.join(each["folder"], "fetched")):
            shutil.rmtree(each["folder"], ignore_errors=True)


def look(link: Link, header: Header) -> Header:
    """One run with the last of its log; `missing` instead of a refusal where `may_miss`."""
    try:
        run = find(header["dir"], header["name"])
    except Refused:
        if header.get("may_miss"):
            return {"run": None}
        raise
    return {"run": run, "text": _tail(run, CHUNK)}


def _tail(run: Run, size: int) -> str:
    """The end of the log of an experiment that failed, else of the one that spoke last."""
    paths = {n: engine_of(run).logs(run["folder"], n) for n in range(len(run["experiments"]))}
    failed = [paths[n] for n in paths if (ended(run["folder"], n) or {}).get("code")]
    there = [path for path in failed or paths.values() if os.path.exists(path)]
    if not there:
        return ""
    with open(max(there, key=os.path.getmtime), "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - size))
        return _text(file.read(size))


def _text(chunk: bytes) -> str:
    return chunk.decode("utf-8", "surrogateescape")


def fetched(link: Link, header: Header) -> Header:
    """Note that all of a run has been brought home."""
    run = find(header["dir"], header["name"])
    _note(run["folder"], "fetched")
    remove_copies(run["folder"])  # of a job whose machine was lost
    return {"noted": 1}


def status(link: Link, header: Header) -> Header:
    """Every run, the active one's last lines, the graphics card and the disk."""
    runs = all_runs(header["dir"])
    active = [run for run in runs if run["state"] == RUNNING]
    disk = shutil.disk_usage(header["dir"])
    about = {"free": disk.free, "total": disk.total, "gpu": gpu(), "now": time.time()}
    return {"runs": runs, **about, "text": _tail(active[0], 1 << 14) if active else ""}


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


def follow(link: Link, header: Header) -> Header:
    """Send a run's logs, one experiment's after the other, as they grow if `wait`; then the run.

    `offset` and `log` count bytes of all of them, one behind the other.
    """
    run = find(header["dir"], header["name"])
    folder, engine = run["folder"], engine_of(run)
    before, asked, goes_on = 0, 0.0, header["wait"] and run["state"] == RUNNING
    for number in range(len(run["experiments"])):
        path = engine.logs(folder, number)
        size = os.path.getsize(path) if os.path.exists(path) else 0
        position = min(max(0, header["offset"] - before), size)
        while True:
            if goes_on and time.monotonic() - asked > engine.every_s:
                goes_on, asked = engine.status(folder) is not None, time.monotonic()
            # Asked first: what is logged until then is still read.
            over = not goes_on or ended(folder, number) is not None
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as log:
                log.seek(position)
                while chunk := log.read(CHUNK):
                    position += len(chunk)
                    link.send({"log": before + position, "text": _text(chunk)})
            if over:
                break
            time.sleep(0.1)
        before += position
    return {"ended": find(header["dir"], run["name"])}


def stop(link: Link, header: Header) -> Header:
    """End a run with everything it started."""
    run = find(header["dir"], header["name"])
    folder = run["folder"]
    if run["state"] == RUNNING:
        _note(folder, "stop")
    left = engine_of(run).stop(folder)
    remove_copies(folder)
    return {"run": find(header["dir"], run["name"]), "was": run["state"], "left": left}
