"""The eyes of a frame close by, with where they should look and where they were thought to.

A face, and so only where `evaluate.show_faces` asks for it.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from custom_gaze.config.paths import Paths
from custom_gaze.config.specification import Preprocessing
from custom_gaze.data.index import Sample, load_crop
from custom_gaze.faces.crops import jpeg
from custom_gaze.faces.eye_points import EyeFinder, load_eye_finder

WIDTH_PX, HEIGHT_PX = 480, 200
WIDER = 2.1  # the strip's width over the distance between the eyes
JPEG_QUALITY = 85
ARROW_PX = 260.0  # of a sideways gaze
TIP_PX = 15.0  # an arrow's head, and half as much across


@dataclass(frozen=True)
class Arrow:
    """From (x1, y1) to (x2, y2), where its head begins; `head` are that triangle's corners."""

    x1: float
    y1: float
    x2: float
    y2: float
    head: str


@dataclass(frozen=True)
class Eyes:
    """A strip of WIDTH_PX × HEIGHT_PX as base64 of a JPEG, and an arrow from each eye.

    An arrow goes right for a positive yaw and down for a positive pitch, as long as their sines.
    """

    picture: str
    true: list[Arrow]
    predicted: list[Arrow]


def eyes_of(
    samples: Sequence[Sample],
    predicted_deg: Sequence[NDArray[np.floating]],
    spec: Preprocessing,
    paths: Paths,
) -> list[Eyes | None]:
    """The eyes of some frames; None where they are not found in its crop.

    Args:
        samples: N frames.
        predicted_deg: N times (2,) [yaw, pitch] in degrees, the exported file's.
        spec: how their crops were cut.
        paths: where these lie.

    Raises:
        InputError: a crop cannot be read.
    """
    finder = load_eye_finder()
    return [
        _eyes(sample, angles, finder, spec, paths)
        for sample, angles in zip(samples, predicted_deg, strict=True)
    ]


def _eyes(
    sample: Sample,
    predicted_deg: NDArray[np.floating],
    finder: EyeFinder,
    spec: Preprocessing,
    paths: Paths,
) -> Eyes | None:
    crop = load_crop(sample, paths)
    side = len(crop)
    inset = side * (1 - 1 / spec.margin) / 2  # of the face's box in its crop
    found = finder.find(crop, (inset, inset, side - inset, side - inset))
    if found is None:
        return None
    eyes = np.array(found)
    middle = eyes.mean(axis=0)
    scale = WIDTH_PX / (WIDER * float(np.hypot(*(eyes[1] - eyes[0]))))
    starts = (eyes - middle) * scale + (WIDTH_PX / 2, HEIGHT_PX / 2)

    strip = _strip(crop, middle, scale)
    content = base64.b64encode(jpeg(strip, JPEG_QUALITY)).decode()
    true = np.array([sample.yaw_deg, sample.pitch_deg])
    return Eyes(content, _arrows(starts, true), _arrows(starts, np.asarray(predicted_deg)))


def _arrows(starts: NDArray[np.float64], angles_deg: NDArray[np.floating]) -> list[Arrow]:
    """One from each eye (2, 2), as long as the sines of the angles (2,) say."""
    way = ARROW_PX * np.sin(np.deg2rad(angles_deg.astype(np.float64)))
    long = max(float(np.hypot(*way)), 1e-6)
    ahead = way / long
    across = np.array([-ahead[1], ahead[0]]) * TIP_PX / 2
    found = []
    for start in starts:
        end = start + way
        neck = end - ahead * min(TIP_PX, long)
        corners = np.round([end, neck + across, neck - across], 1).tolist()
        head = " ".join(f"{x},{y}" for x, y in corners)
        x1, y1, x2, y2 = np.round([*start, *neck], 1).tolist()
        found.append(Arrow(x1, y1, x2, y2, head))
    return found


def _strip(crop: NDArray[np.uint8], middle: NDArray[np.float64], scale: float) -> NDArray[np.uint8]:
    import cv2

    shift = np.array([WIDTH_PX / 2, HEIGHT_PX / 2]) - scale * middle
    to_strip = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])
    size = (WIDTH_PX, HEIGHT_PX)
    border = cv2.BORDER_REPLICATE
    strip = cv2.warpAffine(crop, to_strip, size, flags=cv2.INTER_CUBIC, borderMode=border)
    return np.asarray(strip, np.uint8)
