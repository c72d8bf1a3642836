"""The eyeball between the lids: sclera, iris, pupil, and the glints on the cornea.

A sphere in parallel projection, in the camera's axes: each pixel has a normal, and the angle
between that normal and the optical axis says whether it shows pupil, iris or sclera.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.demo.seeds import STREAM_PERSON, stream
from custom_gaze.demo.world.arrays import Floats, floats
from custom_gaze.demo.world.lids import Lids, bell
from custom_gaze.demo.world.person import Person

CORNEA_CENTER_MM, CORNEA_RADIUS_MM = 5.6, 7.8  # the gleaming cap in front of the iris
IRIS_RINGS, IRIS_SPOKES = 48, 256
LIMBUS_MM = 1.1  # how far iris and sclera run into each other
SCREEN_LIGHT = (0.0, 0.12, 0.99)  # towards the screen, a little below the camera


@dataclass(frozen=True)
class Look:
    """What decides one eye's drawing: directions in the camera's axes, light, lids.

    `optical` is the optical axis and `to_camera` (2, 2) what the head's turn does to millimetres
    on the skin here; `center_mm` is the eyeball's centre as seen by the camera, relative to the
    opening's middle; `pitch_deg` is that of the eye in the head. `level` is how bright the
    photograph's own light is here, about 1.
    """

    optical: NDArray[np.float64]
    to_camera: Floats
    center_mm: NDArray[np.float64]
    pitch_deg: float
    closed: float
    light: tuple[float, float, float]
    light_share: float
    screen_glow: float
    pupil_mm: float
    level: float


@dataclass(frozen=True)
class _Ball:
    """The sphere at a patch's pixels, each (rows, columns): offset from its centre as seen by the
    camera in mm, the normal's three parts, and the distance from the optical axis in mm.
    """

    x_mm: Floats
    y_mm: Floats
    normal: tuple[Floats, Floats, Floats]
    off_axis_mm: Floats

    def toward(self, vector: Floats) -> Floats:
        """Cosine (rows, columns) of the angle between the normal and a unit vector (3,)."""
        x, y, z = self.normal
        return floats(x * vector[0] + y * vector[1] + z * vector[2])


def draw_eyeball(grid: Floats, person: Person, look: Look, along: Floats, lids: Lids) -> Floats:
    """The eyeball as it would look without lids before it, RGB (rows, columns, 3), 0 … 255.

    `grid` (rows, columns, 2) and `along` (rows, columns) are the patch's, see `eyes` and `lids`.
    """
    ball = _ball(grid, person, look)
    color = _sclera(person, along, ball, lids)
    color = _iris(color, person, look, ball)
    return _lit(color, look, ball, along, lids)


def _ball(grid: Floats, person: Person, look: Look) -> _Ball:
    radius = np.float32(person.eye_radius_mm)
    turn, center = look.to_camera, floats(look.center_mm)
    x = grid[..., 0] * turn[0, 0] + grid[..., 1] * turn[0, 1] - center[0]
    y = grid[..., 0] * turn[1, 0] + grid[..., 1] * turn[1, 1] - center[1]
    # beside the sphere, in the corners of the eye, its rim goes on
    squeeze = np.minimum(0.985 / np.maximum(np.hypot(x, y), 1e-3), 1 / radius)
    normal_x, normal_y = x * squeeze, y * squeeze
    normal_z = np.sqrt(np.maximum(1 - normal_x * normal_x - normal_y * normal_y, 1e-4))
    axis = floats(look.optical)
    cosine = normal_x * axis[0] + normal_y * axis[1] + normal_z * axis[2]
    off_axis_mm = radius * np.sqrt(np.clip(1 - cosine * cosine, 0, 1))
    off_axis_mm = np.where(cosine > 0, off_axis_mm, np.float32(20))  # not on the eye's back
    return _Ball(floats(x), floats(y), (normal_x, normal_y, normal_z), floats(off_axis_mm))


@lru_cache(maxsize=16)
def iris_texture(person: Person) -> Floats:
    """The iris unrolled: (rings from the pupil to the limbus, spokes, RGB) in 0 … 255."""
    rng = stream(STREAM_PERSON, person.seed, 1)
    rings = np.linspace(0, 1, IRIS_RINGS)[:, None]
    angle = np.linspace(0, 2 * np.pi, IRIS_SPOKES, endpoint=False)[None]
    fibres = np.zeros((IRIS_RINGS, IRIS_SPOKES))
    for waves, share in ((18, 0.5), (41, 0.8), (90, 0.6)):
        bend, start, wave_start = rng.uniform(-2.5, 2.5), rng.uniform(0, 6.3), rng.uniform(0, 6.3)
        crooked = start + bend * rings + 0.8 * np.sin(3 * angle + wave_start)
        fibres += share * np.sin(waves * angle + crooked)
    fibres = 1 + 0.13 * fibres * (0.4 + 0.6 * np.sin(np.pi * rings))
    collarette = 0.34 + 0.05 * np.sin(7 * angle)
    inner = 1 / (1 + np.exp((rings - collarette) / 0.07))[..., None]
    color = np.array(person.iris_inner) * inner + np.array(person.iris_outer) * (1 - inner)
    limbus = 1 - 0.62 * np.clip((rings - 0.72) / 0.28, 0, 1) ** 1.6
    texture = color * (fibres * limbus * (0.82 + 0.18 * rings))[..., None]
    return floats(np.clip(texture, 0, 255))


def _sclera(person: Person, along: Floats, ball: _Ball, lids: Lids) -> Floats:
    """White, rosy towards the corners, with the caruncle and the lower lid's wet rim."""
    rosy = np.clip(np.abs(along) - 0.45, 0, 1)[..., None] * floats([0.0, 0.30, 0.26])
    color = floats(person.sclera) * (1 - rosy) * (0.55 + 0.45 * ball.normal[2])[..., None]
    caruncle = np.clip((along - 0.74) / 0.09, 0, 1)[..., None]
    flesh = floats([192, 118, 106]) * (1 - 0.3 * bell(along - 0.77, 0.03))[..., None]
    color = color + caruncle * (flesh - color)
    wet_rim = 0.5 * bell(lids.above_lower - 0.25, 0.3)[..., None]
    return floats(color + wet_rim * (floats([222, 178, 166]) - color))


def _iris(color: Floats, person: Person, look: Look, ball: _Ball) -> Floats:
    """Iris and pupil over the sclera, where the normal is close to the optical axis."""
    axis = floats(look.optical)
    right = floats([axis[2], 0, -axis[0]])
    right /= np.linalg.norm(right)
    down = floats(np.cross(axis, right))
    turn = np.arctan2(ball.toward(down), ball.toward(right)) / np.float32(2 * np.pi)
    spoke = (turn % 1.0) * (IRIS_SPOKES - 1)
    pupil, limbus = np.float32(look.pupil_mm), np.float32(person.iris_radius_mm)
    ring = np.clip((ball.off_axis_mm - pupil) / (limbus - pupil), 0, 1) * (IRIS_RINGS - 1)
    drawn = floats(cv2.remap(iris_texture(person), floats(spoke), floats(ring), cv2.INTER_LINEAR))
    drawn = drawn * np.clip((ball.off_axis_mm - pupil) / 0.35 + 0.5, 0.06, 1)[..., None]
    share = np.clip((limbus - ball.off_axis_mm) / LIMBUS_MM + 0.5, 0, 1)[..., None]
    return floats(color + share * share * (3 - 2 * share) * (drawn - color))


def _lit(color: Floats, look: Look, ball: _Ball, along: Floats, lids: Lids) -> Floats:
    """Shadow of the lids, light and shade on the ball, and the glints on the cornea."""
    shadow = 1 - 0.62 * np.exp(-np.maximum(lids.below_upper, 0) / 1.5)
    shadow *= 1 - 0.22 * np.exp(-np.maximum(lids.above_lower, 0) / 0.9)
    shadow *= 1 - 0.3 * np.clip((np.abs(along) - 0.72) / 0.28, 0, 1)
    light = floats(look.light)
    facing = np.clip(ball.toward(light), 0, 1)
    color = color * (shadow * look.level * (1 + look.light_share * (facing - 0.8)))[..., None]
    gleam = _glint(look, ball, light, 0.62) * (0.35 + 0.65 * look.light_share)
    gleam = gleam + _glint(look, ball, floats(SCREEN_LIGHT), 0.85) * look.screen_glow
    return floats(color + np.minimum(gleam, 1)[..., None] * (248 - color))


def _glint(look: Look, ball: _Ball, light: Floats, width_mm: float) -> Floats:
    """A light's mirror image on the cornea, 0 … 1: where the normal halves light and view."""
    half = light + floats([0, 0, 1])
    half /= max(float(np.linalg.norm(half)), 1e-6)
    spot = CORNEA_CENTER_MM * look.optical[:2] + CORNEA_RADIUS_MM * half[:2]
    distance = (ball.x_mm - np.float32(spot[0])) ** 2 + (ball.y_mm - np.float32(spot[1])) ** 2
    gleam = np.exp(-distance / np.float32(2 * (width_mm / 1.6) ** 2))
    gleam *= np.clip((6.6 - ball.off_axis_mm) / 1.5, 0.1, 1)  # dull beside the cornea
    return floats(gleam * np.float32(np.clip(4 * light[2], 0, 1)))  # none from behind the head
