"""The split: whole targets go to training, validation or test, never single frames."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.config.params import SplitParams

TRAIN, VALIDATION, TEST, CROSS_SESSION = "train", "validation", "test", "cross_session"
SIDES = (TRAIN, VALIDATION, TEST, CROSS_SESSION)
MIN_TARGETS = 5  # three to train on, one to validate, one to test


class OnScreen(Protocol):
    """A frame, a label or a sample: what has a target on the screen, in pixels."""

    @property
    def target_x_px(self) -> float: ...
    @property
    def target_y_px(self) -> float: ...


def points_px(frames: Sequence[OnScreen]) -> NDArray[np.float64]:
    """The frames' targets (N, 2) [x, y] in pixels."""
    points = [[frame.target_x_px, frame.target_y_px] for frame in frames]
    return np.array(points, np.float64).reshape(-1, 2)


def number_targets(frames: Sequence[OnScreen], tolerance_px: float) -> NDArray[np.int64]:
    """The numbers (N,) of some frames' targets, as `target_groups` gives them.

    An indexed frame has its number already: data/index.py.
    """
    return target_groups(points_px(frames), tolerance_px)


def target_groups(points_px: NDArray[np.float64], tolerance_px: float) -> NDArray[np.int64]:
    """Number the targets: points (N, 2) in pixels → labels (N,), counted by first appearance.

    Points closer than `tolerance_px` share a target, and so do points linked by a chain of such
    pairs (single linkage): whatever the tolerance, no two frames on opposite sides of a split are
    closer to each other than that. scipy's single linkage rounds a distance in another way, so
    that one equal to the tolerance may fall on the other side, and takes no single point.
    """
    labels = np.full(len(points_px), -1, dtype=np.int64)
    count = 0
    for start in range(len(points_px)):
        if labels[start] >= 0:
            continue
        labels[start] = count
        waiting = [start]
        while waiting:
            distance = np.hypot(*(points_px - points_px[waiting.pop()]).T)
            near = np.flatnonzero((distance <= tolerance_px) & (labels < 0))
            labels[near] = count
            waiting.extend(near.tolist())
        count += 1
    return labels


def split_by_target(
    points_px: NDArray[np.float64], groups: NDArray[np.int64], params: SplitParams
) -> list[str]:
    """Give each frame its side, 'train', 'validation' or 'test', by its target's number (N,).

    At least one target goes to validation and one to test; the shares are rounded to whole
    targets. The held-out targets are drawn at random from equal stretches of a path that runs up
    and down the screen, one from each, so that they lie all over the screen whatever the seed:
    with five test targets a plain draw often leaves a whole side of the screen untested.

    Raises:
        InputError: there are fewer than 5 targets.
    """
    targets = int(groups.max()) + 1 if len(groups) else 0
    if targets < MIN_TARGETS:
        raise InputError(
            f"the sessions hold {targets} different targets, and a split into training, "
            f"validation and test needs {MIN_TARGETS}; capture more points, or lower "
            "split.same_target_px if different targets were taken for one"
        )
    counts = np.bincount(groups)
    centers = np.stack([np.bincount(groups, axis) / counts for axis in points_px.T], axis=1)
    generator = np.random.default_rng(params.seed)
    left = _path_over_screen(centers)
    side = np.full(targets, TRAIN, dtype=object)
    for name, share in ((TEST, params.test_share), (VALIDATION, params.validation_share)):
        wanted = max(1, round(share * targets))
        drawn = [int(generator.choice(stretch)) for stretch in np.array_split(left, wanted)]
        side[drawn] = name
        left = left[~np.isin(left, drawn)]
    return [str(side[group]) for group in groups]


def _path_over_screen(centers_px: NDArray[np.float64]) -> NDArray[np.int64]:
    """The targets' numbers along a path: down one column of the screen, up the next one."""
    columns = max(1, round(len(centers_px) ** 0.5))
    by_x = np.array_split(np.lexsort((centers_px[:, 1], centers_px[:, 0])), columns)
    parts = [
        column[np.argsort(centers_px[column, 1], kind="stable")][:: -1 if number % 2 else 1]
        for number, column in enumerate(by_x)
    ]
    return np.concatenate(parts)
