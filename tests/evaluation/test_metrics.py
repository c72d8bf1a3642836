import sys

import numpy as np
import pytest

from conftest import REPOSITORY
from custom_gaze.data.splits import target_groups
from custom_gaze.demo.session import grid_targets
from custom_gaze.evaluation.metrics import mean_interval, measure
from custom_gaze.geometry import ScreenGeometry

sys.path.append(str(REPOSITORY / "bench"))  # the bench is a program, no package

import interval_coverage


def test_the_figures_of_known_errors() -> None:
    truth = np.zeros((4, 2))
    predicted = np.array([[3.0, 4.0], [0.0, 1.0], [6.0, 8.0], [0.0, 0.0]])  # 5, 1, 10, 0
    result = measure(predicted, truth, ["a", "a", "b", "c"], 0.5)
    assert (result.error_deg, result.median_deg, result.error_px) == (4.0, 3.0, 8.0)
    assert result.p95_deg == pytest.approx(np.percentile([5, 1, 10, 0], 95))
    assert (result.frames, result.targets) == (4, 3)
    # Sums 6, 10, 0 of 2, 1, 1 frames: residuals -2, 6, -4 from the mean 4. The standard error is
    # √(3/2 · 56) / 4 = 2.291, t for two degrees of freedom 4.303, the factor exp(4.303 · 2.291/4).
    assert (result.low_deg, result.high_deg) == pytest.approx((0.340, 47.03), rel=2e-3)


@pytest.mark.parametrize("count", [3, 5, 16])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(count: int) -> None:
    """Frames of one target share an error: an interval over frames would cover far less often."""
    generator = np.random.default_rng(0)
    targets = np.repeat(np.arange(count), 5).tolist()
    covered = 0
    for _ in range(400):
        shared = np.repeat(generator.gamma(2.0, 1.0, count), 5)  # 5 frames a target, mean 2
        low, high = mean_interval(shared, targets) or (np.inf, np.inf)
        covered += low <= 2.0 <= high
    assert 0.91 < covered / 400 < 0.98


def test_frames_of_one_target_make_the_interval_no_narrower() -> None:
    """16 targets with 2 frames each, a pixel apart, are 16 observations and not 32."""
    generator = np.random.default_rng(3)
    points = np.repeat(grid_targets((4, 4), ScreenGeometry()), 2, axis=0)
    points += generator.uniform(-3, 3, points.shape)
    targets = target_groups(points, 20.0)
    error = np.repeat(generator.gamma(4.0, 1.0, 16), 2)
    predicted = np.stack([error, np.zeros(32)], axis=1)
    of_targets, of_frames = (
        measure(predicted, np.zeros((32, 2)), names, 0.03)
        for names in (targets.tolist(), list(range(32)))
    )
    assert (of_targets.targets, of_frames.targets) == (16, 32)
    width, too_narrow = (
        np.log(one.high_deg / one.low_deg) for one in (of_targets, of_frames) if one.low_deg
    )
    assert width == pytest.approx(2**0.5 * too_narrow, rel=0.1)


@pytest.mark.parametrize("targets", [["a"] * 4, ["a", "a", "b", "b"]], ids=["one", "two"])
def test_one_or_two_targets_have_no_interval(targets: list[str]) -> None:
    result = measure(np.ones((4, 2)), np.zeros((4, 2)), targets, 0.03)
    assert (result.low_deg, result.high_deg) == (None, None)
    assert set(result.as_dict()) == set(vars(result)) - {"low_deg", "high_deg"}


def test_no_error_and_equal_errors_have_an_interval_of_a_point() -> None:
    assert mean_interval(np.zeros(3), [1, 2, 3]) == (0.0, 0.0)
    assert mean_interval(np.full(6, 2.0), [1, 2, 3, 1, 2, 3]) == pytest.approx((2.0, 2.0))


def test_the_bench_tells_the_ways_apart() -> None:
    """With five targets and a long tail, the reports' interval covers most often."""
    found = interval_coverage.coverage("gamma 1", 5, 60)
    assert found["log-t"] > max(found["percentile"], found["BCa"])
    assert 0.8 < found["log-t"] <= 1.0
    assert 1.0 < found["width"] < 4.0
