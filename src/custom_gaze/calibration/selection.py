"""Which of several is taken, by errors on targets held out: the simplest that is as good."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from custom_gaze.calibration import policy
from custom_gaze.calibration.cross_validation import Targets
from custom_gaze.config.candidate import Candidate

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True)
class Choice:
    """A candidate, and why it is the one, in one line."""

    method: Candidate
    reason: str


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


def settled(
    simpler: Mapping[Name, NDArray[np.float64]], last: NDArray[np.float64], targets: Targets
) -> bool | None:
    """Whether the last candidate will be preferred to the simpler ones, as far as targets held out
    so far tell: True or False where more of them will hardly change it, None where they may.

    Args:
        simpler: of each of these, (N,) held-out errors of the frames.
        last: (N,) the same of the last one, NaN where a frame was not held out yet.
        targets: (N,) the frames' targets.

    Its gain over the simpler ones is compared with what anyone would notice: on which side of that
    does Student's interval over targets lie? One that is looked at several times is wrong more
    often than it says, so policy.SETTLED_SURELY is a strict one.
    """
    known = np.isfinite(last)
    held, enough = len(np.unique(targets[known])), len(np.unique(targets))
    if enough >= policy.TRAINED_HELD_OUT_AT_LEAST:
        enough = policy.SETTLED_TARGETS
    if held < enough:
        return None
    times, alike = stdtrit(held - 1, policy.SETTLED_SURELY), alike_deg(last[known], targets[known])
    gains = [mean_over_targets((some - last)[known], targets[known]) for some in simpler.values()]
    if all(mean - times * noise > alike for mean, noise in gains):
        return True
    return False if any(mean + times * noise < alike for mean, noise in gains) else None


def alike_deg(errors: NDArray[np.float64], targets: Targets) -> float:
    """How much worse than a candidate of these errors (N,) another may be before anyone notices."""
    return max(policy.ALIKE_DEG, policy.ALIKE_SHARE * mean_over_targets(errors, targets)[0])


def mean_over_targets(values: NDArray[np.float64], targets: Targets) -> tuple[float, float]:
    """The mean over targets and its standard error."""
    _, group = np.unique(targets, return_inverse=True)
    means = np.bincount(group, values) / np.bincount(group)
    return float(means.mean()), float(means.std(ddof=1) / len(means) ** 0.5)


def choice_of(errors: Mapping[Candidate, NDArray[np.float64]], targets: Targets) -> Choice:
    """The candidate that is `preferred`, and why.

    Args:
        errors: each candidate's (N,) held-out errors in degrees, the simplest first.
        targets: (N,) the frames' targets.
    """
    method = preferred(errors, targets)
    means = {name: float(some.mean()) for name, some in errors.items()}
    best = min(means, key=lambda name: means[name])
    if method == best:
        others = ", ".join(f"{n.label} {mean:.2f}°" for n, mean in means.items() if n != method)
        return Choice(method, f"the least cross-validated error, {means[method]:.2f}° ({others})")
    _, noise = mean_over_targets(errors[method] - errors[best], targets)
    alike = alike_deg(errors[best], targets)
    limit = (
        f"the noise ({noise:.2f}°)"
        if noise >= alike
        else f"{alike:.2f}°, which nobody would notice,"
    )
    return Choice(
        method,
        f"its cross-validated error, {means[method]:.2f}°, is within {limit} of that of the "
        f"{best.label}, {means[best]:.2f}°, and it is simpler",
    )
