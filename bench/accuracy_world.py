"""The persons of bench/accuracy.py: their sessions, their crops, and which targets serve what."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import whole_folder, write_bytes
from custom_gaze.common.provenance import code_version
from custom_gaze.config.params import EvaluateParams, Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample, labels_deg, of_split, read_index, targets_of
from custom_gaze.data.splits import CROSS_SESSION
from custom_gaze.demo.seeds import PERSON_SEEDS, check_person_seed
from custom_gaze.demo.session import write_session
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.faces.finder import DETECTOR_FILE
from custom_gaze.stages import index, prepare

DAYS = ("day1", "day2")
PARAMS = replace(Params(), sessions=(DAYS[0],), evaluate=EvaluateParams(sessions=(DAYS[1],)))
SAMPLES_AN_EPOCH = 500  # at most: with many frames each gets fewer
VALIDATION_SHARE, VALIDATION_LEAST = 0.2, 2  # of the targets calibrated on
LEAST_TARGETS = 4
# What decides about the crops: these modules, and what they import.
WORLD_CODE = ("stages.prepare", "data.index", "demo.session")


@dataclass(frozen=True)
class Settings:
    """What is measured. Grids are (columns, rows) of targets."""

    purpose: str  # a key of PERSON_SEEDS
    targets: tuple[int, ...] = (9, 16, 25, 50, 100)
    grid: tuple[int, int] = (12, 10)
    other_day_grid: tuple[int, int] = (5, 5)
    frames_per_target: int = 1
    held_out: int = 20  # targets of the first day, for testing at every k
    samples: int = 10  # augmented, of each training frame
    epochs: int = 50  # of the specification's recipe
    steps: int = PARAMS.train.steps  # of the product's
    methods: tuple[str, ...] = ()  # keys of accuracy_methods.METHODS; none: all

    def samples_at(self, train_frames: int) -> int:
        """Augmented samples of each frame, so that an epoch has at most SAMPLES_AN_EPOCH."""
        return min(self.samples, max(1, SAMPLES_AN_EPOCH // max(1, train_frames) - 1))


QUICK = {
    "targets": (9, 16),
    "grid": (6, 4),
    "other_day_grid": (3, 3),
    "held_out": 6,
    "samples": 2,
    "epochs": 4,
    "steps": 12,
}


@dataclass(frozen=True)
class Person:
    """A person's prepared frames, first day first.

    Attributes:
        seed: the person's.
        paths: of the project that prepared them.
        samples: (N) frames of both days.
        labels_deg: (N, 2) the targets' angles.
        targets: (N,) the number of each frame's target.
        test: rows of the held-out targets of the first day.
        other_day: rows of the other day.
        order: the numbers of the remaining targets; the first k are calibrated on.
    """

    seed: int
    paths: Paths
    samples: tuple[Sample, ...]
    labels_deg: NDArray[np.float64]
    targets: NDArray[np.int64]
    test: NDArray[np.int64]
    other_day: NDArray[np.int64]
    order: NDArray[np.int64]

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


def person_seeds(purpose: str, count: int | None, seeds: Sequence[int] | None) -> tuple[int, ...]:
    """The seeds asked for, each checked against the purpose's range; else the first `count`.

    Raises:
        InputError: a seed is not one for the purpose or named twice, or there are not that many.
    """
    allowed = PERSON_SEEDS[purpose]
    if seeds is None:
        if count is None or not 1 <= count <= len(allowed):
            raise InputError(f"--persons is {count}; choose from 1 to {len(allowed)}")
        seeds = allowed[:count]
    if len(set(seeds)) < len(seeds):
        raise InputError("--seeds names a person twice; each is measured once")
    return tuple(check_person_seed(seed, purpose) for seed in seeds)


def check_targets(settings: Settings) -> None:
    """Refuse numbers of calibration targets that cannot be measured.

    Raises:
        InputError: one is out of range.
    """
    most = settings.grid[0] * settings.grid[1] - settings.held_out
    for k in settings.targets:
        if not LEAST_TARGETS <= k <= most:
            raise InputError(
                f"--targets names {k}; choose from {LEAST_TARGETS} to {most} (a session has "
                f"{most + settings.held_out} targets, of which {settings.held_out} are held out)"
            )


def prepared_person(seed: int, settings: Settings, work: Path) -> Person:
    """Draw a person's two sessions and prepare them, in a project of their own below `work`.

    What an earlier run prepared with the same code and settings is used again.

    Raises:
        InputError: too many of the frames show no face that the detector finds.
    """
    folder = work / "persons" / f"{seed}-{_world_key(settings)}"
    if not folder.exists():
        with whole_folder(folder) as temporary:
            _make_project(seed, settings, Paths(temporary))
    paths = Paths(folder)
    samples = read_index(paths.index)
    own = tuple(sample for sample in samples if sample.split != CROSS_SESSION)
    samples = (*own, *of_split(samples, CROSS_SESSION))
    targets = targets_of(samples)
    labels = labels_deg(samples).astype(np.float64)
    numbers = np.unique(targets[: len(own)])
    points = np.array([labels[targets == number][0] for number in numbers])
    held = spread_choice(points, settings.held_out, np.random.default_rng(seed))
    left = np.setdiff1d(np.arange(len(numbers)), held)
    order = numbers[left[farthest_first(points[left])]]
    test = np.flatnonzero(np.isin(targets, numbers[held]))
    other_day = np.arange(len(own), len(samples))
    return Person(seed, paths, samples, labels, targets, test, other_day, order)


def _make_project(seed: int, settings: Settings, paths: Paths) -> None:
    write_bytes(paths.faces / DETECTOR_FILE, embedded_detector())
    for day, grid in enumerate((settings.grid, settings.other_day_grid), start=1):
        write_session(
            paths.sessions / DAYS[day - 1],
            person=seed,
            day=day,
            grid=grid,
            frames_per_target=settings.frames_per_target,
            purpose=settings.purpose,
        )
        prepare.run(DAYS[day - 1], PARAMS, paths)
    index.run(PARAMS, paths)


def _world_key(settings: Settings) -> str:
    parts = asdict(settings)
    shown = {name: parts[name] for name in ("grid", "other_day_grid", "frames_per_target")}
    return hash_of(json.dumps(shown), source_hash(WORLD_CODE))


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
