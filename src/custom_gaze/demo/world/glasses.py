"""Glasses: a flat front before the eyes, drawn once and laid over each image."""

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.demo.world.arrays import Floats, Image, floats, image
from custom_gaze.demo.world.eyes import eye_middles_mm
from custom_gaze.demo.world.head import PIVOT_MM, HeadPose
from custom_gaze.demo.world.person import Glasses, Person

LOW_MM, HIGH_MM = (-80.0, -32.0), (80.0, 40.0)  # what the layer covers, on the head
BEFORE_EYES_MM = 9.0
OUTWARD_MM, DOWNWARD_MM = 1.5, 3.0  # a lens's middle from the eye's
TEMPLE_END_MM = 70.0
_FIXED_POINT_BITS = 4  # of OpenCV's drawing coordinates


def draw_glasses(person: Person, glasses: Glasses, px_per_mm: float) -> Floats:
    """The front (rows, columns, 4) float32: colour times opacity, and opacity, 0 … 255."""
    size = tuple(round((HIGH_MM[i] - LOW_MM[i]) * px_per_mm) for i in (0, 1))
    frame, lens = (np.zeros((size[1], size[0]), np.uint8) for _ in range(2))
    width_px = max(1, round(glasses.line_mm * px_per_mm))

    def place(points_mm: NDArray[np.float64]) -> NDArray[np.int32]:
        spots = (points_mm - np.array(LOW_MM)) * px_per_mm - 0.5
        return np.asarray(np.round(spots * 2**_FIXED_POINT_BITS), np.int32)

    def line(points_mm: NDArray[np.float64], closed: bool) -> None:
        ends = [place(points_mm)]
        cv2.polylines(frame, ends, closed, 255, width_px, cv2.LINE_AA, _FIXED_POINT_BITS)

    for middle, side in zip(eye_middles_mm(person), (-1, 1), strict=True):
        rim = middle + np.array([side * OUTWARD_MM, DOWNWARD_MM]) + _ring(glasses)
        cv2.fillPoly(lens, [place(rim)], 255, cv2.LINE_AA, _FIXED_POINT_BITS)
        line(rim, True)
        edge = middle[0] + side * (OUTWARD_MM + glasses.half_width_mm)
        line(np.array([[edge, -3.0], [side * TEMPLE_END_MM, -4.0]]), False)
    gap = person.eye_distance_mm / 2 + OUTWARD_MM - glasses.half_width_mm
    line(np.array([[-gap, 0.0], [-gap / 2, -2.2], [gap / 2, -2.2], [gap, 0.0]]), False)
    thin = min(1.0, glasses.line_mm * px_per_mm)  # a line of less than a pixel is fainter
    return _layer(glasses, floats(frame * (thin / 255)), floats(lens / 255), px_per_mm)


def _ring(glasses: Glasses) -> NDArray[np.float64]:
    """A lens's outline about its middle (48, 2) in mm: between an ellipse and a box."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    squared: NDArray[np.float64] = np.sign(circle) * np.abs(circle) ** (2 / glasses.roundness)
    squared *= (glasses.half_width_mm, glasses.half_height_mm)
    return squared


def _layer(glasses: Glasses, opacity: Floats, lens: Floats, px_per_mm: float) -> Floats:
    rows, columns = np.indices(opacity.shape, dtype=np.float32)
    streak = 0.5 + 0.5 * np.sin((columns + 0.7 * rows) / (7.0 * px_per_mm))
    gleam = glasses.gleam * streak**2 * lens * (1 - opacity)
    color = floats(glasses.color) * opacity[..., None] + 235 * gleam[..., None]
    return floats(np.concatenate([color, 255 * (opacity + gleam)[..., None]], -1))


def lay_over(
    shown: Image,
    layer: Image,
    px_per_mm: float,
    pose: HeadPose,
    scale: float,
    center_px: tuple[float, float],
) -> None:
    """Lay `layer` (`draw_glasses` at `px_per_mm`, uint8) over `shown` (height, width, 3), in place.

    `scale` is the image's pixels per millimetre, `center_px` the place of the head's origin.
    """
    rotation = pose.matrix()
    flat = rotation[:2, :2] * (scale / px_per_mm)
    first_mm = np.append(np.array(LOW_MM) + 0.5 / px_per_mm, BEFORE_EYES_MM)
    first_mm = (rotation @ (first_mm - PIVOT_MM) + PIVOT_MM)[:2]
    place = first_mm * scale + np.array(center_px)
    rows, columns = layer.shape[:2]
    corners = np.array([[0, 0], [columns, 0], [0, rows], [columns, rows]]) @ flat.T + place
    size_px = (shown.shape[1], shown.shape[0])
    low = np.clip(np.floor(corners.min(0)) - 1, 0, size_px).astype(int)
    high = np.clip(np.ceil(corners.max(0)) + 2, 0, size_px).astype(int)
    if (high <= low).any():  # all of it beside the image
        return
    to_region = np.column_stack([flat, place - low])
    turned = image(cv2.warpAffine(layer, to_region, (int(high[0] - low[0]), int(high[1] - low[1]))))
    region = shown[low[1] : high[1], low[0] : high[0]]
    clear = 255 - image(cv2.cvtColor(turned[..., 3], cv2.COLOR_GRAY2RGB))
    through = cv2.multiply(region, clear, scale=1 / 255)
    region[:] = image(cv2.add(cv2.cvtColor(turned, cv2.COLOR_RGBA2RGB), through))
