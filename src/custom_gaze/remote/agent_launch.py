"""The agent: a run's supervisor, a session of its own that no connection holds."""

import glob
import os
import shutil
import signal
import subprocess
import time

from custom_gaze.remote.agent import Refused, git
from custom_gaze.remote.agent_state import (
    DONE,
    FAILED,
    MACHINE,
    MARK,
    RUNNING,
    STOPPED,
    Run,
    all_runs,
    end_processes,
    experiment_ref,
    read,
    ticks,
    write,
)

_PIPELINE = "dvc.yaml"
KEPT_RUNS = 50


def clear_leftovers(project: str, folder: str, run: Run) -> None:
    """What a run of this name that failed or was killed has left.

    Its place in DVC's line too, which would be run in the place of the next experiment.
    """
    for name in (entry["name"] for entry in run["experiments"]):
        if ref := experiment_ref(project, name):
            if not os.path.exists(folder):
                raise Refused(f"an experiment {name} is there already; take another name", 2)
            git(project, "update-ref", "-d", ref)
    shutil.rmtree(folder, ignore_errors=True)
    remove_copies(project)
    git(project, "update-ref", "-d", "refs/exps/stash", check=False)
    if len(run["experiments"]) > 1:
        for name in ("refs/exps/celery/stash", "refs/exps/celery/failed"):
            git(project, "update-ref", "-d", name, check=False)
        shutil.rmtree(os.path.join(project, ".dvc", "tmp", "exps"), ignore_errors=True)


def remove_copies(project: str) -> None:
    """The copies of the repository, data included, in which runs that did not end well worked.

    Not those in which something works now: somebody may run DVC in one by hand.
    """
    exps = os.path.join(os.path.realpath(project), ".dvc", "tmp", "exps")
    used = [working_folder(name) for name in os.listdir("/proc") if name.isdigit()]
    for path in (*glob.glob(f"{exps}/standalone/tmp*"), *glob.glob(f"{exps}/tmp*")):
        if not any(folder == path or folder.startswith(path + os.sep) for folder in used):
            shutil.rmtree(path, ignore_errors=True)


def working_folder(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def remove_old_runs(directory: str) -> None:
    """Forget all but the last runs: their requests and logs; experiments and files stay.

    A run that has a result nobody has brought home is kept, however old it is.
    """
    old = [run for run in all_runs(directory) if run["state"] != RUNNING][:-KEPT_RUNS]
    for run in old:
        if run["state"] != DONE or os.path.exists(os.path.join(run["folder"], "fetched")):
            shutil.rmtree(run["folder"], ignore_errors=True)


def supervise(directory: str, project: str, folder: str, run: Run, told: int) -> None:
    """Run DVC in the project to its end and write down how it ended."""
    os.setsid()
    log = os.open(os.path.join(folder, "log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number, target in ((0, nothing), (1, log), (2, log)):
        os.dup2(target, number)
    for kind in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)
    write(os.path.join(folder, "pid.json"), {"pid": os.getpid(), "ticks": ticks(os.getpid())})
    os.write(told, b"x")
    os.close(told)
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
                preexec_fn=_default_signals,
            )
            code = process.wait()
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
            code = 127
        if code:
            break
    end_processes(folder)
    remove_copies(project)
    made = {entry["name"]: experiment_ref(project, entry["name"]) for entry in run["experiments"]}
    stopped = os.path.exists(os.path.join(folder, "stop"))
    whole = code == 0 and all(made.values())
    state = STOPPED if stopped else DONE if whole else FAILED
    result = {"state": state, "code": code, "ended": time.time(), "refs": made}
    write(os.path.join(folder, "result.json"), result)


def _default_signals() -> None:
    for kind in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_DFL)


def _commands(run: Run) -> list[list[str]]:
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
    """The Python that setup chose: the environment that it made, or one that the user named."""
    machine = read(os.path.join(directory, MACHINE)) or {}
    return str(machine.get("python", os.path.join(directory, "env", "bin", "python")))


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
