"""A pipe, a device, a folder, a loop of links or a giant where a command expects a file.

Each is refused in one line: nothing hangs, fills the memory or changes.
"""

import os
import shutil
from pathlib import Path

import pytest

from conftest import Project
from custom_gaze.cli import main
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
    "reports/metrics.json": "report",
}


@pytest.fixture
def site(project: Project, tmp_path: Path) -> Path:
    """The working folder of the commands: a project, a model, an app."""
    make_app(tmp_path / "app")
    color_model(project.paths.root / "mine.onnx")
    project.paths.sessions.mkdir(parents=True)
    return tmp_path / "app"


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
