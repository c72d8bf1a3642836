"""The one figure of an evaluation that is said first, and what it was measured on.

A test part of two or three targets says more about those targets than about the model: then the
headline is the error over all calibration targets, each by a fit that had not seen it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from custom_gaze.evaluation.metrics import Degrees, MeanError, Measure, mean_error

LEAST_TEST_TARGETS = 4  # of a test part that makes the headline


class Headline(MeanError):
    """The error of the exported candidate, rounded to 0.001, and of what it is the error.

    "held-out targets": of the exported file, on the test part. "cross-validated": of the candidate
    made anew for each fold of the calibration targets, on the targets left out of it; a frame's
    error is the mean of its folds'. The exported file is fitted to all of these targets, and the
    test part is not among them.
    """

    measured: Literal["held-out targets", "cross-validated"]
    correction_deg: Degrees | None = None  # the best correction's, on the same frames

    @property
    def few(self) -> bool:
        """Whether it is a test part of too few targets, for want of anything better."""
        return self.measured == "held-out targets" and self.targets < LEAST_TEST_TARGETS

    @property
    def measured_on(self) -> str:
        """What it was measured on, in words that follow the error."""
        frames = f"{self.frames} frames of {self.targets}"
        if self.measured == "cross-validated":
            return f"cross-validated over {frames} calibration targets"
        few = ": too few to go by" if self.few else ""
        return f"on {frames} held-out targets{few}"


@dataclass(frozen=True)
class CrossValidated:
    """The exported candidate's errors on calibration targets that its fits had not seen.

    Attributes:
        errors_deg: (N,) each calibration frame's.
        targets: (N,) the number of its target.
        correction_deg: the best correction's mean error, cross-validated too; None without one.
    """

    errors_deg: NDArray[np.float64]
    targets: Sequence[int]
    correction_deg: float | None


def headline_of(
    test: Measure,
    correction_deg: float | None,
    crossed: CrossValidated | None,
    deg_per_pixel: float,
) -> Headline:
    """The headline of an evaluation.

    Args:
        test: the exported file's errors on the test part, and there the best correction's mean.
        crossed: None where the candidate was not cross-validated, as the fine-tune alone is not
            (`train.method`, a base network without angles): the test part is the headline then,
            however small.
    """
    measured, mean = (
        "held-out targets",
        MeanError(**test.model_dump(include=set(MeanError.model_fields))),
    )
    if crossed is not None and test.targets < LEAST_TEST_TARGETS:
        measured, correction_deg = "cross-validated", crossed.correction_deg
        mean = mean_error(crossed.errors_deg, crossed.targets, deg_per_pixel)
    correction = {} if correction_deg is None else {"correction_deg": round(correction_deg, 3)}
    return Headline.model_validate({"measured": measured, **mean.as_dict(), **correction})
