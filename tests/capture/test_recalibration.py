"""A recalibration: the command's words, what is said of one that failed, before and after."""

import subprocess
import threading
import time
from collections.abc import Callable
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
    crossed_errors,
    held_out_errors,
    reason_of,
    run_words,
)
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.data.index import read_index
from custom_gaze.geometry import ScreenGeometry

SCREEN = ScreenGeometry()


def never() -> Any:
    raise AssertionError("there is no new model")


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
    crossed, tested = (errors("one", chosen.paths) for errors in (crossed_errors, held_out_errors))
    samples = [sample for sample in read_index(chosen.paths.index) if sample.session == "one"]
    held_out = {sample.filename for sample in samples if sample.split == "test"}
    assert set(tested) == held_out
    assert set(crossed) == {sample.filename for sample in samples} - held_out
    assert crossed_errors("nobody", chosen.paths) == held_out_errors("nobody", chosen.paths) == {}
    name = next(iter(held_out))
    row = next(line for line in chosen.paths.predictions.read_text().splitlines() if name in line)
    assert tested[name] == float(row.rsplit(",", 1)[1])
    chosen.paths.predictions.write_text(chosen.paths.predictions.read_text()[:-3])
    with pytest.raises(InputError, match="is cut off"):
        held_out_errors("one", chosen.paths)


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


@pytest.mark.parametrize("code", [0, 1])
def test_the_exported_model_is_taken_while_the_run_is_still_measuring(
    chosen: Project, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A run that fails then leaves the page with the model that it had."""
    samples = [sample for sample in read_index(chosen.paths.index) if sample.session == "one"]
    taken = nine([int(sample.filename[4:-4]) for sample in samples])
    go, models = chosen.paths.root / "go", ["old"]

    def exchange() -> Any:
        models.append("new")
        return lambda: models.append("old")

    def run(*_: Any, **named: Any) -> "subprocess.Popen[str]":
        lines = [f"echo \"Running stage '{name}':\" >&2" for name in ("export", "evaluate")]
        wait = f"while [ ! -e {go} ]; do sleep 0.01; done"
        end = f'echo \'{{"experiment": "x"}}\'; exit {code}'
        return REAL(["sh", "-c", "; ".join([*lines, wait, end])], **named)

    monkeypatch.setattr(recalibration.subprocess, "Popen", run)
    running = Recalibration(chosen.paths)
    running.start(taken, lambda: "one", exchange)
    early = wait(running, lambda state: state.result is not None)
    assert (early.stands, early.step, models) == ("running", "evaluate", ["old", "new"])
    assert early.result is not None
    assert early.result.frames == len(crossed_errors("one", chosen.paths)) < len(samples)
    go.touch()
    late = wait(running)
    if code == 0:
        assert late.result is not None
        assert (late.stands, late.result.experiment, late.result.frames) == (
            "done",
            "x",
            len(samples),
        )
        assert models == ["old", "new"]
    else:
        assert (late.stands, models) == ("failed", ["old", "new", "old"])


def ended(state: recalibration.State) -> bool:
    return state.stands != "running"


def wait(
    running: Recalibration, until: Callable[[recalibration.State], bool] = ended
) -> recalibration.State:
    for _ in range(500):
        if until(running.state()):
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
    running.start(nine([1]), keep, never)
    assert (running.state().stands, running.state().step) == ("running", "import")
    with pytest.raises(InputError, match="a recalibration is running"):
        running.start(nine([1]), keep, never)
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
    running.start(nine([1]), lambda: "new", never)
    for _ in range(500):
        if started:
            break
        time.sleep(0.02)
    running.stop()
    assert started[0].poll() is not None
    assert running.state().stands == "failed"


REAL = subprocess.Popen
