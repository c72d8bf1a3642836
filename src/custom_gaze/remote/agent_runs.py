"""The agent: the requests about runs. An engine runs them; what is known of one is its folder."""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from custom_gaze.remote.agent import Place, Refused, Replies, Reply, call, git
from custom_gaze.remote.engine import Engine, Run, ref_of
from custom_gaze.remote.engine_local import Local
from custom_gaze.remote.engine_slurm import Slurm
from custom_gaze.remote.engine_systemd import Systemd

MACHINE = "machine.json"  # which Python runs use, and the requirements that it was made of
KEPT_RUNS = 50
CHUNK = 1 << 16
ENGINES: dict[str, Engine] = {"local": Local(), "systemd": Systemd(), "slurm": Slurm()}


def write(path: str, value: Any) -> None:
    Path(f"{path}.part").write_text(json.dumps(value), encoding="utf-8")
    os.replace(f"{path}.part", path)


def read(path: str) -> Reply:
    """What `write` wrote; nothing where it is not there or damaged."""
    try:
        return dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return {}


def python_of(place: Place) -> str:
    """The Python that setup chose: the environment that it made, or one that the user named."""
    return str(read(place.path(MACHINE)).get("python", place.path("env", "bin", "python")))


def engine_of(run: Run) -> Engine:
    return ENGINES[run["engine"]["engine"]]


def all_runs(place: Place) -> list[Run]:
    """Every run with what has become of it, the newest last."""
    runs = []
    for path in Path(place.path("runs")).glob("*/run.json"):
        folder, run = str(path.parent), read(str(path))
        if "engine" in run:
            numbers = range(len(run["experiments"]))
            logs = [engine_of(run).logs(folder, number) for number in numbers]
            ends = [read(os.path.join(folder, f"result-{number}.json")) for number in numbers]
            runs.append({**run, "folder": folder, "logs": logs, "ends": ends})
    going: dict[str, str] = {}
    for engine in ENGINES.values():
        its = [run["folder"] for run in runs if engine_of(run) is engine and not all(run["ends"])]
        asked = [folder for folder in its if not os.path.exists(os.path.join(folder, "over"))]
        going |= engine.list(asked) if asked else {}
        for folder in set(asked) - set(going):
            if engine.job(folder):
                Path(folder, "over").touch()  # its engine is asked no more: it may be gone one day
    for run in runs:
        codes = [end["code"] for end in run["ends"] if end]
        run["code"] = next(filter(None, codes), 0 if codes else None)
        run["done"] = [
            entry["name"]
            for entry, end in zip(run["experiments"], run["ends"], strict=True)
            if end.get("code") == 0
        ]
        stopped = os.path.exists(os.path.join(run["folder"], "stop"))
        if len(codes) == len(run["ends"]):
            run["state"] = "stopped" if stopped else "failed" if run["code"] else "done"
        elif run["folder"] in going:
            run["state"], run["note"] = "running", going[run["folder"]]
        else:
            run["state"] = "stopped" if stopped else "died"
        if codes and run["state"] != "running":
            run["ended"] = max(end["ended"] for end in run["ends"] if end)
    return sorted(runs, key=lambda run: float(run["started"]))


def find(place: Place, name: str) -> Run:
    """The run of this name, or the one that goes on (else the newest) where none is given."""
    runs = all_runs(place)
    going = [run for run in runs if run["state"] == "running"]
    fitting = [run for run in runs if run["name"] == name] if name else going or runs
    if not fitting:
        known = ", ".join(run["name"] for run in runs[-5:]) or "none yet"
        raise Refused(f"no run {name or 'at all'} there; the latest: {known}", 2)
    return fitting[-1]


def _check_free(run: Run, runs: list[Run]) -> None:
    """Refuse a run while another is in its way, one of its name or, with most engines, any."""
    for each in runs:
        if each["state"] == "running" and (engine_of(run).alone or each["name"] == run["name"]):
            raise Refused("a run goes on there", active=each)


def ready(place: Place, run: Run, here: list[str], requirements: str) -> Replies:
    """Refuse a run that cannot start; of one that was asked for before and goes on, say so.

    `here`: which of its experiments have been brought home. `requirements`: the hash of its
    requirements.txt.
    """
    runs = all_runs(place)
    known = next((each for each in runs if each["name"] == run["name"]), {"state": ""})
    same = all(known.get(key) == run[key] for key in run.keys() - {"engine"})
    to_fetch = known["state"] == "done" and len(here) < len(run["experiments"])
    if same and (known["state"] == "running" or to_fetch):
        yield {"run": known}
        return
    _check_free(run, runs)
    if here or known["state"] == "done":
        raise Refused(
            f"the name {here[0] if here else run['name']} was used before; take another (--name), "
            "or remove that experiment (dvc exp remove)",
            2,
        )
    machine = read(place.path(MACHINE))
    if not machine or not os.path.exists(machine["python"]):
        raise Refused("no environment there yet; run `custom-gaze remote setup`")
    if machine["requirements"] not in ("", requirements):
        raise Refused("requirements.txt has changed; `custom-gaze remote setup` installs it there")
    yield {}


def start(place: Place, run: Run, job: str) -> Replies:
    """Let an engine start the run, whose program is `job`; alone where that engine wants it so."""
    own = {"repository": place.repository, "sub": place.sub, "python": python_of(place)}
    run = {**run, **own, "started": time.time()}
    folder = place.path("runs", run["name"])
    with open(place.path("lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # nobody else starts one meanwhile
        runs = all_runs(place)
        _check_free(run, runs)
        _clear_leftovers(place, folder, run, [each for each in runs if each["state"] != "running"])
        os.makedirs(folder)
        Path(folder, "job.py").write_text(job, encoding="utf-8")
        write(os.path.join(folder, "run.json"), run)
        try:
            name = engine_of(run).submit(folder, run)
        except Refused:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        Path(folder, "job").write_text(name, encoding="utf-8")
    yield {}


def _clear_leftovers(place: Place, folder: str, run: Run, over: list[Run]) -> None:
    """What runs that are over have left, if they were killed, and an earlier one of this name.

    The last runs are kept, and those with a result that nobody has brought home.
    """
    for each in over:
        if each["state"] != "done" and engine_of(each).alone:  # SLURM leaves nothing
            engine_of(each).stop(each["folder"])
        _remove_copies(each["folder"])
    for name in [entry["name"] for entry in run["experiments"]]:
        ref = ref_of(run["commit"], name)
        if git(place.repository, "for-each-ref", ref):
            if not os.path.exists(folder):
                raise Refused(f"an experiment {name} is there already; take another name", 2)
            git(place.repository, "update-ref", "-d", ref)
    shutil.rmtree(folder, ignore_errors=True)
    for each in over[:-KEPT_RUNS]:
        if each["state"] != "done" or os.path.exists(os.path.join(each["folder"], "fetched")):
            shutil.rmtree(each["folder"], ignore_errors=True)


def _remove_copies(folder: str) -> None:
    """The working copies, data included, of a run that did not end by itself."""
    for path in Path(folder).glob("copy-*"):
        shutil.rmtree(path, ignore_errors=True)


def look(place: Place, name: str) -> Replies:
    """One run with the last of its log."""
    run = find(place, name)
    yield {"run": run, "text": _tail(run, CHUNK)}


def _tail(run: Run, size: int) -> str:
    """The end of the log of an experiment that failed, else of the one that spoke last."""
    failed = [log for log, end in zip(run["logs"], run["ends"], strict=True) if end.get("code")]
    there = [path for path in failed or run["logs"] if os.path.exists(path)]
    if not there:
        return ""
    with open(max(there, key=os.path.getmtime), "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - size))
        return base64.urlsafe_b64encode(file.read(size)).decode()


def fetched(place: Place, name: str) -> Replies:
    """Note that all of a run has been brought home."""
    folder = find(place, name)["folder"]
    Path(folder, "fetched").touch()
    _remove_copies(folder)  # of a job whose machine was lost
    yield {}


def status(place: Place) -> Replies:
    """Every run, the active one's last lines, the graphics card and the disk."""
    runs, disk = all_runs(place), shutil.disk_usage(place.directory)
    active = [run for run in runs if run["state"] == "running"]
    about = {"free": disk.free, "total": disk.total, "gpu": gpu(), "now": time.time()}
    yield {"runs": runs, **about, "text": _tail(active[0], 1 << 14) if active else ""}


def gpu() -> list[str]:
    """A line of nvidia-smi per card: name, used and total memory in MiB, load in percent."""
    query = "--query-gpu=name,memory.used,memory.total,utilization.gpu"
    words = ("timeout", "5", "nvidia-smi", query, "--format=csv,noheader,nounits")
    with contextlib.suppress(Refused):
        return call(*words).splitlines()
    return []


def follow(place: Place, name: str, offset: int, wait: bool) -> Replies:
    """Send a run's logs, one experiment's after the other, as they grow if `wait`; then the run.

    The first `offset` bytes of all of them, one behind the other, are not sent again.
    """
    run = find(place, name)
    engine, asked = engine_of(run), 0.0
    goes_on = wait and run["state"] == "running"
    for number, path in enumerate(run["logs"]):
        end = os.path.join(run["folder"], f"result-{number}.json")
        position, over = 0, False
        while not over:
            if goes_on and time.monotonic() - asked > engine.every_s:
                goes_on, asked = engine.status(run["folder"]) is not None, time.monotonic()
            over = not goes_on or os.path.exists(end)  # what is logged until then is still read
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as log:
                log.seek(position)
                while chunk := log.read(CHUNK):
                    position += len(chunk)
                    if new := chunk[offset:]:
                        yield {"text": base64.urlsafe_b64encode(new).decode()}
                    offset = max(0, offset - len(chunk))
            if not over:
                time.sleep(0.1)
    yield {"run": find(place, run["name"])}


def stop(place: Place, name: str) -> Replies:
    """End a run with everything it started; say what it was before, and whether any was left."""
    run = find(place, name)
    if run["state"] == "running":
        Path(run["folder"], "stop").touch()
    left = engine_of(run).stop(run["folder"])
    _remove_copies(run["folder"])
    yield {"run": run, "left": left}
