"""A run's job: `python3 -I job.py FOLDER [NUMBER]`, one of its experiments or all of them.

An engine starts it from the run's own folder, where it outlives the connection. Each experiment is
`dvc exp run` in a working copy of its own, a clone that shares the repository's objects and DVC's
store: so several run at once, on several machines. The standard library alone.
"""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# One experiment. DVC starts each stage in `shell`: the stage holds the run's second lock too, so
# that its process group is known to be the run's while it lives; and what it keeps for later (half
# a training, MLflow's runs) goes to the project, not into the copy that DVC names. The pipeline is
# named as the target: without one DVC asks for the data of every .dvc file, of sessions too that
# the run does not use and that nobody has sent.
_EXPERIMENT = """
folder=$1 repository=$2 sub=$3 commit=$4 name=$5 ref=$6 programs=$7 server=$8
shift 8
if git -C "$repository" rev-parse --verify --quiet "$ref" >/dev/null; then
    exit 0  # made by a job whose machine was lost before it could say so
fi
cat >shell <<'end'
#!/bin/sh
exec 9<"$CUSTOM_GAZE_LOCK"
flock -s 9 2>/dev/null
export DVC_ROOT="$CUSTOM_GAZE_PROJECT" SHELL=/bin/sh
exec /bin/sh "$@"
end
chmod 700 shell
export CUSTOM_GAZE_LOCK="$folder/group" CUSTOM_GAZE_PROJECT="$repository${sub:+/$sub}"
export SHELL="$PWD/shell" DVC_SITE_CACHE_DIR="$PWD/site" PATH="$programs:$PATH"
export PYTHONPATH=src PYTHONUNBUFFERED=1  # relative: the code of the copy
export DVC_NO_ANALYTICS=true DO_NOT_TRACK=true NO_ALBUMENTATIONS_UPDATE=1
export MLFLOW_DISABLE_TELEMETRY=true ${server:+"MLFLOW_TRACKING_URI=$server"}
git() { command git -c advice.detachedHead=false -c core.hooksPath=/dev/null "$@"; }
git clone --quiet --shared --no-checkout -c user.name=custom-gaze \
    -c user.email=custom-gaze@localhost "$repository" project
cd project
git checkout --quiet "$commit"
cd "./$sub"
cp "$CUSTOM_GAZE_PROJECT/.dvc/config.local" .dvc/
dvc exp run --temp --name "$name" "$@" dvc.yaml
git push --quiet --no-verify origin "$ref:$ref"
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
    """Run one experiment in a copy of its own, and write down how it ended."""
    name, commit = run["experiments"][number]["name"], run["commit"]
    ref = f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"
    where = (folder, run["repository"], run["sub"])
    about = (commit, name, ref, os.path.dirname(run["python"]), run["engine"]["mlflow"])
    changes = [word for change in run["experiments"][number]["set"] for word in ("-S", change)]
    with open(os.path.join(folder, f"log-{number}"), "ab", buffering=0) as log:
        try:
            if len(run["experiments"]) > 1:
                log.write(f"experiment {name}\n".encode())
            with tempfile.TemporaryDirectory(
                prefix=f"copy-{number}-", dir=folder, ignore_cleanup_errors=True
            ) as place:
                code = subprocess.run(
                    ["sh", "-e", "-c", _EXPERIMENT, "sh", *where, *about, *changes],
                    cwd=place,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    close_fds=False,  # it holds the second lock with us
                    check=False,
                ).returncode
        except OSError as error:
            log.write(f"{error}\n".encode())
            code = 1
    path = os.path.join(folder, f"result-{number}.json")
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        json.dump({"code": code, "ended": time.time()}, file)
    os.replace(f"{path}.part", path)


if __name__ == "__main__":
    main()
