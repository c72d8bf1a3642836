"""A pipe, a device, a folder, a loop of links or a giant where a command expects a file.

Each is refused in one line: nothing hangs, fills the memory or changes.
"""

import os
import shutil
from pathlib import Path

import pytest

from conftest import Project
from custom_gaze.cli import main
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.faces.finder import DETECTOR_FILE
from pretend_app import color_model, make_app
from time_limit import ends_within

LONGEST_S = 20


def pipe(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def giant(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(5 << 30)  # takes no room on the disk


KINDS = (pipe, device, loop, Path.mkdir, giant)

# What stands there instead of a file, and the command that reads it; {app} is the app's folder.
FILES = {
    "params.yaml": "index",
    "pretrain.yaml": "pretrain --params pretrain.yaml",
    "{app}": "status {app}",
    "{app}/config.json": "status {app}",
    "{app}/svr_l2cs_x.model": "rollback {app}",
    "some_app": "deploy some_app",
    "clip.avi": "watch --source clip.avi --model mine.onnx",
    "captured": "import captured --session new",
    "data/sessions/one": "prepare one",
    "data/sessions/two": "sheet two",
    "somewhere": "doctor somewhere",
    "data/dataset_clean/one/labels.csv": "index",
    "data/index.csv": "train",
    "models/checkpoint.pt": "export",
    "models/custom_gaze.onnx": "predict mine.onnx",
    "weights.pkl": "inspect weights.pkl",
    "frame.jpg": "crop frame.jpg",
    "other.jpg": "predict other.jpg --model mine.onnx",
    "other.onnx": "predict mine.onnx --model other.onnx",
    "live.onnx": "watch --source clip.avi --model live.onnx",
    "new.onnx": "deploy {app} --model new.onnx",
    "reports/figures.json": "report",
}


@pytest.fixture
def site(project: Project, tmp_path: Path) -> Path:
    """The working folder of the commands: a project, a model, an app."""
    make_app(tmp_path / "app")
    color_model(project.paths.root / "mine.onnx")
    project.paths.sessions.mkdir(parents=True)
    project.paths.faces.mkdir(parents=True)
    (project.paths.faces / DETECTOR_FILE).write_bytes(embedded_detector())
    return tmp_path / "app"


@pytest.mark.parametrize("key", ["detector", "mesh", "base"])
def test_what_fetch_is_to_read_as_well(
    site: Path, project: Project, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project.paths.root / "given"
    project.change(fetch={key: str(path)})
    for kind in KINDS:
        kind(path)
        with ends_within(LONGEST_S):
            assert main(["fetch"]) == 2, kind.__name__
        said = capsys.readouterr().err
        assert said.count("\n") == 1, (kind.__name__, said)
        assert "given" in said
        assert not project.paths.base.exists()
        path.rmdir() if kind is Path.mkdir else path.unlink()


@pytest.mark.parametrize(("name", "words"), FILES.items(), ids=FILES.values())
def test_what_is_no_file_is_refused_in_one_line(
    site: Path, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(name.format(app=site))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    for kind in KINDS:
        kind(path)
        before = sorted([*Path().rglob("*"), *site.parent.rglob("*")])
        with ends_within(LONGEST_S):
            assert main(words.format(app=site).split()) == 2, kind.__name__
        said = capsys.readouterr().err
        assert said.count("\n") == 1, (kind.__name__, said)
        assert said.startswith("custom-gaze: ")
        assert sorted([*Path().rglob("*"), *site.parent.rglob("*")]) == before
        path.rmdir() if kind is Path.mkdir else path.unlink()
