"""`git add -A`, whenever: no frame, no crop, no picture made from one."""

import itertools
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from conftest import Project, copy_working_tree, enter
from custom_gaze.cli import main
from custom_gaze.config.paths import Paths
from custom_gaze.data.sessions import load_frame
from custom_gaze.demo.session import write_session
from custom_gaze.faces.detectors import embedded_detector
from gaze_files import write_network
from killed import code_of


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The working tree as a fresh clone in which nothing has run; two captures beside it."""
    root = tmp_path / "clone"
    copy_working_tree(root)
    project = Project(Paths(root))
    project.change(sessions=["mine"], prepare={"size_px": 64}, evaluate={"sessions": []})
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    enter(project, monkeypatch)
    write_session(tmp_path / "captured", person=7, grid=(2, 2), frames_per_target=1)
    shutil.copytree(tmp_path / "captured", tmp_path / "elsewhere")
    for number, frame in enumerate((tmp_path / "elsewhere").glob("*.jpg")):
        with frame.open("ab") as file:  # another frame, as far as anybody compares
            file.write(b"behind the picture" + bytes([number]))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    return project


def git(root: Path, *words: str) -> list[str]:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def added(root: Path, before: set[str]) -> set[str]:
    """What `git add -A` takes that was not there before."""
    git(root, "add", "-A")
    return set(git(root, "ls-files")) - before


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork beside threads
def test_git_add_takes_no_face(
    clone: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = clone.paths.root
    before = set(git(root, "ls-files"))
    shutil.copytree(tmp_path / "captured", root / "captured")  # the capture, put into the clone
    shutil.copytree(tmp_path / "captured", clone.paths.sessions / "mine")  # and without import
    clone.paths.faces.mkdir(parents=True)
    (clone.paths.faces / "face_detection.onnx").write_bytes(embedded_detector())
    write_network(clone.paths.model)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stop, step in itertools.product((signal.SIGINT, signal.SIGKILL), (3, 9, 15)):
        assert code_of(lambda: main(["prepare", "mine"]), step, root, stop) != 0
        assert added(root, before) == set()
    assert main(["prepare", "mine"]) == 0
    assert len(list(clone.paths.dataset.rglob("*.jpg"))) == 4
    assert added(root, before) == set()

    frame = next((root / "captured").glob("*.jpg"))
    pixels = load_frame(frame)
    video = cv2.VideoWriter(
        str(root / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, pixels.shape[1::-1]
    )
    video.write(pixels[..., ::-1].copy())
    video.release()
    for words in (
        f"crop {frame}",
        f"crop {frame} --output mine/crop.png",
        f"predict {frame} --output docs/me.png",
        f"predict {frame.parent} --output reports/all.png",
        "watch --source clip.avi --output films/me.mp4",
        "watch --source clip.avi --output me.avi",
        "watch --source clip.avi --output reports/me.png",
        "sheet mine",
        "sheet mine --output somewhere/sheet.png",
    ):
        assert main(words.split()) == 0, words
        assert added(root, before) == set(), words
    assert main(["doctor", "mine", "--json"]) in (0, 1)

    def add(folder: Path, *_: object) -> "subprocess.CompletedProcess[str]":
        folder.with_name(f"{folder.name}.dvc").write_text("outs:\n")
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr("custom_gaze.data.dvc_sessions._dvc_add", add)
    source = str(tmp_path / "elsewhere")
    for step in (6, 12, 18):
        code_of(lambda: main(["import", source, "--session", "new"]), step, root, signal.SIGKILL)
        assert added(root, before) <= {"data/sessions/new.dvc"}
    assert main(["import", source, "--session", "new"]) == 0
    wanted = {"data/sessions/new.dvc"}
    assert added(root, before) - {"data/sessions/new.yaml"} == wanted
