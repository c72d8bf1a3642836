"""The agent: runs as services of the user's systemd, which ends a run with all it has started."""

import os
import sys

from custom_gaze.remote.agent import call
from custom_gaze.remote.engine import Run, is_held
from custom_gaze.remote.engine_local import Local, wait_for_job


class Systemd(Local):
    """As local, a cgroup each: nothing that a run starts can leave it.

    The services outlive a logout where `loginctl enable-linger` lets them.
    """

    def submit(self, folder: str, run: Run) -> str:
        unit = f"custom-gaze-{run['name']}-{os.getpid()}.service"
        path = f"--setenv=PATH={os.environ.get('PATH', os.defpath)}"
        manner = ("--quiet", "--collect", "--property=TimeoutStopSec=5", path, f"--unit={unit}")
        job = (sys.executable, "-I", os.path.join(folder, "job.py"), folder)
        _call("systemd-run", *manner, *job)  # its output is its logs, no journal
        wait_for_job(folder)
        return unit

    def stop(self, folder: str) -> bool:
        if not is_held(os.path.join(folder, "group")):
            return False
        _call("systemctl", "stop", self.job(folder))
        return True


def _call(program: str, *words: str) -> None:
    """Speak to the user's systemd, which a login without a session does not know by itself."""
    os.environ.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    call(program, "--user", *words)
