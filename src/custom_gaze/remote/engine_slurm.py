"""The agent: runs as jobs of SLURM, on as many nodes as share this folder."""

import getpass
import os
import shlex
import time
from collections import Counter
from collections.abc import Sequence

from custom_gaze.remote.agent import Refused, call
from custom_gaze.remote.engine import Engine, Run

_GIVE_UP_S = 60.0


class Slurm(Engine):
    """One job array a run, a task of it for each experiment, up to `-j` at once.

    What `squeue` no longer shows has ended. A task whose node is lost is queued again.
    """

    alone = False
    every_s = 2.0

    def submit(self, folder: str, run: Run) -> str:
        tasks = f"--array=0-{len(run['experiments']) - 1}%{run['jobs']}"
        log = f"--output={folder}/log-%a"
        job = shlex.join([run["python"], "-I", os.path.join(folder, "job.py"), folder])
        name = f"--job-name=custom-gaze-{run['name']}"
        words = (name, tasks, log, *run["engine"]["sbatch"], "--requeue", "--open-mode=append")
        script = f'#!/bin/sh\nexec {job} "$SLURM_ARRAY_TASK_ID"\n'
        return call("sbatch", "--parsable", *words, given=script).strip().partition(";")[0]

    def list(self, folders: Sequence[str]) -> dict[str, str]:
        shown = call("squeue", "--noheader", "--array", "--user", getpass.getuser(), "-o", "%F %T")
        states: dict[str, Counter[str]] = {}
        for line in shown.splitlines():
            job, _, state = line.partition(" ")
            states.setdefault(job, Counter())[state.lower()] += 1
        return {
            folder: ", ".join(f"{count} {state}" for state, count in states[job].items())
            for folder in folders
            if (job := self.job(folder)) in states
        }

    def stop(self, folder: str) -> bool:
        until = time.monotonic() + _GIVE_UP_S
        if self.status(folder) is None:
            return False
        call("scancel", self.job(folder))
        while self.status(folder) is not None:
            if time.monotonic() > until:
                raise Refused(f"SLURM does not end job {self.job(folder)}")
            time.sleep(0.2)
        return True
