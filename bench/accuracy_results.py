"""What bench/accuracy.py keeps: a small JSON file for each base network, person and k."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from accuracy_bases import fingerprint
from accuracy_methods import METHOD_CODE
from accuracy_world import WORLD_CODE, Settings, hash_of, source_hash
from custom_gaze.common.files import write_json
from custom_gaze.weights.base import BaseNetwork

OWN_CODE = ("accuracy_world.py", "accuracy_methods.py")


class Results:
    """One base network's results. A file's name holds all that decides about its content: the
    weights, the settings, the code; results of another code are not found."""

    def __init__(self, base: BaseNetwork, settings: Settings, work: Path) -> None:
        self.base, self.settings = base, settings
        self.weights = fingerprint(base)[:12]
        self._folder = work / "results" / self.weights
        said = {name: value for name, value in asdict(settings).items() if name != "targets"}
        own = "".join((Path(__file__).parent / name).read_text() for name in OWN_CODE)
        code = source_hash((*WORLD_CODE, *METHOD_CODE))
        self._key = hash_of(json.dumps(said), code, own, torch.__version__)

    def name(self, seed: int, k: int) -> str:
        """Names one result among all."""
        return f"{seed}-{k}-{self._key}"

    def missing(self, seed: int) -> tuple[int, ...]:
        """The k that this person has still to be measured at."""
        return tuple(k for k in self.settings.targets if not self._path(seed, k).exists())

    def write(self, seed: int, k: int, result: dict[str, Any]) -> None:
        """Keep one result."""
        write_json(self._path(seed, k), {"person": seed, "k": k, **result})

    def read(self, seeds: Sequence[int]) -> list[dict[str, Any]]:
        """The results of those persons that have every k."""
        return [
            json.loads(self._path(seed, k).read_text())
            for seed in seeds
            if not self.missing(seed)
            for k in self.settings.targets
        ]

    def _path(self, seed: int, k: int) -> Path:
        return self._folder / f"{self.name(seed, k)}.json"


@dataclass
class Clock:
    """What the work took so far, and from that what the rest will take."""

    started: float = field(default_factory=time.monotonic)
    per_person: list[float] = field(default_factory=list)  # seconds for crops and features
    per_target: list[float] = field(default_factory=list)  # seconds of a calibration, over k

    def left(self, missing: Sequence[Sequence[int]]) -> str:
        """In words, the time for persons that have still to be measured at these k."""
        missing = [some for some in missing if some]
        if not missing:
            return "nothing left to do"
        if not self.per_person or not self.per_target:
            return "how long the rest takes is known after the first person"
        each = sum(self.per_person) / len(self.per_person)
        rate = sum(self.per_target) / len(self.per_target)
        return f"about {in_words(len(missing) * each + rate * sum(map(sum, missing)))} left"

    def spent(self) -> str:
        """In words, the time since the start."""
        return in_words(time.monotonic() - self.started)


def in_words(seconds: float) -> str:
    """'45 s', '12 min' or '3 h 20 min'."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
