"""What the demo world's camera makes of an image."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from custom_gaze.demo.world.camera import as_jpeg, develop, motion_kernel
from custom_gaze.demo.world.conditions import Conditions, draw_conditions
from custom_gaze.demo.world.person import draw_person

GRAY = np.full((120, 160, 3), 128, np.uint8)


def plain(**changes: object) -> Conditions:
    """A camera that changes nothing."""
    conditions = replace(
        draw_conditions(draw_person(1), 1, 1),
        exposure=1.0,
        gamma=1.0,
        white_balance=(1.0, 1.0, 1.0),
        noise_sigma=0.0,
    )
    return replace(conditions, **changes)  # type: ignore[arg-type]


def developed(picture: np.ndarray, motion_px: tuple[float, float] = (0.0, 0.0), **changes: object):
    return develop(picture, plain(**changes), np.random.default_rng(1), motion_px)


def test_a_plain_camera_changes_nothing_up_to_its_shoulder() -> None:
    levels = np.arange(205, dtype=np.uint8)[None, :, None].repeat(3, 2)
    assert np.array_equal(developed(levels), levels)
    white = developed(np.full((1, 1, 3), 255, np.uint8))
    assert 225 < white[0, 0, 0] < 255  # bright light is compressed, not cut


def test_exposure_and_white_balance_multiply_the_channels() -> None:
    shown = developed(GRAY, exposure=0.5, white_balance=(1.25, 1.0, 0.75))
    assert shown[0, 0].tolist() == [80, 64, 48]


@pytest.mark.parametrize("sigma", [1.0, 2.5, 4.5])
def test_the_noise_has_the_conditions_strength(sigma: float) -> None:
    noise = developed(GRAY, noise_sigma=sigma).astype(float) - 128
    assert noise.std() == pytest.approx(sigma, rel=0.06)
    assert abs(noise.mean()) < 0.15


def test_noise_differs_from_frame_to_frame_and_not_by_itself() -> None:
    conditions = plain(noise_sigma=3.0)
    one, again, other = (develop(GRAY, conditions, np.random.default_rng(k)) for k in (1, 1, 2))
    assert np.array_equal(one, again)
    assert np.mean(one != other) > 0.7


def test_motion_blurs_along_its_way() -> None:
    dot = np.zeros((41, 41, 3), np.uint8)
    dot[20, 20] = 200
    moved = developed(dot, motion_px=(8.0, 0.0))[..., 0] > 5
    assert np.ptp(np.nonzero(moved)[1]) == 8
    assert np.ptp(np.nonzero(moved)[0]) == 0
    assert motion_kernel((3.0, -4.0)).sum() == pytest.approx(1.0)
    assert np.array_equal(developed(dot, motion_px=(0.5, 0.5)), dot)


def test_a_jpeg_keeps_red_red() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 220
    content = np.frombuffer(as_jpeg(red, 95), np.uint8)
    back = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
    assert back is not None
    assert np.abs(back.astype(int) - red).max() <= 3
    assert len(as_jpeg(red, 50)) <= len(content)
