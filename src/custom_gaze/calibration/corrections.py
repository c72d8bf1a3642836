"""What a user has without training: the base network's angles through the app's corrections.

A correction maps the base network's expected angles (N, 2) [yaw, pitch] to better ones, both in
degrees, right and down positive. The app keeps `curve · v² + gain · v + offset` per axis (it
negates pitch afterwards, which is no concern of the fit), and it can hold two support vector
regressors in its place. How the app fits them is not told; here:

- `constant`: the mean of the targets, whatever the base predicts
- `gain_offset` and `quadratic`: per axis, least squares of the targets' angles on the base's
- `svr`: ε-support vector regression of each angle on both of the base's angles (Smola & Schölkopf
  2004, "A tutorial on support vector regression"), with a Gaussian kernel whose width and cost
  come from a small grid by cross-validation

They are estimators as scikit-learn's are, but `fit` returns a fitted one and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_gaze.calibration import policy
from custom_gaze.calibration.cross_validation import (
    Angles,
    Folds,
    Targets,
    folds_by_target,
    held_out,
)
from custom_gaze.calibration.selection import preferred

Pair = tuple[float, float]  # yaw, pitch


class Correction(Protocol):
    """An estimator of angles from the base's angles."""

    @property
    def name(self) -> str:
        """Its key in CORRECTIONS."""

    def fit(self, base_deg: Angles, true_deg: Angles, targets: Targets) -> "Correction":
        """A fitted one, from the base's angles (N, 2), the targets' angles (N, 2) and the number
        of each frame's target (N,)."""

    def predict(self, base_deg: ArrayLike) -> Angles:
        """The base's angles (N, 2) → corrected angles (N, 2), degrees, float64."""


@dataclass(frozen=True)
class Polynomial:
    """The app's form, `curve · v² + gain · v + offset`, v in degrees."""

    name: str
    curve: Pair = (0.0, 0.0)
    gain: Pair = (0.0, 0.0)
    offset_deg: Pair = (0.0, 0.0)

    def fit(self, base_deg: Angles, true_deg: Angles, targets: Targets) -> "Polynomial":
        """Least squares per axis."""
        degree = POLYNOMIALS.index(self.name)
        terms = np.zeros((3, 2))  # offset, gain, curve
        for axis in (0, 1):
            v, wanted = base_deg[:, axis], true_deg[:, axis]
            # Centred and scaled, so that the squares are no larger than the rest; where the base's
            # angles cannot tell the terms apart, lstsq takes the smallest ones.
            mean, spread = v.mean(), _spread(v)
            powers = np.vander((v - mean) / spread, degree + 1, increasing=True)
            fitted = np.zeros(3)
            fitted[: degree + 1] = np.linalg.lstsq(powers, wanted, rcond=1e-9)[0]
            offset, gain, curve = fitted / spread ** np.arange(3)
            terms[:, axis] = offset - gain * mean + curve * mean**2, gain - 2 * curve * mean, curve
        offsets, gains, curves = ((float(yaw), float(pitch)) for yaw, pitch in terms)
        return Polynomial(self.name, curves, gains, offsets)

    def predict(self, base_deg: ArrayLike) -> Angles:
        """The base's angles (N, 2) → corrected angles (N, 2), degrees, float64."""
        v = np.asarray(base_deg, np.float64)
        curved: Angles = (np.array(self.curve) * v + self.gain) * v + self.offset_deg
        return curved


@dataclass(frozen=True)
class SupportVectors:
    """Two regressors on both angles, each scaled to mean 0 and standard deviation 1.

    Attributes:
        cost, gamma: None where `fit` is to choose them.
        scale: of the base's angles: their mean (2,) and spread (2,).
        axes: of yaw and pitch: the mean and spread of the targets' angle, and scikit-learn's SVR.
    """

    cost: float | None = None
    gamma: float | None = None
    scale: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    axes: tuple[tuple[float, float, Any], ...] = field(default=(), repr=False)
    name: str = "svr"

    def fit(self, base_deg: Angles, true_deg: Angles, targets: Targets) -> "SupportVectors":
        """A support vector regressor per angle.

        Cost and width are those whose held-out targets have the least mean angular error; both
        angles share them. With fewer than MIN_TARGETS targets there is nothing to choose by, and
        the mildest of the grid are taken.
        """
        if self.cost is not None:
            return self._fit(base_deg, true_deg)
        grid = [SupportVectors(*some) for some in product(policy.SVR_COSTS, policy.SVR_GAMMAS)]
        best = 0
        if len(np.unique(targets)) >= policy.MIN_TARGETS:
            folds = folds_by_target(targets, policy.SVR_SEED, held_out_at_least=0)
            errors = [held_out_error(one, base_deg, true_deg, targets, folds) for one in grid]
            best = int(np.argmin([some.mean() for some in errors]))
        return grid[best]._fit(base_deg, true_deg)

    def _fit(self, base_deg: Angles, true_deg: Angles) -> "SupportVectors":
        import sklearn
        from sklearn.svm import SVR

        scale = base_deg.mean(axis=0), np.array([_spread(column) for column in base_deg.T])
        axes = []
        for wanted in true_deg.T:
            mean, spread = float(wanted.mean()), _spread(wanted)
            svr = SVR(C=self.cost, gamma=self.gamma, epsilon=policy.SVR_TOLERANCE)
            # Its checks cost more than such a fit, and cross-validation needs thousands.
            with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
                svr.fit((base_deg - scale[0]) / scale[1], (wanted - mean) / spread)
            axes.append((mean, spread, svr))
        return SupportVectors(self.cost, self.gamma, scale, tuple(axes))

    def predict(self, base_deg: ArrayLike) -> Angles:
        """The base's angles (N, 2) → corrected angles (N, 2), degrees, float64."""
        assert self.scale is not None  # it is fitted
        u = (np.asarray(base_deg, np.float64) - self.scale[0]) / self.scale[1]
        return np.stack([mean + spread * svr.predict(u) for mean, spread, svr in self.axes], axis=1)


def _spread(values: NDArray[np.float64]) -> float:
    """Their standard deviation, or 1 where they do not differ."""
    spread = float(values.std())
    return spread if spread > 1e-9 else 1.0


# Those that are plain numbers in the app's own form, by degree; and all, the simplest first.
POLYNOMIALS = ("constant", "gain_offset", "quadratic")
CORRECTIONS: dict[str, Correction] = {
    **{name: Polynomial(name) for name in POLYNOMIALS},
    "svr": SupportVectors(),
}


def held_out_error(
    correction: Correction, base_deg: Angles, true_deg: Angles, targets: Targets, folds: Folds
) -> NDArray[np.float64]:
    """Each frame's angular error in degrees (N,) by fits that did not see its target."""
    predictions = [
        correction.fit(base_deg[~out], true_deg[~out], targets[~out]).predict(base_deg[out])
        for out in folds
    ]
    return held_out(predictions, true_deg, folds).errors_deg()


def best_correction(
    base_deg: ArrayLike,
    true_deg: ArrayLike,
    targets: ArrayLike,
    seed: int,
    among: Sequence[str] = POLYNOMIALS,
) -> Correction:
    """The correction that held-out targets prefer, fitted on all frames.

    As `best_held_out`.
    """
    return best_held_out(base_deg, true_deg, targets, seed, among)[0]


def best_held_out(
    base_deg: ArrayLike,
    true_deg: ArrayLike,
    targets: ArrayLike,
    seed: int,
    among: Sequence[str] = POLYNOMIALS,
) -> tuple[Correction, NDArray[np.float64]]:
    """The same, and each frame's mean error in degrees (N,) by fits that had not seen its target.

    Args:
        base_deg: (N, 2) the base's angles.
        true_deg: (N, 2) the targets' angles.
        targets: (N,) whole numbers; frames with the same one share a target.
        seed: of the folds; the same seed gives the same choice.
        among: keys of CORRECTIONS, the simplest first: it wins where others are within the noise.

    Raises:
        InputError: there are fewer than MIN_TARGETS targets.
    """
    base, true = np.asarray(base_deg, np.float64), np.asarray(true_deg, np.float64)
    groups = np.asarray(targets, np.int64)
    folds = folds_by_target(groups, seed)
    errors = {name: held_out_error(CORRECTIONS[name], base, true, groups, folds) for name in among}
    name = preferred(errors, groups)
    return CORRECTIONS[name].fit(base, true, groups), errors[name]
