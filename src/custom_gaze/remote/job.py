"""A run's job: `python3 -I job.py FOLDER [NUMBER]`, one of its experiments or all of them.

An engine starts it from the run's own folder, where it outlives the connection. Each experiment is
`dvc exp run` in a working copy of its own, a clone that shares the repository's objects and DVC's
store: so several run at once, on several machines. The standard library alone.
"""

import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# DVC starts each stage in this shell. The stage holds the run's second lock too, so that its
# process group is known to be the run's while it lives; and what it keeps for later (half a
# training, MLflow's runs) goes to the project, not into the copy that DVC names.
_SHELL = """#!/bin/sh
exec 9<{group}
flock -s 9 2>/dev/null
export DVC_ROOT={project} SHELL=/bin/sh
exec /bin/sh "$@"
"""


def main() -> None:
    os.umask(0o077)
    folder, *numbers = sys.argv[1:]
    with open(os.path.join(folder, "run.json"), encoding="utf-8") as file:
        run = json.load(file)
    for name in ("lock", "group"):
        held = os.open(os.path.join(folder, name), os.O_CREAT | os.O_RDWR)
        if not numbers:  # of SLURM's tasks squeue tells, and not each shared folder has locks
            fcntl.flock(held, fcntl.LOCK_SH)
    os.set_inheritable(held, True)
    todo = [int(number) for number in numbers] or range(len(run["experiments"]))
    with ThreadPoolExecutor(run["jobs"]) as pool:
        list(pool.map(lambda number: _experiment(folder, run, number), todo))


def _experiment(folder: str, run: dict[str, Any], number: int) -> None:
    """Run one experiment and write down how it ended."""
    name, commit = run["experiments"][number]["name"], run["commit"]
    ref = f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"
    with open(os.path.join(folder, f"log-{number}"), "ab") as log:
        try:
            if len(run["experiments"]) > 1:
                os.write(log.fileno(), f"experiment {name}\n".encode())
            # There already: it was made by a job whose machine was lost before it could say so.
            code = 0 if _has(run, ref) else _run(folder, run, number, ref, log.fileno())
        except OSError as error:
            os.write(log.fileno(), f"{error}\n".encode())
            code = 1
    path = os.path.join(folder, f"result-{number}.json")
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        json.dump({"code": code, "ended": time.time()}, file)
    os.replace(f"{path}.part", path)


def _has(run: dict[str, Any], ref: str) -> bool:
    words = ["git", "-C", run["repository"], "rev-parse", "--verify", "--quiet", ref]
    return subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode == 0


def _run(folder: str, run: dict[str, Any], number: int, ref: str, log: int) -> int:
    """Make the experiment in a copy, and bring it into the repository; the exit code."""
    experiment, prefix = run["experiments"][number], f"copy-{number}-"
    with tempfile.TemporaryDirectory("", prefix, folder, ignore_cleanup_errors=True) as place:
        copy, around = os.path.join(place, "project"), _environment(folder, run, place)

        def call(*words: str, where: str = copy) -> int:
            return subprocess.run(
                words,
                cwd=where,
                env=around,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                close_fds=False,  # DVC holds the second lock with us
                check=False,
            ).returncode

        git = ("git", "-c", "advice.detachedHead=false", "-c", "core.hooksPath=/dev/null")
        who = ("-c", "user.name=custom-gaze", "-c", "user.email=custom-gaze@localhost")
        clone = (*git, "clone", "--quiet", "--shared", "--no-checkout", *who)
        if code := call(*clone, run["repository"], copy, where=folder):
            return code
        if code := call(*git, "checkout", "--quiet", run["commit"]):
            return code
        settings = os.path.join(run["sub"], ".dvc", "config.local")
        shutil.copy(os.path.join(run["repository"], settings), os.path.join(copy, settings))
        changes = [word for change in experiment["set"] for word in ("-S", change)]
        # The pipeline is named as the target: without one DVC asks for the data of every .dvc
        # file, of sessions too that the run does not use and that nobody has sent.
        words = ("dvc", "exp", "run", "--temp", "--name", experiment["name"], *changes, "dvc.yaml")
        if code := call(*words, where=os.path.join(copy, run["sub"])):
            return code
        return call(*git, "push", "--quiet", "--no-verify", "origin", f"{ref}:{ref}")


def _environment(folder: str, run: dict[str, Any], place: str) -> dict[str, str]:
    shell, group = os.path.join(place, "shell"), shlex.quote(os.path.join(folder, "group"))
    project = shlex.quote(os.path.join(run["repository"], run["sub"]).rstrip("/"))
    with open(shell, "w", encoding="utf-8") as file:
        file.write(_SHELL.format(group=group, project=project))
    os.chmod(shell, 0o700)
    path = os.path.dirname(run["python"]) + os.pathsep + os.environ.get("PATH", os.defpath)
    quiet = ("DVC_NO_ANALYTICS", "DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY")
    return {
        **{**os.environ, "SHELL": shell, "PATH": path, **dict.fromkeys(quiet, "true")},
        **({"MLFLOW_TRACKING_URI": server} if (server := run["engine"]["mlflow"]) else {}),
        "DVC_SITE_CACHE_DIR": os.path.join(place, "site"),
        "PYTHONPATH": "src",  # relative: the code of the copy
        "PYTHONUNBUFFERED": "1",
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }


if __name__ == "__main__":
    main()
