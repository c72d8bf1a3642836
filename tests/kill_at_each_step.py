"""Run deploys or rollbacks of copies of an app's folder, each killed one step later than the last.

`python kill_at_each_step.py TEMPLATE WORK ACTION MODEL`: copies TEMPLATE to WORK/1, WORK/2, …; in
WORK/n a child process does ACTION and kills itself just before its n-th change to the file system,
which Python announces to an audit hook. Ends with the first copy where ACTION comes to its end.
"""

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from custom_gaze.geometry import ScreenGeometry
from custom_gaze.rustyeyes import deploy

CHANGES = {
    "os.chmod",
    "os.chown",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.utime",
}
LOADED = (onnx, onnxruntime)  # once here, and not again in each child


def kill_before_change(number: int, app: Path) -> None:
    """Have this process killed, by the signal no process can catch, at its n-th change."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
            counts = str(arguments[0]).startswith(str(app)) and bool(arguments[2] & writes)
        else:
            counts = event in CHANGES
        if counts:
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def act(action: str, app: Path, model: Path) -> None:
    if action == "deploy":
        deploy.deploy(app, model, ScreenGeometry(), app_pixels_per_degree=20.0)
    else:
        deploy.rollback(app)


def main(template: Path, work: Path, action: str, model: Path) -> None:
    os.fsync = lambda handle: None  # guards against power cuts, not kills, and takes most time
    number, killed = 0, True
    while killed:
        number += 1
        app = work / str(number)
        shutil.copytree(template, app, symlinks=True)
        child = os.fork()
        if child == 0:
            kill_before_change(number, app)
            try:
                act(action, app, model)
            except BaseException as error:
                print(f"{number}: {error!r}", file=sys.stderr)
                os._exit(1)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed and status != 0:
            sys.exit(f"step {number}: the child ended with {status}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
