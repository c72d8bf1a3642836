"""What one look at the frames tells, and which of them are suspect for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from custom_gaze.data.frame_looks import FrameLook, cut_off
from custom_gaze.data.sessions import Frame
from custom_gaze.data.suspects import suspects_among
from custom_gaze.geometry import ScreenGeometry

GEOMETRY = ScreenGeometry()


@pytest.fixture
def looks() -> list[FrameLook]:
    """Two frames of each of 4 x 4 targets: what the eyes look like tells where they look."""
    rng = np.random.default_rng(5)
    columns, rows = np.meshgrid(np.linspace(50, 1680, 4), np.linspace(40, 1080, 4))
    points = np.repeat(np.stack([columns.ravel(), rows.ravel()], axis=1), 2, axis=0)
    angles = GEOMETRY.to_degrees(points)
    eyes = np.tanh(angles @ rng.normal(size=(2, 60)) / 60) + rng.normal(0, 0.01, (32, 60))
    return [
        FrameLook(
            Frame(Path(f"img_{number}.jpg"), number, float(x), float(y), None),
            None,
            openness=float(rng.uniform(0.9, 1.1)),
            small=rng.integers(20, 200, (90, 160), dtype=np.uint8),
            eyes=eyes[number].astype(np.float32),
        )
        for number, (x, y) in enumerate(points)
    ]


def said(looks: list[FrameLook]) -> dict[str, str]:
    return {entry.filename: entry.why for entry in suspects_among(looks, GEOMETRY, 20.0)}


def test_a_session_without_fault_has_no_suspects(looks: list[FrameLook]) -> None:
    assert said(looks) == {}


def test_closed_eyes_wrong_labels_and_twins_are_suspect(looks: list[FrameLook]) -> None:
    looks[3] = replace(looks[3], openness=0.4)
    far = looks[30].frame
    wrong = replace(looks[9].frame, target_x_px=far.target_x_px, target_y_px=far.target_y_px)
    looks[9] = replace(looks[9], frame=wrong)
    looks[21] = replace(
        looks[21], small=looks[20].small, eyes=looks[20].eyes
    )  # of one target: the first may stay
    looks[28] = replace(
        looks[28], small=looks[25].small, eyes=looks[25].eyes
    )  # one of two targets is wrong
    found = said(looks)
    assert list(found) == [f"img_{number}.jpg" for number in (3, 9, 21, 25, 28)]  # in their order
    assert found["img_3.jpg"].startswith("the eyes look closed or blurred (4")
    assert (
        f"from the target at ({far.target_x_px:.0f}, {far.target_y_px:.0f})" in found["img_9.jpg"]
    )
    assert found["img_21.jpg"] == "shows the same picture as img_20.jpg"
    assert found["img_25.jpg"] == "shows the same picture as img_28.jpg, which has another target"
    assert "the same picture as img_25.jpg, which has another target" in found["img_28.jpg"]
    looks[3] = replace(looks[3], small=looks[2].small, eyes=looks[2].eyes)
    both = said(looks)["img_3.jpg"]
    assert both.startswith("the eyes look closed")
    assert both.endswith("; shows the same picture as img_2.jpg")


def test_how_much_of_a_crop_is_cut_off() -> None:
    inside = (500.0, 200.0, 600.0, 300.0)
    assert cut_off(inside, 1280, 720, 1.5) == (0.0, ())
    # A square of 300 about (100, 360): from -50 to 250.
    share, edges = cut_off((0.0, 260.0, 200.0, 460.0), 1280, 720, 1.5)
    assert (share, edges) == (pytest.approx(50 / 300), ("left",))
    share, edges = cut_off((0.0, 0.0, 900.0, 900.0), 1000, 1000, 2.0)
    assert edges == ("left", "top", "right", "bottom")
    assert share == pytest.approx(800 / 1800)
