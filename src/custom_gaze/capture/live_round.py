"""A round of nine targets: how good the models are now, or the frames to calibrate anew with.

A round that validates has its targets where no session's grid has them, somewhere in each ninth of
the screen: a model that only knew the grid's points would be told apart. One that calibrates has
the corners and edges, for what lies beyond the outermost target is a guess.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from custom_gaze.capture.live_loop import Seen, eyes_closed
from custom_gaze.capture.live_models import PERSONAL, Angles
from custom_gaze.evaluation.metrics import mean_error
from custom_gaze.geometry import ScreenGeometry, angular_error_deg

Kind = Literal["validate", "recalibrate"]
SIDE = 3  # nine targets
FRAMES = 5  # of each
EDGE_SHARE = 0.05  # of the screen, between its edge and a calibration's outermost targets
CELL_SHARE = 0.25  # of a ninth of the screen, kept free at its borders when it validates


@dataclass(frozen=True)
class Taken:
    """A frame of a round: its JPEG, when and at which target it was taken, what was seen in it."""

    content: bytes
    timestamp_ms: int
    target: int
    seen: Seen


@dataclass(frozen=True)
class ModelError:
    """One model's mean error over a round's frames, with its interval over targets.

    `error_cm` is None where nobody said how wide the screen is.
    """

    error_deg: float
    low_deg: float | None
    high_deg: float | None
    error_px: float
    error_cm: float | None


@dataclass(frozen=True)
class TargetResult:
    """A target in screen pixels and, by model, where its frames' mean prediction lies."""

    target_px: tuple[float, float]
    predicted_px: dict[str, tuple[float, float]]
    error_deg: dict[str, float]


@dataclass(frozen=True)
class RoundResult:
    """What a round found; `models` by name, `targets` those that have frames."""

    frames: int
    models: dict[str, ModelError]
    targets: list[TargetResult]


@dataclass
class Round:
    """The frames of a round so far.

    Attributes:
        targets_px: (9, 2) in screen pixels, in the order in which they are shown.
        pixel_cm: the side of a screen's pixel; None where it is not known.
    """

    kind: Kind
    geometry: ScreenGeometry
    targets_px: NDArray[np.float64]
    pixel_cm: float | None = None
    taken: list[Taken] = field(default_factory=list)

    def take(self, content: bytes, timestamp_ms: int, target: int, seen: Seen) -> str:
        """Keep a frame; returns why it cannot be: the word for the page, '' where it was kept.

        No two frames share a millisecond, which is their name.
        """
        if not seen.angles_deg:
            return "no_face"
        if any(one.content == content for one in self.taken[-FRAMES:]):
            return "still"  # a camera that hangs
        known = [one.seen.openness for one in self.taken if one.seen.openness is not None]
        if eyes_closed(seen.openness, known):
            return "blink"
        latest = self.taken[-1].timestamp_ms if self.taken else 0
        self.taken.append(Taken(content, max(timestamp_ms, latest + 1), target, seen))
        return ""

    def result(self) -> RoundResult:
        """The errors of every model that saw all the frames.

        There is at least one frame.
        """
        names = [n for n in self.taken[0].seen.angles_deg if all(n in s for s in self._angles())]
        errors = {name: self.errors_deg(name) for name in names}
        numbers = [one.target for one in self.taken]
        return RoundResult(
            frames=len(self.taken),
            models={name: self._error(errors[name], numbers) for name in names},
            targets=[self._target(number, errors) for number in dict.fromkeys(numbers)],
        )

    def errors_deg(self, name: str = PERSONAL) -> NDArray[np.float64]:
        """A model's error in degrees on each frame (N,)."""
        predicted = np.array([angles[name] for angles in self._angles()])
        true = self.geometry.to_degrees(self.targets_px[[one.target for one in self.taken]])
        return angular_error_deg(predicted, true)

    def _angles(self) -> list[Mapping[str, Angles]]:
        return [one.seen.angles_deg for one in self.taken]

    def _error(self, errors_deg: NDArray[np.float64], targets: Sequence[int]) -> ModelError:
        return model_error(errors_deg, targets, self.geometry, self.pixel_cm)

    def _target(self, number: int, errors: Mapping[str, NDArray[np.float64]]) -> TargetResult:
        mine = [row for row, one in enumerate(self.taken) if one.target == number]
        x_px, y_px = self.targets_px[number].tolist()
        predicted = {}
        for name in errors:
            angles = np.mean([self._angles()[row][name] for row in mine], axis=0)
            to_x, to_y = self.geometry.to_pixels(angles).tolist()
            predicted[name] = (to_x, to_y)
        means = {name: float(values[mine].mean()) for name, values in errors.items()}
        return TargetResult((x_px, y_px), predicted, means)


def model_error(
    errors_deg: NDArray[np.float64],
    targets: Sequence[int],
    geometry: ScreenGeometry,
    pixel_cm: float | None,
) -> ModelError:
    """The mean of frames' errors (N,), N ≥ 1; `targets` (N,) says which share a target."""
    found = mean_error(errors_deg, targets, geometry.deg_per_pixel)
    error_cm = None if pixel_cm is None else found.error_px * pixel_cm
    return ModelError(found.error_deg, found.low_deg, found.high_deg, found.error_px, error_cm)


def new_round(
    kind: Kind, geometry: ScreenGeometry, pixel_cm: float | None, rng: np.random.Generator
) -> Round:
    """A round on a screen, its targets in a random order."""
    places = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1).reshape(-1, 2)
    if kind == "validate":
        inside = rng.uniform(CELL_SHARE, 1 - CELL_SHARE, places.shape)
        shares = (places + inside) / SIDE
    else:
        shares = EDGE_SHARE + places * (1 - 2 * EDGE_SHARE) / (SIDE - 1)
    extent_px = 2 * np.array([geometry.center_x_px, geometry.center_y_px])
    return Round(kind, geometry, rng.permutation(shares * extent_px), pixel_cm)
