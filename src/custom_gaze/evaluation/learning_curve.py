"""What more targets would bring: the linear probe fitted to fewer of them, and a line drawn on.

Of every candidate the probe alone is cheap enough to be fitted some twenty times at each
evaluation. Its curve stands for the others in kind and not in height: what it gains from more
targets, networks that see the same eyes mostly gain too.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from custom_gaze.calibration.base_features import BaseFeatures
from custom_gaze.calibration.candidates import closed_forms
from custom_gaze.config.candidate import Candidate
from custom_gaze.geometry import angular_error_deg

LEAST_TARGETS = 12  # to calibrate on; a curve over fewer says nothing
FEWEST_SHOWN = 6  # of a draw; cross-validation chooses within it
MOST_FRAMES = 800  # with more, the fits would take longer than the rest of an evaluation
SIZES, DRAWS = 4, 6
MORE_TARGETS = 25  # a session of the app's usual grid
BAND = (10, 90)  # percentiles of the draws
FLAT = 0.02  # an exponent below it: a doubling of the targets brings less than 1.5 %


@dataclass(frozen=True)
class CurvePoint:
    """A mean error in degrees at so many targets, and its band over the draws of these."""

    targets: int
    error_deg: float
    low_deg: float
    high_deg: float


@dataclass(frozen=True)
class LearningCurve:
    """The probe's errors on one group of tested frames.

    Attributes:
        group: TEST or CROSS_SESSION.
        points: by number of targets; the last is all of them, drawn once.
        expected: at MORE_TARGETS more, by a power law through the points; None where the errors do
            not fall, and no law says when they would.
    """

    group: str
    points: tuple[CurvePoint, ...]
    expected: CurvePoint | None


def learning_curves(
    known: BaseFeatures | None, tested: Mapping[str, BaseFeatures | None], seed: int
) -> list[LearningCurve]:
    """A curve for each group of tested frames; none where there are too few targets.

    A draw is an order of the targets, and its first so many are fitted: of one draw the larger set
    holds the smaller one, so that a draw's curve is one calibration that grew.

    Args:
        known: the frames to calibrate on; None for a base network without angles.
        tested: by group, frames of other targets or sessions.
        seed: of the draws and of the fits' folds.
    """
    if known is None:
        return []
    groups = {name: frames for name, frames in tested.items() if frames is not None}
    names = np.unique(known.targets)
    if len(names) < LEAST_TARGETS or len(known.targets) > MOST_FRAMES:
        return []
    sizes = np.unique(np.geomspace(FEWEST_SHOWN, len(names), SIZES).round().astype(int))
    generator = np.random.default_rng(seed)
    errors = {group: np.empty((DRAWS, len(sizes))) for group in groups}
    for draw in range(DRAWS):
        order = generator.permutation(names)
        for column, size in enumerate(sizes):
            if size == len(names) and draw > 0:  # all of them, in whatever order
                for some in errors.values():
                    some[draw, column] = some[0, column]
                continue
            fitted = closed_forms(known.rows(np.isin(known.targets, order[:size])), seed)
            for group, frames in groups.items():
                angles = fitted[Candidate.PROBE].predict(frames.features, frames.base_deg)
                errors[group][draw, column] = angular_error_deg(angles, frames.true_deg).mean()
    return [
        LearningCurve(group, _points(sizes, some), _expected(sizes, some))
        for group, some in errors.items()
    ]


def _points(sizes: NDArray[np.int64], errors: NDArray[np.float64]) -> tuple[CurvePoint, ...]:
    low, high = np.percentile(errors, BAND, axis=0)
    columns = np.stack([errors.mean(axis=0), low, high], axis=1).tolist()
    return tuple(
        CurvePoint(int(size), *column) for size, column in zip(sizes, columns, strict=True)
    )


def _expected(sizes: NDArray[np.int64], errors: NDArray[np.float64]) -> CurvePoint | None:
    """error ∝ targets^-c, c by least squares on the logarithms: of all draws, and of each."""
    logs = np.log(np.maximum(np.vstack([errors.mean(axis=0), errors]), 1e-6))
    falls = -np.polyfit(np.log(sizes), logs.T, 1)[0]  # c, of the mean and of each draw
    if falls[0] < FLAT:
        return None
    now, grown = int(sizes[-1]), int(sizes[-1]) + MORE_TARGETS
    factors = (grown / now) ** -np.maximum(falls, 0.0)
    at_now = float(errors[:, -1].mean())
    low, high = np.percentile(factors[1:], BAND).tolist()
    return CurvePoint(grown, at_now * float(factors[0]), at_now * low, at_now * high)
