"""The command line finds its project from below it, and completes what is typed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Project
from custom_gaze.cli import main
from custom_gaze.config.paths import project_root
from session_frames import put


@pytest.fixture
def below(ready: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder two below the project's root, where the test then is."""
    (ready.paths.root / ".dvc").mkdir(exist_ok=True)
    folder = ready.paths.root.resolve() / "notes" / "monday"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_a_command_works_from_below_the_root(
    below: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = below.parent.parent / "data" / "index.csv"
    index.unlink()
    assert main(["index"]) == 0
    assert index.is_file()
    assert list(below.iterdir()) == []
    assert "frames of" in capsys.readouterr().out


def test_a_given_path_is_meant_from_where_the_user_is(
    below: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (below / "frame.jpg").write_bytes(b"no picture")
    assert main(["inspect", "frame.jpg"]) == 2
    assert f"{below / 'frame.jpg'}" in capsys.readouterr().err


def test_a_folder_with_a_params_yaml_of_its_own_is_no_project(below: Path) -> None:
    (below / "params.yaml").write_text("seed: 1\n")  # as pretrain/ has
    assert project_root(below) == below.parent.parent


def test_outside_of_a_project_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["report"], ["doctor"], ["deploy", "app"], ["mlflow"]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"custom-gaze: {tmp_path.resolve()}: is in no custom-gaze project")
        assert len(said.splitlines()) == 1


def test_json_is_the_result_itself(ready: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result.keys() == {"frames", "targets"}
    assert sum(result["frames"].values()) >= sum(result["targets"].values()) > 0


def test_json_is_one_document_whatever_is_said_besides(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["screen", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["deg_per_pixel"] == 0.0307
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"], check=True)
    for number in range(12):
        record = {"screen_x": 100.0 + 120 * number, "screen_y": 50.0 + 80 * number}
        put(tmp_path / "captured", 1768123456789 + number, record)
    assert main(["import", str(tmp_path / "captured"), "--session", "monday", "--json"]) == 0
    out, err = capsys.readouterr()
    [imported] = json.loads(out)["sessions"]
    assert (imported["session"], imported["frames"], imported["targets"]) == ("monday", 12, 12)
    assert "12 usable frames of 12 targets" in err


BASH = """
source <(custom-gaze completion bash)
COMP_WORDS=({words}) COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_shtab_custom_gaze
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def environment() -> dict[str, str]:
    """The user's, with the custom-gaze of these tests on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path}


def completed(folder: Path, words: str) -> list[str]:
    """What bash offers for the last of `words`, typed in `folder`."""
    done = subprocess.run(
        ["bash", "-c", BASH.format(words=words)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    return done.stdout.split()


def test_bash_completes_verbs_options_and_the_project_s_sessions(below: Path) -> None:
    sessions = below.parent.parent / "data" / "sessions"
    sessions.mkdir(parents=True, exist_ok=True)
    for name in ("monday", "tuesday"):
        (sessions / f"{name}.dvc").write_text("outs: []\n")
    assert completed(below, "custom-gaze dep") == ["deploy"]
    assert "--session" in completed(below, "custom-gaze import --ses")
    assert completed(below, "custom-gaze doctor mon") == ["monday"]
    assert set(completed(below, "custom-gaze sheet ''")) >= {"monday", "tuesday"}


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_takes_its_script() -> None:
    script = "autoload -U compinit; compinit -u; source <(custom-gaze completion zsh)"
    done = subprocess.run(
        ["zsh", "-fc", f"{script}; whence -w _shtab_custom_gaze _custom_gaze_ids"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.stdout.split() == [
        "_shtab_custom_gaze:",
        "function",
        "_custom_gaze_ids:",
        "function",
    ]
