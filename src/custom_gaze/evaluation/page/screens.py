"""Pictures of the screen: where the targets are, and where they were predicted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_gaze.common.framing import Area, Edge, Side, framed
from custom_gaze.geometry import ScreenGeometry

ROOM_SHARE = 0.08  # of the screen, around it
TEXT_SHARE = 0.1  # of the picture's width, half of what a number needs
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Beyond:
    """So many points beyond one side of the picture; `places` are on its edge."""

    side: Side
    places: Points
    x: float
    y: float
    count: int
    anchor: Literal["start", "middle", "end"]  # of the number's text, so that it stays inside


@dataclass(frozen=True)
class Screen:
    """One picture in pixels of the screen.

    Attributes:
        area: what is drawn, x1, y1, x2, y2: the screen and some room around it.
        width_px, height_px: the screen's.
        targets: where to look was asked.
        dots: the predictions that lie in the area.
        lines: from targets to predictions, those beside the area up to its edge.
        beyond: what lies beside the area.
    """

    area: Area
    width_px: float
    height_px: float
    targets: Points
    dots: Points
    lines: list[tuple[float, float, float, float]]
    beyond: list[Beyond]

    @property
    def view_box(self) -> str:
        """The area as SVG has it: x, y, width, height."""
        x1, y1, x2, y2 = self.area
        return f"{x1:g} {y1:g} {x2 - x1:g} {y2 - y1:g}"

    @property
    def unit(self) -> float:
        """A length of the picture, by which marks and letters are as large on every screen."""
        return (self.area[2] - self.area[0]) / 100


def area_of(geometry: ScreenGeometry) -> Area:
    """The screen and some room around it, in pixels."""
    width, height = 2 * geometry.center_x_px, 2 * geometry.center_y_px
    room = ROOM_SHARE * width
    return (-room, -room, width + room, height + room)


def screen_of(targets_px: ArrayLike, predicted_px: ArrayLike, geometry: ScreenGeometry) -> Screen:
    """Targets and their predictions, (N, 2) each in pixels; nothing is clamped without a mark."""
    targets, predicted = _points(targets_px), _points(predicted_px)
    area = area_of(geometry)
    shown = framed(predicted, area, targets)
    starts = framed(targets, area)
    ends = np.hstack([starts.places, shown.places])
    return Screen(
        area=area,
        width_px=2 * geometry.center_x_px,
        height_px=2 * geometry.center_y_px,
        targets=_pairs(np.unique(starts.places, axis=0)),
        dots=_pairs(shown.inside),
        lines=[(x1, y1, x2, y2) for x1, y1, x2, y2 in np.round(ends, 1).tolist()],
        beyond=[
            Beyond(edge.side, _pairs(edge.places), *edge.middle, edge.count, _anchor(edge, area))
            for edge in shown.edges()
        ],
    )


def _anchor(edge: Edge, area: Area) -> Literal["start", "middle", "end"]:
    share = (edge.middle[0] - area[0]) / (area[2] - area[0])
    return "start" if share < TEXT_SHARE else "end" if share > 1 - TEXT_SHARE else "middle"


def mean_errors(
    targets: Sequence[int], targets_px: ArrayLike, errors_px: ArrayLike
) -> list[tuple[float, float, float]]:
    """Each target as (x, y, mean error), all in pixels."""
    _, group = np.unique(targets, return_inverse=True)
    counts = np.bincount(group)
    columns = (*_points(targets_px).T, np.asarray(errors_px, np.float64))
    means = [np.bincount(group, column) / counts for column in columns]
    return [(x, y, r) for x, y, r in np.round(np.stack(means, axis=1), 1).tolist()]


def _points(points: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(points, np.float64).reshape(-1, 2)


def _pairs(points: NDArray[np.float64]) -> Points:
    return [(x, y) for x, y in np.round(points, 1).tolist()]
