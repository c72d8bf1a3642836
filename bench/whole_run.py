"""A whole calibration of an L2CS-shaped ResNet-50, as a user runs it: `dvc exp run`, with `auto`.

    python bench/whole_run.py [--grid 5x5] [--frames 2] [--base FILE] [--work FOLDER]

Makes a project of its own with this working tree's code, draws and prepares one session, and times
`dvc exp run` from prepared crops to the report: wall and processor seconds, the plan that `train`
said, and the seconds of each stage. The ResNet-50 has random weights under heads of 90 bins that
know two other simulated persons (bench/train_speed_world.py), written as L2CS-Net's own state dict;
no step of a training costs more or less for it, but such a trunk is hardly one to fine-tune: the
fine-tune is left early, as the report's reason says. --base takes a network of one's own, all of
whose steps are made. Two free cores take four minutes, with it about ten.
"""

import argparse
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.config.params import Params
from custom_gaze.weights.base import BaseNetwork
from custom_gaze.weights.base_heads import BinHeads
from pipeline_speed import ENVIRONMENT, Project
from speed_world import exit_code, machine, markdown
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


def prepared(project: Project, grid: str, frames: int, base: str | None) -> None:
    """A committed project whose session is drawn and prepared.

    Raises:
        CustomGazeError: a command fails.
    """
    project.make()
    for key, value in (("user.name", "bench"), ("user.email", "bench@localhost")):
        project.run("git", "config", key, value)
    project.run("custom-gaze", "fetch")
    if base is None:
        base = BASE
        l2cs_file(headed_resnet50(project.root / "others", Params()), project.root / BASE)
    elif base != EMBEDDED:
        base = str(Path(base).expanduser().resolve())
    words = ("--grid", grid, "--frames-per-target", str(frames))
    project.run("custom-gaze", "demo", "--session", SESSION, "--day", "1", *words)
    project.change({"sessions": [SESSION], "evaluate": {"sessions": []}, "fetch": {"base": base}})
    project.run("dvc", "repro", "index")
    project.run("git", "add", "--all", ".", ":!others", f":!{BASE}")
    project.run("git", "commit", "--quiet", "--message", "prepared")


STAGE = re.compile(r"Running stage '([a-z_]+)")
SAID = re.compile(r"plan: |to export: |\d+ epochs; ")


@dataclass(frozen=True)
class Said:
    """A line of `dvc exp run`, and how many seconds after its start it came."""

    after_s: float
    line: str


def said_by(project: Project) -> list[Said]:
    """Run `dvc exp run`; its lines, and an empty one for its end.

    Raises:
        CustomGazeError: it fails.
    """
    begun, said = time.monotonic(), []
    process = subprocess.Popen(
        ("dvc", "exp", "run"),
        cwd=project.root,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    for line in process.stdout:
        said.append(Said(time.monotonic() - begun, line.rstrip()))
    if process.wait() != 0:
        raise CustomGazeError(f"dvc exp run: exit code {process.returncode} ({said[-1].line})")
    return [*said, Said(time.monotonic() - begun, "")]


def phases(said: Sequence[Said]) -> list[list[str]]:
    """Rows of a table: each stage's seconds, those of `train` up to its plan and after it."""
    marks = [(0.0, "before the first stage")]
    for each in said:
        if stage := STAGE.match(each.line):
            marks.append((each.after_s, stage[1]))
        elif each.line.startswith("plan: "):
            marks.append((each.after_s, "train, after its plan"))
    ends = [*(start for start, _ in marks[1:]), said[-1].after_s]
    return [[name, f"{end - start:.1f}"] for (start, name), end in zip(marks, ends, strict=True)]


def timed(project: Project) -> str:
    """Run it; returns what it took, in Markdown.

    Raises:
        CustomGazeError: it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = said_by(project)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    lines = [
        f"{machine()}, {platform.processor() or 'unknown processor'}, torch {torch.__version__}",
        f"`dvc exp run` from prepared crops to report: {said[-1].after_s:.0f} s, "
        f"{cpu_s:.0f} s of processor time, load {os.getloadavg()[1]:.1f}",
        *(each.line for each in said if SAID.match(each.line)),
        markdown(("", "seconds"), phases(said)),
    ]
    return "\n\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """0: done; 1: a command failed; 130: interrupted."""
    parser = argparse.ArgumentParser(
        prog="whole_run", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--grid", default="5x5")
    parser.add_argument("--frames", type=int, default=2, help="of each target; default: 2")
    parser.add_argument("--base", help="another base network: embedded, or what fetch.base takes")
    parser.add_argument("--work", type=Path, help="an empty folder; default: a temporary one")
    arguments = parser.parse_args(argv)

    def work() -> None:
        with tempfile.TemporaryDirectory(prefix="whole-run-") as folder:
            project = Project(arguments.work or Path(folder))
            begun = time.monotonic()
            prepared(project, arguments.grid, arguments.frames, arguments.base)
            print(f"prepared in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
            print(timed(project))

    return exit_code("whole_run", work)


if __name__ == "__main__":
    raise SystemExit(main())
