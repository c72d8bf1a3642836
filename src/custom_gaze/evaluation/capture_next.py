"""Where on the screen the next session's extra targets are worth most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from custom_gaze.data.coverage import places, worth_adding
from custom_gaze.evaluation.results import PredictionRow
from custom_gaze.geometry import ScreenGeometry

MOST = 6  # suggestions on one page
REACH = 0.15  # in screens: how far around it a tested target speaks for the screen
APART = 0.25  # in screens, between two suggestions
WORSE = 1.2  # times the mean error, from which a region is said to be one of the worst


@dataclass(frozen=True)
class Suggestion:
    """A place in pixels of the screen worth a target, and why."""

    x_px: float
    y_px: float
    reason: str


def capture_next(
    asked_px: NDArray[np.float64], rows: Sequence[PredictionRow], geometry: ScreenGeometry
) -> list[Suggestion]:
    """The regions without targets first, then those with the largest errors, at most MOST.

    Args:
        asked_px: (N, 2) the targets of the sessions that are trained on, in pixels.
        rows: the tested frames.
        geometry: of the targets' screen.
    """
    screen_px = np.array([2 * geometry.center_x_px, 2 * geometry.center_y_px])
    found = [
        Suggestion(x, y, "no target near it")
        for x, y in worth_adding(asked_px / screen_px)[:MOST] * screen_px
    ]
    taken = [np.array([one.x_px, one.y_px]) / screen_px for one in found]
    grid, proposed = places()
    errors = np.array([row.error_deg for row in rows])
    there = np.array([(row.target_x, row.target_y) for row in rows]) / screen_px
    closeness = np.exp(-0.5 * (np.hypot(*(grid[:, None] - there).transpose(2, 0, 1)) / REACH) ** 2)
    weight = closeness.sum(axis=1)
    heard = weight > np.exp(-0.5)  # something was tested within REACH
    around = np.where(heard, closeness @ errors / np.maximum(weight, 1e-12), 0.0)
    for number in np.argsort(-around, kind="stable"):
        if len(found) >= MOST or around[number] < WORSE * errors.mean():
            break
        place = proposed[number]
        if all(np.hypot(*(place - other)) >= APART for other in taken):
            taken.append(place)
            reason = f"errors around it: {around[number]:.1f}°, {errors.mean():.1f}° on average"
            x, y = (place * screen_px).tolist()
            found.append(Suggestion(x, y, reason))
    return found
