"""bench/accuracy.py over sessions of a project, and its jobs elsewhere."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from test_accuracy_bench import small_base

from conftest import REPOSITORY
from custom_gaze.common.errors import InputError
from custom_gaze.demo.session import write_session
from custom_gaze.weights.base import save_base
from slurm_site import NotAtHand, slurm

sys.path.append(str(REPOSITORY / "bench"))  # the bench is a program, no package

import pretend_job

import accuracy
import accuracy_jobs
from accuracy_jobs import LOCAL, SLURM, Elsewhere, _last_line, _submitter, run_elsewhere
from accuracy_people import People, people_of
from accuracy_person import Settings
from accuracy_results import OTHER, SAME

FEW = ["--methods", "centre,gain_offset,best_correction,probe", "--targets", "4,6"]
FEW += ["--samples", "1"]


def session(folder: Path, person: int, day: int, grid: tuple[int, int]) -> None:
    write_session(folder, person=person, day=day, grid=grid, frames_per_target=1, purpose="demo")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two persons: anna on two days and one screen, bert once, and a base to measure."""
    root = tmp_path_factory.mktemp("project")
    shutil.copy(REPOSITORY / "params.yaml", root)
    for name, person, day, grid in (
        ("anna-1", 17, 1, (3, 3)),
        ("anna-2", 17, 2, (3, 2)),
        ("bert-1", 3, 1, (5, 2)),
    ):
        session(root / "data" / "sessions" / name, person, day, grid)
    save_base(small_base(), root / "small.pt")
    return root


def command(project: Path, work: Path, *more: str) -> list[str]:
    given = ["--project", str(project), "--base", str(project / "small.pt"), "--work", str(work)]
    return [*given, *FEW, *more]


def results(work: Path) -> dict[tuple[str, int], Any]:
    read = [json.loads(path.read_text()) for path in work.glob("results/*/*.json")]
    return {(each["person"], each["k"]): each for each in read}


@pytest.fixture(scope="module")
def measured(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("work")
    assert (
        accuracy.main(command(project, work, "--sessions", "anna=anna-1,anna-2", "bert=bert-1"))
        == 0
    )
    return work


@pytest.mark.long
def test_people_are_measured_on_their_own_sessions(measured: Path) -> None:
    found = results(measured)
    assert set(found) == {("anna", 4), ("anna", 6), ("bert", 4), ("bert", 6)}
    anna, bert = found["anna", 6], found["bert", 6]
    assert (anna["of_targets"], anna["tested"][SAME]["targets"]) == (9, 3)  # a fifth, 3 at least
    assert anna["tested"][OTHER]["frames"] == 6
    assert list(bert["tested"]) == [SAME]
    page = (measured / "accuracy.md").read_text()
    assert "sessions of a project, crops cut by the detector box" in page
    assert "anna: 9 targets in the session calibrated on, 3 of them (3 frames) held out; " in page
    assert (
        "bert: 10 targets in the session calibrated on, 3 of them (3 frames) held out; no o" in page
    )
    assert "same session, held-out targets (2 persons):" in page
    assert "another session (one person; 95 % interval over targets):" in page
    assert "small.pt base: slim18, weights " in page
    with Image.open(measured / "accuracy.png") as picture:
        assert picture.size == (1300, 500)


def test_what_decides_about_a_person_s_crops_is_in_the_key(project: Path, tmp_path: Path) -> None:
    people = People(project, people_of(["bert=bert-1"]), Settings("people"))
    before = people.key("bert")
    assert people.key("bert") == before
    copy = tmp_path / "project"
    shutil.copytree(project, copy)
    moved = People(copy, people.sessions, people.settings)
    assert moved.key("bert") == before  # wherever it lies
    frame = min((copy / "data" / "sessions" / "bert-1").glob("*.json"))
    record = json.loads(frame.read_text())
    frame.write_text(json.dumps({**record, "screen_x": record["screen_x"] + 1}))
    other_label = moved.key("bert")
    assert other_label != before
    content = yaml.safe_load((copy / "params.yaml").read_text())
    content["prepare"]["margin"] = 1.4
    (copy / "params.yaml").write_text(yaml.safe_dump(content))
    assert moved.key("bert") not in (before, other_label)


@pytest.mark.parametrize(
    ("sessions", "message"),
    [
        (["bert=nobody"], "data/sessions/nobody is not there; import the session, or bring it"),
        (["anna=anna-2"], "--targets names 4; choose from 4 to 3 (anna's first session has 6"),
    ],
)
def test_sessions_that_cannot_serve_are_named(
    sessions: list[str],
    message: str,
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert accuracy.main(command(project, tmp_path, "--sessions", *sessions)) in (1, 2)
    assert message in capsys.readouterr().err


@pytest.mark.long
def test_a_calibration_that_fails_is_named_and_the_others_go_on(
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    really = accuracy.run_here.__globals__["measured"]

    def fails(case: Any, started: float) -> Any:
        if case.k == 4:
            raise ZeroDivisionError("on purpose")
        return really(case, started)

    monkeypatch.setitem(accuracy.run_here.__globals__, "measured", fails)
    words = command(project, tmp_path, "--sessions", "bert=bert-1")
    assert accuracy.main(words) == 1
    said = capsys.readouterr()
    assert "person bert, 6 targets, small.pt base: done" in said.out
    failed = "accuracy: person bert, 4 targets, small.pt base: ZeroDivisionError: on purpose; see "
    assert failed in said.err  # behind progress bars
    log = Path(said.err.rpartition("see ")[2].strip())
    assert "fails" in log.read_text()
    monkeypatch.setitem(accuracy.run_here.__globals__, "measured", really)
    assert accuracy.main(words) == 0
    assert "1 of 2 calibrations to do" in capsys.readouterr().out


def test_what_an_executor_needs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", types.ModuleType("submitit"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="--executor slurm: there is no sbatch here"):
        _submitter(tmp_path, Elsewhere("slurm", 1, 1, {}))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match="--executor local: needs submitit: pip install submitit"):
        _submitter(tmp_path, Elsewhere("local", 1, 1, {}))


def test_of_a_traceback_what_was_raised_is_said() -> None:
    rule = "-" * 22
    said = f"Job failed with trace:\n{rule}\nTraceback\n  x\nInputError: no\n{rule}\nlogs:\n - a"
    assert _last_line(said) == "InputError: no"
    assert _last_line("killed\n") == "killed"
    assert _last_line("") == "no message"


def elsewhere(*words: str, **changed: str) -> "subprocess.Popen[str]":
    """The bench as a user's command, in a process of its own."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "bench" / "accuracy.py"), *words],
        env={**os.environ, **changed},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def bert_s(found: dict[tuple[str, int], Any]) -> dict[tuple[str, int], Any]:
    """Bert's results, without how long they took."""
    return {key: {**value, "seconds": 0} for key, value in found.items() if key[0] == "bert"}


@pytest.mark.long
def test_local_processes_give_the_same_results(
    project: Path, measured: Path, tmp_path: Path
) -> None:
    words = command(project, tmp_path, "--sessions", "bert=bert-1", "--executor", "local")
    words += ["--targets", "4,6,8"]  # of ten targets three are held out: no eight are left
    done = elsewhere(*words)
    out, said = done.communicate(timeout=300)
    assert done.returncode == 1
    assert "3 of 3 calibrations to do" in out
    assert "person bert, 8 targets, small.pt base: custom_gaze.common.errors.InputError: " in said
    assert "choose from 4 to 7 (bert's first session has 10 targets" in said
    assert len(said.splitlines()) == 1
    assert bert_s(results(tmp_path)) == bert_s(results(measured))


@contextlib.contextmanager
def cluster(name: str, folder: Path) -> Iterator[dict[str, str]]:
    """What is needed for jobs of an executor: for SLURM one of this machine alone."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    if name == LOCAL:
        yield {}
        return
    folder.mkdir()
    try:
        with slurm(folder, processors=4) as running:
            yield running.environment
    except NotAtHand as reason:
        pytest.skip(f"SLURM is not at hand: {reason}")


@pytest.mark.long
@pytest.mark.parametrize("name", [LOCAL, SLURM])
def test_jobs_elsewhere_end_each_in_its_own_way(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that raises or is killed is named with its log, and those behind it run."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setattr(accuracy_jobs, "run_job", pretend_job.run)
    monkeypatch.setenv("PYTHONPATH", str(Path(pretend_job.__file__).parent), prepend=os.pathsep)
    words = ("raises", "is killed", "ends well", "ends as well")
    jobs: list[Any] = [pretend_job.PretendJob(what, work) for what in words]
    told: dict[str, str | None] = {}
    with cluster(name, tmp_path / "slurm") as environment:
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        where = Elsewhere(name, 2, 5, {"comment": "bench"} if name == SLURM else {})
        run_elsewhere(jobs, where, lambda job, reason: told.update({str(job): reason}))
    assert set(told) == set(words)
    assert told["ends well"] is told["ends as well"] is None
    assert (told["raises"] or "").startswith("ValueError: on purpose; see ")
    assert (told["is killed"] or "").startswith("ended without a result; see ")
    ran = [path.name.split(".") for path in work.iterdir() if path.is_file()]
    assert sorted(what for what, _ in ran) == sorted(words)
    assert all(number.isdecimal() == (name == SLURM) for _, number in ran)
