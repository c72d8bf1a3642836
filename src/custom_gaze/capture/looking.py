"""What a webcam's frame is worth while somebody sits before it: the page's quality line."""

import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.config.params import PrepareParams
from custom_gaze.config.paths import Paths
from custom_gaze.data.frame_looks import CLOSED_BELOW, LEAST_FRAMES, Examiner, FrameLook
from custom_gaze.data.pictures import NoPicture, decoded
from custom_gaze.data.sessions import Frame
from custom_gaze.faces.crops import Box
from custom_gaze.faces.eye_points import Point, load_eye_finder
from custom_gaze.faces.finder import DETECTOR_FILE, FaceFinder, SeveralFaces, load_finder

Problem = Literal["", "no face", "several faces"]

REMEMBERED = 60  # looks that a person's usual openness is the median of, some ten seconds of them
# What a good frame has. A face of 160 pixels fills 240 of the crop's 448; the crops of smaller ones
# are enlarged to twice their size and more, and jitter.
LEAST_FACE_PX = 160.0
LIGHT = (50.0, 215.0)  # mean grey level of the face's box, 0 … 255
LEVEL_RATIO = 2.2  # of the brighter half of the face to the darker one
MIDDLE = (0.25, 0.75)  # of the frame's width and height: where the face's middle is
# From the eyes' distance in the picture to the face's from the camera: 63 mm lie between an adult's
# eyes, and a webcam of 16:9 is about 64 degrees wide, which is this many frame heights of focal
# length; its 4:3 pictures are cut from that at the sides.
EYES_CM = 6.3
FOCAL_HEIGHTS = 1.42


@dataclass(frozen=True)
class Seen:
    """One frame's look. Boxes and points are in pixels of the frame; a field of the face is None
    where there is none to use, of the eyes where they were not found.

    Attributes:
        box: x1, y1, x2, y2, of the face.
        eyes: the picture's left one first.
        size_px: of the box's longer side.
        light: mean grey level of the face, 0 … 255.
        level: the brighter half of the face over the darker one.
        open_share: the eyes' openness over the usual one of this person; None at the beginning too.
        edges: of the frame, beyond which some of the crop lies.
        distance_cm: from the camera, estimated from the eyes' distance in the picture.
    """

    problem: Problem
    width_px: int
    height_px: int
    box: Box | None = None
    eyes: tuple[Point, Point] | None = None
    size_px: float | None = None
    light: float | None = None
    level: float | None = None
    open_share: float | None = None
    edges: tuple[str, ...] = ()
    distance_cm: float | None = None

    @property
    def closed(self) -> bool:
        """Whether the eyes look closed, or were not found in a face that was."""
        return self.box is not None and (
            self.eyes is None or (self.open_share is not None and self.open_share < CLOSED_BELOW)
        )

    def checks(self) -> dict[str, bool]:
        """What is good of it, by name."""
        if self.box is None:
            return dict.fromkeys(("face", "size", "light", "eyes", "middle"), False)
        assert self.size_px is not None
        assert self.light is not None
        assert self.level is not None
        x = (self.box[0] + self.box[2]) / 2 / self.width_px
        y = (self.box[1] + self.box[3]) / 2 / self.height_px
        inside = all(MIDDLE[0] <= share <= MIDDLE[1] for share in (x, y))
        return {
            "face": True,
            "size": self.size_px >= LEAST_FACE_PX,
            "light": LIGHT[0] <= self.light <= LIGHT[1] and self.level <= LEVEL_RATIO,
            "eyes": not self.closed,
            "middle": inside and not self.edges,
        }


class Watcher:
    """Looks at one frame after the other and remembers how open this person's eyes usually are.

    It may be asked from several threads, which take turns.
    """

    def __init__(self, examiner: Examiner) -> None:
        self._examiner = examiner
        self._opennesses: deque[float] = deque(maxlen=REMEMBERED)
        self._turn = threading.Lock()

    def look(self, content: bytes) -> Seen:
        """Look at a JPEG.

        Raises:
            InputError: it is none, or cannot be decoded.
        """
        try:
            pixels = decoded(content)
        except NoPicture as error:
            raise InputError(f"the camera's frame {error}") from None
        with self._turn:
            return self._seen(Frame(Path("frame"), 0, 0.0, 0.0, None), pixels)

    def _seen(self, frame: Frame, pixels: NDArray[np.uint8]) -> Seen:
        height_px, width_px = pixels.shape[:2]
        try:
            face = self._examiner.finder.find(pixels)
            look = self._examiner.seen(frame, pixels, face)
        except SeveralFaces:
            return Seen("several faces", width_px, height_px)
        except InputError:
            return Seen("no face", width_px, height_px)
        light, level = _light(pixels, face.detected)
        x1, y1, x2, y2 = face.box
        return Seen(
            problem="",
            width_px=width_px,
            height_px=height_px,
            box=face.box,
            eyes=look.eyes_px,
            size_px=max(x2 - x1, y2 - y1),
            light=light,
            level=level,
            open_share=self._open_share(look),
            edges=look.cut_edges,
            distance_cm=_distance_cm(look.eyes_px, height_px),
        )

    def _open_share(self, look: FrameLook) -> float | None:
        if look.openness is None:
            return None
        self._opennesses.append(look.openness)
        if len(self._opennesses) < LEAST_FRAMES:
            return None
        return look.openness / max(float(np.median(self._opennesses)), 1e-9)


def load_watcher(settings: PrepareParams, paths: Paths) -> Watcher:
    """A watcher with the detector and mesh that `fetch` has put there, else with CenterFace, which
    every installation has.

    Raises:
        InputError: a file is not what it should be.
    """
    eyes = load_eye_finder()
    if (paths.faces / DETECTOR_FILE).exists():
        finder = load_finder(paths.faces, settings.min_score)
    else:
        finder = FaceFinder(eyes.detector, None, settings.min_score)
    return Watcher(Examiner(finder, eyes, settings.margin))


def _light(pixels: NDArray[np.uint8], box: Box) -> tuple[float, float]:
    """The mean grey level of a face's box, and the brighter half's over the darker one's."""
    height_px, width_px = pixels.shape[:2]
    x1, y1, x2, y2 = (round(value) for value in box)
    face = pixels[max(y1, 0) : min(y2, height_px), max(x1, 0) : min(x2, width_px)]
    if face.shape[0] < 2 or face.shape[1] < 2:
        return 0.0, 1.0
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    middle = grey.shape[1] // 2
    left, right = float(grey[:, :middle].mean()), float(grey[:, middle:].mean())
    return float(grey.mean()), max(left, right) / max(min(left, right), 1.0)


def _distance_cm(eyes: tuple[Point, Point] | None, height_px: int) -> float | None:
    if eyes is None:
        return None
    (left_x, left_y), (right_x, right_y) = eyes
    between_px = float(np.hypot(right_x - left_x, right_y - left_y))
    return FOCAL_HEIGHTS * height_px * EYES_CM / between_px
