"""A round kept as a session: the app's files, its own screen, under DVC."""

import json

import numpy as np
import pytest

from custom_gaze.capture.live_keep import keep
from custom_gaze.capture.live_loop import Seen
from custom_gaze.capture.live_round import Round, Taken
from custom_gaze.common.errors import InputError
from custom_gaze.config.paths import Paths
from custom_gaze.config.screen import Screen
from custom_gaze.data.session_file import read_session_file
from custom_gaze.demo.world.camera import as_jpeg
from custom_gaze.geometry import ScreenGeometry

pytest_plugins = ["import_fixtures"]
OTHER = Screen(1280, 720, 34.0, 60.0).geometry()


def a_round(geometry: ScreenGeometry) -> Round:
    """Two frames, one of each of two targets."""
    targets = np.array([[100.0, 50.0], [900.5, 600.0]])
    pictures = [as_jpeg(np.full((48, 64, 3), grey, np.uint8), 95) for grey in (80, 90)]
    taken = [Taken(picture, 1000 + n, n, Seen()) for n, picture in enumerate(pictures)]
    return Round("validate", geometry, targets, None, taken)


@pytest.mark.parametrize("geometry", [ScreenGeometry(), OTHER])
def test_a_round_s_frames_are_a_session_as_the_app_writes_one(
    plain: Paths, adding: None, geometry: ScreenGeometry
) -> None:
    taken = a_round(geometry)
    result = keep(taken, "today", plain, ScreenGeometry(), 5.0)
    assert (result.frames, result.targets) == (2, 2)
    folder = plain.sessions / "today"
    assert folder.with_name("today.dvc").exists()
    for one, (x_px, y_px) in zip(taken.taken, taken.targets_px, strict=True):
        stem = folder / f"img_{one.timestamp_ms}"
        assert stem.with_suffix(".jpg").read_bytes() == one.content  # as it came, unscaled
        assert json.loads(stem.with_suffix(".json").read_text()) == {
            "timestamp": one.timestamp_ms,
            "screen_x": x_px,
            "screen_y": y_px,
            "inference": None,
            "moondream_result": None,
        }
    said = read_session_file(folder).geometry
    assert said == (OTHER if geometry == OTHER else None)  # the project's is not said again


@pytest.mark.parametrize("name", ["../out", "2026", "today"])
def test_a_name_that_is_no_session_s_or_taken_keeps_nothing(
    plain: Paths, adding: None, name: str
) -> None:
    keep(a_round(OTHER), "today", plain, OTHER, 5.0)
    before = sorted(path for path in plain.root.rglob("*") if path.is_file())
    other = a_round(OTHER)
    del other.taken[0]
    with pytest.raises(InputError):
        keep(other, name, plain, OTHER, 5.0)
    assert sorted(path for path in plain.root.rglob("*") if path.is_file()) == before
