"""What an adapter says of a data set: pictures, their targets, the screen, what was left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.data.prepared import LeftOut
from custom_gaze.geometry import ScreenGeometry

MOST_FRAMES = 80_000  # of one session; the largest of the data sets has 3,000 a person
# Where a data set gives angles and no screen, one is made up on which they are whole pixels. A
# power of two, near the specification's 0.0307, so that no angle changes by it.
MADE_UP_DEG_PER_PIXEL = 1 / 32
APART_MS = 1000  # between frames of a set that does not say when they were taken


@dataclass(frozen=True)
class ForeignFrame:
    """One picture and the point that was looked at.

    Attributes:
        name: what the data set calls it, for messages.
        file: a picture, or the video that it is a frame of.
        video_frame: its number in that video, from 0; None for a picture.
        timestamp_ms: when it was taken; its order, where the set does not say.
        target_px: (x, y) in pixels of the session's screen.
    """

    name: str
    file: Path
    timestamp_ms: int
    target_px: tuple[float, float]
    video_frame: int | None = None


@dataclass(frozen=True)
class ForeignSession:
    """What of a data set becomes one session.

    Attributes:
        frames: in the set's order, with timestamps of their own each.
        geometry: the screen of the targets; None where the set has none: that of params.yaml.
        left_out: by the set's own names, and why.
        notes: what whoever imports it should know, a line each.
    """

    frames: tuple[ForeignFrame, ...]
    geometry: ScreenGeometry | None
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """What a user may say of a data set besides its path."""

    video: Path | None = None
    distance_cm: float | None = None


@dataclass(frozen=True)
class Adapter:
    """One format. `knows` looks at a path's names alone; `read` raises InputError where the path
    is not what the format says. `takes` names the fields of Options that it heeds."""

    title: str
    knows: Callable[[Path], bool]
    read: Callable[[Path, Options], ForeignSession]
    takes: frozenset[str] = frozenset()


def around_zero(
    points: NDArray[np.float64], deg_per_pixel: float
) -> tuple[NDArray[np.float64], ScreenGeometry]:
    """Points (N, 2) about an origin, in pixels to the right and down, on a screen about it.

    Returns the points on that screen, whose centre is the origin and which reaches as far to each
    side as the farthest of them: (N, 2) in pixels, none of them negative.
    """
    reach = np.maximum(np.ceil(np.abs(points).max(axis=0)), 1.0)
    geometry = ScreenGeometry(float(reach[0]), float(reach[1]), deg_per_pixel)
    return points + reach, geometry


def checked(
    path: Path,
    frames: Sequence[ForeignFrame],
    geometry: ScreenGeometry | None,
    left_out: Sequence[LeftOut],
    notes: Sequence[str] = (),
) -> ForeignSession:
    """The session, where it has frames and no more than a session can have.

    Raises:
        InputError: there is none, or too many.
    """
    if not frames:
        first = f"; {left_out[0].filename}: {left_out[0].reason}" if left_out else ""
        more = f" ({len(left_out)} in all)" if len(left_out) > 1 else ""
        raise InputError(f"{path}: holds not one picture with a usable label{first}{more}")
    refuse_many(path, len(frames))
    return ForeignSession(tuple(frames), geometry, tuple(left_out), tuple(notes))


def refuse_many(path: Path, count: int) -> None:
    """Raise InputError where a path names more frames than a session can have."""
    if count > MOST_FRAMES:
        raise InputError(
            f"{path}: has {count} frames, more than the {MOST_FRAMES} of a session; "
            "import it in parts"
        )
