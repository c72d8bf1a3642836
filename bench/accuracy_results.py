"""What bench/accuracy.py keeps: a small JSON file for each base network, person and k."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from pydantic import ConfigDict

from accuracy_bases import fingerprint
from accuracy_person import Settings, World, hash_of, source_hash
from custom_gaze.common.files import write_json
from custom_gaze.common.stage_files import Strict, read_json
from custom_gaze.weights.base import BaseNetwork

# What decides about the results, beside the crops and these files.
METHOD_CODE = (
    "stages.train",
    "data.index",
    "weights.base",
    "evaluation.metrics",
)  # and what they import
OWN_CODE = tuple(
    f"accuracy_{part}.py" for part in ("person", "world", "people", "views", "methods")
)
REMEDY = "remove it, and run the same command again"
SAME, OTHER = "same_session", "other_session"


class Plain(Strict):
    """A record of a result file."""

    model_config = ConfigDict(frozen=True)


class Interval(Plain):
    """A mean and its 95 % interval; None where there are too few for one."""

    mean: float
    low: float | None
    high: float | None


class Remark(Plain):
    """What a method has to say besides its angles; None where it is nothing of that method's."""

    correction: str | None = None  # which one the method took
    alpha: float | None = None  # the probe's regularisation
    inner_share: float | None = None  # of the crop's side, what the probe's base looks at
    chosen: str | None = None  # which candidate is exported
    held_out_deg: dict[str, float] | None = None  # each candidate's held-out error
    epochs: int | None = None
    best_epoch: int | None = None
    validation_error_deg: float | None = None
    samples: int | None = None  # augmented, of each frame
    train: int | None = None  # frames
    validation: int | None = None


class Measures(Plain):
    """What was measured on some frames: `error_deg` by method, its interval over their targets."""

    frames: int
    targets: int
    slope: tuple[float, float]  # of the base's yaw and pitch against the truth
    error_deg: dict[str, Interval]


class Outcome(Plain):
    """One base network, person and k."""

    person: str
    k: int
    targets: int  # calibrated on
    of_targets: int  # in the session calibrated on
    crop_from: str
    seconds: float
    tested: dict[str, Measures]  # SAME, and OTHER where the person has other sessions
    remarks: dict[str, Remark]


class Results:
    """One base network's results. A file's name holds all that decides about its content: the
    weights, the settings, the code, the person's frames; results of another code are not found."""

    def __init__(self, base: BaseNetwork, settings: Settings, world: World, work: Path) -> None:
        self.base, self.settings, self._world = base, settings, world
        self.weights = fingerprint(base)[:12]
        self._folder = work / "results" / self.weights
        said = {name: value for name, value in asdict(settings).items() if name != "targets"}
        own = "".join((Path(__file__).parent / name).read_text() for name in OWN_CODE)
        self._key = hash_of(json.dumps(said), source_hash(METHOD_CODE), own, torch.__version__)
        self._keys: dict[str, str] = {}

    def name(self, person: str, k: int) -> str:
        """Names one result among all."""
        if person not in self._keys:
            self._keys[person] = hash_of(self._key, self._world.key(person))
        return f"{person}-{k}-{self._keys[person]}"

    def missing(self, person: str) -> tuple[int, ...]:
        """The k that this person has still to be measured at."""
        return tuple(k for k in self.settings.targets if not self._path(person, k).exists())

    def write(self, outcome: Outcome) -> None:
        """Keep one result."""
        write_json(self._path(outcome.person, outcome.k), outcome.model_dump(mode="json"))

    def read(self) -> list[Outcome]:
        """The results of those persons that have every k.

        Raises:
            InputError: a file is none that `write` wrote.
        """
        return [
            read_json(self._path(person, k), Outcome, REMEDY)
            for person in self._world.names
            if not self.missing(person)
            for k in self.settings.targets
        ]

    def _path(self, person: str, k: int) -> Path:
        return self._folder / f"{self.name(person, k)}.json"


@dataclass
class Clock:
    """What the work took so far, and from that what the rest will take."""

    started: float = field(default_factory=time.monotonic)
    done: int = 0  # jobs

    def left(self, jobs: int) -> str:
        """In words, the time for so many jobs more, at the pace so far."""
        if not jobs:
            return "nothing left to do"
        if not self.done:
            return "how long the rest takes is known after the first calibration"
        pace = (time.monotonic() - self.started) / self.done
        return f"about {in_words(jobs * pace)} left"

    def spent(self) -> str:
        """In words, the time since the start."""
        return in_words(time.monotonic() - self.started)


def in_words(seconds: float) -> str:
    """'45 s', '12 min' or '3 h 20 min'."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
