"""Predictions of a group of frames, as figures, by session and as lines of a table."""

import numpy as np
import pytest

from custom_gaze.data.index import Sample
from custom_gaze.data.splits import CROSS_SESSION
from custom_gaze.evaluation.comparisons import Predictions
from custom_gaze.geometry import ScreenGeometry

GEOMETRY = ScreenGeometry(center_x_px=800.0, center_y_px=500.0, deg_per_pixel=0.05)


def sample(session: str, target: int, yaw_deg: float, pitch_deg: float) -> Sample:
    x, y = GEOMETRY.to_pixels(np.array([yaw_deg, pitch_deg]))
    place = float(x), float(y)
    name = f"{session}_{target}.jpg"
    return Sample(session, name, yaw_deg, pitch_deg, *place, target, CROSS_SESSION, "0" * 64)


@pytest.fixture
def predictions() -> Predictions:
    """Two sessions whose frames alternate: one is predicted exactly, the other 5° off."""
    samples = (
        *(sample("exact", 0, -10.0, 2.0), sample("off", 1, 4.0, -3.0)),
        *(sample("exact", 2, 12.0, 0.0), sample("off", 3, -6.0, 7.0)),
    )
    true_deg = np.array([[each.yaw_deg, each.pitch_deg] for each in samples])
    exported = true_deg + np.array([[0, 0], [3, 4], [0, 0], [-4, 3]])
    return Predictions(CROSS_SESSION, samples, exported, {"constant_deg": np.zeros((4, 2))})


def test_a_group_s_figures_are_of_its_frames_alone(predictions: Predictions) -> None:
    whole = predictions.figures(GEOMETRY)
    assert (whole.error_deg, whole.error_px, whole.frames, whole.targets) == (2.5, 50.0, 4, 4)
    assert whole.base_deg is None
    parts = predictions.by_session()
    assert list(parts) == ["exact", "off"]
    exact, off = (part.figures(GEOMETRY) for part in parts.values())
    assert (exact.error_deg, off.error_deg) == (0.0, 5.0)
    assert (off.frames, off.low_deg) == (2, None)
    assert exact.constant_deg == pytest.approx((np.hypot(10, 2) + 12) / 2, abs=1e-3)
    assert off.constant_deg == pytest.approx((5 + np.hypot(6, 7)) / 2, abs=1e-3)


def test_a_line_of_the_table_is_a_frame(predictions: Predictions) -> None:
    row = predictions.table(GEOMETRY)[1]
    assert (row.session, row.filename, row.tested_as) == ("off", "off_1.jpg", CROSS_SESSION)
    assert (row.target, row.target_x, row.target_y) == (1, 880.0, 440.0)
    assert (row.predicted_x, row.predicted_y, row.error_deg) == (940.0, 520.0, 5.0)
