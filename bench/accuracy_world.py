"""The simulated persons of bench/accuracy.py: two sessions each, drawn and prepared."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from accuracy_person import (
    DAYS,
    PARAMS,
    Person,
    Settings,
    check_targets,
    hash_of,
    person_of,
    source_hash,
)
from accuracy_results import Outcome
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import whole_folder, write_bytes
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import of_split, read_index, read_manifests, targets_of
from custom_gaze.data.splits import CROSS_SESSION
from custom_gaze.demo.seeds import PERSON_SEEDS, check_person_seed
from custom_gaze.demo.session import write_session
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.faces.finder import DETECTOR_FILE
from custom_gaze.stages import index, prepare

# What decides about the crops: these modules, and what they import.
WORLD_CODE = ("stages.prepare", "data.index", "demo.session")

QUICK: dict[str, Any] = {
    "targets": (9, 16),
    "grid": (6, 4),
    "other_day_grid": (3, 3),
    "held_out": 6,
    "samples": 2,
    "epochs": 4,
    "steps": 12,
    "visits": 8,
}


@dataclass(frozen=True)
class DemoWorld:
    """Persons by their seeds; each is a `World`'s person under its number."""

    seeds: tuple[int, ...]
    settings: Settings

    def __post_init__(self) -> None:
        columns, rows = self.settings.grid
        check_targets(self.settings.targets, columns * rows, self.settings.held_out, "a session")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(str, self.seeds))

    def key(self, name: str) -> str:
        parts = asdict(self.settings)
        shown = {each: parts[each] for each in ("grid", "other_day_grid", "frames_per_target")}
        return hash_of(json.dumps(shown), source_hash(WORLD_CODE))

    def person(self, name: str, work: Path) -> Person:
        folder = work / "persons" / f"{name}-{self.key(name)}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # two jobs may begin with the same person
            if not folder.exists():
                with whole_folder(folder) as temporary:
                    _make_project(int(name), self.settings, Paths(temporary))
        paths = Paths(folder)
        samples = read_index(paths.index)
        own = [sample for sample in samples if sample.split != CROSS_SESSION]
        others = of_split(samples, CROSS_SESSION)
        targets = targets_of([*own, *others])
        crop_from = read_manifests(paths.index_manifests)[0].crop_from
        held_out = self.settings.held_out
        return person_of(name, int(name), paths, (own, others), targets, held_out, crop_from)

    def facts(self, outcomes: Sequence[Outcome]) -> list[str]:
        settings = self.settings
        purpose = "" if settings.purpose == "bench" else f" of the {settings.purpose} range"
        return [
            f"simulated persons{purpose}, seeds {', '.join(self.names)}; {_grid(settings.grid)} "
            f"targets in the first session, {settings.held_out} of them held out, "
            f"{_grid(settings.other_day_grid)} in the other one, on another day, frames of each: "
            f"{settings.frames_per_target}"
        ]


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
        prepare.run(DAYS[day - 1], PARAMS, paths, progress=False)
    index.run(PARAMS, paths)


def _grid(grid: tuple[int, int]) -> str:
    return f"{grid[0]}×{grid[1]}"
