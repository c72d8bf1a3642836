"""What the camera makes of an image: motion blur, exposure, colour, noise."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.demo.seeds import STREAM_ROOM, stream
from custom_gaze.demo.world.arrays import Floats, Image, blurred, floats, image
from custom_gaze.demo.world.conditions import Conditions

NOISE_PX = 256  # how far the noise's pattern is shifted between frames
NOISE_STEP = 0.5  # grey levels; finer differences share one pattern
SHARPEST_MOTION_PX = 1.0  # less than this is no motion blur


def develop(
    raw: Image,
    conditions: Conditions,
    rng: np.random.Generator,
    motion_px: tuple[float, float] = (0.0, 0.0),
) -> Image:
    """An image (height, width, 3) RGB uint8 as a session's camera gives it, a new array."""
    if np.hypot(*motion_px) > SHARPEST_MOTION_PX:
        raw = image(cv2.filter2D(raw, -1, motion_kernel(motion_px)))
    toned = cv2.LUT(raw, _tone_table(conditions))
    height, width = raw.shape[:2]
    left, top = rng.integers(NOISE_PX, size=2)
    sigma = NOISE_STEP * round(conditions.noise_sigma / NOISE_STEP)
    noise = _noise(sigma, (width, height))[top : top + height, left : left + width]
    return image(cv2.add(toned, noise, dtype=cv2.CV_8U))


def as_jpeg(picture: Image, quality: int) -> bytes:
    """An RGB image as the bytes of a JPEG file."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes()


@lru_cache(maxsize=16)
def _tone_table(conditions: Conditions) -> Image:
    """Exposure, white balance and gamma with a soft shoulder, as a table (1, 256, 3) uint8."""
    level = np.linspace(0, 1, 256)[:, None] * conditions.exposure
    level = level * np.array(conditions.white_balance)
    level = np.where(level > 0.8, 0.8 + 0.2 * np.tanh((level - 0.8) / 0.2), level)
    return image(np.clip(np.round(255 * level**conditions.gamma), 0, 255))[None]


def motion_kernel(motion_px: tuple[float, float]) -> Floats:
    """A line of the motion's length and direction, its weights summing to 1."""
    reach = int(np.ceil(max(abs(motion_px[0]), abs(motion_px[1])) / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for part in np.linspace(-0.5, 0.5, 17):
        x, y = reach + part * motion_px[0], reach + part * motion_px[1]
        left, top = int(x), int(y)
        right_share, lower_share = x - left, y - top
        kernel[top, left] += (1 - right_share) * (1 - lower_share)
        kernel[top, left + 1] += right_share * (1 - lower_share)
        kernel[top + 1, left] += (1 - right_share) * lower_share
        kernel[top + 1, left + 1] += right_share * lower_share
    return floats(kernel / kernel.sum())


@lru_cache(maxsize=16)
def _noise(sigma: float, size_px: tuple[int, int]) -> NDArray[np.int8]:
    """Sensor noise in grey levels, NOISE_PX larger than an image of `size_px` each way, int8.

    Mostly of brightness and a little blurred, as a webcam's own processing leaves it.
    """
    rng = stream(STREAM_ROOM, 0)
    rows, columns = size_px[1] + NOISE_PX, size_px[0] + NOISE_PX
    noise = 0.75 * rng.standard_normal((rows, columns, 1), np.float32)
    noise = noise + 0.66 * rng.standard_normal((rows, columns, 3), np.float32)
    noise = blurred(noise, 0.55)
    noise *= np.float32(sigma / noise.std())
    return np.clip(np.round(noise), -127, 127).astype(np.int8)
