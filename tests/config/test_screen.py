"""`custom-gaze screen`: the geometry of the labels from what a user knows of a screen."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import REPOSITORY, Project
from custom_gaze.cli import main
from custom_gaze.common.errors import InputError
from custom_gaze.config.params import load_params
from custom_gaze.config.screen import screen_of
from custom_gaze.data.session_file import (
    Exclusion,
    SessionFile,
    read_heeded,
    read_session_file,
    write_session_file,
)
from custom_gaze.geometry import ScreenGeometry

CORNERS = [(x, y) for x in (40, 860, 1690) for y in (40, 560, 1080)]  # of 1728 × 1117
MONITOR = ["--size", "2560x1440", "--width-cm", "61.3", "--distance-cm", "60"]


def write_frames(folder: Path, targets: list[tuple[int, int]]) -> None:
    """A session with a frame a target, as the app writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (x, y) in enumerate(targets):
        cv2.imwrite(str(folder / f"img_{number + 1}.jpg"), np.full((24, 32, 3), number, np.uint8))
        (folder / f"img_{number + 1}.json").write_text(json.dumps({"screen_x": x, "screen_y": y}))


def test_a_pixel_at_the_middle_spans_its_angle_from_where_the_eyes_are() -> None:
    """61.3 cm over 2560 pixels from 60 cm: atan(0.02395 / 60) = 0.02287°."""
    screen = screen_of("2560x1440", 61.3, None, 60.0)
    assert screen.geometry() == ScreenGeometry(1280.0, 720.0, 0.0229)
    # The label is linear in pixels, the eye's angle is not: atan(30.65 / 60) = 27.06°.
    assert "the label is 29.3° where the eye turns 27.1°" in screen.lines()[1]
    # The specification's 0.0307°: a pixel of 0.239 mm from 0.02395 / tan(0.0307°) = 44.7 cm.
    assert screen.lines()[2].endswith("degrees a pixel would be this screen seen from 45 cm")


def test_a_diagonal_says_how_wide_the_picture_is() -> None:
    """27 inches of 16:9 are 27 · 2.54 · 16 / √337 = 59.77 cm wide."""
    screen = screen_of("2560x1440", None, 27.0, 60.0)
    assert screen.width_cm == pytest.approx(59.77, abs=0.01)
    assert screen_of("1000×1000", None, 10.0, 60.0).width_cm == pytest.approx(25.4 / 2**0.5)


@pytest.mark.parametrize(
    ("size", "width_cm", "distance_cm", "said"),
    [
        ("2560", 61.3, 60.0, r"--size is '2560', but must be the pixels of a screen, like 2560x"),
        ("25x14\n", 61.3, 60.0, r"--size is '25x14\\n', but must be"),
        ("2560x1440", None, 60.0, "--size needs --width-cm or --diagonal-inch"),
        ("2560x1440", 0.613, 60.0, r"the screen's width is 0.613 cm, but must lie in 5 … 500"),
        ("2560x1440", 61.3, float("nan"), r"--distance-cm is nan cm, but must lie in 15 … 500"),
        ("2560x1440", 61.3, 600.0, "--distance-cm is 600 cm"),
    ],
)
def test_what_no_screen_has_is_refused(
    size: str, width_cm: float | None, distance_cm: float, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        screen_of(size, width_cm, None, distance_cm)


def test_only_the_geometry_of_params_yaml_changes(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """Comments, lists and all else stay as they stand in the shipped file."""
    path = project.paths.params
    shutil.copy(REPOSITORY / "params.yaml", path)
    before = path.read_text()
    assert main(["screen", *MONITOR, "--dry-run"]) == 0
    assert path.read_text() == before
    assert main(["screen", *MONITOR]) == 0
    after = path.read_text().splitlines()
    changed = [pair for pair in zip(before.splitlines(), after, strict=True) if pair[0] != pair[1]]
    assert changed == [
        ("  center_x_px: 864.0", "  center_x_px: 1280.0"),
        ("  center_y_px: 558.5", "  center_y_px: 720.0"),
        ("  deg_per_pixel: 0.0307", "  deg_per_pixel: 0.0229"),
    ]
    assert load_params(path).geometry == ScreenGeometry(1280.0, 720.0, 0.0229)
    capsys.readouterr()
    assert main(["screen"]) == 0
    said = "screen of 2560 × 1440 pixels, centre (1280, 720), 0.0229 degrees a pixel (43.7 pixels"
    assert capsys.readouterr().out.startswith(said)


def test_a_section_in_one_line_is_left_to_its_owner(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project.paths.params
    shutil.copy(REPOSITORY / "params.yaml", path)
    text = path.read_text()
    start, end = text.index("geometry:"), text.index("\nfetch:")
    in_one_line = "geometry: {center_x_px: 864.0, center_y_px: 558.5, deg_per_pixel: 0.0307}\n"
    path.write_text(text[:start] + in_one_line + text[end:])
    before = path.read_bytes()
    assert main(["screen", *MONITOR]) == 2
    assert "geometry.center_x_px has no line of its own; write 1280.0" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_session_says_whether_its_targets_are_of_the_screen(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project.paths.sessions / "monday"
    write_frames(folder, CORNERS)
    assert main(["screen", "monday"]) == 0
    assert "the targets of monday lie on it" in capsys.readouterr().out
    assert main(["screen", "monday", *MONITOR, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "the targets lie as on a screen of about 1730 × 1120 pixels" in said.err
    assert "lie on it" not in said.out
    write_frames(folder, [*CORNERS, (2400, 40)])
    assert main(["screen", "monday"]) == 0
    assert "the target lies beside the screen of 1728 × 1117 pixels" in capsys.readouterr().err


def test_a_session_has_a_screen_of_its_own(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project.paths.sessions / "monday"
    write_frames(folder, [(x * 40 // 27, y * 9 // 7) for x, y in CORNERS])
    (project.paths.root / ".dvc").mkdir()
    exclusion = Exclusion(frame="img_1.jpg", because="a blink")
    write_session_file(folder, SessionFile(excluded=(exclusion,), geometry=None))
    before = project.paths.params.read_bytes()
    assert main(["screen", "monday", *MONITOR]) == 0
    assert (
        "monday.yaml; the next `dvc repro` or `dvc exp run` labels its" in capsys.readouterr().out
    )
    said = read_session_file(folder)
    assert said == SessionFile(
        excluded=(exclusion,), geometry=ScreenGeometry(1280.0, 720.0, 0.0229)
    )
    assert project.paths.params.read_bytes() == before
    assert main(["screen", "monday"]) == 0
    out = capsys.readouterr().out
    assert "screen of 2560 × 1440 pixels" in out
    assert "the targets of monday lie on it" in out
    session, geometry = read_heeded(folder, project.paths, project.params.geometry)
    assert (len(session.frames), geometry) == (8, said.geometry)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--width-cm", "61"], "give --size too"),
        (["--size", "2560x1440", "--width-cm", "61"], "give --distance-cm too"),
        (["nobody"], "nobody"),
        (["../x"], "no session id"),
    ],
)
def test_what_is_missing_is_said(
    project: Project, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    before = project.paths.params.read_bytes()
    assert main(["screen", *words]) == 2
    assert said in capsys.readouterr().err
    assert project.paths.params.read_bytes() == before


def test_what_is_set_is_what_a_run_reads() -> None:
    """A screen whose pixels span more or less than params.yaml may hold is refused."""
    assert screen_of("99999x99999", 500.0, None, 15.0).geometry().deg_per_pixel == 0.0191
    for size, width_cm, distance_cm in (("100x100", 500.0, 15.0), ("99999x999", 5.0, 500.0)):
        with pytest.raises(InputError, match="a pixel would span .* degrees"):
            screen_of(size, width_cm, None, distance_cm)
