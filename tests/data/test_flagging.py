"""`import --drop-flagged` on a demo session two of whose frames are blinks."""

from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Project
from custom_gaze.cli import main
from custom_gaze.data import dvc_sessions
from custom_gaze.data.session_file import read_session_file
from custom_gaze.data.sessions import read_session
from custom_gaze.demo import session as demo_session
from custom_gaze.faces.detectors import embedded_detector


def test_what_doctor_would_flag_is_excluded_at_import(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    draw, count = demo_session.draw_moment, 0

    def with_blinks(*arguments: object) -> object:
        nonlocal count
        count += 1
        return replace(draw(*arguments), closed=0.8 if count in (4, 7) else 0.0)

    monkeypatch.setattr(demo_session, "draw_moment", with_blinks)
    source = tmp_path / "captured"
    demo_session.write_session(
        source, person=2060, grid=(3, 3), frames_per_target=1, purpose="tuning"
    )
    (project.paths.root / ".dvc").mkdir()
    words = ["import", str(source), "--session", "monday", "--drop-flagged"]
    assert main(words) == 2  # before anything is imported
    assert "run `custom-gaze fetch` first" in capsys.readouterr().err
    assert not project.paths.sessions.exists()
    project.paths.faces.mkdir(parents=True)
    (project.paths.faces / "face_detection.onnx").write_bytes(embedded_detector())

    def added(folder: Path, *_: object) -> None:
        dvc_sessions.dvc_file(folder).write_text("outs:\n")

    monkeypatch.setattr("custom_gaze.data.importing.put_under_dvc", added)
    assert main(words) == 0
    names = [frame.image.name for frame in read_session(source, project.params.geometry).frames]
    said = read_session_file(project.paths.sessions / "monday").reasons()
    assert list(said) == [names[3], names[6]]
    assert all(why.startswith("the eyes look closed or blurred (") for why in said.values())
    out = capsys.readouterr().out
    assert f"excluded: {names[3]}: the eyes look closed" in out
    assert "2 frames excluded (custom-gaze session include monday FRAME)" in out
