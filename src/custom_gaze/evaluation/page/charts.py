"""Lines over numbers, in the coordinates of an SVG picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 480, 260
LEFT, TOP, RIGHT, BOTTOM = 46, 12, 468, 214  # of the plotted area
TICKS = 5


@dataclass(frozen=True)
class Line:
    """A line and its marks; `band` is a closed polygon about it, or nothing.

    `kind` names its colour, `dashed` that it is an estimate.
    """

    label: str
    kind: str
    points: list[tuple[float, float]]
    band: list[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True)
class Series:
    """Values of a line: x, y, and where there is a band its lower and upper edge."""

    label: str
    kind: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A picture: its lines, and its ticks as (place, text)."""

    x_label: str
    y_label: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def chart(series: Sequence[Series], x_label: str, y_label: str) -> Chart:
    """Series in one picture; y begins at 0, for a cut axis makes a small gain look large."""
    top = max(max([*one.y, *one.high]) for one in series) or 1.0
    y_step = _step(top)
    top = math.ceil(top / y_step - 1e-9) * y_step
    low, high = (f(f(one.x) for one in series) for f in (min, max))
    x_step = max(1.0, _step(high - low)) if high > low else 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - low) / (high - low) if high > low else 0.5
        return round(LEFT + across * (RIGHT - LEFT), 1), round(BOTTOM - y / top * (BOTTOM - TOP), 1)

    lines = []
    for one in series:
        upper = [at(x, y) for x, y in zip(one.x, one.high, strict=True)] if one.high else []
        lower = [at(x, y) for x, y in zip(one.x, one.low, strict=True)] if one.low else []
        points = [at(x, y) for x, y in zip(one.x, one.y, strict=True)]
        lines.append(Line(one.label, one.kind, points, upper + lower[::-1], one.dashed))
    first = math.ceil(low / x_step - 1e-9)
    x_values = [number * x_step for number in range(first, math.floor(high / x_step + 1e-9) + 1)]
    y_values = [number * y_step for number in range(round(top / y_step) + 1)]
    return Chart(
        *(x_label, y_label, lines),
        [(at(x, 0)[0], f"{x:g}") for x in x_values],
        [(at(low, y)[1], f"{y:g}") for y in y_values],
    )


def _step(span: float) -> float:
    """A round number, so that TICKS or fewer of it make up `span`."""
    if span <= 0:
        return 1.0
    rough = span / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= rough * (1 - 1e-9))
