import numpy as np
import pytest

from custom_gaze.calibration.base_features import BaseFeatures
from custom_gaze.data.splits import CROSS_SESSION, TEST
from custom_gaze.evaluation.learning_curve import (
    DRAWS,
    MORE_TARGETS,
    _expected,
    learning_curves,
)

FEATURES = np.random.default_rng(3).normal(size=(2, 30))


def frames(targets: int, seed: int, noise: float = 1.0) -> BaseFeatures:
    """Two frames a target, whose features tell the gaze, each of them a little."""
    rng = np.random.default_rng(seed)
    true = np.repeat(rng.uniform(-20, 20, (targets, 2)), 2, axis=0)
    features = true @ FEATURES + noise * 20 * rng.normal(size=(len(true), 30))
    base = 0.2 * true + rng.normal(size=true.shape)
    return BaseFeatures(features, base, true, np.repeat(np.arange(targets), 2))


def test_more_targets_bring_less_error_and_the_estimate_goes_on_from_there() -> None:
    tested = {TEST: frames(5, 11), CROSS_SESSION: frames(16, 12)}
    curves = learning_curves(frames(40, 10), tested, seed=1)
    assert [curve.group for curve in curves] == [TEST, CROSS_SESSION]
    for curve in curves:
        sizes = [point.targets for point in curve.points]
        assert sizes[0] == 6
        assert sizes[-1] == 40
        assert sizes == sorted(set(sizes))
        for point in curve.points:
            assert point.low_deg <= point.error_deg <= point.high_deg
        assert curve.points[-1].low_deg == curve.points[-1].high_deg  # all of them: one draw
        assert curve.points[-1].error_deg < 0.8 * curve.points[0].error_deg
    more = curves[1].expected
    assert more is not None
    assert more.targets == 40 + MORE_TARGETS
    assert 0.5 * curves[1].points[-1].error_deg < more.error_deg < curves[1].points[-1].error_deg
    assert more.low_deg <= more.error_deg <= more.high_deg
    assert curves == learning_curves(frames(40, 10), tested, seed=1)
    assert curves != learning_curves(frames(40, 10), tested, seed=2)


def test_the_last_point_is_the_probe_on_all_targets() -> None:
    from custom_gaze.calibration.candidates import closed_forms
    from custom_gaze.config.candidate import Candidate
    from custom_gaze.geometry import angular_error_deg

    known, tested = frames(14, 20), frames(6, 21)
    [curve] = learning_curves(known, {TEST: tested}, seed=1)
    probe = closed_forms(known, 1)[Candidate.PROBE]
    errors = angular_error_deg(probe.predict(tested.features, tested.base_deg), tested.true_deg)
    assert curve.points[-1].error_deg == pytest.approx(errors.mean())


def test_the_estimate_is_the_power_law_that_the_errors_follow() -> None:
    sizes = np.array([6, 10, 20, 40])
    errors = np.tile(12.0 * sizes**-0.5, (DRAWS, 1))
    more = _expected(sizes, errors)
    assert more is not None
    assert more.error_deg == pytest.approx(12.0 * 65**-0.5)
    assert (more.low_deg, more.high_deg) == pytest.approx((more.error_deg, more.error_deg))
    assert _expected(sizes, np.full((DRAWS, 4), 3.0)) is None  # a curve that does not fall
    assert _expected(sizes, np.tile([3.0, 3.1, 3.2, 3.3], (DRAWS, 1))) is None


def test_there_is_no_curve_over_few_targets_or_without_angles() -> None:
    assert learning_curves(frames(11, 1), {TEST: frames(3, 2)}, seed=1) == []
    assert learning_curves(None, {TEST: None}, seed=1) == []
    assert learning_curves(frames(500, 1), {TEST: frames(3, 2)}, seed=1) == []  # too long a wait
