import numpy as np

from custom_gaze.data.splits import TEST
from custom_gaze.evaluation.capture_next import MOST, capture_next
from custom_gaze.evaluation.results import PredictionRow
from custom_gaze.geometry import ScreenGeometry

GEOMETRY = ScreenGeometry(1000.0, 500.0, 0.03)  # 2000 x 1000 pixels


def grid(columns: int, rows: int) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(60, 1940, columns), np.linspace(40, 960, rows))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def row_at(x: float, y: float, error_deg: float) -> PredictionRow:
    where = f"img_{round(x)}{round(y)}.jpg"
    return PredictionRow("one", where, TEST, round(x + 3000 * y), x, y, x, y, error_deg)


def test_where_nothing_was_captured_comes_first_and_then_where_it_is_worst() -> None:
    """No target in the right third; on the left one corner is much worse than the rest."""
    asked = grid(5, 5)
    asked = asked[asked[:, 0] < 1300]
    rows = [row_at(x, y, 9.0 if (x, y) == (60, 960) else 2.0) for x, y in asked]
    found = capture_next(asked, rows, GEOMETRY)
    assert found
    assert len(found) <= MOST
    empty = [one for one in found if one.reason == "no target near it"]
    assert found[: len(empty)] == empty
    assert empty
    assert all(one.x_px > 1300 for one in empty)
    [corner] = [one for one in found[len(empty) :] if one.x_px < 300]
    assert corner.y_px > 700
    assert "°, " in corner.reason


def test_an_even_grid_that_is_as_good_everywhere_asks_for_nothing() -> None:
    asked = grid(5, 5)
    assert capture_next(asked, [row_at(x, y, 2.0) for x, y in asked], GEOMETRY) == []


def test_suggestions_keep_apart_and_lie_on_the_screen() -> None:
    asked = grid(5, 5)
    rows = [row_at(x, y, 12.0 if x < 600 else 1.0) for x, y in asked]
    found = capture_next(asked, rows, GEOMETRY)
    assert 2 <= len(found) <= MOST
    places = np.array([(one.x_px / 2000, one.y_px / 1000) for one in found])
    assert ((places > 0.03) & (places < 0.97)).all()
    assert (places[:, 0] < 0.45).all()
    apart = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))[
        ~np.eye(len(found), dtype=bool)
    ]
    assert apart.min() >= 0.24
