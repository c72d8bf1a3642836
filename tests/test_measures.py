import numpy as np
import pytest

from custom_gaze.demo.session import grid_targets
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.measures import measure
from custom_gaze.splits import target_groups


def test_the_figures_of_known_errors() -> None:
    truth = np.zeros((4, 2))
    predicted = np.array([[3.0, 4.0], [0.0, 1.0], [6.0, 8.0], [0.0, 0.0]])  # 5, 1, 10, 0
    result = measure(predicted, truth, ["a", "a", "b", "c"], 0.5, bootstrap=500, seed=1)
    assert (result.error_deg, result.median_deg, result.error_px) == (4.0, 3.0, 8.0)
    assert result.p95_deg == pytest.approx(np.percentile([5, 1, 10, 0], 95))
    assert (result.frames, result.targets) == (4, 3)
    assert result.low_deg < 4.0 < result.high_deg


@pytest.mark.parametrize("count", [5, 10, 20])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(count: int) -> None:
    """Frames of one target share an error: an interval over frames would cover far less often."""
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        shared = np.repeat(generator.gamma(2.0, 1.0, count), 5)  # 5 frames a target, mean 2
        predicted = np.stack([shared, np.zeros(5 * count)], axis=1)
        targets = np.repeat(np.arange(count), 5).tolist()
        result = measure(predicted, np.zeros((5 * count, 2)), targets, 0.03, 300, seed=trial)
        covered += result.low_deg <= 2.0 <= result.high_deg
    assert 0.84 < covered / 300 < 0.99


def test_frames_of_one_target_make_the_interval_no_narrower() -> None:
    """16 targets with 2 frames each, a pixel apart, are 16 observations and not 32."""
    generator = np.random.default_rng(3)
    points = np.repeat(grid_targets((4, 4), ScreenGeometry()), 2, axis=0)
    points += generator.uniform(-3, 3, points.shape)
    targets = target_groups(points, 20.0)
    error = np.repeat(generator.gamma(4.0, 1.0, 16), 2)
    predicted = np.stack([error, np.zeros(32)], axis=1)
    of_targets, of_frames = (
        measure(predicted, np.zeros((32, 2)), names, 0.03, 2000, 1)
        for names in (targets.tolist(), list(range(32)))
    )
    assert of_targets.targets == 16
    width, too_narrow = (one.high_deg - one.low_deg for one in (of_targets, of_frames))
    assert width > 1.35 * too_narrow  # about the square root of two


def test_the_interval_follows_from_the_seed() -> None:
    generator = np.random.default_rng(0)
    predicted = generator.normal(size=(30, 2))
    targets = list(range(30))
    one, same, other = (
        measure(predicted, np.zeros((30, 2)), targets, 0.03, 200, seed) for seed in (1, 1, 2)
    )
    assert one == same
    assert (one.low_deg, one.high_deg) != (other.low_deg, other.high_deg)


def test_one_target_has_no_spread() -> None:
    result = measure(np.ones((3, 2)), np.zeros((3, 2)), ["a"] * 3, 0.03, 200, 1)
    assert result.low_deg == result.high_deg == pytest.approx(2**0.5)
