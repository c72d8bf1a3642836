import numpy as np
import pytest

from custom_gaze.geometry import ScreenGeometry, angular_error_deg

SCREEN = ScreenGeometry()


def test_the_centre_is_zero() -> None:
    assert SCREEN.to_degrees([864.0, 558.5]).tolist() == [0.0, 0.0]


def test_right_and_down_are_positive() -> None:
    yaw, pitch = SCREEN.to_degrees([1728.0, 1117.0])
    assert yaw == pytest.approx(864 * 0.0307)
    assert pitch == pytest.approx(558.5 * 0.0307)
    assert (SCREEN.to_degrees([0.0, 0.0]) < 0).all()


def test_the_specification_formula_on_a_captured_target() -> None:
    yaw, pitch = SCREEN.to_degrees([1675.2773, 20.574219])
    assert yaw == pytest.approx((1675.2773 - 864) * 0.0307, abs=1e-12)
    assert pitch == pytest.approx((20.574219 - 558.5) * 0.0307, abs=1e-12)


def test_round_trip() -> None:
    points = np.random.default_rng(1).uniform(-500, 2500, (50, 2))
    np.testing.assert_allclose(SCREEN.to_pixels(SCREEN.to_degrees(points)), points, atol=1e-9)


def test_angular_error_is_the_distance_on_the_screen() -> None:
    first, second = np.array([100.0, 200.0]), np.array([400.0, 600.0])
    error = angular_error_deg(SCREEN.to_degrees(first), SCREEN.to_degrees(second))
    assert error == pytest.approx(500 * 0.0307)


def test_angular_error_keeps_the_leading_shape() -> None:
    assert angular_error_deg(np.zeros((3, 4, 2)), np.ones((3, 4, 2))).shape == (3, 4)
