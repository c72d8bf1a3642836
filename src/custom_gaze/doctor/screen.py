"""The targets against the screen: beside it, on another one than the parameters say, gaps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from custom_gaze.data.coverage import worth_adding
from custom_gaze.data.known_accuracy import FEW, few_targets
from custom_gaze.data.sessions import Frame
from custom_gaze.data.splits import MIN_TARGETS, number_targets, points_px
from custom_gaze.doctor.findings import Finding, Severity
from custom_gaze.geometry import ScreenGeometry

MAP_CELLS = (24, 9)  # columns and rows of the map in text
OTHER_SCREEN = 0.08  # so far off in both directions, the targets belong to another screen
SAME_SHAPE = 0.15  # a screen whose width and height are off by factors no further apart than this


@dataclass(frozen=True)
class Coverage:
    """How the targets lie: a map in text, and targets worth adding in screen pixels (x, y)."""

    targets: int
    map: str
    add_px: tuple[tuple[int, int], ...]


def look_at_screen(
    frames: Sequence[Frame], geometry: ScreenGeometry, same_target_px: float
) -> tuple[Coverage, list[Finding]]:
    """Check where the targets of a session's usable frames lie."""
    points, targets, screen_px = _places(frames, geometry, same_target_px)
    added = worth_adding(targets / screen_px)
    add_px = tuple((round(x), round(y)) for x, y in added * screen_px)
    coverage = Coverage(len(targets), _map(points / screen_px, added), add_px)
    beside = against_the_screen(frames, geometry, same_target_px)
    return coverage, [*beside, *_gaps(coverage)]


def against_the_screen(
    frames: Sequence[Frame], geometry: ScreenGeometry, same_target_px: float
) -> list[Finding]:
    """What says that the targets of a session's usable frames are not of this screen."""
    points, targets, screen_px = _places(frames, geometry, same_target_px)
    return [*_beside(frames, points, screen_px), *_other_screen(targets, screen_px)]


def _places(
    frames: Sequence[Frame], geometry: ScreenGeometry, same_target_px: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The frames' targets (N, 2), the targets' middles (T, 2) and the screen's size, in pixels."""
    points = points_px(frames)
    targets = _middles(points, number_targets(frames, same_target_px))
    return points, targets, np.array([2 * geometry.center_x_px, 2 * geometry.center_y_px])


def _middles(points: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """The middle of each target's frames, (T, 2) in pixels."""
    middles = [points[targets == number].mean(axis=0) for number in np.unique(targets)]
    return np.array(middles).reshape(-1, 2)


def _beside(
    frames: Sequence[Frame], points: NDArray[np.float64], screen_px: NDArray[np.float64]
) -> list[Finding]:
    outside = np.asarray(((points < 0) | (points > screen_px)).any(axis=1), bool)
    if not outside.any():
        return []
    x, y = points[outside][0]
    return [
        Finding(
            Severity.ERROR,
            "geometry",
            f"the target lies beside the screen of {screen_px[0]:g} × {screen_px[1]:g} pixels, "
            f"the first at ({x:.0f}, {y:.0f})",
            "set the screen of the capture with `custom-gaze screen --size …`",
            frames=tuple(f.image.name for f, out in zip(frames, outside, strict=True) if out),
        )
    ]


def _other_screen(targets: NDArray[np.float64], screen_px: NDArray[np.float64]) -> list[Finding]:
    """A grid is laid out evenly: its first and last target add up to the screen's size."""
    if len(targets) < MIN_TARGETS:
        return []
    likely_px = targets.min(axis=0) + targets.max(axis=0)
    factors = likely_px / screen_px
    off = np.abs(factors - 1) > OTHER_SCREEN
    like_shape = abs(factors[0] / factors[1] - 1) < SAME_SHAPE
    beside = bool((targets > screen_px).any())
    if not (beside or (off.all() and like_shape)):
        return []
    width, height = likely_px
    return [
        Finding(
            Severity.ERROR if beside else Severity.WARNING,
            "geometry",
            f"the targets lie as on a screen of about {width:.0f} × {height:.0f} pixels, "
            f"and the labels are for {screen_px[0]:g} × {screen_px[1]:g}",
            f"if that was the screen, set it: custom-gaze screen --size {width:.0f}x{height:.0f} … "
            "for all sessions, or `screen ID --size …` for this one",
        )
    ]


def _gaps(coverage: Coverage) -> list[Finding]:
    findings = []
    few = few_targets(coverage.targets)
    if few is not None:
        severity = Severity.NOTE if coverage.targets >= FEW else Severity.WARNING
        what, advice = few
        if coverage.targets < MIN_TARGETS:
            severity = Severity.ERROR
            advice += f"; {MIN_TARGETS} are the least that can be split"
        findings.append(Finding(severity, "coverage", what, advice))
    if coverage.add_px:
        places = ", ".join(f"({x}, {y})" for x, y in coverage.add_px)
        findings.append(
            Finding(
                Severity.WARNING,
                "coverage",
                "parts of the screen are far from any target",
                f"capture targets at {places} pixels too",
            )
        )
    return findings


def _map(points: NDArray[np.float64], added: NDArray[np.float64]) -> str:
    """The screen as text: how many frames look at each cell, + where a target is worth adding."""
    columns, rows = MAP_CELLS
    counts = np.zeros((rows, columns), dtype=int)
    for x, y in _cells(points):
        counts[y, x] += 1
    cells = [["·" if n == 0 else str(min(n, 9)) for n in row] for row in counts]
    for x, y in _cells(added):
        cells[y][x] = "+"
    edge = "─" * (2 * columns + 1)
    return "\n".join([f"┌{edge}┐", *(f"│ {' '.join(row)} │" for row in cells), f"└{edge}┘"])


def _cells(shares: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The cells (column, row) of points in shares of the screen; those beside it are left out."""
    columns, rows = MAP_CELLS
    return [
        (min(int(x * columns), columns - 1), min(int(y * rows), rows - 1))
        for x, y in np.asarray(shares).reshape(-1, 2)
        if 0 <= x <= 1 and 0 <= y <= 1
    ]
