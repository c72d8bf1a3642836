"""A recalibration: the command's words, what is said of one that failed, before and after."""

import subprocess
import threading
import time
from typing import Any

import numpy as np
import pytest

from conftest import Project
from custom_gaze.capture import recalibration
from custom_gaze.capture.live_loop import Seen
from custom_gaze.capture.live_models import PERSONAL
from custom_gaze.capture.live_round import Round, Taken
from custom_gaze.capture.recalibration import (
    Recalibration,
    compared,
    errors_after,
    reason_of,
    run_words,
)
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.data.index import read_index
from custom_gaze.geometry import ScreenGeometry

SCREEN = ScreenGeometry()


def nine(names: list[int], off_deg: float = 3.0) -> Round:
    """A round whose frames have these numbers, all of them off by so much."""
    targets = np.linspace([100.0, 100.0], [1600.0, 1000.0], 9)
    taken = []
    for place, number in enumerate(names):
        target = place % 9
        angles = SCREEN.to_degrees(targets[target]) + np.array([off_deg, 0.0])
        seen = Seen((0, 0, 1, 1), "", {PERSONAL: angles})
        taken.append(Taken(b"", number, target, seen))
    return Round("recalibrate", SCREEN, targets, 0.02, taken)


def test_the_command_is_a_run_over_all_sessions_by_the_probe(project: Project) -> None:
    project.change(sessions=["one", "two"], evaluate={"sessions": ["other"]})
    words = ["run", "one", "two", "new", "--test", "other", "--json", "-S", "train.method=probe"]
    assert run_words(project.params, "new") == words
    project.change(evaluate={"sessions": []})
    assert "--test" not in run_words(project.params, "new")


def test_a_failure_is_told_by_what_failed_first() -> None:
    said = ["Running stage 'train':", "custom-gaze: too few targets", "ERROR: failed", ""]
    assert reason_of(said, 1) == "too few targets"
    assert reason_of(["something", "ERROR: no space", ""], 1) == "ERROR: no space"
    assert reason_of([], 3) == "it ended with 3"


def test_after_is_of_fits_and_files_that_had_not_seen_the_target(chosen: Project) -> None:
    after = errors_after("one", chosen.paths)
    samples = [sample for sample in read_index(chosen.paths.index) if sample.session == "one"]
    assert set(after) == {sample.filename for sample in samples}
    assert errors_after("nobody", chosen.paths) == {}
    test = next(sample for sample in samples if sample.split == "test")
    row = next(
        line for line in chosen.paths.predictions.read_text().splitlines() if test.filename in line
    )
    assert after[test.filename] == float(row.rsplit(",", 1)[1])
    chosen.paths.predictions.write_text(chosen.paths.predictions.read_text()[:-3])
    with pytest.raises(InputError, match="is cut off"):
        errors_after("one", chosen.paths)


def test_before_and_after_are_over_the_same_frames() -> None:
    taken = nine([1, 2, 3, 4])
    after = {"img_1.jpg": 1.0, "img_2.jpg": 2.0, "img_4.jpg": 3.0, "img_9.jpg": 99.0}
    result = compared(taken, "new", "exp", after, 30.0)
    assert result.frames == 3
    assert result.before.error_deg == pytest.approx(3.0)
    assert result.after.error_deg == pytest.approx(2.0)
    assert result.after.error_cm == pytest.approx(2.0 / SCREEN.deg_per_pixel * 0.02)
    with pytest.raises(CustomGazeError, match="the run used none of its frames"):
        compared(taken, "new", "exp", {"img_9.jpg": 1.0}, 30.0)


def wait(running: Recalibration) -> recalibration.State:
    for _ in range(500):
        if running.state().stands != "running":
            return running.state()
        time.sleep(0.02)
    raise AssertionError("it did not end")


def test_one_at_a_time_and_a_failure_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, go = Recalibration(project.paths), threading.Event()
    assert running.state().stands == "idle"

    def keep() -> str:
        go.wait(10)
        return "new"

    def fails(*_: Any, **named: Any) -> "subprocess.Popen[str]":
        code = "import sys; sys.exit('noise\\ncustom-gaze: there is no such eye\\nERROR: failed')"
        return REAL(["python", "-c", code], **named)

    monkeypatch.setattr(recalibration.subprocess, "Popen", fails)
    running.start(nine([1]), keep, lambda: None)
    assert (running.state().stands, running.state().step) == ("running", "import")
    with pytest.raises(InputError, match="a recalibration is running"):
        running.start(nine([1]), keep, lambda: None)
    go.set()
    state = wait(running)
    assert (state.stands, state.error) == ("failed", "there is no such eye")


def test_stop_ends_the_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []

    def sleeps(*_: Any, **named: Any) -> "subprocess.Popen[str]":
        started.append(REAL(["sleep", "60"], **named))
        return started[0]

    monkeypatch.setattr(recalibration.subprocess, "Popen", sleeps)
    running = Recalibration(project.paths)
    running.start(nine([1]), lambda: "new", lambda: None)
    for _ in range(500):
        if started:
            break
        time.sleep(0.02)
    running.stop()
    assert started[0].poll() is not None
    assert running.state().stands == "failed"


REAL = subprocess.Popen
