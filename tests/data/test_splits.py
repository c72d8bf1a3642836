import numpy as np
import pytest

from custom_gaze.common.errors import InputError
from custom_gaze.config.params import SplitParams
from custom_gaze.data.splits import split_by_target, target_groups

SIDES = {"train", "validation", "test"}


def grid(columns: int, rows: int, per_target: int, jitter_px: float = 0.0) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(50, 1680, columns), np.linspace(40, 1080, rows))
    points = np.repeat(np.stack([x.ravel(), y.ravel()], 1), per_target, axis=0)
    return points + np.random.default_rng(0).uniform(-jitter_px, jitter_px, points.shape)


def test_frames_of_one_target_share_a_number() -> None:
    groups = target_groups(grid(5, 5, 3, jitter_px=5), 20.0)
    assert groups.tolist() == [number for number in range(25) for _ in range(3)]


def test_a_chain_of_near_targets_is_one_target() -> None:
    points = np.array([[0.0, 0], [15, 0], [30, 0], [100, 0]])
    assert target_groups(points, 20.0).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize(("columns", "rows", "per_target"), [(3, 3, 1), (5, 5, 2), (10, 10, 1)])
def test_no_target_is_on_both_sides(columns: int, rows: int, per_target: int, seed: int) -> None:
    points = grid(columns, rows, per_target, jitter_px=4)
    groups = target_groups(points, 20.0)
    sides = np.array(split_by_target(points, groups, SplitParams(seed=seed)))
    assert set(sides) == SIDES
    for first in SIDES:
        for second in SIDES - {first}:
            here, there = points[sides == first], points[sides == second]
            assert np.hypot(*(here[:, None] - there[None]).transpose(2, 0, 1)).min() > 20.0
    targets = {side: len(set(groups[sides == side])) for side in SIDES}
    count = columns * rows
    assert targets["test"] == targets["validation"] == max(1, round(0.2 * count))
    assert sum(targets.values()) == count


def test_random_targets_with_chains_keep_their_distance() -> None:
    generator = np.random.default_rng(3)
    for seed in range(20):
        points = generator.uniform(0, 400, (60, 2))
        groups = target_groups(points, 20.0)
        sides = np.array(split_by_target(points, groups, SplitParams(seed=seed)))
        distance = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
        assert distance[sides[:, None] != sides[None]].min() > 20.0


def test_held_out_targets_lie_all_over_the_screen() -> None:
    points = grid(5, 5, 1)
    groups = target_groups(points, 20.0)
    for seed in range(20):
        sides = np.array(split_by_target(points, groups, SplitParams(seed=seed)))
        assert len(set(points[sides == "test", 0])) == 5  # one in each column


def test_the_seed_decides() -> None:
    points = grid(5, 5, 2)
    groups = target_groups(points, 20.0)
    draws = [tuple(split_by_target(points, groups, SplitParams(seed=seed))) for seed in range(8)]
    assert draws[3] == tuple(split_by_target(points, groups, SplitParams(seed=3)))
    assert len(set(draws)) > 4


def test_too_few_targets_are_refused() -> None:
    points = grid(2, 2, 5)
    with pytest.raises(InputError, match=r"4 different targets.*needs 5"):
        split_by_target(points, target_groups(points, 20.0), SplitParams())
