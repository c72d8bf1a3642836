"""The face in one frame of a film after another, without waiting for the detector.

The detector looks at whole frames, as in training, but beside the film: a frame's face is the one
that it found in an earlier frame, usually the last one, moved by as much as the picture of the face
has moved since. Where that cannot be told, the frame waits for the detector.

Following needs no more of a frame than the surroundings of the face: a frame may come as that part
of it alone, and has to come whole only for the detector.
"""

import math
import threading
import time
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.faces.crops import Box, PixelBox, cut, gaze_crop_box
from custom_gaze.faces.finder import FaceFinder, FoundFace

SIDE_PX = 96  # of the pictures of the face whose shift is measured
LEAST_FACE_PX = 48.0  # of the box's shorter side within the frame: less has too little to follow
LARGEST_SHARE = 0.1  # of the box's sides, that a face may have moved by; more is looked for anew
# How alike two pictures are once shifted, 0 … 1 (the height of the phase correlation's peak): a
# demo person from frame to frame has 0.58 and more, blinks included.
LEAST_ALIKE = 0.3
ROUNDS, SETTLED_PX = 6, 0.75  # of the search for where the picture has moved
JPEG_BLOCK_PX = 16  # with colours at half the resolution
MOST_SHARE = 0.7  # of a frame, from which on a part of it saves nothing
OLDEST_S = 1.0  # since the frame that the detector has looked at; later a frame waits for it


@dataclass(frozen=True)
class _Kept:
    """A face that the detector has found, and its picture: `area` of the frame, small and grey."""

    face: FoundFace
    area: PixelBox
    picture: NDArray[np.float32]
    came_s: float
    shape: tuple[int, ...]

    def moved_to(self, frame: NDArray[np.uint8], part: PixelBox) -> FoundFace | None:
        """The face in another frame of the film, of which `part` is there; None where it cannot be
        told."""
        import cv2

        if frame.shape != self.shape:
            return None
        window = cv2.createHanningWindow((SIDE_PX, SIDE_PX), cv2.CV_32F)
        wide_px, high_px = self.area[2] - self.area[0], self.area[3] - self.area[1]
        x, y = self.area[:2]
        left, top, right, bottom = part
        for _ in range(ROUNDS):  # nearer each time; a shift is too small where it is large
            if not (left <= x <= right - wide_px and top <= y <= bottom - high_px):
                return None
            picture = _picture(frame, (x, y, x + wide_px, y + high_px))
            # OpenCV lays the window over its arguments themselves: the kept one stays as it is.
            shift, alike = cv2.phaseCorrelate(self.picture.copy(), picture, window)
            across, down = shift[0] * wide_px / SIDE_PX, shift[1] * high_px / SIDE_PX
            if max(abs(across), abs(down)) < SETTLED_PX:
                break
            x, y = x + round(across), y + round(down)
        else:
            return None
        across, down = across + x - self.area[0], down + y - self.area[1]
        far = abs(across) > LARGEST_SHARE * wide_px or abs(down) > LARGEST_SHARE * high_px
        return None if far or alike < LEAST_ALIKE else _shifted(self.face, across, down)


class WholeWanted(InputError):
    """The part of a frame that came does not tell where the face is; the whole frame may."""


class FaceFollower:
    """One film's faces; frames come one after the other, from any thread."""

    def __init__(self, finder: FaceFinder, beside: Executor) -> None:
        """`beside` runs the detector; it may be that of several films."""
        self._finder, self._beside = finder, beside
        self._lock = threading.Lock()
        self._kept: _Kept | None = None
        self._looking: Future[None] | None = None
        self._came_s = self._looked_s = -math.inf  # the latest frame; the latest one looked at

    def find(self, frame: NDArray[np.uint8], part: PixelBox | None = None) -> FoundFace:
        """The face in the next frame uint8 (H, W, 3) RGB, of which only a `part` may be there; None
        means the whole.

        Raises:
            WholeWanted: it cannot be told from the part.
            InputError: as FaceFinder.find. That the face is gone or not alone any more may be known
                only with the frame after.
        """
        self._came_s = time.monotonic()
        with self._lock:
            kept = self._kept
        if kept is not None and self._came_s - kept.came_s <= OLDEST_S:
            face = kept.moved_to(frame, part or (0, 0, frame.shape[1], frame.shape[0]))
            if face is not None:
                return face
        if part is not None:
            raise WholeWanted("the whole frame is wanted")
        return self._look(frame, self._came_s)

    def learn(self, frame: NDArray[np.uint8]) -> None:
        """Let the detector look at the frame that `find` was asked about last, beside what follows;
        left out while it looks at an earlier one, or where it has looked at this one."""
        with self._lock:
            busy = self._looking is not None and not self._looking.done()
            if not busy and self._looked_s < self._came_s:
                self._looking = self._beside.submit(self._learn, frame, self._came_s)

    def _learn(self, frame: NDArray[np.uint8], came_s: float) -> None:
        with suppress(InputError):  # the next frame waits for the detector, which says why
            self._look(frame, came_s)

    def _look(self, frame: NDArray[np.uint8], came_s: float) -> FoundFace:
        kept = None
        try:
            face = self._finder.find(frame)
            kept = _kept(frame, face, came_s)
        finally:
            with self._lock:
                if came_s > self._looked_s:
                    self._looked_s, self._kept = came_s, kept
        return face


def _kept(frame: NDArray[np.uint8], face: FoundFace, came_s: float) -> _Kept | None:
    height_px, width_px = frame.shape[:2]
    x1, y1, x2, y2 = (round(value) for value in face.detected)
    area = max(x1, 0), max(y1, 0), min(x2, width_px), min(y2, height_px)
    if min(area[2] - area[0], area[3] - area[1]) < LEAST_FACE_PX:
        return None
    return _Kept(face, area, _picture(frame, area), came_s, frame.shape)


def _picture(frame: NDArray[np.uint8], area: PixelBox) -> NDArray[np.float32]:
    import cv2

    small = cv2.resize(cut(frame, area), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)


def surroundings(face: FoundFace, frame: tuple[int, int], margin: float) -> PixelBox | None:
    """The part of the next `frame` (its height and width) that tells where the face is, and has the
    crop of its gaze; None where that is most of it.

    Its edges are those of a JPEG's blocks: a part of a picture is compressed as within the whole.
    """
    height_px, width_px = frame
    x1, y1, x2, y2 = face.detected
    across_px, down_px = LARGEST_SHARE * (x2 - x1), LARGEST_SHARE * (y2 - y1)
    a1, b1, a2, b2 = gaze_crop_box(face.box, width_px, height_px, margin)
    block = JPEG_BLOCK_PX
    left = max(0, math.floor((min(x1, a1) - across_px) / block) * block)
    top = max(0, math.floor((min(y1, b1) - down_px) / block) * block)
    right = min(width_px, math.ceil((max(x2, a2) + across_px) / block) * block)
    bottom = min(height_px, math.ceil((max(y2, b2) + down_px) / block) * block)
    most = (right - left) * (bottom - top) > MOST_SHARE * width_px * height_px
    return None if most else (left, top, right, bottom)


def _shifted(face: FoundFace, across_px: float, down_px: float) -> FoundFace:
    def box(of: Box) -> Box:
        x1, y1, x2, y2 = of
        return x1 + across_px, y1 + down_px, x2 + across_px, y2 + down_px

    eyes = face.eyes
    if eyes is not None:
        (left_x, left_y), (right_x, right_y) = eyes
        eyes = (left_x + across_px, left_y + down_px), (right_x + across_px, right_y + down_px)
    return replace(face, box=box(face.box), detected=box(face.detected), eyes=eyes)
