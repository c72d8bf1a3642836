"""The headline: of the test part where that is large enough, else of cross-validation."""

import numpy as np
import pytest

from custom_gaze.evaluation.headline import CrossValidated, headline_of
from custom_gaze.evaluation.metrics import Measure, measure

DEG_PER_PIXEL = 0.05
CROSSED = CrossValidated(np.array([2.0, 4.0, 6.0, 8.0]), [0, 0, 1, 2], 9.0)


def of_targets(targets: int) -> Measure:
    true = np.zeros((2 * targets, 2))
    predicted = true + np.array([3.0, 0.0])
    return measure(predicted, true, list(range(targets)) * 2, DEG_PER_PIXEL)


@pytest.mark.parametrize("targets", [2, 3])
def test_two_or_three_test_targets_are_no_headline(targets: int) -> None:
    headline = headline_of(of_targets(targets), 7.0, CROSSED, DEG_PER_PIXEL)
    assert headline.measured == "cross-validated"
    assert (headline.error_deg, headline.error_px, headline.correction_deg) == (5.0, 100.0, 9.0)
    assert (headline.frames, headline.targets) == (4, 3)
    assert headline.low_deg is not None
    assert headline.low_deg < 5.0 < (headline.high_deg or 0)
    assert headline.measured_on == "cross-validated over 4 frames of 3 calibration targets"
    assert not headline.few


def test_four_are_and_of_fewer_without_cross_validation_it_says_so() -> None:
    headline = headline_of(of_targets(4), 7.0, CROSSED, DEG_PER_PIXEL)
    assert headline.measured == "held-out targets"
    assert (headline.error_deg, headline.error_px, headline.correction_deg) == (3.0, 60.0, 7.0)
    assert headline.measured_on == "on 8 frames of 4 held-out targets"
    alone = headline_of(of_targets(2), None, None, DEG_PER_PIXEL)
    assert (alone.measured, alone.few, alone.correction_deg) == ("held-out targets", True, None)
    assert alone.measured_on == "on 4 frames of 2 held-out targets: too few to go by"
    assert alone.low_deg is None
