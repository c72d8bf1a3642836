"""The probe: a linear map on frozen features, in closed form, that corrects what a correction left.

Ridge regression (Hoerl & Kennard 1970) of the corrected base's residual on the features that the
base network's heads see. It minimises

    mean |residual - W (f - mean f)|² + strength · spread² · |W|²

with spread² the mean of |f - mean f|² over the frames: features are scaled by this one number, so
a strength means the same for every trunk, however many features it has and however large they are,
and directions in which features hardly differ stay small. There is no intercept beside the mean:
a least-squares correction leaves residuals of mean 0, and with strength ∞ nothing is changed at
all. That is what cross-validation falls back to where the features give no evidence.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_gaze.calibration.corrections import (
    Angles,
    Correction,
    Fit,
    Targets,
    folds_by_target,
    preferred,
)
from custom_gaze.geometry import angular_error_deg

# Half a decade apart; below 1e-5 nothing is regularised any more, above 10 the change vanishes.
STRENGTHS = (*np.logspace(1, -5, 13).tolist(),)


@dataclass(frozen=True)
class Probe:
    """A fitted probe: correction(base) + weight · f + bias.

    Attributes:
        correction: the one whose residual it explains.
        weight: (2, F) float64, rows yaw and pitch.
        bias_deg: (2,) float64.
        strength: of the ridge; ∞ where the correction alone was preferred, weight and bias are 0.
        held_out_deg: (N,) the frames' errors by fits that did not see their targets.
        correction_held_out_deg: (N,) the same of the correction alone.
    """

    correction: Correction
    weight: NDArray[np.float64]
    bias_deg: NDArray[np.float64]
    strength: float
    held_out_deg: NDArray[np.float64]
    correction_held_out_deg: NDArray[np.float64]

    def apply(self, features: ArrayLike, base_deg: ArrayLike) -> Angles:
        """Features (N, F) and the base's angles (N, 2) → angles (N, 2), degrees, float64."""
        change = np.asarray(features, np.float64) @ self.weight.T + self.bias_deg
        angles: Angles = self.correction.apply(base_deg) + change
        return angles


def fit_probe(
    features: ArrayLike,
    base_deg: ArrayLike,
    true_deg: ArrayLike,
    targets: ArrayLike,
    fit: Fit,
    seed: int,
) -> Probe:
    """Fit a correction, and ridge regression towards what it leaves.

    Args:
        features: (N, F) what the base network's heads see.
        base_deg: (N, 2) the base's angles in degrees.
        true_deg: (N, 2) the targets' angles in degrees.
        targets: (N,) whole numbers; frames with the same one share a target.
        fit: how to fit the correction, e.g. `CORRECTIONS["gain_offset"]`. With `fit_constant` the
            probe learns the labels themselves.
        seed: of the folds that choose the strength.

    In every fold the correction is fitted anew, so the errors of all strengths are those of targets
    that nothing has seen. The best finite strength wins over no change only beyond the noise.

    Raises:
        InputError: there are too few targets for cross-validation.
    """
    base, true = np.asarray(base_deg, np.float64), np.asarray(true_deg, np.float64)
    groups = np.asarray(targets, np.int64)
    rotated, axes, mean = _rotated(np.asarray(features, np.float64))
    errors = _held_out_errors(rotated, base, true, groups, fit, seed)
    unchanged, changed = errors[-1], errors[:-1]
    best = int(np.argmin(changed.mean(axis=1)))
    choice = preferred({"unchanged": unchanged, "changed": changed[best]}, groups)

    correction = fit(base, true, groups)
    weight = np.zeros((2, axes.shape[1]))
    strength = float("inf")
    if choice == "changed":
        strength = STRENGTHS[best]
        weight = _ridge_path(rotated, true - correction.apply(base), (strength,))[0] @ axes
    return Probe(
        correction,
        weight,
        -weight @ mean,
        strength,
        errors[best] if choice == "changed" else unchanged,
        unchanged,
    )


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


def _held_out_errors(
    rotated: NDArray[np.float64],
    base: Angles,
    true: Angles,
    targets: Targets,
    fit: Fit,
    seed: int,
) -> NDArray[np.float64]:
    """Errors (strengths + 1, N) in degrees of frames held out with their targets; the last row is
    the correction without any change."""
    total, times = np.zeros((len(STRENGTHS) + 1, len(targets))), np.zeros(len(targets))
    for out in folds_by_target(targets, seed):
        correction = fit(base[~out], true[~out], targets[~out])
        residual = true[~out] - correction.apply(base[~out])
        weights = _ridge_path(rotated[~out], residual, (*STRENGTHS, float("inf")))
        seen = rotated[out] - rotated[~out].mean(axis=0)  # (M, R)
        answers = correction.apply(base[out]) + seen @ weights.transpose(0, 2, 1)  # (S, M, 2)
        total[:, out] += angular_error_deg(answers, true[out])
        times += out
    errors: NDArray[np.float64] = total / times
    return errors


def _ridge_path(
    features: NDArray[np.float64], residual: Angles, strengths: tuple[float, ...]
) -> NDArray[np.float64]:
    """Weights (strengths, 2, R) for features (N, R), from one singular value decomposition."""
    u, sizes, axes = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    spread2 = (sizes**2).sum() / len(features)
    if spread2 == 0:
        return np.zeros((len(strengths), 2, features.shape[1]))
    penalty = len(features) * spread2 * np.array(strengths)[:, None]  # (S, 1)
    shrunk = sizes / (sizes**2 + penalty)  # (S, R)
    weights: NDArray[np.float64] = np.einsum("ra,sr,rf->saf", u.T @ residual, shrunk, axes)
    return weights
