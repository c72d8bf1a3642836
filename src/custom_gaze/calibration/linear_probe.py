"""The linear probe: a linear map on frozen features, in closed form, of what a correction left.

Ridge regression (Hoerl & Kennard 1970) of the corrected base's residual on the features that the
base network's heads get. It minimises

    mean |residual - W (f - mean f)|² + alpha · spread² · |W|²

with spread² the mean of |f - mean f|² over the frames: features are scaled by this one number, so
an alpha means the same for every trunk, however many features it has and however large they are,
and directions in which features hardly differ stay small. There is no intercept beside the mean:
a least-squares correction leaves residuals of mean 0, and with alpha ∞ nothing is changed at
all. That is what cross-validation falls back to where the features give no evidence.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_gaze.calibration import policy
from custom_gaze.calibration.corrections import Correction
from custom_gaze.calibration.cross_validation import (
    Angles,
    HeldOut,
    Targets,
    folds_by_target,
    held_out,
)
from custom_gaze.calibration.selection import preferred
from custom_gaze.models.heads import FURTHEST_DEG


@dataclass(frozen=True)
class LinearProbe:
    """correction(base's angles) + weight · features + bias, held between ±FURTHEST_DEG.

    A corrected base is one whose linear map is zero.

    Attributes:
        correction: its residual is what the map explains.
        weight: (2, F) float64, rows yaw and pitch.
        bias_deg: (2,) float64.
        alpha: of the ridge; ∞ where the correction alone is preferred, weight and bias are 0.
        held_out_deg: (N,) of a fit: the frames' errors with this alpha by fits that did not see
            their targets; correction_held_out_deg: the same of the correction alone.
    """

    correction: Correction
    weight: NDArray[np.float64]
    bias_deg: NDArray[np.float64]
    alpha: float = float("inf")
    held_out_deg: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    correction_held_out_deg: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def corrected(cls, correction: Correction, features: int) -> "LinearProbe":
        """The correction alone, beside so many features."""
        return cls(correction, np.zeros((2, features)), np.zeros(2))

    def fit(
        self,
        features: ArrayLike,
        base_deg: ArrayLike,
        true_deg: ArrayLike,
        targets: ArrayLike,
        seed: int,
    ) -> "LinearProbe":
        """A fitted one: the correction anew, and ridge regression towards what it leaves.

        Args:
            features: (N, F) what the base network's heads get.
            base_deg: (N, 2) the base's angles in degrees.
            true_deg: (N, 2) the targets' angles in degrees.
            targets: (N,) whole numbers; frames with the same one share a target.
            seed: of the folds that choose alpha.

        In every fold the correction is fitted anew, so the errors of all alphas are those of
        targets that nothing has seen. The best finite alpha wins over no map only beyond the noise.
        With the constant as its correction the probe learns the labels themselves.

        Raises:
            InputError: there are too few targets for cross-validation.
        """
        base, true = np.asarray(base_deg, np.float64), np.asarray(true_deg, np.float64)
        groups = np.asarray(targets, np.int64)
        rotated, axes, mean = _rotated(np.asarray(features, np.float64))
        errors = _held_out(rotated, base, true, groups, self.correction, seed).errors_deg()
        alone, mapped = errors[-1], errors[:-1]
        best = int(np.argmin(mapped.mean(axis=1)))
        correction = self.correction.fit(base, true, groups)
        fitted = LinearProbe.corrected(correction, axes.shape[1])
        if preferred({"alone": alone, "mapped": mapped[best]}, groups) == "alone":
            return replace(fitted, held_out_deg=alone, correction_held_out_deg=alone)
        alpha = policy.ALPHAS[best]
        weight = ridge_path(rotated, true - correction.predict(base), (alpha,))[0] @ axes
        return LinearProbe(correction, weight, -weight @ mean, alpha, mapped[best], alone)

    def predict(self, features: ArrayLike, base_deg: ArrayLike) -> Angles:
        """Features (N, F) and the base's angles (N, 2) → angles (N, 2), degrees, float64."""
        residual = np.asarray(features, np.float64) @ self.weight.T + self.bias_deg
        angles: Angles = self.correction.predict(base_deg) + residual
        return np.clip(angles, -FURTHEST_DEG, FURTHEST_DEG)


def _rotated(
    features: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Features (N, F) → coordinates (N, R) in the space the frames span, its axes (R, F), the mean.

    R = min(N, F). Ridge regression does not notice a rotation, so with fewer frames than features
    everything after this costs what the dual form costs: N³, not F³.
    """
    mean = features.mean(axis=0)
    u, sizes, axes = np.linalg.svd(features - mean, full_matrices=False)
    return u * sizes, axes, mean


def _held_out(
    rotated: NDArray[np.float64],
    base: Angles,
    true: Angles,
    targets: Targets,
    correction: Correction,
    seed: int,
) -> HeldOut:
    """Predictions (alphas + 1, P, 2); the last row is the correction without any map."""
    alphas, predictions = (*policy.ALPHAS, float("inf")), []
    folds = folds_by_target(targets, seed)
    for out in folds:
        fitted = correction.fit(base[~out], true[~out], targets[~out])
        weights = ridge_path(rotated[~out], true[~out] - fitted.predict(base[~out]), alphas)
        f = rotated[out] - rotated[~out].mean(axis=0)  # (M, R)
        predictions.append(fitted.predict(base[out]) + f @ weights.transpose(0, 2, 1))
    return held_out(predictions, true, folds)


def ridge_path(
    features: NDArray[np.float64], residual: NDArray[np.float64], alphas: tuple[float, ...]
) -> NDArray[np.float64]:
    """Ridge regression of residuals (N, K) of mean 0 on features (N, R), less their mean: weights
    (alphas, K, R), from one singular value decomposition."""
    u, sizes, axes = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    spread2 = (sizes**2).sum() / len(features)
    if spread2 == 0:
        return np.zeros((len(alphas), residual.shape[1], features.shape[1]))
    penalty = len(features) * spread2 * np.array(alphas)[:, None]  # (A, 1)
    shrunk = sizes / (sizes**2 + penalty)  # (A, R)
    weights: NDArray[np.float64] = np.einsum("rk,ar,rf->akf", u.T @ residual, shrunk, axes)
    return weights
