"""capture.json, which lies beside a captured session's frames: with which camera, before which
screen, and how far the capture is.

It is written anew, whole, after each frame, so that a capture goes on after whatever ended it.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from custom_gaze import __version__
from custom_gaze.capture.targets import MOST_TARGETS
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import write_text
from custom_gaze.common.stage_files import Strict, read_json
from custom_gaze.config.screen import DISTANCE_CM, WIDTH_CM, Screen
from custom_gaze.data.capture import CAPTURE_FILE

MOST_ROUNDS = 20
REMEDY = "begin this session anew: remove its folder, or capture under another name"


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable")
    return text


class Camera(Strict):
    """The camera by the name that the browser gives it, and what it delivers."""

    label: Annotated[str, Field(max_length=200), AfterValidator(_printable)]
    width_px: int = Field(ge=16, le=20_000)
    height_px: int = Field(ge=16, le=20_000)
    frames_per_second: float | None = Field(ge=0, le=1000)


class CapturedScreen(Strict):
    """The full screen in the page's pixels (CSS pixels, `pixel_ratio` device pixels wide each) and
    in centimetres, the eyes' distance, and how both were found."""

    width_px: int = Field(ge=100, le=100_000)
    height_px: int = Field(ge=100, le=100_000)
    pixel_ratio: float = Field(gt=0, le=20)
    width_cm: float = Field(ge=WIDTH_CM[0], le=WIDTH_CM[1])
    width_from: Literal["card", "typed"]
    distance_cm: float = Field(ge=DISTANCE_CM[0], le=DISTANCE_CM[1])
    distance_from: Literal["face", "typed"]

    def screen(self) -> Screen:
        """The same as the labels' geometry is made of it."""
        return Screen(self.width_px, self.height_px, self.width_cm, self.distance_cm)


class Target(Strict):
    """One target of a round, in pixels of the screen, and the numbers of its frames' names."""

    x_px: float
    y_px: float
    round: int = Field(ge=1, le=MOST_ROUNDS)
    frames: tuple[int, ...] = ()


class CaptureRecord(Strict):
    """The whole file. `mirrored`: the frames are, as the app's mirror mode makes them."""

    format: Literal["custom-gaze capture 1"] = "custom-gaze capture 1"
    made_by: str = f"custom-gaze {__version__}"
    session: str
    cameras: tuple[Camera, ...] = Field(min_length=1, max_length=MOST_ROUNDS)
    mirrored: bool
    screen: CapturedScreen
    pattern: str
    frames_per_target: int = Field(ge=1)
    targets: tuple[Target, ...] = Field(max_length=MOST_TARGETS * MOST_ROUNDS)

    @property
    def rounds(self) -> int:
        """How many rounds were begun."""
        return max(target.round for target in self.targets)

    @property
    def frames(self) -> int:
        """How many frames it has."""
        return sum(len(target.frames) for target in self.targets)

    def with_frame(self, index: int, number: int) -> "CaptureRecord":
        """It with one more frame of the target `index`."""
        target = self.targets[index]
        more = target.model_copy(update={"frames": (*target.frames, number)})
        targets = (*self.targets[:index], more, *self.targets[index + 1 :])
        return self.model_copy(update={"targets": targets})

    def with_camera(self, camera: Camera) -> "CaptureRecord":
        """It with one more camera, where that is none of its yet.

        Raises:
            InputError: it had too many.
        """
        if camera in self.cameras:
            return self
        if len(self.cameras) == MOST_ROUNDS:
            raise InputError(f"{self.session}: captured with {MOST_ROUNDS} cameras already")
        return self.model_copy(update={"cameras": (*self.cameras, camera)})


def read_record(folder: Path) -> CaptureRecord | None:
    """The record in `folder`; None where it has none.

    Raises:
        InputError: it is not what this module writes.
    """
    path = folder / CAPTURE_FILE
    return read_json(path, CaptureRecord, REMEDY) if path.exists() else None


def write_record(folder: Path, record: CaptureRecord) -> None:
    """Write it whole.

    Raises:
        CustomGazeError: it cannot be written.
    """
    write_text(folder / CAPTURE_FILE, record.model_dump_json(indent=2) + "\n")
