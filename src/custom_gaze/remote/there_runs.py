"""Over there: starting, following and ending runs.

A run is a folder runs/NAME with run.json, log and, when it has ended, result.json. Its supervisor
is a session of its own that no connection holds, and holds the one lock that a run needs. Every
process of a run carries CUSTOM_GAZE_RUN in its environment, whatever session DVC has put it in:
that is how all of them are found.
"""

import contextlib
import fcntl
import glob
import json
import os
import shutil
import signal
import subprocess
import time
from typing import Any

from custom_gaze.remote.frames import PAYLOAD, Header
from custom_gaze.remote.there import Link, Refused, git

MARK = "CUSTOM_GAZE_RUN"
DONE, FAILED, STOPPED, DIED, RUNNING = "done", "failed", "stopped", "died", "running"
_PIPELINE = "dvc.yaml"
TERMINATE_S = 5.0  # between asking a run's processes to end and ending them


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
        release(link)
        active = [run for run in all_runs(header["dir"]) if run["state"] == RUNNING]
        raise Refused("busy", active=active[0] if active else None) from None
    _end_processes(header["dir"])  # what a killed run left; nothing here is alive
    link.send({"held": 1})


def release(link: Link, header: Header | None = None) -> None:
    if link.lock_file >= 0:
        os.close(link.lock_file)
    link.lock_file = -1
    if header is not None:
        link.send({"released": 1})


def start(link: Link, header: Header) -> None:
    """Start the run described by `run` in a session of its own; the lock passes on to it.

    Raises:
        Refused: an experiment there that no run of ours has made bears the name.
    """
    run = {**header["run"], "started": time.time()}
    project = os.path.join(header["dir"], "project")
    folder = os.path.join(header["dir"], "runs", run["name"])
    _clear_leftovers(project, folder, run)
    os.makedirs(folder)
    _write(os.path.join(folder, "run.json"), run)
    ready, told = os.pipe()
    if os.fork() == 0:
        try:
            os.close(ready)
            _supervise(header["dir"], folder, run, told)
        finally:
            os._exit(0)
    os.close(told)
    os.read(ready, 1)  # it has written down who it is
    os.close(ready)
    release(link)
    link.send({"started": run["started"]})


def _clear_leftovers(project: str, folder: str, run: Header) -> None:
    """What a run of this name that failed or was killed has left.

    Of DVC: its working copy, and its place in the line, which would be run in the place of the
    next experiment.
    """
    for name in (entry["name"] for entry in run["experiments"]):
        if ref := experiment_ref(project, name):
            if not os.path.exists(folder):
                raise Refused(f"an experiment {name} is there already; take another name", 2)
            git(project, "update-ref", "-d", ref)
    shutil.rmtree(folder, ignore_errors=True)
    for path in glob.glob(os.path.join(project, ".dvc", "tmp", "exps", "standalone", "tmp*")):
        shutil.rmtree(path, ignore_errors=True)
    git(project, "update-ref", "-d", "refs/exps/stash", check=False)
    if len(run["experiments"]) > 1:
        for name in ("refs/exps/celery/stash", "refs/exps/celery/failed"):
            git(project, "update-ref", "-d", name, check=False)
        shutil.rmtree(os.path.join(project, ".dvc", "tmp", "exps"), ignore_errors=True)


def _supervise(directory: str, folder: str, run: Header, told: int) -> None:
    """Run DVC to its end and write down how it ended. Never returns to the caller's loop."""
    os.setsid()
    log = os.open(os.path.join(folder, "log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number, target in ((0, nothing), (1, log), (2, log)):
        os.dup2(target, number)
    for kind in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)
    _write(os.path.join(folder, "pid.json"), {"pid": os.getpid(), "ticks": _ticks(os.getpid())})
    os.write(told, b"x")
    os.close(told)
    project = os.path.join(directory, "project")
    environment = _environment(directory, folder)
    code = 0
    for command in _commands(run):
        try:
            process = subprocess.Popen(
                command,
                cwd=project,
                env=environment,
                stdin=nothing,
                start_new_session=True,
                restore_signals=True,
                preexec_fn=_default_signals,
            )
            code = process.wait()
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
            code = 127
        if code:
            break
    _end_processes(folder)
    made = {entry["name"]: experiment_ref(project, entry["name"]) for entry in run["experiments"]}
    stopped = os.path.exists(os.path.join(folder, "stop"))
    whole = code == 0 and all(made.values())
    state = STOPPED if stopped else DONE if whole else FAILED
    result = {"state": state, "code": code, "ended": time.time(), "refs": made}
    _write(os.path.join(folder, "result.json"), result)


def _default_signals() -> None:
    for kind in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_DFL)


def _commands(run: Header) -> list[list[str]]:
    """One experiment at once in a copy of the repository, or several through DVC's own queue.

    The pipeline is named as the target: without one DVC asks for the data of every .dvc file, of
    sessions too that the run does not use and that nobody has sent.
    """
    sets = [
        (entry["name"], [word for change in entry["set"] for word in ("-S", change)])
        for entry in run["experiments"]
    ]
    if len(sets) == 1:
        name, changes = sets[0]
        return [["dvc", "exp", "run", "--temp", "--name", name, *changes, _PIPELINE]]
    queue = ["dvc", "exp", "run", "--queue", "--name"]
    queued = [[*queue, name, *words, _PIPELINE] for name, words in sets]
    return [*queued, ["dvc", "exp", "run", "--run-all", "--jobs", str(run["jobs"])]]


def python_of(directory: str) -> str:
    """The Python that setup chose: the environment made there, or one that the user named."""
    try:
        with open(os.path.join(directory, "machine.json"), encoding="utf-8") as file:
            return str(json.load(file)["python"])
    except (OSError, ValueError, KeyError):
        return os.path.join(directory, "env", "bin", "python")


def _environment(directory: str, folder: str) -> dict[str, str]:
    bin_folder = os.path.dirname(python_of(directory))
    return {
        **os.environ,
        MARK: folder,
        "PATH": bin_folder + os.pathsep + os.environ.get("PATH", os.defpath),
        # Relative: each experiment runs the code of its own copy of the repository, whatever is
        # sent to the main one meanwhile.
        "PYTHONPATH": "src",
        "PYTHONUNBUFFERED": "1",
        "DVC_NO_ANALYTICS": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }


def experiment_ref(project: str, name: str) -> str:
    """The full name of an experiment's ref, or nothing."""
    pattern = f"refs/exps/*/*/{name}"
    found = git(project, "for-each-ref", "--format=%(refname)", pattern, check=False).split()
    return found[0] if found else ""


def all_runs(directory: str) -> list[Header]:
    """Every run with its state, the newest last."""
    runs = []
    for path in glob.glob(os.path.join(directory, "runs", "*", "run.json")):
        run = _read(path)
        if run is None:
            continue
        folder = os.path.dirname(path)
        result = _read(os.path.join(folder, "result.json"))
        if result is None:
            result = {"state": RUNNING if _supervisor(folder) else DIED}
        runs.append({**run, **result, "folder": folder})
    return sorted(runs, key=lambda run: float(run["started"]))


def find(directory: str, name: str) -> Header:
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


def _supervisor(folder: str) -> int:
    """The process that runs the run, 0 where it has gone."""
    who = _read(os.path.join(folder, "pid.json"))
    if who is None or _ticks(who["pid"]) != who["ticks"]:
        return 0
    return int(who["pid"])


def _ticks(pid: int) -> str:
    """When a process started: tells it from a later one with the same number."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def look(link: Link, header: Header) -> None:
    """One run with the last of its log; `missing` instead of a refusal where `may_miss`."""
    try:
        run = find(header["dir"], header["name"])
    except Refused:
        if header.get("may_miss"):
            link.send({"run": None})
            return
        raise
    link.send({"run": run}, _tail(os.path.join(run["folder"], "log"), 1 << 16))


def logs(link: Link, header: Header) -> None:
    """The whole log of a run as far as it has come."""
    run = find(header["dir"], header["name"])
    try:
        with open(os.path.join(run["folder"], "log"), "rb") as file:
            while chunk := file.read(PAYLOAD):
                link.send({"log": 1}, chunk)
    except FileNotFoundError:
        pass
    link.send({"end": 1})


def status(link: Link, header: Header) -> None:
    """Every run, the active one's last lines, the graphics card and the disk."""
    runs = all_runs(header["dir"])
    active = [run for run in runs if run["state"] == RUNNING]
    tail = _tail(os.path.join(active[0]["folder"], "log"), 1 << 14) if active else b""
    disk = shutil.disk_usage(header["dir"])
    about = {"free": disk.free, "total": disk.total, "gpu": gpu(), "now": time.time()}
    link.send({"runs": runs, **about}, tail)


def gpu() -> list[str]:
    """A line of nvidia-smi per card: name, used and total memory in MiB, load in percent."""
    query = "--query-gpu=name,memory.used,memory.total,utilization.gpu"
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def _tail(path: str, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - size))
            return file.read(size)
    except OSError:
        return b""


def follow(link: Link, header: Header) -> None:
    """Send the log from `offset` on as it grows, then how the run ended."""
    run = find(header["dir"], header["name"])
    path = os.path.join(run["folder"], "log")
    position = header["offset"]
    while True:
        ended = all_ended(run["folder"])  # asked first: what is logged until then is still read
        try:
            with open(path, "rb") as file:
                file.seek(position)
                while chunk := file.read(PAYLOAD):
                    position += len(chunk)
                    link.send({"log": position}, chunk)
        except FileNotFoundError:
            pass
        if ended:
            break
        time.sleep(0.1)
    link.send({"ended": find(header["dir"], run["name"])})


def all_ended(folder: str) -> bool:
    return os.path.exists(os.path.join(folder, "result.json")) or not _supervisor(folder)


def stop(link: Link, header: Header) -> None:
    """End a run with everything it started."""
    run = find(header["dir"], header["name"])
    folder = run["folder"]
    was = run["state"]
    if was == RUNNING:
        with open(os.path.join(folder, "stop"), "w", encoding="utf-8"):
            pass
    ended = _end_processes(folder)
    while not all_ended(folder):
        time.sleep(0.05)
    link.send({"run": find(header["dir"], run["name"]), "was": was, "processes": ended})


def _end_processes(folder: str) -> int:
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
        if any(_lies_in(variable, wanted) for variable in variables) and _ticks(int(name)):
            found.append(int(name))
    return found


def _lies_in(variable: bytes, wanted: bytes) -> bool:
    return variable == wanted or variable.startswith(wanted + b"/")


def _write(path: str, value: Any) -> None:
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(path + ".part", path)


def _read(path: str) -> Header | None:
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
