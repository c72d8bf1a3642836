"""The run of a training: live, ended as the training ended, found by evaluate. Real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Project
from custom_gaze.calibration.recipe import Epoch
from custom_gaze.cli import main
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of
from custom_gaze.config.candidate import Candidate
from custom_gaze.evaluation.tracking import journal, live, store
from custom_gaze.evaluation.tracking.pending import deliver_pending, left_behind
from custom_gaze.stages import train

WAIT_S = 180.0  # for a courier on a busy machine
# A training that tells of its first fold and then waits to be ended.
TRAINS = """
import sys, time
from custom_gaze.calibration.recipe import Epoch
from custom_gaze.common.console import StopSignals
from custom_gaze.config.params import load_params
from custom_gaze.config.paths import Paths
from custom_gaze.evaluation.tracking import live
paths = Paths()
with StopSignals(), live.training(load_params(paths.params), paths) as progress:
    progress.stands("fold 1 of 5")
    progress.epoch(Epoch(0, 9.0, 8.0, 3.0), 1)
    print("started", flush=True)
    time.sleep(600)
"""


def runs(project: Project) -> list[Any]:
    client = store.open_store()
    number = store.experiment_id(client, project.params.tracking.experiment)
    return list(client.search_runs([number], order_by=["attributes.start_time"]))


def until(true: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def no_courier() -> bool:
    return all(journal.is_idle(path) for path in journal.folder().glob("*.jsonl"))


def start(**environment: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINS],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_is_seen_while_it_runs_and_killed_when_it_is(
    ready: Project, number: signal.Signals
) -> None:
    store.open_store()
    process = start()
    [run] = until(lambda: runs(ready) if runs(ready) and runs(ready)[0].data.metrics else [])
    assert (run.info.status, run.info.run_name) == ("RUNNING", "one")
    assert run.data.metrics["fold_1/validation_error_deg"] == 3.0
    assert run.data.tags["progress"] == "fold 1 of 5"
    assert run.data.tags["sessions"] == "one"
    assert run.data.params["train.epochs"] == "3"
    process.send_signal(number)
    process.wait()
    until(no_courier)
    [run] = runs(ready)
    assert run.info.status == "KILLED"
    assert run.data.tags["ended_in"] == "train"
    assert run.info.end_time >= run.info.start_time
    assert not list(journal.folder().glob("*.jsonl"))  # nothing is left to be told


def test_a_training_killed_before_its_courier_has_begun_leaves_none_behind(ready: Project) -> None:
    process = start()
    process.kill()
    process.wait()
    until(no_courier)
    [run] = runs(ready)
    assert run.info.status == "KILLED"


@pytest.mark.long
def test_a_training_and_its_courier_killed_at_once_are_told_of_by_the_next_command(
    ready: Project,
) -> None:
    """A power cut, or a session that is ended with all its processes."""
    store.open_store()
    process = start()
    until(lambda: runs(ready))
    [path] = journal.folder().glob("*.jsonl")
    [courier] = [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if str(path).encode() in _command_line(folder)
    ]
    assert not left_behind()  # it is at work
    os.kill(courier, signal.SIGKILL)
    process.kill()
    process.wait()
    until(no_courier)
    assert runs(ready)[0].info.status == "RUNNING"
    assert len(left_behind()) == 1
    following = start()  # the next training's courier does it
    until(lambda: not left_behind())
    run, other = runs(ready)
    assert (run.info.status, run.data.tags["progress"]) == ("KILLED", "fold 1 of 5")
    assert other.info.status == "RUNNING"
    following.kill()
    following.communicate()
    until(no_courier)


def _command_line(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_failed_training_is_failed_and_says_no_path(
    ready: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    ready.paths.base.write_bytes(b"no network")
    assert main(["train"]) == 2
    until(no_courier)
    [run] = runs(ready)
    assert run.info.status == "FAILED"
    said = " ".join([*run.data.tags.values(), *run.data.params.values()])
    assert str(ready.paths.root) not in said
    assert str(Path.home()) not in said


@pytest.mark.long
def test_train_and_evaluate_make_one_run_and_a_second_evaluation_one_of_its_own(
    ready: Project,
) -> None:
    store.open_store()
    assert main(["train"]) == 0
    until(no_courier)
    [trained] = runs(ready)
    # By hand, nobody knows whether an evaluation is to come.
    assert (trained.info.status, trained.data.tags["progress"]) == (
        "FINISHED",
        "trained, not evaluated",
    )
    assert deliver_pending().delivered == 0
    seen = trained.data.metrics
    assert {"train_loss", "choice/held_out_finetune_deg"} <= set(seen)
    assert main(["export"]) == 0
    assert main(["evaluate"]) == 0
    [run] = runs(ready)
    assert (run.info.run_id, run.info.status) == (trained.info.run_id, "FINISHED")
    assert (run.data.tags["progress"], run.data.tags["training"]) == ("evaluated", "run")
    assert run.data.metrics["error_deg"] > 0
    [dataset] = run.inputs.dataset_inputs
    assert dataset.dataset.name == "one+other"
    assert sha256_of(ready.paths.index).startswith(dataset.dataset.digest)
    client = store.open_store()
    for name in ("train_loss", "validation_error_deg", "choice/held_out_finetune_deg"):
        steps = [entry.step for entry in client.get_metric_history(run.info.run_id, name)]
        assert steps == sorted(set(steps)), name  # each once, as it was told
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == len(
        ready.paths.training_log.read_text().splitlines()[1:]
    )
    assert not list(journal.folder().glob("*.jsonl"))

    assert main(["evaluate"]) == 0
    first, second = runs(ready)
    assert first.info.run_id == run.info.run_id
    assert (second.info.status, second.data.tags["training"]) == ("FINISHED", "cached")
    assert len(client.search_model_versions("name = 'custom-gaze'")) == 2
    newest = client.get_model_version_by_alias("custom-gaze", "candidate")
    assert newest.run_id == second.info.run_id


@pytest.mark.long
def test_a_failing_export_fails_the_run_whose_checkpoint_it_is_of(ready: Project) -> None:
    ready.change(train={"method": "probe"})
    assert main(["train"]) == 0
    until(no_courier)
    with pytest.raises(InputError), live.following("export", ready.params, ready.paths):
        raise InputError("a crop is damaged")
    until(no_courier)
    [run] = runs(ready)
    assert (run.info.status, run.data.tags["ended_in"]) == ("FAILED", "export")


@pytest.mark.long
def test_under_dvc_a_trained_run_waits_for_evaluate_as_long_as_dvc_lives(ready: Project) -> None:
    """The process that sets DVC_STAGE is DVC; it is gone when a pipeline was killed."""
    ready.change(train={"method": "probe"})
    dvc = "import os, subprocess, sys; os.environ['DVC_STAGE'] = 'train';"
    dvc += "subprocess.run([sys.executable, '-m', 'custom_gaze', 'train'], check=True);"
    dvc += "print('trained', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", dvc], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    until(lambda: process.stdout.readline() == "trained\n")
    until(no_courier)
    assert left_behind() == []
    assert runs(ready)[0].info.status == "RUNNING"
    assert runs(ready)[0].data.tags["progress"] == "trained"
    process.kill()
    process.communicate()
    assert len(left_behind()) == 1
    deliver_pending()
    assert runs(ready)[0].info.status == "KILLED"
    assert left_behind() == []  # told once
    # `dvc repro` goes on with export and evaluate: the run is whole after all.
    assert main(["export"]) == 0
    assert main(["evaluate"]) == 0
    [run] = runs(ready)
    assert (run.info.status, run.data.tags["training"]) == ("FINISHED", "run")


def test_a_store_that_is_away_costs_a_training_nothing_and_gets_the_run_later(
    ready: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready.change(train={"method": "probe"})
    train.run(ready.params, ready.paths)
    unwatched = ready.paths.checkpoint.read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    began = time.monotonic()
    with live.training(ready.params, ready.paths) as progress:
        progress.candidate(Candidate.PROBE, 2.0)
        progress.epoch(Epoch(0, 9.0, 8.0, 3.0))
        train.run(ready.params, ready.paths)
        trained = time.monotonic() - began
    assert time.monotonic() - began < trained + 1.0
    assert ready.paths.checkpoint.read_bytes() == unwatched
    with pytest.raises(InputError), live.training(ready.params, ready.paths):
        raise InputError("a second one that fails")
    until(no_courier)
    assert len(left_behind()) == 2
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert deliver_pending().reached
    first, second = runs(ready)
    assert (first.info.status, second.info.status) == ("FINISHED", "FAILED")
    assert first.data.metrics["choice/held_out_probe_deg"] == 2.0
    assert first.info.end_time is not None


def test_another_name_or_other_parameters_are_another_calibration(
    ready: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = journal.opening_of(ready.params, {})
    opened = journal.begin(opening)
    opened.write(trained="a" * 64)
    opened.close()
    found = journal.awaiting("a" * 64, ready.params)
    assert found is not None
    assert found.opening == opening
    assert journal.awaiting("b" * 64, ready.params) is None
    with monkeypatch.context() as named:
        named.setenv("DVC_EXP_NAME", "brave-owl")
        assert journal.awaiting("a" * 64, ready.params) is None
    ready.change(evaluate={"seed": 2})
    assert journal.awaiting("a" * 64, ready.params) is None


def test_a_damaged_journal_says_what_it_can(ready: Project) -> None:
    opened = journal.begin(journal.opening_of(ready.params, {}))
    opened.write(progress="fold 1 of 5", metric=["train_loss", 1.0, 0, 1])
    os.write(opened.handle, b'{"metric": [1]}\n[]\n\xff\n{"progress": "fo')
    opened.close()
    told = journal.read(opened.path)
    assert told is not None
    assert (told.progress, told.metrics) == ("fold 1 of 5", [("train_loss", 1.0, 0, 1)])
    opened.path.write_text("{}")
    assert journal.all_told() == []
