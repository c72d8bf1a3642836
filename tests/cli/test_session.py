"""`custom-gaze session` as it is typed: what it prints and what it asks."""

import json
import sys
from pathlib import Path

import pytest

from conftest import Project
from custom_gaze.cli import main
from custom_gaze.data.session_file import session_file
from session_frames import put


@pytest.fixture
def sessions(project: Project) -> Project:
    """Two sessions that DVC knows the names of, in no git repository."""
    (project.paths.root / ".dvc").mkdir()
    project.paths.sessions.mkdir(parents=True)
    for name in ("one", "two"):
        folder = project.paths.sessions / name
        for number in range(3):
            put(folder, 1768123456789 + number, {"screen_x": 100.0 * number, "screen_y": 50.0})
        folder.with_name(f"{name}.dvc").write_text(f"outs:\n- size: 5\n  path: {name}\n")
    return project


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["session", *words]) == code
    out, err = capsys.readouterr()
    return out + err


def test_list_and_show(sessions: Project, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "list")
    assert text.count("which `dvc repro` asks for") == 2  # of an earlier version: they have one now
    assert session_file(sessions.paths.sessions / "two").exists()
    assert said(capsys, "exclude", "two", "img_1768123456790", "--because", "a blink").endswith(
        "two.yaml, 1 excluded in all; the next `dvc repro` or `dvc exp run` prepares it anew\n"
    )
    lines = said(capsys, "list").splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert lines[0].split() == [
        "session",
        "frames",
        "targets",
        "excluded",
        "captured",
        "MB",
        "params",
        "here",
    ]
    assert lines[2].split()[:4] == ["one", "3", "3", "0"]
    assert lines[2].split()[-2:] == ["trained", "yes"]
    assert lines[3].split()[:4] == ["two", "2", "2", "1"]
    listed = json.loads(said(capsys, "list", "--json"))
    assert [(one["id"], one["use"]) for one in listed] == [("one", "trained"), ("two", "not named")]
    text = said(capsys, "show", "two")
    assert "excluded  img_1768123456790.jpg: a blink" in text
    assert "screen    1728 × 1117 pixels, 0.0307 degrees a pixel, of params.yaml" in text
    assert "not looked at yet: custom-gaze doctor two" in text
    shown = json.loads(said(capsys, "show", "two", "--json"))
    assert shown["excluded"] == [{"frame": "img_1768123456790.jpg", "because": "a blink"}]
    assert shown["suspects"] is None
    assert "included again: img_1768123456790.jpg" in said(
        capsys, "include", "two", "img_1768123456790.jpg"
    )
    assert "has no session 'three'; there are one, two" in said(capsys, "show", "three", code=2)


def test_remove_asks(
    sessions: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sessions.paths.sessions / "two"
    assert "Nobody is there to answer" in said(capsys, "remove", "two", code=2)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert "nothing was changed" in said(capsys, "remove", "two")
    assert len(list(folder.iterdir())) == 6
    for path in folder.iterdir():  # its frames are not on disk, only its name is
        path.unlink()
    folder.rmdir()
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert "two is removed" in said(capsys, "remove", "two")
    assert [path.name for path in Path(folder.parent).iterdir() if "two" in path.name] == []
