"""Which of several is taken, by errors on targets held out: the first that is as good.

Of corrections the simplest; of candidates the one that carries over best to another day, which
targets of one session do not show. Measured on simulated persons (docs/accuracy.md): the corrected
base carries over best where it is as good and does not magnify the base's angles; the fine-tune
keeps more of its gain on another day than the probe does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from custom_gaze.calibration import policy
from custom_gaze.calibration.cross_validation import Angles, Targets
from custom_gaze.config.candidate import Candidate

Name = TypeVar("Name", bound=str)

Order = tuple[Candidate, ...]  # by how they carry over to another day, the best first
CARRYING_OVER = (Candidate.BASE, Candidate.FINETUNE, Candidate.PROBE)
WITHOUT_BASE = (Candidate.FINETUNE, Candidate.PROBE, Candidate.BASE)


@dataclass(frozen=True)
class Choice:
    """A candidate, and why it is the one, in one line."""

    method: Candidate
    reason: str


def carrying_over(corrected_deg: Angles, base_deg: Angles) -> Order:
    """The candidates by how they carry over, told by a correction's (N, 2) angles and the base's.

    What another day changes in the base's angles, a correction magnifies as it does the angles.
    Where that is much it carries over worst, however well it does on its own day, and is nothing to
    fall back on.
    """
    magnifies = np.ptp(corrected_deg, axis=0) > policy.MAGNIFIED * np.ptp(base_deg, axis=0)
    return WITHOUT_BASE if magnifies.any() else CARRYING_OVER


def preferred(errors: Mapping[Name, NDArray[np.float64]], targets: Targets) -> Name:
    """The first candidate that is as good as the best one.

    Args:
        errors: of each candidate, the one preferred among equals first, the simplest say: (N,)
            held-out errors of the frames.
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
    closed: Mapping[Candidate, NDArray[np.float64]],
    last: NDArray[np.float64],
    targets: Targets,
    order: Order = CARRYING_OVER,
) -> bool | None:
    """Whether the fine-tune will be preferred to the closed forms, as far as targets held out tell
    so far: True or False where more of them will hardly change it, None where they may.

    Args:
        closed: of each of these, (N,) held-out errors of the frames.
        last: (N,) the same of the fine-tune, NaN where a frame was not held out yet.
        targets: (N,) the frames' targets.
        order: the candidates, the one preferred among equals first.

    Its gain over one that is preferred among equals has to be more than anyone would notice (over a
    corrected base that carries over best: worth a day), its loss to another one no more than that:
    on which side of it does Student's interval over targets lie? One that is looked at several
    times is wrong more often than it says, so policy.SETTLED_SURELY is a strict one.
    """
    known = np.isfinite(last)
    held, enough = len(np.unique(targets[known])), len(np.unique(targets))
    if enough >= policy.TRAINED_HELD_OUT_AT_LEAST:
        enough = policy.SETTLED_TARGETS
    if held < enough:
        return None
    times, alike = stdtrit(held - 1, policy.SETTLED_SURELY), alike_deg(last[known], targets[known])
    first = order.index(Candidate.FINETUNE)
    lows, highs = [], []
    for name, some in closed.items():
        least = alike if order.index(name) < first else -alike
        if name == Candidate.BASE == order[0]:
            some, least = policy.WORTH_A_DAY * some, 0.0
        mean, noise = mean_over_targets((some - last)[known], targets[known])
        lows.append(mean - times * noise - least)
        highs.append(mean + times * noise - least)
    if min(lows) > 0:
        return True
    return False if min(highs) < 0 else None


def alike_deg(errors: NDArray[np.float64], targets: Targets) -> float:
    """How much worse than a candidate of these errors (N,) another may be before anyone notices."""
    return max(policy.ALIKE_DEG, policy.ALIKE_SHARE * mean_over_targets(errors, targets)[0])


def mean_over_targets(values: NDArray[np.float64], targets: Targets) -> tuple[float, float]:
    """The mean over targets and its standard error."""
    _, group = np.unique(targets, return_inverse=True)
    means = np.bincount(group, values) / np.bincount(group)
    return float(means.mean()), float(means.std(ddof=1) / len(means) ** 0.5)


def choice_of(
    errors: Mapping[Candidate, NDArray[np.float64]], targets: Targets, order: Order = CARRYING_OVER
) -> Choice:
    """The candidate that is `preferred`, and why.

    A corrected base that carries over best is left only for a gain that is worth a day
    (policy.WORTH_A_DAY).

    Args:
        errors: each candidate's (N,) held-out errors in degrees.
        targets: (N,) the frames' targets.
        order: the candidates, the one preferred among equals first.
    """
    method = preferred({n: errors[n] for n in order if n in errors}, targets)
    means = {name: float(some.mean()) for name, some in errors.items()}
    best = min(means, key=lambda name: means[name])
    base = Candidate.BASE
    if order[0] == base != method and means[method] > policy.WORTH_A_DAY * means[base]:
        return Choice(
            base,
            f"its cross-validated error, {means[base]:.2f}°, carries over to another day, which may"
            f" take away what the {method.label} gains, {means[method]:.2f}°, and it is simpler",
        )
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
    why = "is simpler" if method == Candidate.BASE else "carries over better to another day"
    return Choice(
        method,
        f"its cross-validated error, {means[method]:.2f}°, is within {limit} of that of the "
        f"{best.label}, {means[best]:.2f}°, and it {why}",
    )
