"""The linear probe: a linear map on frozen features, in closed form, of what a correction left.

Ridge regression (Hoerl & Kennard 1970) of the corrected base's residual on the features that the
base network's heads get. It minimises

    mean |residual - W (f - mean f)|² + alpha · spread² · |W|²

with spread² the mean of |f - mean f|² over the frames: features are scaled by this one number, so
an alpha means the same for every trunk, however many features it has and however large they are,
and directions in which features hardly differ stay small. With alpha ∞ nothing is changed at all,
which is what cross-validation falls back to where the features give no evidence.

The means are over augmented samples too, where there are some: directions that light, noise or a
small shift moves as far as gaze does become expensive. It is the same as another norm of W, the
samples' covariance within a frame added to it. Each frame weighs the same, however many it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_gaze.calibration import policy
from custom_gaze.calibration.base_features import AugmentedFeatures, BaseFeatures
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
        augmented: AugmentedFeatures | None = None,
    ) -> "LinearProbe":
        """A fitted one: the correction anew, and ridge regression towards what it leaves.

        Args:
            features: (N, F) what the base network's heads get.
            base_deg: (N, 2) the base's angles in degrees.
            true_deg: (N, 2) the targets' angles in degrees.
            targets: (N,) whole numbers; frames with the same one share a target.
            seed: of the folds that choose alpha.
            augmented: of the same frames; the map is fitted to them too, the correction is not, and
                what is held out is measured on plain frames alone.

        In every fold the correction is fitted anew, so the errors of all alphas are those of
        targets that nothing has seen. The best finite alpha wins over no map only beyond the noise.
        With the constant as its correction the probe learns the labels themselves.

        Raises:
            InputError: there are too few targets for cross-validation.
        """
        f, base, true = (np.asarray(x, np.float64) for x in (features, base_deg, true_deg))
        frames = BaseFeatures(f, base, true, np.asarray(targets, np.int64), augmented)
        return fit_each((self,), frames, seed)[0]

    def predict(self, features: ArrayLike, base_deg: ArrayLike) -> Angles:
        """Features (N, F) and the base's angles (N, 2) → angles (N, 2), degrees, float64."""
        residual = np.asarray(features, np.float64) @ self.weight.T + self.bias_deg
        angles: Angles = self.correction.predict(base_deg) + residual
        return np.clip(angles, -FURTHEST_DEG, FURTHEST_DEG)


def fit_each(probes: Sequence[LinearProbe], frames: BaseFeatures, seed: int) -> list[LinearProbe]:
    """Several of the same frames, as `LinearProbe.fit` each: they share all that the features alone
    decide, which is what takes time. Raises as it does."""
    base, true, groups = frames.base_deg, frames.true_deg, frames.targets
    samples, axes, mean = _samples(frames.features, base, true, frames.augmented)
    crossed = _held_out(samples, groups, [probe.correction for probe in probes], seed)
    decomposed = samples.decomposed()
    fits = []
    for probe, held in zip(probes, crossed, strict=True):
        errors = held.errors_deg()
        alone, mapped = errors[-1], errors[:-1]
        best = int(np.argmin(mapped.mean(axis=1)))
        correction = probe.correction.fit(base, true, groups)
        fitted = LinearProbe.corrected(correction, axes.shape[1])
        if preferred({"alone": alone, "mapped": mapped[best]}, groups) == "alone":
            fits.append(replace(fitted, held_out_deg=alone, correction_held_out_deg=alone))
            continue
        alpha = policy.ALPHAS[best]
        weights, biases = samples.fit(correction, (alpha,), decomposed)
        weight = weights[0] @ axes
        bias = biases[0] - weight @ mean
        fits.append(LinearProbe(correction, weight, bias, alpha, mapped[best], alone))
    return fits


@dataclass(frozen=True)
class _Samples:
    """Frames' samples, the plain one first: features (N, 1 + S, R), angles (N, 1 + S, 2), and each
    sample's share of its frame's weight (1 + S,)."""

    features: NDArray[np.float64]
    base_deg: Angles
    true_deg: Angles
    share: NDArray[np.float64]

    def decomposed(self) -> "_Decomposed":
        """What every map of these has in common."""
        count, width = len(self.features), self.features.shape[2]
        return _Decomposed.of(self.features.reshape(-1, width), np.tile(self.share / count, count))

    def fit(
        self, fitted: Correction, alphas: tuple[float, ...], decomposed: "_Decomposed"
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Maps of what a fitted correction leaves: weights (alphas, 2, R), biases (alphas, 2)."""
        residual = self.true_deg.reshape(-1, 2) - fitted.predict(self.base_deg.reshape(-1, 2))
        offset = decomposed.share @ residual
        weights = decomposed.path(residual - offset, alphas)
        return weights, offset - weights @ decomposed.mean


def _samples(
    features: NDArray[np.float64], base: Angles, true: Angles, augmented: AugmentedFeatures | None
) -> tuple[_Samples, NDArray[np.float64], NDArray[np.float64]]:
    """The samples in the space that they span, its axes (R, F), and their mean (F,).

    R is at most the number of samples. Ridge regression does not notice a rotation, so with fewer
    samples than features everything after this costs what the dual form costs: N³, not F³.
    """
    each, bases, trues, share = features[:, None], base[:, None], true[:, None], np.ones(1)
    if augmented is not None:
        each = np.concatenate([each, augmented.features], axis=1)
        bases = np.concatenate([bases, augmented.base_deg], axis=1)
        trues = np.concatenate([trues, augmented.true_deg], axis=1)
        others = each.shape[1] - 1
        part = np.full(others, policy.AUGMENTED_SHARE / others)
        share = np.concatenate([[1 - policy.AUGMENTED_SHARE], part])
    flat = each.reshape(-1, each.shape[2])
    mean = flat.mean(axis=0)
    u, sizes, axes = np.linalg.svd(flat - mean, full_matrices=False)
    rotated = (u * sizes).reshape(*each.shape[:2], -1)
    return _Samples(rotated, bases, trues, share), axes, mean


def _held_out(
    samples: _Samples, targets: Targets, corrections: Sequence[Correction], seed: int
) -> list[HeldOut]:
    """Of each correction: predictions (alphas + 1, P, 2) for plain frames; the last row is the
    correction without any map."""
    base, true = samples.base_deg[:, 0], samples.true_deg[:, 0]
    predictions: list[list[Angles]] = [[] for _ in corrections]
    folds = folds_by_target(targets, seed)
    for out in folds:
        rest = replace(
            samples,
            features=samples.features[~out],
            base_deg=samples.base_deg[~out],
            true_deg=samples.true_deg[~out],
        )
        decomposed = rest.decomposed()
        for correction, predicted in zip(corrections, predictions, strict=True):
            fitted = correction.fit(base[~out], true[~out], targets[~out])
            weights, biases = rest.fit(fitted, policy.ALPHAS, decomposed)
            mapped = samples.features[out, 0] @ weights.transpose(0, 2, 1) + biases[:, None]
            without = np.zeros((1, *mapped.shape[1:]))
            predicted.append(fitted.predict(base[out]) + np.concatenate([mapped, without]))
    return [held_out(each, true, folds) for each in predictions]


@dataclass(frozen=True)
class _Decomposed:
    """Features (N, R) whose rows have weights, less their mean, in singular values: what ridge
    regression needs of them, whatever it is to explain.

    Attributes:
        share: (N,) each row's weight, of sum 1.
        mean: (R,) of the features.
        u, sizes, axes: the decomposition of the rest, each row times the root of its weight.
    """

    share: NDArray[np.float64]
    mean: NDArray[np.float64]
    u: NDArray[np.float64]
    sizes: NDArray[np.float64]
    axes: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.float64], share: NDArray[np.float64]) -> "_Decomposed":
        mean = share @ features
        rest = np.sqrt(share)[:, None] * (features - mean)
        return cls(share, mean, *np.linalg.svd(rest, full_matrices=False))

    def path(self, residual: NDArray[np.float64], alphas: tuple[float, ...]) -> NDArray[np.float64]:
        """As `ridge_path`."""
        spread2 = (self.sizes**2).sum()
        if spread2 == 0:
            return np.zeros((len(alphas), residual.shape[1], len(self.mean)))
        penalty = spread2 * np.array(alphas)[:, None]  # (A, 1)
        shrunk = self.sizes / (self.sizes**2 + penalty)  # (A, R)
        explained = self.u.T @ (np.sqrt(self.share)[:, None] * residual)
        weights: NDArray[np.float64] = np.einsum("rk,ar,rf->akf", explained, shrunk, self.axes)
        return weights


def ridge_path(
    features: NDArray[np.float64], residual: NDArray[np.float64], alphas: tuple[float, ...]
) -> NDArray[np.float64]:
    """Ridge regression of residuals (N, K) of mean 0 on features (N, R), less their mean: weights
    (alphas, K, R), from one singular value decomposition."""
    share = np.full(len(features), 1 / len(features))
    return _Decomposed.of(features, share).path(residual, alphas)
