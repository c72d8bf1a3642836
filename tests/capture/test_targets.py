"""Where the targets are: on the screen, evenly, each once."""

import numpy as np
import pytest

from custom_gaze.capture.targets import EDGE_SHARE, Pattern, parse_grid
from custom_gaze.common.errors import InputError
from custom_gaze.demo import session as demo
from custom_gaze.geometry import ScreenGeometry

WIDTH, HEIGHT = 1728, 1117
LOW, HIGH = EDGE_SHARE, 1 - EDGE_SHARE


def shares(pattern: Pattern, round_number: int = 1) -> np.ndarray:
    return np.array(pattern.points_px(WIDTH, HEIGHT, round_number)) / (WIDTH, HEIGHT)


@pytest.mark.parametrize("count", [4, 9, 16, 25, 100])
def test_spread_targets_reach_corners_and_leave_no_hole(count: int) -> None:
    found = shares(Pattern(count=count))
    assert len({tuple(point) for point in found.round(4)}) == count
    assert found.min() >= LOW - 1e-4
    assert found.max() <= HIGH + 1e-4
    for corner in ((LOW, LOW), (LOW, HIGH), (HIGH, LOW), (HIGH, HIGH)):
        assert np.abs(found - corner).max(axis=1).min() < 1e-3
    grid = np.stack(np.meshgrid(*[np.linspace(LOW, HIGH, 30)] * 2), -1).reshape(-1, 2)
    holes = np.linalg.norm(grid[:, None] - found, axis=-1).min(axis=1)
    assert holes.max() < 1.6 / np.sqrt(count)


def test_a_later_round_has_other_points_between_the_same_corners() -> None:
    first, second = ({tuple(p) for p in shares(Pattern(), n).round(4)} for n in (1, 2))
    assert len(first) == len(second) == 25
    assert len(first & second) == 8
    assert shares(Pattern()).tolist() == shares(Pattern()).tolist()


def test_a_grid_is_the_demo_s_grid_in_another_order() -> None:
    points = Pattern(grid=(5, 4)).points_px(WIDTH, HEIGHT, 1)
    drawn = demo.grid_targets((5, 4), ScreenGeometry())
    assert np.array(sorted(points)) == pytest.approx(np.array(sorted(drawn.tolist())), abs=0.01)
    assert points != sorted(points)


def test_what_is_no_pattern_is_refused() -> None:
    assert parse_grid("5x4") == (5, 4)
    for text in ("5", "5x", "x5", "5X5", "-5x5", "5x5x5", "9999x1", ""):
        with pytest.raises(InputError, match="must be COLSxROWS"):
            parse_grid(text)
    for wrong in ({"count": 3}, {"count": 401}, {"grid": (1, 3)}, {"grid": (0, 9)}):
        with pytest.raises(InputError, match="must have 4 to 400"):
            Pattern(**wrong)
