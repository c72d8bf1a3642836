"""What is behind the person: a wall with things on it, out of focus."""

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.demo.world.arrays import Floats, Image, blurred, resized

SKETCH_WIDTH_PX = 320


def draw_room(rng: np.random.Generator, size_px: tuple[int, int]) -> Image:
    """A blurred room (height, width, 3) RGB uint8 for a picture of `size_px` (width, height)."""
    width = SKETCH_WIDTH_PX
    height = max(2, round(width * size_px[1] / size_px[0]))
    wall = rng.uniform(70, 215) * _tint(rng, 0.05)
    across = np.linspace(-1, 1, width)[None, :, None] * rng.normal(0, 0.2)
    down = np.linspace(-1, 1, height)[:, None, None] * rng.normal(0, 0.15)
    room = (wall * (1 + across + down)).astype(np.float32)
    for _ in range(int(rng.integers(2, 16))):
        _add_thing(rng, room)
    if rng.random() < 0.3:
        _add_window(rng, room)
    room = blurred(room, float(rng.uniform(1.0, 9.0)))
    room = resized(room, size_px, cv2.INTER_CUBIC)
    return np.clip(room, 0, 255).astype(np.uint8)


def _tint(rng: np.random.Generator, spread: float) -> NDArray[np.float64]:
    """A colour's factors (3,) around 1; warm and cold tints are commoner than green and purple."""
    warmth, green = rng.normal(0, spread), 0.4 * rng.normal(0, spread)
    return np.clip([1 + warmth - green / 2, 1 + green, 1 - warmth - green / 2], 0.3, 1.7)


def _add_thing(rng: np.random.Generator, room: Floats) -> None:
    """A box or a round thing of one colour: books, pictures, plants, lamps."""
    height, width = room.shape[:2]
    x, y = int(rng.integers(width)), int(rng.integers(height))
    half_w, half_h = int(rng.integers(4, 50)), int(rng.integers(4, 50))
    color = [float(v) for v in rng.uniform(15, 215) * _tint(rng, 0.22)]
    if rng.random() < 0.7:
        cv2.rectangle(room, (x - half_w, y - half_h), (x + half_w, y + half_h), color, -1)
    else:
        cv2.ellipse(room, (x, y), (half_w, half_h), 0, 0, 360, color, -1)


def _add_window(rng: np.random.Generator, room: Floats) -> None:
    height, width = room.shape[:2]
    x = int(rng.integers(width))
    half = int(rng.integers(20, 60))
    bottom = int(rng.uniform(0.3, 0.9) * height)
    daylight = [float(v) for v in rng.uniform(215, 255) * np.array([0.95, 1.0, 1.05])]
    cv2.rectangle(room, (x - half, 0), (x + half, bottom), daylight, -1)
    cv2.line(room, (x, 0), (x, bottom), [120.0, 118.0, 115.0], 3)
