"""Projects that sessions are imported into."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from custom_gaze.config.paths import Paths
from custom_gaze.data import dvc_sessions
from project_files import run


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A project under git and DVC, as the real one: .dvc files are staged by themselves.

    There is no home folder, none can be made, and git has no identity.
    """
    monkeypatch.setenv("HOME", "/proc/nowhere")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    root = tmp_path / "project"
    root.mkdir()
    run("git", "init", "-q", "-b", "main", cwd=root)
    run(sys.executable, "-m", "dvc", "init", "-q", cwd=root)
    (root / ".dvc" / "config").write_text("[core]\n    autostage = true\n    analytics = false\n")
    return Paths(root)


@pytest.fixture
def plain(tmp_path: Path) -> Paths:
    """A folder that looks like a project, where `dvc add` fails."""
    (tmp_path / "plain" / "data" / "sessions").mkdir(parents=True)
    (tmp_path / "plain" / ".dvc").mkdir()
    return Paths(tmp_path / "plain")


@pytest.fixture
def adding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `dvc add` that writes what the real one does beside the folder, at once."""

    def add(folder: Path, *_: object) -> "subprocess.CompletedProcess[str]":
        dvc_sessions.dvc_file(folder).write_text("outs:\n")
        if (folder.parent / ".gitignore").exists():
            with (folder.parent / ".gitignore").open("a") as ignored:
                ignored.write(f"/{folder.name}\n")
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(dvc_sessions, "_dvc_add", add)
