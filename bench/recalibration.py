"""How long `custom-gaze live` takes to recalibrate: until the new model is in the page, and in all.

    python bench/recalibration.py [--work FOLDER] [--prepare]

Makes a project of its own with this working tree's code and calibrates it on a demo session of 50
frames by the probe; then the page's server is asked, as the page does, to recalibrate with a round
of nine targets, five frames of each. --prepare stops before that: with a --work folder that was
prepared the next call only measures.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from custom_gaze.capture.live import load_loop
from custom_gaze.capture.live_round import Round
from custom_gaze.capture.live_routes import Live
from custom_gaze.config.params import load_params
from custom_gaze.config.paths import Paths
from custom_gaze.data.pictures import decoded
from custom_gaze.data.sessions import read_session
from custom_gaze.demo.session import write_session
from pipeline_speed import Project
from speed_world import machine

OLD, NEW, ROUND = "old", "new", "round"  # sessions, and the folder of the round's frames
POLL_S = 0.1


def prepare(project: Project) -> None:
    """A committed project that is calibrated on one session, and a round's frames beside it.

    Raises:
        CustomGazeError: a command fails.
    """
    project.make()
    for key, value in (("user.name", "bench"), ("user.email", "bench@localhost")):
        project.run("git", "config", key, value)
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "start")
    project.run(
        "custom-gaze", "demo", "--session", OLD, "--grid", "5x5", "--frames-per-target", "2"
    )
    project.run("custom-gaze", "run", OLD, "-S", "train.method=probe")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "calibrated")
    write_session(project.root / ".dvc/tmp" / ROUND, person=1, grid=(3, 3), frames_per_target=5)


def a_round(live: Live, folder: Path) -> Round:
    """The round that the frames in a folder make."""
    geometry = live.params.geometry
    frames = read_session(folder, geometry).frames
    targets = sorted({(frame.target_x_px, frame.target_y_px) for frame in frames})
    made = Round("recalibrate", geometry, np.array(targets))
    for frame in frames:
        content = frame.image.read_bytes()
        number = targets.index((frame.target_x_px, frame.target_y_px))
        made.take(content, frame.timestamp_ms, number, live.loop.look(decoded(content)))
    return made


def measure(root: Path) -> None:
    """Recalibrate the project in a folder, and print when each step began."""
    os.chdir(root)
    os.environ["PYTHONPATH"] = str(root / "src")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    params, paths = load_params(Path("params.yaml")), Paths()
    loop, _ = load_loop(params, paths, None)
    live = Live(loop, params, paths)
    made = a_round(live, root / ".dvc/tmp" / ROUND)
    load = os.getloadavg()[0]
    print(f"{machine()}, load {load:.1f}, {len(made.taken)} frames of the round\n")
    print("| step | begins at s |\n|---|---|", flush=True)
    live.recalibration.start(made, lambda: keep(live, made), live.exchange)
    step, early = "", False
    while True:
        now = live.recalibration.state()
        if now.result is not None and not early:
            early = True
            print(f"| **the new model is in the page** | {now.result.seconds:.1f} |", flush=True)
        if now.step != step:
            step = now.step
            print(f"| {step or now.stands} | {now.seconds:.1f} |", flush=True)
        if now.stands != "running":
            print(f"\n{now.error or now.result}")
            return
        time.sleep(POLL_S)


def keep(live: Live, made: Round) -> str:
    """The round as a session."""
    live.keep_round(made, NEW)
    return NEW


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a recalibration takes")
    parser.add_argument("--work", type=Path, help="an empty folder, or one that was prepared")
    parser.add_argument("--prepare", action="store_true", help="only prepare the --work folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = (arguments.work or Path(name)).resolve()
        root.mkdir(exist_ok=True)
        if not (root / ".dvc/tmp" / ROUND).exists():
            prepare(Project(root))
        if not arguments.prepare:
            measure(root)


if __name__ == "__main__":
    main()
