"""Whom bench/accuracy.py calibrates: their frames, and which targets serve what."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.common.provenance import code_version
from custom_gaze.config.params import EvaluateParams, Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample, labels_deg

if TYPE_CHECKING:
    from accuracy_results import Outcome

SEED = 1  # of the folds, the augmented samples and the training
DAYS = ("day1", "day2")  # of a simulated person
PARAMS = replace(Params(), sessions=(DAYS[0],), evaluate=EvaluateParams(sessions=(DAYS[1],)))
SAMPLES_AN_EPOCH = 500  # at most: with many frames each gets fewer
VALIDATION_SHARE, VALIDATION_LEAST = 0.2, 2  # of the targets calibrated on
LEAST_TARGETS = 4


@dataclass(frozen=True)
class Settings:
    """What is measured. Grids are (columns, rows) of a simulated person's targets."""

    purpose: str  # a key of PERSON_SEEDS, or `people`
    targets: tuple[int, ...] = (9, 16, 25, 50, 100)
    grid: tuple[int, int] = (12, 10)
    other_day_grid: tuple[int, int] = (5, 5)
    frames_per_target: int = 1
    held_out: int = 20  # targets of the calibration's session, for testing at every k
    samples: int = 10  # augmented, of each training frame
    epochs: int = 50  # of the specification's recipe
    steps: int = PARAMS.train.steps  # of the product's
    visits: int = PARAMS.train.visits  # likewise
    methods: tuple[str, ...] = ()  # keys of accuracy_methods.METHODS; none: all

    def samples_at(self, train_frames: int) -> int:
        """Augmented samples of each frame, so that an epoch has at most SAMPLES_AN_EPOCH."""
        return min(self.samples, max(1, SAMPLES_AN_EPOCH // max(1, train_frames) - 1))


class World(Protocol):
    """Where persons come from. All that decides about them is in `key`; jobs carry a world to
    other processes and machines."""

    @property
    def names(self) -> tuple[str, ...]:
        """The persons', each measured once."""

    def key(self, name: str) -> str:
        """Names a person's frames and the code that prepares them, without preparing anything."""

    def person(self, name: str, work: Path) -> "Person":
        """The person's frames, prepared below `work`, where an earlier call left them.

        Raises:
            InputError: they cannot be prepared.
        """

    def facts(self, outcomes: "Sequence[Outcome]") -> list[str]:
        """What of the persons that were measured a reader has to know, a line each."""


@dataclass(frozen=True)
class Person:
    """A person's prepared frames, those of the session calibrated on first.

    Attributes:
        name: the person's, unique in its world.
        seed: of what is drawn for the person.
        paths: of the project that prepared them.
        samples: (N) frames of all sessions.
        labels_deg: (N, 2) the targets' angles.
        targets: (N,) the number of each frame's target.
        test: rows of the held-out targets of the first session.
        other: rows of the other sessions; there may be none.
        order: the numbers of the remaining targets; the first k are calibrated on.
        crop_from: what the crops were cut by: the detector's box or the mesh.
    """

    name: str
    seed: int
    paths: Paths
    samples: tuple[Sample, ...]
    labels_deg: NDArray[np.float64]
    targets: NDArray[np.int64]
    test: NDArray[np.int64]
    other: NDArray[np.int64]
    order: NDArray[np.int64]
    crop_from: str

    def calibration(self, k: int) -> NDArray[np.int64]:
        """Rows of the first k targets' frames."""
        return np.flatnonzero(np.isin(self.targets, self.order[:k]))

    def split(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The calibration's rows as (training, validation), divided by target."""
        chosen = self.order[:k]
        count = max(VALIDATION_LEAST, round(VALIDATION_SHARE * len(chosen)))
        points = np.array([self.labels_deg[self.targets == target][0] for target in chosen])
        held = chosen[spread_choice(points, count, np.random.default_rng([self.seed, k]))]
        rows = self.calibration(k)
        validates = np.isin(self.targets[rows], held)
        return rows[~validates], rows[validates]


def person_of(
    name: str,
    seed: int,
    paths: Paths,
    sessions: tuple[Sequence[Sample], Sequence[Sample]],
    targets: NDArray[np.int64],
    held_out: int,
    crop_from: str,
) -> Person:
    """A person of prepared frames.

    Args:
        name, seed, paths, crop_from: as in `Person`.
        sessions: the frames of the session calibrated on, and those of all others.
        targets: (N,) the target's number of each of them.
        held_out: so many targets of the first session are tested on.
    """
    own, others = sessions
    samples = (*own, *others)
    labels = labels_deg(samples).astype(np.float64)
    numbers = np.unique(targets[: len(own)])
    points = np.array([labels[targets == number][0] for number in numbers])
    held = spread_choice(points, held_out, np.random.default_rng(seed))
    left = np.setdiff1d(np.arange(len(numbers)), held)
    order = numbers[left[farthest_first(points[left])]]
    test = np.flatnonzero(np.isin(targets, numbers[held]))
    other = np.arange(len(own), len(samples))
    return Person(name, seed, paths, samples, labels, targets, test, other, order, crop_from)


def check_targets(wanted: Sequence[int], present: int, held_out: int, whose: str) -> None:
    """Refuse numbers of calibration targets that a session of `present` targets does not have.

    Raises:
        InputError: one is out of range.
    """
    most = present - held_out
    for k in wanted:
        if not LEAST_TARGETS <= k <= most:
            raise InputError(
                f"--targets names {k}; choose from {LEAST_TARGETS} to {most} ({whose} has "
                f"{present} targets, of which {held_out} are held out)"
            )


def source_hash(modules: Sequence[str]) -> str:
    """Names some of the package's modules' code, so that results of other code are not reused."""
    return hash_of(*(code_version(module) for module in modules))


def hash_of(*parts: str) -> str:
    """Twelve hexadecimal digits that name these parts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def farthest_first(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """An order (N,) of points (N, 2) whose every beginning is spread over them all.

    It begins next to the middle; each next point is the one farthest from those before it
    (Gonzalez 1985). On a screen's grid the first nine are the middle, the corners and the edges'
    middles: the targets a user with nine points would choose.
    """
    distance = np.hypot(*(points - (points.min(axis=0) + points.max(axis=0)) / 2).T)
    order = [int(np.argmin(distance))]
    nearest = np.full(len(points), np.inf)
    while len(order) < len(points):
        nearest = np.minimum(nearest, np.hypot(*(points - points[order[-1]]).T))
        nearest[order[-1]] = -1
        order.append(int(np.argmax(nearest)))
    return np.array(order)


def spread_choice(
    points: NDArray[np.float64], count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw `count` of the points (N, 2), one from each of as many parts of the screen: (count,).

    The parts come from halving the screen across its longer side again and again, and have as
    nearly the same number of points as that allows.
    """

    def drawn(part: NDArray[np.int64], wanted: int) -> list[int]:
        if wanted == 1:
            return [int(generator.choice(part))]
        inside = points[part]
        axis = int(np.argmax(np.ptp(inside, axis=0)))
        part = part[np.lexsort((inside[:, 1 - axis], inside[:, axis]))]
        less = wanted // 2
        cut = round(len(part) * less / wanted)
        return drawn(part[:cut], less) + drawn(part[cut:], wanted - less)

    return np.array(drawn(np.arange(len(points)), count))
