"""The agent: runs as processes of this machine, the smallest engine that holds.

The job is a session and a process group of its own that holds nothing of the connection. While it
lives it holds the run's `lock`; DVC and each stage hold `group` with it. So whether a run goes on
is what `flock -n` tells, and the group's number is still the run's as long as `group` is held.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from custom_gaze.remote.agent import Refused
from custom_gaze.remote.engine import Engine, Run, is_held

_START_S, _TERMINATE_S, _GIVE_UP_S = 60.0, 5.0, 20.0


class Local(Engine):
    """A run at a time, its experiments up to `-j` at once."""

    def submit(self, folder: str, run: Run) -> str:
        with open(self.logs(folder, 0), "ab") as log:  # what it says itself is why it failed
            job = subprocess.Popen(
                [sys.executable, "-I", os.path.join(folder, "job.py"), folder],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for_job(folder, lambda: job.poll() is not None)
        return str(job.pid)

    def list(self, folders: Sequence[str]) -> dict[str, str]:
        return {folder: "" for folder in folders if is_held(os.path.join(folder, "lock"))}

    def stop(self, folder: str) -> bool:
        group, begun, asked = os.path.join(folder, "group"), time.monotonic(), False
        while is_held(group):
            late = time.monotonic() - begun
            if late > _GIVE_UP_S:
                raise Refused(f"a process there does not end: it holds {group}")
            if not asked or late > _TERMINATE_S:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(int(self.job(folder)), signal.SIGKILL if asked else signal.SIGTERM)
                asked = True
            time.sleep(0.05)
        return asked


def wait_for_job(folder: str, has_ended: Callable[[], bool] = lambda: False) -> None:
    """Until it holds its lock, by which it is known from then on."""
    until = time.monotonic() + _START_S
    while not (is_held(os.path.join(folder, "lock")) or has_ended()):
        if time.monotonic() > until:
            raise Refused("the run's job does not start there")
        time.sleep(0.01)
