import numpy as np
import pytest

from custom_gaze.common.framing import framed

AREA = (0.0, 0.0, 100.0, 50.0)


def test_what_lies_inside_or_on_the_edge_stays_where_it_is() -> None:
    points = [[10.0, 10.0], [100.0, 50.0], [0.0, 0.0]]
    shown = framed(points, AREA, [[50.0, 25.0]] * 3)
    assert shown.places.tolist() == points
    assert shown.inside.tolist() == points
    assert list(shown.edges()) == []


@pytest.mark.parametrize(
    ("point", "side", "place"),
    [
        ([150.0, 25.0], "right", [100.0, 25.0]),
        ([-50.0, 25.0], "left", [0.0, 25.0]),
        ([50.0, 125.0], "bottom", [50.0, 50.0]),
        ([50.0, -75.0], "top", [50.0, 0.0]),
        # Beyond two sides: where the way leaves the area, and not the nearest corner.
        ([250.0, 75.0], "right", [100.0, 37.5]),
        ([100.0, 1025.0], "bottom", [51.25, 50.0]),
    ],
)
def test_what_lies_beside_is_marked_on_the_way_there(
    point: list[float], side: str, place: list[float]
) -> None:
    shown = framed([point, [1.0, 1.0]], AREA)
    [edge] = shown.edges()
    assert (edge.side, edge.count) == (side, 1)
    assert edge.places.tolist() == [pytest.approx(place)]
    assert shown.inside.tolist() == [[1.0, 1.0]]


def test_each_side_has_its_number() -> None:
    points = [[150.0, 10.0], [150.0, 30.0], [50.0, -10.0], [5.0, 5.0]]
    shown = framed(points, AREA, [[50.0, 10.0], [50.0, 30.0], [50.0, 10.0], [5.0, 5.0]])
    edges = {edge.side: edge for edge in shown.edges()}
    assert {side: edge.count for side, edge in edges.items()} == {"right": 2, "top": 1}
    assert edges["right"].middle == pytest.approx((100.0, 20.0))


def test_an_origin_beside_the_area_counts_from_its_edge() -> None:
    shown = framed([[200.0, 20.0], [40.0, 40.0]], AREA, [[150.0, 20.0], [-30.0, 40.0]])
    assert shown.places.tolist() == [[100.0, 20.0], [40.0, 40.0]]
    assert framed(np.zeros((0, 2)), AREA).places.shape == (0, 2)
