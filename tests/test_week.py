"""A week of one person: sessions come, grow and go, and after each step everything is clean."""

import hashlib
import json
import shutil
from pathlib import Path

import mlflow
import pytest

from clone import empty_clone
from custom_gaze.demo.session import write_session
from pretend_app import CONFIG, make_app

pytestmark = [pytest.mark.long, pytest.mark.story]

PERSON = 5
FEW = ("-S", "augment.samples=1", "-S", "train.method=probe")


class Week:
    """The project, the app beside it, and the person, who captures into the app's one folder."""

    def __init__(self, folder: Path) -> None:
        self.clone = empty_clone(folder / "custom-gaze")
        self.app = make_app(folder / "RustyEyes", json.loads(json.dumps(CONFIG)), svr=False)
        self.captured = self.app / "calibration_data"
        shutil.rmtree(self.captured)
        self.captured.mkdir()
        self._drawn = folder / "drawn"

    def capture(self, day: int, columns: int = 4, rows: int = 3) -> list[str]:
        """The frames of another day, added to what the folder holds; their names, sorted."""
        drawn = self._drawn / str(day)
        write_session(
            drawn, person=PERSON, day=day, seed=day, grid=(columns, rows), frames_per_target=1
        )
        shutil.copytree(drawn, self.captured, dirs_exist_ok=True)
        return sorted(path.name for path in drawn.glob("*.jpg"))

    def gaze(self, *words: str, code: int = 0) -> str:
        """What a command says, on both streams."""
        done = self.clone.run("custom-gaze", *words, code=code)
        return done.stdout + done.stderr

    def commit(self, message: str) -> None:
        """As README says: everything; and git then holds no picture and nothing is left over."""
        self.clone.run("git", "add", "--all")
        self.clone.run("git", "commit", "--quiet", "-m", message)
        assert self.status() == []
        held = self.clone.run("git", "ls-files").stdout.split()
        assert not [name for name in held if "img_" in name and "data" in name]

    def status(self) -> list[str]:
        return self.clone.run("git", "status", "--porcelain").stdout.splitlines()

    def check(self, *runs: str) -> None:
        """DVC has nothing to do, and MLflow has these runs, all finished."""
        assert self.stale() == set()
        assert [run.info.status for run in self.clone.runs()] == ["FINISHED"] * len(runs)
        assert sorted(run.info.run_name for run in self.clone.runs()) == sorted(runs)

    def stale(self) -> set[str]:
        """The stages that `dvc repro` would look at."""
        return {name.partition("@")[0] for name in self.clone.json("dvc", "status", "--json")}

    def model(self, folder: Path) -> str:
        return hashlib.sha256((folder / "models/custom_gaze.onnx").read_bytes()).hexdigest()

    def alias(self, name: str) -> str:
        """The SHA-256 of the registered model that MLflow calls `name`."""
        client = mlflow.MlflowClient(f"sqlite:///{self.clone.root / 'mlflow.db'}")
        version = client.get_model_version_by_alias("custom-gaze", name)
        return str(version.tags["model_sha256"])

    def experiments(self) -> set[str]:
        listed = self.clone.run("dvc", "exp", "list", "--all-commits", "--name-only").stdout
        return set(listed.split())


def test_a_week(tmp_path: Path) -> None:
    """One story, since each day begins with what the day before has left."""
    week = Week(tmp_path)
    clone, app = week.clone, str(week.app)
    week.commit("A project")

    # Monday: the first frames, the first model.
    monday = week.capture(1)
    week.gaze("import", str(week.captured), "--session", "monday")
    assert week.status() == ["A  data/sessions/monday.dvc", "A  data/sessions/monday.yaml"]
    assert "20 % of" not in week.gaze("run", "monday", *FEW)
    assert week.experiments() == {"monday"}
    week.check("monday")
    week.commit("monday")
    week.gaze("deploy", app)
    first = week.model(week.app)
    assert week.alias("live") == week.alias("candidate") == first

    # Tuesday: the app's folder has grown; what monday holds stays monday's.
    tuesday = week.capture(2)
    said = week.gaze("import", str(week.captured), "--session", "tuesday")
    assert f"{len(monday)} " in said
    assert "monday" in said
    held = {path.name for path in (clone.root / "data/sessions/tuesday").glob("*.jpg")}
    assert held == set(tuesday)
    week.gaze("run", "monday", "--test", "tuesday", *FEW)
    week.check("monday", "monday-2")
    week.commit("tuesday is another day")

    # Wednesday: one of monday's frames is a blink.
    week.gaze("session", "exclude", "monday", monday[3], "--because", "a blink")
    assert week.status() == ["M  data/sessions/monday.yaml"]
    assert "prepare" in week.stale()
    week.gaze("run", "monday", "--test", "tuesday", *FEW)
    manifest = json.loads((clone.root / "data/dataset_clean/monday/manifest.json").read_text())
    assert [entry["filename"] for entry in manifest["left_out"]] == [monday[3]]
    assert monday[3] in (clone.root / "reports/report.html").read_text()
    week.check("monday", "monday-2", "monday-3")
    week.commit("without the blink")

    # Thursday: more frames for tuesday; both days train.
    more = week.capture(3, 3, 2)
    week.gaze("import", str(week.captured), "--update", "tuesday")
    held = {path.name for path in (clone.root / "data/sessions/tuesday").glob("*.jpg")}
    assert held == {*tuesday, *more}
    week.gaze("run", "monday", "tuesday", *FEW)
    week.check("monday", "monday-2", "monday-3", "monday-tuesday")
    week.commit("both days")
    assert week.model(clone.root) != first

    # Friday: all of the week's models on one session; the newest goes live, then the first again.
    history = clone.json("custom-gaze", "history", "--json")
    names = [each["name"] for each in history["calibrations"]]
    # Of monday and monday-2, which differ in what they were tested on, the model is one.
    assert sorted(names) == ["monday", "monday-3", "monday-tuesday"]
    assert (clone.root / "reports/history.png").is_file()
    week.gaze("deploy", app, "--yes")
    assert week.alias("live") == week.model(week.app) == week.model(clone.root)
    sessions = sorted(path.name for path in (clone.root / "data/sessions/tuesday").iterdir())
    week.gaze("deploy", app, "--experiment", "monday-2", "--yes")
    assert week.alias("live") == week.model(week.app) == first
    assert (
        sorted(path.name for path in (clone.root / "data/sessions/tuesday").iterdir()) == sessions
    )
    assert "monday" in week.gaze("status", app)
    week.check("monday", "monday-2", "monday-3", "monday-tuesday")

    # Saturday: names change, and a session that was a mistake goes again.
    week.capture(4, 2, 2)
    week.gaze("import", str(week.captured), "--session", "mistake")
    week.gaze("session", "remove", "mistake", "--yes")
    week.gaze("session", "rename", "tuesday", "office")
    week.gaze("run", "monday", "office", *FEW)
    assert "mistake" not in week.gaze("session", "list")
    assert not (clone.root / "data/sessions/mistake").exists()
    assert not (clone.root / "data/sessions/tuesday").exists()
    week.commit("tuesday was in the office")

    # Sunday: back to what Monday was, and to today, with git and DVC alone.
    clone.run("git", "checkout", "--quiet", "-b", "as-it-was", "HEAD~4")
    clone.run("dvc", "checkout", "--quiet")
    assert week.model(clone.root) == first
    assert week.stale() == set()
    clone.run("git", "checkout", "--quiet", "main")
    clone.run("dvc", "checkout", "--quiet")
    assert week.stale() == set()
    assert week.status() == []
