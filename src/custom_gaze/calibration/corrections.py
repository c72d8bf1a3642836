"""What a user has without training: the base network's angles through the app's corrections.

A correction maps the base network's expected angles (N, 2) [yaw, pitch] to better ones, both in
degrees, right and down positive. The app keeps `curve · v² + gain · v + offset` per axis (it
negates pitch afterwards, which is no concern of the fit), and it can hold two support vector
regressors in its place. How the app fits them is not told; here:

- `gain_offset` and `quadratic`: per axis, least squares of the targets' angles on the base's
- `svr`: ε-support vector regression of each angle on both of the base's angles (Smola & Schölkopf
  2004, "A tutorial on support vector regression"), with a Gaussian kernel whose width and cost
  come from a small grid by cross-validation
- `constant`: the mean of the targets, whatever the base answers

Cross-validation holds out whole targets, never single frames of one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.geometry import angular_error_deg

Angles = NDArray[np.float64]  # (N, 2) [yaw, pitch] in degrees
Targets = NDArray[np.int64]  # (N,) the number of each frame's target

FOLDS = 5
HELD_OUT_AT_LEAST = 50  # targets in all: with few of them the folds are drawn several times
MIN_TARGETS = 3
# Two candidates whose mean errors are closer than this are as good, for nobody could tell them
# apart by using them: 0.05° is 2 pixels, the error itself tens.
ALIKE_DEG, ALIKE_SHARE = 0.05, 0.02
# The regressors' grid, for angles scaled to a standard deviation of 1: costs, and γ of
# exp(-γ |u - v|²), from nearly a plane over the whole screen to a bend within a third of it.
SVR_COSTS, SVR_GAMMAS = (1.0, 10.0, 100.0), (0.03, 0.2, 1.0)
SVR_TOLERANCE = 0.05  # ε of the loss, about half a degree on a laptop's screen
SVR_SEED = 0  # of the folds that choose from the grid


class Correction(Protocol):
    """A fitted correction."""

    @property
    def name(self) -> str:
        """Its key in CORRECTIONS."""

    def apply(self, base_deg: ArrayLike) -> Angles:
        """The base's angles (N, 2) → corrected angles (N, 2), degrees, float64."""


Name = TypeVar("Name", bound=str)
Fit = Callable[[Angles, Angles, Targets], Correction]


@dataclass(frozen=True)
class Polynomial:
    """The app's form, `curve · v² + gain · v + offset`; pairs are (yaw, pitch), v in degrees."""

    name: str
    curve: tuple[float, float]
    gain: tuple[float, float]
    offset_deg: tuple[float, float]

    def apply(self, base_deg: ArrayLike) -> Angles:
        """The base's angles (N, 2) → corrected angles (N, 2), degrees, float64."""
        v = np.asarray(base_deg, np.float64)
        curved: Angles = (np.array(self.curve) * v + self.gain) * v + self.offset_deg
        return curved


@dataclass(frozen=True)
class SupportVectors:
    """Two regressors on both angles: offset + Σ coefficient · exp(-γ |u - support|²).

    Attributes:
        mean_deg, spread_deg: (2,) of the base's angles; u = (v - mean) / spread.
        supports: a pair (yaw, pitch) of (M, 2) support vectors, scaled like u.
        coefficients_deg: a pair of (M,).
        offset_deg: a pair.
    """

    mean_deg: NDArray[np.float64]
    spread_deg: NDArray[np.float64]
    gamma: float
    supports: tuple[NDArray[np.float64], NDArray[np.float64]]
    coefficients_deg: tuple[NDArray[np.float64], NDArray[np.float64]]
    offset_deg: tuple[float, float]
    name: str = "svr"

    def apply(self, base_deg: ArrayLike) -> Angles:
        """The base's angles (N, 2) → corrected angles (N, 2), degrees, float64."""
        u = (np.asarray(base_deg, np.float64) - self.mean_deg) / self.spread_deg
        columns = []
        for axis in (0, 1):
            squared = ((u[:, None] - self.supports[axis]) ** 2).sum(axis=2)  # (N, M)
            kernel = np.exp(-self.gamma * squared)
            columns.append(kernel @ self.coefficients_deg[axis] + self.offset_deg[axis])
        return np.stack(columns, axis=1)


def fit_constant(base_deg: Angles, true_deg: Angles, targets: Targets) -> Polynomial:
    """The mean of `true_deg` for whatever the base answers."""
    return _polynomial("constant", 0, base_deg, true_deg)


def fit_gain_offset(base_deg: Angles, true_deg: Angles, targets: Targets) -> Polynomial:
    """A gain and an offset per axis, by least squares."""
    return _polynomial("gain_offset", 1, base_deg, true_deg)


def fit_quadratic(base_deg: Angles, true_deg: Angles, targets: Targets) -> Polynomial:
    """Curve, gain and offset per axis, by least squares."""
    return _polynomial("quadratic", 2, base_deg, true_deg)


def _polynomial(name: str, degree: int, base_deg: Angles, true_deg: Angles) -> Polynomial:
    terms = np.zeros((3, 2))  # offset, gain, curve
    for axis in (0, 1):
        v, wanted = base_deg[:, axis], true_deg[:, axis]
        # Centred and scaled, so that the squares are no larger than the rest; where the base's
        # answers cannot tell the terms apart, lstsq takes the smallest ones.
        mean, spread = v.mean(), _spread(v)
        powers = np.vander((v - mean) / spread, degree + 1, increasing=True)
        fitted = np.zeros(3)
        fitted[: degree + 1] = np.linalg.lstsq(powers, wanted, rcond=1e-9)[0]
        offset, gain, curve = fitted / spread ** np.arange(3)
        terms[:, axis] = offset - gain * mean + curve * mean**2, gain - 2 * curve * mean, curve
    offsets, gains, curves = ((float(yaw), float(pitch)) for yaw, pitch in terms)
    return Polynomial(name, curves, gains, offsets)


def fit_svr(base_deg: Angles, true_deg: Angles, targets: Targets) -> SupportVectors:
    """A support vector regressor per angle on both of the base's angles.

    Cost and width are those whose held-out targets have the least mean angular error; both angles
    share them. With fewer than MIN_TARGETS targets there is nothing to choose by, and the mildest
    of the grid are taken.
    """
    choices = list(product(SVR_COSTS, SVR_GAMMAS))
    if len(np.unique(targets)) < MIN_TARGETS:
        return _svr(base_deg, true_deg, *choices[0])
    folds = folds_by_target(targets, SVR_SEED, held_out_at_least=0)
    errors = [
        held_out_error(
            lambda base, true, _, choice=choice: _svr(base, true, *choice),  # type: ignore[misc]
            base_deg,
            true_deg,
            targets,
            folds,
        ).mean()
        for choice in choices
    ]
    return _svr(base_deg, true_deg, *choices[int(np.argmin(errors))])


def _svr(base_deg: Angles, true_deg: Angles, cost: float, gamma: float) -> SupportVectors:
    import sklearn
    from sklearn.svm import SVR

    mean_deg = base_deg.mean(axis=0)
    spread_deg = np.array([_spread(column) for column in base_deg.T])
    u = (base_deg - mean_deg) / spread_deg
    supports, coefficients, offsets = [], [], []
    for wanted in true_deg.T:
        center, scale = wanted.mean(), _spread(wanted)
        fitted = SVR(kernel="rbf", C=cost, gamma=gamma, epsilon=SVR_TOLERANCE)
        # Its checks cost more than such a fit, and cross-validation needs thousands.
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
            fitted.fit(u, (wanted - center) / scale)
        supports.append(np.array(fitted.support_vectors_, np.float64))
        coefficients.append(scale * np.array(fitted.dual_coef_[0], np.float64))
        offsets.append(float(center + scale * fitted.intercept_[0]))
    return SupportVectors(
        mean_deg,
        spread_deg,
        gamma,
        (supports[0], supports[1]),
        (coefficients[0], coefficients[1]),
        (offsets[0], offsets[1]),
    )


def _spread(values: NDArray[np.float64]) -> float:
    """Their standard deviation, or 1 where they do not differ."""
    spread = float(values.std())
    return spread if spread > 1e-9 else 1.0


# From the simplest to the least simple.
CORRECTIONS: dict[str, Fit] = {
    "constant": fit_constant,
    "gain_offset": fit_gain_offset,
    "quadratic": fit_quadratic,
    "svr": fit_svr,
}
# Those that are plain numbers in the app's own form.
POLYNOMIALS = ("constant", "gain_offset", "quadratic")


def best_correction(
    base_deg: ArrayLike,
    true_deg: ArrayLike,
    targets: ArrayLike,
    seed: int,
    among: Sequence[str] = POLYNOMIALS,
) -> Correction:
    """The correction that held-out targets prefer, fitted on all frames.

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
    return CORRECTIONS[preferred(errors, groups)](base, true, groups)


def folds_by_target(
    targets: Targets, seed: int, held_out_at_least: int = HELD_OUT_AT_LEAST, folds: int = FOLDS
) -> list[NDArray[np.bool_]]:
    """Which frames (N,) each fold holds out: whole targets, `folds` a repetition.

    The folds are drawn again until at least `held_out_at_least` targets were held out in all, each
    as often as every other: with nine targets one draw decides too much. Every frame is held out
    by exactly one fold of a repetition.

    Raises:
        InputError: there are fewer than MIN_TARGETS targets.
    """
    names, group = np.unique(targets, return_inverse=True)
    if len(names) < MIN_TARGETS:
        raise InputError(
            f"{len(names)} targets are too few to choose by: cross-validation needs at least "
            f"{MIN_TARGETS}; capture more points"
        )
    generator = np.random.default_rng(seed)
    repetitions = max(1, -(-held_out_at_least // len(names)))
    return [
        np.isin(group, part)
        for _ in range(repetitions)
        for part in np.array_split(generator.permutation(len(names)), min(folds, len(names)))
    ]


def leave_target_out(targets: Targets) -> list[NDArray[np.bool_]]:
    """Folds that hold out one target each; where every frame is a target, leave-one-frame-out."""
    return [targets == name for name in np.unique(targets)]


def held_out_error(
    fit: Fit,
    base_deg: Angles,
    true_deg: Angles,
    targets: Targets,
    folds: Iterable[NDArray[np.bool_]],
) -> NDArray[np.float64]:
    """Each frame's angular error in degrees (N,) by fits that did not see its target.

    `folds` are those of `folds_by_target` or `leave_target_out`; a frame that several of them
    hold out gets the mean of its errors.
    """
    total, times = np.zeros(len(targets)), np.zeros(len(targets))
    for out in folds:
        fitted = fit(base_deg[~out], true_deg[~out], targets[~out])
        total[out] += angular_error_deg(fitted.apply(base_deg[out]), true_deg[out])
        times += out
    return total / times


def preferred(errors: Mapping[Name, NDArray[np.float64]], targets: Targets) -> Name:
    """The simplest candidate that is as good as the best one.

    Args:
        errors: of each candidate, the simplest first: (N,) held-out errors of the frames.
        targets: (N,) the frames' targets.

    As good is what is worse by no more than the validation's noise, or by no more than anyone could
    notice (`alike_deg`): however sure a gain of a hundredth of a degree is, it is worth no step
    away from the simple, and on another processor it may be a loss.

    The noise of a difference is its standard error over targets, paired: candidates fail on the
    same frames, and what they share says nothing about which is better (the one-standard-error
    rule of Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3, on
    differences).
    """
    best = min(errors.values(), key=lambda some: float(some.mean()))
    alike = alike_deg(best, targets)
    for name, some in errors.items():
        mean, noise = mean_over_targets(some - best, targets)
        if mean <= max(noise, alike):
            return name
    raise ValueError("no candidates")


def alike_deg(errors: NDArray[np.float64], targets: Targets) -> float:
    """How much worse than a candidate of these errors (N,) another may be before anyone notices."""
    return max(ALIKE_DEG, ALIKE_SHARE * mean_over_targets(errors, targets)[0])


def mean_over_targets(values: NDArray[np.float64], targets: Targets) -> tuple[float, float]:
    """The mean over targets and its standard error."""
    _, group = np.unique(targets, return_inverse=True)
    means = np.bincount(group, values) / np.bincount(group)
    return float(means.mean()), float(means.std(ddof=1) / len(means) ** 0.5)
