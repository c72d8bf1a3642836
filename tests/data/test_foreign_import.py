"""Data sets imported into a real git and DVC repository, and prepared like any other session."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import REPOSITORY
from custom_gaze.cli import main
from custom_gaze.cli.imports import FORMATS
from custom_gaze.config.paths import Paths
from custom_gaze.data.adapters import formats
from custom_gaze.data.dvc_sessions import dvc_file
from custom_gaze.data.session_file import read_session_file
from custom_gaze.demo.session import write_session


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A project under git and DVC with the shipped parameters, the working folder."""
    root = tmp_path / "project"
    (root / "data" / "sessions").mkdir(parents=True)
    run("git", "init", "-q", "-b", "main", cwd=root)
    run(sys.executable, "-m", "dvc", "init", "-q", cwd=root)
    for name in ("params.yaml", "data/sessions/.gitignore"):
        shutil.copy(REPOSITORY / name, root / name)
    monkeypatch.chdir(root)
    return Paths(root)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of a demo person, by number, with the angles of their gaze in angles.json."""
    folder = tmp_path_factory.mktemp("faces")
    write_session(folder / "demo", person=17, day=1, grid=(3, 2), frames_per_target=1)
    angles = []
    for number, path in enumerate(sorted((folder / "demo").glob("*.jpg"))):
        record = json.loads(path.with_suffix(".json").read_text())
        angles.append([(record["screen_x"] - 864) * 0.0307, (record["screen_y"] - 558.5) * 0.0307])
        path.rename(folder / f"{number}.jpg")
    (folder / "angles.json").write_text(json.dumps(angles))
    return folder


def test_the_formats_of_the_command_line_are_those_of_the_data() -> None:
    assert FORMATS == formats.FORMATS


def test_angles_without_a_screen_come_out_of_prepare_as_they_went_in(
    faces: Path, project: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    angles = json.loads((faces / "angles.json").read_text())
    lines = [f"{n}.jpg,{yaw!r},{pitch!r}" for n, (yaw, pitch) in enumerate(angles)]
    table = faces / "labels.csv"
    table.write_text("file,yaw,pitch\n" + "\n".join([*lines, "gone.jpg,1,2", "x.jpg,1,2", ""]))
    assert main(["import", str(table), "--session", "anna"]) == 0
    said = capsys.readouterr()
    assert "imported as csv" in said.out
    assert "6 usable frames of 6 targets → data/sessions/anna" in said.out
    assert "left out: line 8 and 1 more: its file is not there" in said.err
    assert "beside the screen" not in said.err
    geometry = read_session_file(project.sessions / "anna").geometry
    assert geometry is not None
    assert geometry.deg_per_pixel == 1 / 32
    staged = run("git", "status", "--short", "--ignored", cwd=project.root)
    assert "data/sessions/anna.dvc" in staged
    assert "data/sessions/anna.yaml" in staged
    assert json.loads(run(sys.executable, "-m", "dvc", "status", "--json", cwd=project.root)) == {}
    assert not list((project.root / ".dvc" / "tmp" / "custom-gaze").glob("*.part"))

    assert main(["fetch"]) == 0
    assert main(["prepare", "anna"]) == 0
    rows = (project.dataset / "anna" / "labels.csv").read_text().splitlines()[1:]
    prepared = [[float(cell) for cell in row.split(",")[1:3]] for row in rows]
    assert np.array(prepared) == pytest.approx(np.array(angles), abs=1e-9)


def test_a_set_is_imported_whole_or_not_at_all_and_twice_is_once(
    faces: Path, project: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = faces.parent / f"{faces.name}-0007"
    folder.mkdir(exist_ok=True)
    for number, direction in enumerate(("0V_0H", "10V_-15H", "-10V_15H")):
        shutil.copy(faces / f"{number}.jpg", folder / f"0007_2m_0P_{direction}.jpg")
    assert main(["import", str(folder), "--session", "seven", "--from", "gazecapture"]) == 2
    assert "is no GazeCapture as --from gazecapture needs it" in capsys.readouterr().err
    assert main(["import", str(folder), "--session", "seven", "--video", "x.mp4"]) == 2
    assert "--video: is nothing for an import from columbia" in capsys.readouterr().err
    Image.new("RGB", (8, 8)).save(folder / "0008_2m_0P_0V_0H.jpg")
    assert main(["import", str(folder), "--session", "seven"]) == 2
    assert "of 2 persons" in capsys.readouterr().err
    assert sorted(path.name for path in project.sessions.iterdir()) == [".gitignore"]
    (folder / "0008_2m_0P_0V_0H.jpg").unlink()
    assert main(["import", str(folder), "--session", "seven"]) == 0
    first = {path.name: path.read_bytes() for path in (project.sessions / "seven").iterdir()}
    assert sorted(first.values(), key=len)[-3:] == sorted(
        ((folder / name).read_bytes() for name in folder.glob("*.jpg")), key=len
    )
    dvc_file(project.sessions / "seven").unlink()  # killed before `dvc add` came to its end
    assert main(["import", str(folder), "--session", "seven"]) == 0
    assert "was there already, with the same bytes" in capsys.readouterr().out
    assert dvc_file(project.sessions / "seven").exists()
