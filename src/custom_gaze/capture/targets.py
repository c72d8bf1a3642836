"""Where a captured session's targets are on the screen, and in which order they are shown."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from custom_gaze.common.errors import InputError

EDGE_SHARE = 0.03  # of the screen, between its edge and the outermost targets; the demo's too
LEAST_TARGETS, MOST_TARGETS = 4, 400
MOST_FRAMES_PER_TARGET = 20
# What the eye has to reach first: the corners and the middles of the edges, as shares of the way
# from one outermost target to the other.
CORNERS = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
EDGES = ((0.5, 0.0), (0.0, 0.5), (1.0, 0.5), (0.5, 1.0))
# The R2 sequence of M. Roberts (2018): steps by the powers of the plastic number's inverse, the
# two-dimensional golden ratio. Any number of its points is spread evenly.
PLASTIC = 1.32471795724474602596
STEP = (1 / PLASTIC, 1 / PLASTIC**2)

Point = tuple[float, float]


@dataclass(frozen=True)
class Pattern:
    """How targets are laid out: a `grid` (columns, rows), or, where it is None, `count` targets
    spread over the screen, corners and edges first."""

    grid: tuple[int, int] | None = None
    count: int = 25

    def __post_init__(self) -> None:
        if not LEAST_TARGETS <= self.number <= MOST_TARGETS or min(self.grid or (1,)) < 1:
            raise InputError(
                f"{self.words} has {self.number} targets, but must have {LEAST_TARGETS} to "
                f"{MOST_TARGETS}; 9 is the least that calibrates, 25 is good"
            )

    @property
    def number(self) -> int:
        """How many targets a round of it has."""
        return self.grid[0] * self.grid[1] if self.grid else self.count

    @property
    def words(self) -> str:
        """'a grid of 5x5', or '25 spread targets'."""
        return f"a grid of {self.grid[0]}x{self.grid[1]}" if self.grid else f"{self.count} targets"

    def points_px(self, width_px: int, height_px: int, round_number: int) -> list[Point]:
        """The targets of a round, 1 for the first, in pixels and in the order of showing.

        A spread's later rounds have other points between the same corners and edges. The order is
        shuffled, so that nothing that changes slowly (light, posture) goes along with a place.
        """
        shares = self._grid_shares() if self.grid else self._spread_shares(round_number)
        order = list(shares)
        random.Random(round_number).shuffle(order)
        return [(_between(x, width_px), _between(y, height_px)) for x, y in order]

    def _grid_shares(self) -> Sequence[Point]:
        assert self.grid is not None
        columns, rows = (_even(count) for count in self.grid)
        return [(x, y) for y in rows for x in columns]

    def _spread_shares(self, round_number: int) -> Sequence[Point]:
        fixed = [*CORNERS, *(EDGES if self.count >= 2 * len(CORNERS + EDGES) else ())]
        inner = self.count - len(fixed)
        first = (round_number - 1) * inner
        numbers = range(first, first + inner)
        return [*fixed, *(((0.5 + STEP[0] * n) % 1, (0.5 + STEP[1] * n) % 1) for n in numbers)]


def parse_grid(text: str) -> tuple[int, int]:
    """'5x4' → (5, 4), columns and rows.

    Raises:
        InputError: it is not two whole numbers with an x between them.
    """
    columns, _, rows = text.partition("x")
    if not (columns.isdecimal() and rows.isdecimal() and max(len(columns), len(rows)) < 4):
        raise InputError(f"--grid is {text!r}, but must be COLSxROWS, for example 5x5")
    return int(columns), int(rows)


def _even(count: int) -> list[float]:
    return [n / (count - 1) for n in range(count)] if count > 1 else [0.5]


def _between(share: float, length_px: int) -> float:
    return round(length_px * (EDGE_SHARE + share * (1 - 2 * EDGE_SHARE)), 2)
