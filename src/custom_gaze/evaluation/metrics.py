"""Errors with their uncertainty: what every figure in the reports is made of."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator

from custom_gaze.common.stage_files import Strict
from custom_gaze.geometry import angular_error_deg

LEAST_TARGETS = 3  # two differ, but say nothing about by how much targets differ
Degrees = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]


class MeanError(Strict):
    """A mean angular error over frames, in degrees and in screen pixels, and of how many."""

    model_config = ConfigDict(frozen=True)

    error_deg: Degrees
    low_deg: Degrees | None = None  # 95 % interval of the mean; None below LEAST_TARGETS targets
    high_deg: Degrees | None = None
    error_px: float = Field(ge=0.0)
    frames: Count
    targets: Count

    @model_validator(mode="after")
    def _whole_interval(self) -> "MeanError":
        if (self.low_deg is None) != (self.high_deg is None):
            raise ValueError("low_deg and high_deg go together")
        return self

    def as_dict(self) -> dict[str, float | int]:
        """Plain values of what there is, rounded to what the measurement can tell (0.001)."""
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in self.model_dump(exclude_none=True).items()
        }


class Measure(MeanError):
    """The same, and how the frames' errors are spread."""

    median_deg: Degrees
    p95_deg: Degrees


def mean_error(
    errors_deg: NDArray[np.float64], targets: Sequence[object], deg_per_pixel: float
) -> MeanError:
    """The mean of frames' angular errors (N,) in degrees, N ≥ 1.

    `targets` (N) says which frames share a target: they are one observation made several times,
    and an interval over frames would be narrower than it is.
    """
    low, high = mean_interval(errors_deg, targets) or (None, None)
    mean = float(errors_deg.mean())
    return MeanError(
        error_deg=mean,
        low_deg=low,
        high_deg=high,
        error_px=mean / deg_per_pixel,
        frames=len(errors_deg),
        targets=len(set(targets)),
    )


def measure(
    predicted_deg: NDArray[np.floating],
    true_deg: NDArray[np.floating],
    targets: Sequence[object],
    deg_per_pixel: float,
) -> Measure:
    """Measure (N, 2) predictions against (N, 2) truths, [yaw, pitch] in degrees, N ≥ 1; `targets`
    as in `mean_error`."""
    errors = angular_error_deg(predicted_deg, true_deg)
    return Measure(
        **mean_error(errors, targets, deg_per_pixel).model_dump(),
        median_deg=float(np.median(errors)),
        p95_deg=float(np.percentile(errors, 95)),
    )


def mean_interval(
    values: NDArray[np.float64], clusters: Sequence[object]
) -> tuple[float, float] | None:
    """The 95 % interval of the mean of values (N,) ≥ 0; None below LEAST_TARGETS clusters.

    Student's t with one degree of freedom less than clusters, on the mean's logarithm: errors are
    skewed to the right, and the interval with them. The mean's standard error is that of a ratio,
    the clusters' sums over their sizes (Cochran 1977, "Sampling Techniques", chapter 6), so that
    clusters may differ in size; the logarithm's follows by the delta method.

    `python bench/interval_coverage.py` measures how often it covers the mean, and how often others
    do: of five targets 92 to 95 %, where bootstrap percentiles, expanded, cover 85 to 91 %.
    """
    from scipy.stats import t

    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    count = len(numbers)
    if count < LEAST_TARGETS:
        return None
    group = np.array([numbers[name] for name in clusters])
    mean = float(values.mean())
    if mean == 0.0:
        return 0.0, 0.0
    residuals = np.bincount(group, values) - mean * np.bincount(group)
    error = float(np.sqrt(count / (count - 1) * (residuals**2).sum())) / len(values)
    factor = float(np.exp(t.ppf(0.975, count - 1) * error / mean))
    return mean / factor, mean * factor
