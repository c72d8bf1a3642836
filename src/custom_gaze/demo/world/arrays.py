"""The demo world's arrays, and OpenCV calls whose results have a type a checker can read."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (rows, columns, channels), RGB
Floats = NDArray[np.float32]
_NO_SECOND_MAP: Any = None  # OpenCV's own word for it; its type stubs know none


def floats(values: Any) -> Floats:
    """`values` as float32; what is float32 already is not copied."""
    return np.asarray(values, np.float32)


def image(values: Any) -> Image:
    """`values` as uint8; what is uint8 already is not copied."""
    return np.asarray(values, np.uint8)


def sample(
    source: NDArray[Any], at_px: Floats, way: int = cv2.INTER_LINEAR, border: int = 0
) -> NDArray[Any]:
    """`source` seen at pixels `at_px` (rows, columns, 2) [x, y]; beyond it: `border`, or 0."""
    return np.asarray(cv2.remap(source, at_px, _NO_SECOND_MAP, way, borderMode=border))


def blurred(source: NDArray[Any], sigma_px: float) -> Floats:
    """`source` blurred by a Gaussian, float32."""
    return floats(cv2.GaussianBlur(source, (0, 0), sigma_px))


def resized(source: NDArray[Any], size_px: tuple[int, int], way: int = cv2.INTER_LINEAR) -> Floats:
    """`source` at another size (width, height), float32."""
    return floats(cv2.resize(source, size_px, interpolation=way))
