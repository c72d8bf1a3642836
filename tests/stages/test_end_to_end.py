"""The whole pipeline under DVC, in a clone of this working tree with sessions of its own."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml

from clone import Clone, empty_clone
from conftest import SMALL, Once, Project
from custom_gaze.config.paths import Paths
from custom_gaze.data.session_file import NOTHING_SAID, write_session_file
from custom_gaze.demo.session import write_session

SESSIONS = {"one": (5, 1), "other": (5, 2), "two": (17, 1)}  # person and day
STUB = """#!{python}
# custom-gaze, but the later stages take no time: their outputs are copies of {made}'s.
import os, shutil, sys
import yaml
verb = sys.argv[1]
if verb not in ("train", "export", "quantise", "evaluate"):
    os.execv({command!r}, [{command!r}, *sys.argv[1:]])
with open("dvc.yaml") as file:
    stage = yaml.safe_load(file)["stages"][verb]
for entry in [*stage["outs"], *stage.get("metrics", [])]:
    name = entry if isinstance(entry, str) else next(iter(entry))
    source = os.path.join({made!r}, name)
    if os.path.isdir(source):
        shutil.copytree(source, name, dirs_exist_ok=True)
    else:
        shutil.copy(source, name)
"""

pytestmark = pytest.mark.long


def make_clone(root: Path) -> Clone:
    """The working tree as a fresh repository with small parameters and three demo sessions."""
    clone = empty_clone(root)
    small = Project(Paths(root))
    small.change(**{**SMALL, "sessions": ["one"], "evaluate": {"sessions": ["other"]}})
    small.change(augment={"samples": 1}, train={"schedule": "cosine", "steps": 10})
    for name, (person, day) in SESSIONS.items():
        folder = root / "data" / "sessions" / name
        write_session(folder, person=person, day=day, grid=(3, 3), frames_per_target=1)
        write_session_file(folder, NOTHING_SAID)
    clone.run("dvc", "add", "--quiet", *(f"data/sessions/{name}" for name in SESSIONS))
    return clone


@pytest.fixture(scope="session")
def made(once: Once) -> Path:
    """A clone in which every stage has run, as it was left; tests work in a copy."""

    def make(folder: Path) -> None:
        clone = make_clone(folder / "custom-gaze")
        clone.run("git", "add", "--all")
        clone.run("git", "commit", "--quiet", "-m", "A project of its own")
        clone.run("dvc", "repro", "--quiet")
        clone.run("git", "add", "--all")
        clone.run("git", "commit", "--quiet", "-m", "A first run")
        assert len(clone.runs()) == 1

    return once("reproduced", make) / "custom-gaze"


def copied(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clone") / "custom-gaze"
    shutil.copytree(made, root, symlinks=True)
    return root


@pytest.fixture(scope="module")
def reproduced(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The tests leave it as it was: work stealing runs them in any order."""
    return Clone(copied(made, tmp_path_factory))


@pytest.fixture(scope="module")
def stubbed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Another such clone, its later stages stubs: for what DVC does with them."""
    programs = tmp_path_factory.mktemp("programs")
    command = str(Path(sys.executable).parent / "custom-gaze")
    stub = programs / "custom-gaze"
    stub.write_text(STUB.format(python=sys.executable, command=command, made=str(made)))
    stub.chmod(0o755)
    return Clone(copied(made, tmp_path_factory), programs)


def test_repro_makes_every_output(reproduced: Clone) -> None:
    for stage in yaml.safe_load((reproduced.root / "dvc.yaml").read_text())["stages"].values():
        for entry in [*stage.get("outs", []), *stage.get("metrics", [])]:
            name = entry if isinstance(entry, str) else next(iter(entry))
            if "${" not in name:
                assert (reproduced.root / name).exists(), name
    assert {path.name for path in (reproduced.root / "data/dataset_clean").iterdir()} == {
        "one",
        "other",
        ".gitignore",
    }


def test_the_second_repro_is_a_no_op(reproduced: Clone) -> None:
    assert "Data and pipelines are up to date." in reproduced.run("dvc", "repro").stdout
    assert reproduced.run("git", "status", "--porcelain").stdout == ""


def test_metrics_plots_and_parameters_have_something_to_show(reproduced: Clone) -> None:
    [shown] = reproduced.json("dvc", "metrics", "show", "--json").values()
    metrics = shown["data"]["reports/metrics.json"]["data"]
    assert metrics["error_deg"] > 0
    assert metrics["error_px"] == pytest.approx(metrics["error_deg"] / 0.0307, rel=1e-3)
    assert (metrics["frames"], metrics["targets"]) == (7, 7)  # of nine, two are too few to test on
    assert metrics["cross_session_deg"] > 0
    plots = reproduced.json("dvc", "plots", "show", "--json")
    drawn = set(plots.get("data", plots))
    assert {"reports/loss.png", "reports/screen.png", "Loss per epoch"} <= drawn
    project = Project(Paths(reproduced.root))
    project.change(train={"patience": 3})
    changed = reproduced.json("dvc", "params", "diff", "--json")
    assert changed["params.yaml"]["train.patience"] == {"old": 8, "new": 3, "diff": -5}
    reproduced.run("git", "checkout", "--quiet", "params.yaml")


def test_the_model_of_this_run_is_an_artifact(reproduced: Clone) -> None:
    model = reproduced.root / "models" / "custom_gaze.onnx"
    before = model.read_bytes()
    model.unlink()
    reproduced.run("dvc", "checkout", "models/custom_gaze.onnx")
    assert model.read_bytes() == before


def test_experiments_compare_sessions_line_by_line(reproduced: Clone) -> None:
    """In the workspace and in a temporary copy; both land in the one MLflow store."""
    changes = ("-S", "sessions=[two]", "-S", "evaluate.sessions=[]")
    before = len(reproduced.runs())
    reproduced.run("dvc", "exp", "run", "--quiet", "--temp", "--name", "second", *changes)
    assert reproduced.run("git", "status", "--porcelain").stdout == ""
    runs = reproduced.runs()
    assert len(runs) == before + 1
    assert [run.data.tags["sessions"] for run in runs if run.info.run_name == "second"] == ["two"]
    shown = reproduced.json("dvc", "exp", "show", "--json")
    lines = {}
    for revision in shown:
        for experiment in revision["experiments"] or []:
            data = experiment["revs"][-1]["data"]
            lines[experiment["name"]] = data["metrics"]["reports/metrics.json"]["data"]
            assert data["params"]["params.yaml"]["data"]["sessions"] == ["two"]
    assert lines["second"]["frames"] == 7
    assert lines["second"]["error_px"] > 0
    assert "cross_session_deg" not in lines["second"]


def test_a_change_redoes_what_it_touches_with_the_clone_s_own_code(reproduced: Clone) -> None:
    """Not with that of the checkout which happens to be installed."""
    path = reproduced.root / "src" / "custom_gaze" / "evaluation" / "report.py"
    path.write_text(path.read_text().replace('"measured on"', '"measured here on"'))
    Project(Paths(reproduced.root)).change(evaluate={"seed": 2})
    said = reproduced.run("dvc", "repro")
    ran = [line for line in said.stdout.splitlines() if line.startswith("> PYTHONPATH")]
    assert ran == ["> PYTHONPATH=src custom-gaze evaluate"]
    assert "measured here on" in (reproduced.root / "reports" / "report.html").read_text()
    reproduced.run("git", "checkout", "--quiet", "src", "params.yaml", "dvc.lock", "reports")
    reproduced.run("dvc", "checkout", "--quiet")


def test_after_a_failed_stage_its_outputs_come_back(reproduced: Clone) -> None:
    """DVC removes a stage's outputs before it runs; the error says what brings them back."""
    model = reproduced.root / "models" / "custom_gaze.onnx"
    before = model.read_bytes()
    path = reproduced.root / "src" / "custom_gaze" / "stages" / "export.py"
    begins = "    checkpoint = load_checkpoint(paths.checkpoint)\n"
    assert path.read_text().count(begins) == 1
    path.write_text(path.read_text().replace(begins, '    raise CustomGazeError("it failed")\n'))
    done = reproduced.run("dvc", "repro", code=255)
    said = done.stdout + done.stderr
    assert "it failed" in said
    assert not model.exists()
    assert "`dvc checkout` brings back" in said
    reproduced.run("git", "checkout", "--quiet", "src", "dvc.lock")
    reproduced.run("dvc", "checkout", "--quiet")
    assert model.read_bytes() == before


def test_a_session_named_as_a_string_is_refused(reproduced: Clone) -> None:
    Project(Paths(reproduced.root)).change(sessions="one")
    done = reproduced.run("custom-gaze", "index", code=2)
    assert "-S 'sessions=[one]'" in done.stderr
    reproduced.run("git", "checkout", "--quiet", "params.yaml")


def test_no_sessions_is_an_error_and_not_an_empty_run(reproduced: Clone) -> None:
    before = (reproduced.root / "reports" / "metrics.json").read_bytes()
    Project(Paths(reproduced.root)).change(sessions=[], evaluate={"sessions": []})
    done = reproduced.run("dvc", "repro", code=255)
    assert "sessions is empty" in done.stdout + done.stderr
    assert (reproduced.root / "reports" / "metrics.json").read_bytes() == before
    reproduced.run("git", "checkout", "--quiet", "params.yaml", "dvc.lock")
    reproduced.run("dvc", "checkout", "--quiet")


def test_import_and_run_as_the_readme_says(stubbed: Clone, tmp_path: Path) -> None:
    captured = tmp_path / "calibration_data"
    write_session(captured, person=17, day=3, grid=(3, 3), frames_per_target=1)
    raw = {path.name: path.read_bytes() for path in captured.iterdir()}
    said = stubbed.run("custom-gaze", "import", str(captured), "--session", "mine")
    assert "dvc exp run -S 'sessions=[mine]'" in said.stdout
    imported = stubbed.root / "data" / "sessions" / "mine"
    assert {path.name: path.read_bytes() for path in imported.iterdir()} == raw
    assert "data/sessions/mine.dvc" in stubbed.run("git", "status", "--porcelain").stdout
    stubbed.run("dvc", "exp", "run", "--quiet", "-S", "sessions=[mine]")
    index = (stubbed.root / "data" / "index.csv").read_text()
    assert "mine," in index
    assert "one," not in index
    assert {path.name: path.read_bytes() for path in imported.iterdir()} == raw
