"""bench/pipeline_speed.py: what it draws, what it times, and what its table says."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY
from custom_gaze.common.errors import CustomGazeError

sys.path.append(str(REPOSITORY / "bench"))  # the bench is a program, no package

import pipeline_speed
from pipeline_speed import Cost, Project, idle, stages_table


@pytest.mark.long
def test_the_first_stages_of_a_small_session(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    arguments = ["--frames", "12", "--through", "index", "--work", str(work)]
    assert pipeline_speed.main(arguments) == 0
    said = capsys.readouterr().out
    rows = {line.split(" | ")[0].strip("| "): line for line in said.splitlines()}
    assert {"fetch", "prepare", "index"} <= rows.keys()
    assert not {"train", "export", "evaluate", "dvc repro, nothing to do"} & rows.keys()
    assert "`custom-gaze --help`: 0." in said
    session = work / "data" / "sessions" / "frames-12"
    assert [path.name for path in session.parent.iterdir() if path.is_dir()] == ["frames-12"]
    records = [json.loads(path.read_text()) for path in session.glob("*.json")]
    assert len(records) == len(list(session.glob("*.jpg"))) == 12
    assert len({(each["screen_x"], each["screen_y"]) for each in records}) == 12
    index = (work / "data" / "index.csv").read_text().splitlines()
    assert len(index) == 13


def test_longer_sessions_take_several_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def drawn(self: Project, *words: str) -> Cost:
        commands.append(words)
        name, day = words[words.index("--session") + 1], words[words.index("--day") + 1]
        folder = self.root / "data" / "sessions" / name
        folder.mkdir(parents=True)
        for number in range(25 * int(words[words.index("--frames-per-target") + 1])):
            for kind in ("jpg", "json"):
                (folder / f"img_{day}{number:03}.{kind}").write_text("")
        return Cost(0, 0)

    monkeypatch.setattr(Project, "run", drawn)
    assert Project(tmp_path).draw(600) == "frames-600"
    assert len(commands) == 3  # days of 25 targets, 8 frames each
    names = sorted(path.stem for path in (tmp_path / "data/sessions/frames-600").glob("*.jpg"))
    assert len(names) == 600
    assert {name[4] for name in names} == {"1", "2", "3"}


def test_a_command_s_time_and_memory_are_its_own(tmp_path: Path) -> None:
    project = Project(tmp_path)
    small = project.run(sys.executable, "-c", "import time; time.sleep(0.3); print('done')")
    large = project.run(sys.executable, "-c", "x = b'1' * (300 * 2**20)")
    assert small.printed == "done\n"
    assert 0.3 <= small.seconds < 10
    assert 300 < large.peak_mib < small.peak_mib + 330


def test_a_command_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(CustomGazeError, match=r"exit code 3 \(two\)"):
        Project(tmp_path).run(sys.executable, "-c", "print('one\\ntwo'); raise SystemExit(3)")


def test_a_repro_that_runs_a_stage_is_not_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ["Data and pipelines are up to date."] * 5
    costs = iter(
        [Cost(seconds, 50, line) for seconds, line in zip((5, 1, 2, 9, 3), said, strict=True)]
    )
    monkeypatch.setattr(Project, "run", lambda *_: next(costs))
    assert idle(Project(tmp_path)).seconds == 3
    said[2] = "Running stage 'train':\n"
    costs = iter([Cost(1, 50, line) for line in said])
    with pytest.raises(CustomGazeError, match="ran a stage after everything was committed"):
        idle(Project(tmp_path))


def test_rates_follow_from_the_seconds() -> None:
    costs = {
        25: {"prepare": Cost(2.0, 100), "index": Cost(1.0, 50)},
        250: {"prepare": Cost(6.5, 110), "index": Cost(1.5, 51)},
    }
    table = stages_table(costs)
    assert "| prepare | 2.00 s, 100 MiB | 6.50 s, 110 MiB |" in table
    assert "the program's start included | 12.5 | 38.5 |" in table
    assert "beyond the column before |  | 50.0 |" in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", "9"], "--frames names 9; choose from 10 to 25000"),
        (["--frames", "25", "25"], "--frames names a number twice"),
        (["--work", "full"], "--work full: is no empty folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    shutil.copy(REPOSITORY / "params.yaml", tmp_path / "full")
    assert pipeline_speed.main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("pipeline_speed: ")
    assert said.count("\n") == 1
