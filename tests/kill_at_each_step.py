"""Run deploys or rollbacks of copies of an app's folder, each killed one step later than the last.

`python kill_at_each_step.py TEMPLATE WORK ACTION MODEL`: copies TEMPLATE to WORK/1, WORK/2, …; in
WORK/n a child process does ACTION and is killed just before its n-th change to the file system.
Ends with the first copy where ACTION comes to its end.
"""

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import onnx
import onnxruntime

from custom_gaze.geometry import ScreenGeometry
from custom_gaze.rustyeyes import deploy
from killed import comes_to_its_end

LOADED = (onnx, onnxruntime)  # once here, and not again in each child


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
        killed = not comes_to_its_end(partial(act, action, app, model), number, app)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
