"""A whole calibration of an L2CS-shaped ResNet-50, as a user runs it: `dvc exp run`, with `auto`.

    python bench/whole_run.py [--grid 5x5] [--frames 2] [--embedded] [--work FOLDER]

Makes a project of its own with this working tree's code, draws and prepares one session, and times
`dvc exp run` from prepared crops to the report: wall and processor seconds, the plan that `train`
said, and each stage's share. The ResNet-50 has random weights under heads of 90 bins that know two
other simulated persons (bench/train_speed_world.py), written as L2CS-Net's own state dict; what a
run costs does not depend on weights. Two free cores take some minutes.
"""

import argparse
import os
import platform
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.config.params import Params
from custom_gaze.weights.base import BaseNetwork
from custom_gaze.weights.base_heads import BinHeads
from pipeline_speed import Project
from speed_world import machine
from train_speed_world import EMBEDDED, headed_resnet50

SESSION = "whole-run"
BASE = "l2cs.pkl"


def l2cs_file(base: BaseNetwork, path: Path) -> None:
    """Write a network as L2CS-Net does: the trunk beside two linear heads, in one state dict."""
    heads = base.heads
    assert isinstance(heads, BinHeads)
    named = {
        "fc_yaw_gaze.weight": heads.yaw_weight,
        "fc_yaw_gaze.bias": heads.yaw_bias,
        "fc_pitch_gaze.weight": heads.pitch_weight,
        "fc_pitch_gaze.bias": heads.pitch_bias,
    }
    torch.save({**base.trunk_state, **named}, path)


def prepared(project: Project, grid: str, frames: int, embedded: bool) -> None:
    """A committed project whose session is drawn and prepared.

    Raises:
        CustomGazeError: a command fails.
    """
    project.make()
    for key, value in (("user.name", "bench"), ("user.email", "bench@localhost")):
        project.run("git", "config", key, value)
    project.run("custom-gaze", "fetch")
    base = EMBEDDED
    if not embedded:
        base = BASE
        l2cs_file(headed_resnet50(project.root / "others", Params()), project.root / BASE)
    words = ("--grid", grid, "--frames-per-target", str(frames))
    project.run("custom-gaze", "demo", "--session", SESSION, "--day", "1", *words)
    project.change({"sessions": [SESSION], "evaluate": {"sessions": []}, "fetch": {"base": base}})
    project.run("dvc", "repro", "index")
    project.run("git", "add", "--all", ".", ":!others", f":!{BASE}")
    project.run("git", "commit", "--quiet", "--message", "prepared")


def timed(project: Project) -> str:
    """Run it; returns what it took, in Markdown.

    Raises:
        CustomGazeError: it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost = project.run("dvc", "exp", "run")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    kept = [
        line
        for line in cost.printed.splitlines()
        if re.match(r"plan: |to export: |\d+ epochs; ", line)
    ]
    lines = [
        f"{machine()}, {platform.processor() or 'unknown processor'}, torch {torch.__version__}",
        f"`dvc exp run` from prepared crops to report: {cost.seconds:.0f} s, "
        f"{cpu_s:.0f} s of processor time, load {os.getloadavg()[1]:.1f}",
        *kept,
    ]
    return "\n\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """0: done; 1: a command failed; 130: interrupted."""
    parser = argparse.ArgumentParser(
        prog="whole_run", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--grid", default="5x5")
    parser.add_argument("--frames", type=int, default=2, help="of each target; default: 2")
    parser.add_argument("--embedded", action="store_true", help="the embedded base instead")
    parser.add_argument("--work", type=Path, help="an empty folder; default: a temporary one")
    arguments = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory(prefix="whole-run-") as folder:
            project = Project(arguments.work or Path(folder))
            begun = time.monotonic()
            prepared(project, arguments.grid, arguments.frames, arguments.embedded)
            print(f"prepared in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
            print(timed(project))
    except CustomGazeError as error:
        print(f"whole_run: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
