"""Targets held out: the one splitter and the one scorer of everything that is chosen.

The splitter is ours: scikit-learn's GroupKFold balances frames and draws once, which would change
every choice made so far; here whole targets are drawn anew until enough of them were held out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from custom_gaze.calibration import policy
from custom_gaze.common.errors import InputError
from custom_gaze.geometry import angular_error_deg

Angles = NDArray[np.float64]  # (N, 2) [yaw, pitch] in degrees
Targets = NDArray[np.int64]  # (N,) the number of each frame's target
Folds = Sequence[NDArray[np.bool_]]  # which frames (N,) each holds out


def folds_by_target(
    targets: Targets,
    seed: int,
    held_out_at_least: int = policy.HELD_OUT_AT_LEAST,
    folds: int = policy.FOLDS,
) -> list[NDArray[np.bool_]]:
    """Which frames (N,) each fold holds out: whole targets, `folds` a repetition.

    The folds are drawn again until at least `held_out_at_least` targets were held out in all, each
    as often as every other. Every frame is held out by exactly one fold of a repetition.

    Raises:
        InputError: there are fewer than MIN_TARGETS targets.
    """
    names, group = np.unique(targets, return_inverse=True)
    if len(names) < policy.MIN_TARGETS:
        raise InputError(
            f"{len(names)} targets are too few to choose by: cross-validation needs at least "
            f"{policy.MIN_TARGETS}; capture more points"
        )
    generator = np.random.default_rng(seed)
    repetitions = max(1, -(-held_out_at_least // len(names)))
    return [
        np.isin(group, part)
        for _ in range(repetitions)
        for part in np.array_split(generator.permutation(len(names)), min(folds, len(names)))
    ]


def training_folds(targets: Targets, seed: int) -> list[NDArray[np.bool_]]:
    """The folds that all candidates are compared on: five, ten where targets are few, else three.

    Raises:
        InputError: there are too few targets.
    """
    many = len(np.unique(targets)) >= policy.MANY_TARGETS
    count = policy.FOLDS_OF_MANY if many else policy.FOLDS
    return folds_by_target(targets, seed, policy.TRAINED_HELD_OUT_AT_LEAST, count)


@dataclass(frozen=True)
class HeldOut:
    """Predictions for frames by fits that did not see their targets.

    Attributes:
        rows: (P,) the frames' numbers, fold after fold; some several times, and none of a fold that
            was not needed.
        predictions_deg: (…, P, 2) float64.
        true_deg: (P, 2) float64, the targets' angles.
        frames: N, those that were not held out included.
    """

    rows: NDArray[np.int64]
    predictions_deg: Angles
    true_deg: Angles
    frames: int

    def errors_deg(self) -> NDArray[np.float64]:
        """Each frame's mean angular error in degrees (…, N), NaN where it was not held out."""
        errors = angular_error_deg(self.predictions_deg, self.true_deg)
        times = np.bincount(self.rows, minlength=self.frames)
        total = np.zeros((*errors.shape[:-1], len(times)))
        np.add.at(total.T, self.rows, errors.T)
        with np.errstate(invalid="ignore"):  # 0 / 0 of those
            mean: NDArray[np.float64] = total / times
        return mean

    def loss(self) -> float:
        """Mean squared error in degrees², over both angles."""
        return float(((self.predictions_deg - self.true_deg) ** 2).mean())


def held_out(predictions: Sequence[Angles], true_deg: Angles, folds: Folds) -> HeldOut:
    """What the folds' fits predict for the frames that they hold out, (…, M, 2) each."""
    rows = np.concatenate([np.flatnonzero(out) for out in folds])
    made = np.concatenate(predictions, axis=-2).astype(np.float64)
    return HeldOut(rows, made, true_deg[rows], len(true_deg))
