"""What falls beside a picture's area: marked at its edge, on the way there, and counted.

No picture clamps a place silently: a prediction that lies beside the plotted area would look like
one that lies on its edge.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Side = Literal["left", "top", "right", "bottom"]
SIDES: tuple[Side, ...] = ("left", "top", "right", "bottom")
Area = tuple[float, float, float, float]  # x1, y1, x2, y2, y downwards


@dataclass(frozen=True)
class Edge:
    """What lies beyond one side of an area: `places` (N, 2) are on that side, one for each."""

    side: Side
    places: NDArray[np.float64]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.places)

    @property
    def middle(self) -> tuple[float, float]:
        """Where their number is written, at the middle of their places."""
        x, y = self.places.mean(axis=0).tolist()
        return x, y


@dataclass(frozen=True)
class Framed:
    """Points (N, 2), those beside the area where the way to them leaves it.

    `beyond` (N,) is the number in SIDES of the side that a point lies beyond, -1 inside.
    """

    places: NDArray[np.float64]
    beyond: NDArray[np.int64]

    @property
    def inside(self) -> NDArray[np.float64]:
        """The points (M, 2) that are where they are."""
        return self.places[self.beyond < 0]

    def edges(self) -> Iterator[Edge]:
        """The sides with something beyond them."""
        for number, side in enumerate(SIDES):
            if (mine := self.beyond == number).any():
                yield Edge(side, self.places[mine])


def framed(points: ArrayLike, area: Area, origins: ArrayLike | None = None) -> Framed:
    """Points (N, 2) [x, y] in an area.

    Args:
        points: of them some may lie beside the area.
        area: with y1 the upper edge; a point on an edge lies inside.
        origins: (N, 2) inside the area, where the way to each point begins; None: its middle.
    """
    ends = np.asarray(points, np.float64).reshape(-1, 2)
    low, high = np.array(area[:2]), np.array(area[2:])
    starts = np.broadcast_to((low + high) / 2, ends.shape)
    if origins is not None:
        starts = np.clip(np.asarray(origins, np.float64).reshape(-1, 2), low, high)
    way = ends - starts
    # The share of the way at which each side is passed; a side that is not passed, never.
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.concatenate(
            [
                np.where(ends < low, (low - starts) / way, np.inf),
                np.where(ends > high, (high - starts) / way, np.inf),
            ],
            axis=1,
        )  # (N, 4), in the order of SIDES
    first = shares.argmin(axis=1)
    passed = np.isfinite(shares[np.arange(len(ends)), first])
    share = np.where(passed, shares[np.arange(len(ends)), first], 1.0)
    places = np.clip(
        starts + share[:, None] * way,
        np.where(passed[:, None], low, -np.inf),
        np.where(passed[:, None], high, np.inf),
    )
    return Framed(places, np.where(passed, first, -1))
