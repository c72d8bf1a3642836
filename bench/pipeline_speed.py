"""Seconds and peak memory of every stage against the number of frames, and of an idle `dvc repro`.

    python bench/pipeline_speed.py [--frames 25 250 2500] [--through prepare] [--work FOLDER]

Makes a project of its own with this working tree's code, parameters and pipeline. For each number
it draws one session of so many frames at 1280×720, runs each stage as the command that dvc.yaml
runs, `dvc commit`s what they made, and then times `dvc repro`, which has nothing to do. Training
gets 1 augmented copy a frame, 2 epochs of the constant schedule and the embedded base: its own
speed is for bench/train_speed.py; here its growth counts.

2 cores take about 20 minutes for 2,500 frames; --through prepare draws and prepares only.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from custom_gaze.common.errors import CustomGazeError, InputError
from speed_world import even, exit_code, machine, markdown

REPOSITORY = Path(__file__).resolve().parents[1]
STAGES = ("fetch", "prepare", "index", "train", "export", "quantise", "evaluate")
FRAMES = (25, 250, 2500)
LEAST, MOST = 10, 25_000
GRID, TARGETS = "5x5", 25
FRAMES_A_DAY = 250  # a session longer than that is put together from several days
SHORT = {
    "augment": {"samples": 1},
    "train": {"schedule": "constant", "epochs": 2, "patience": 2},
    "fetch": {"detector": "embedded", "base": "embedded"},
}
REPEATS = 5
UP_TO_DATE = "up to date"
ENVIRONMENT = {  # of a project's commands
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": "src",
    "PYTHONUNBUFFERED": "1",  # what is said is timed
    "DVC_NO_ANALYTICS": "true",
}


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="pipeline_speed", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = result.add_argument
    add("--frames", type=int, nargs="+", default=list(FRAMES), metavar="N")
    add("--through", choices=STAGES, default=STAGES[-1], help="the last stage; default: evaluate")
    add("--work", type=Path, help="an empty folder to work in; default: a temporary one")
    return result


@dataclass(frozen=True)
class Cost:
    """What one command, or several one after the other, took."""

    seconds: float
    peak_mib: float
    printed: str = ""


@dataclass(frozen=True)
class Project:
    """A project in a folder of its own, and the commands a user types in it."""

    root: Path

    def make(self) -> None:
        """Copy what the pipeline needs and make it a repository.

        Raises:
            CustomGazeError: git or dvc fails.
        """
        root = self.root
        for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"):
            shutil.copy(REPOSITORY / name, root)
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPOSITORY / "src", root / "src", ignore=ignored)
        for words in (
            ("git", "init", "--quiet"),
            ("dvc", "init", "--quiet"),
            ("dvc", "config", "core.analytics", "false"),
            ("dvc", "config", "core.autostage", "true"),
        ):
            self.run(*words)

    def run(self, *words: str) -> Cost:
        """Run a command to its end.

        Raises:
            CustomGazeError: it fails.
        """
        begun = time.perf_counter()
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                words,
                cwd=self.root,
                env={**os.environ, **ENVIRONMENT},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            # The kernel's own account of this one child, and of those that it has waited for.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.perf_counter() - begun
            output.seek(0)
            printed = output.read()
        if process.returncode != 0:
            last = (printed.strip().splitlines() or ["no word"])[-1]
            raise CustomGazeError(f"{' '.join(words)}: exit code {process.returncode} ({last})")
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
        return Cost(seconds, usage.ru_maxrss * unit / 2**20, printed)

    def change(self, changes: dict[str, Any]) -> None:
        """Set parameters: sections merge, other values are replaced."""
        path = self.root / "params.yaml"
        content = yaml.safe_load(path.read_text())
        for name, values in changes.items():
            if isinstance(values, dict):
                content[name].update(values)
            else:
                content[name] = values
        path.write_text(yaml.safe_dump(content))

    def draw(self, frames: int) -> str:
        """A session of so many frames of 1280×720, as the app writes them; returns its id.

        It is put together from as many days of one simulated person as it takes, the targets in
        every one of them.
        """
        session = f"frames-{frames}"
        folder = self.root / "data" / "sessions" / session
        days = -(-frames // FRAMES_A_DAY)
        per_target = -(-frames // (days * TARGETS))
        drawn: list[Path] = []
        for day in range(1, days + 1):
            name = f"{session}-day{day}"
            self.run(
                *("custom-gaze", "demo", "--session", name, "--day", str(day), "--grid", GRID),
                *("--frames-per-target", str(per_target)),
            )
            drawn += sorted((folder.parent / name).glob("*.jpg"))
        folder.mkdir()
        for number in even(frames, len(drawn)):
            for file in (drawn[number], drawn[number].with_suffix(".json")):
                file.rename(folder / file.name)
        for day in range(1, days + 1):
            name = f"{session}-day{day}"
            shutil.rmtree(folder.parent / name)
            (folder.parent / f"{name}.dvc").unlink(missing_ok=True)
        return session


def measure(project: Project, frames: int, through: str) -> dict[str, Cost]:
    """Run the stages up to `through` on a new session; the cost of each, and of an idle repro.

    Raises:
        CustomGazeError: a stage fails, or `dvc repro` finds something to do.
    """
    session = project.draw(frames)
    project.change({"sessions": [session], "evaluate": {"sessions": []}, **SHORT})
    costs = {}
    for stage in STAGES[: STAGES.index(through) + 1]:
        words = ("custom-gaze", stage, *((session,) if stage == "prepare" else ()))
        costs[stage] = project.run(*words)
        said = f"{frames} frames, {stage}: {costs[stage].seconds:.1f} s"
        print(said, file=sys.stderr, flush=True)
    if through == STAGES[-1]:
        project.run("dvc", "commit", "--force", "--quiet")
        costs["dvc repro, nothing to do"] = idle(project)
    shutil.rmtree(project.root / "data" / "dataset_clean" / session)
    return costs


def idle(project: Project) -> Cost:
    """The median of several `dvc repro` that have nothing to do.

    Raises:
        CustomGazeError: one of them does something.
    """
    costs = [project.run("dvc", "repro") for _ in range(REPEATS)]
    for cost in costs:
        if UP_TO_DATE not in cost.printed or "Running stage" in cost.printed:
            raise CustomGazeError("dvc repro ran a stage after everything was committed")
    return Cost(median(c.seconds for c in costs), max(c.peak_mib for c in costs))


def stages_table(costs: dict[int, dict[str, Cost]]) -> str:
    """Seconds and peak memory, a row for each command and a column for each number of frames."""
    names = list(next(iter(costs.values())))
    rows = [
        [name, *(f"{by[name].seconds:.2f} s, {by[name].peak_mib:.0f} MiB" for by in costs.values())]
        for name in names
    ]
    if "prepare" in names:
        seconds = {count: by["prepare"].seconds for count, by in costs.items()}
        rate = [f"{count / seconds[count]:.1f}" for count in costs]
        rows.append(["prepare, frames a second, the program's start included", *rate])
        # Growth is linear where each additional frame costs the same.
        additional = [
            f"{(more - less) / (seconds[more] - seconds[less]):.1f}"
            for less, more in pairwise(seconds)
        ]
        rows.append(["prepare, frames a second beyond the column before", "", *additional])
    return markdown(("", *(f"{count} frames" for count in costs)), rows)


def run(counts: Sequence[int], through: str, root: Path) -> str:
    """Measure everything; returns the Markdown.

    Raises:
        CustomGazeError: a command fails.
    """
    project = Project(root)
    project.make()
    counts = sorted(counts)
    helps = [project.run("custom-gaze", "--help") for _ in range(2 * REPEATS)]
    costs = {count: measure(project, count, through) for count in counts}
    asked = f"{median(c.seconds for c in helps):.2f} s, at best {min(c.seconds for c in helps):.2f}"
    peak = f"{max(c.peak_mib for c in helps):.0f} MiB"
    return "\n\n".join(
        [
            f"{machine()}; 1280×720, embedded CenterFace and base network.",
            stages_table(costs),
            f"`custom-gaze --help`: {asked} s, {peak}.",
        ]
    )


def check(counts: Sequence[int], work: Path | None) -> None:
    """Refuse what cannot be measured.

    Raises:
        InputError: a number is out of its range or named twice, or the folder is not empty.
    """
    for count in counts:
        if not LEAST <= count <= MOST:
            raise InputError(f"--frames names {count}; choose from {LEAST} to {MOST}")
    if len(set(counts)) < len(counts):
        raise InputError("--frames names a number twice; each is measured once")
    if work is not None and work.exists() and (not work.is_dir() or any(work.iterdir())):
        raise InputError(f"--work {work}: is no empty folder; name another one")


def main(argv: list[str] | None = None) -> int:
    """0: done; 2: bad input; 1: a failure of ours; 130: interrupted."""
    arguments = parser().parse_args(argv)

    def work() -> None:
        check(arguments.frames, arguments.work)
        if arguments.work is None:
            with tempfile.TemporaryDirectory(prefix="pipeline-speed-") as folder:
                print(run(arguments.frames, arguments.through, Path(folder)))
        else:
            arguments.work.mkdir(parents=True, exist_ok=True)
            print(run(arguments.frames, arguments.through, arguments.work))

    return exit_code("pipeline_speed", work)


if __name__ == "__main__":
    raise SystemExit(main())
