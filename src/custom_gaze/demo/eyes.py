"""Draws an eye that looks in a given direction, onto a patch of the face's skin.

The eyeball is a sphere, seen in parallel projection: each pixel of the opening between the lids
has a normal, and the angle between that normal and the optical axis says whether it shows pupil,
iris or sclera. Everything is computed in the camera's axes, so that the iris is where it would be
under any turn of the head; the lids are drawn in the head's axes and follow the eye's pitch.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.demo.head import HeadPose, angles_deg, direction, turned
from custom_gaze.demo.person import Eye, Person
from custom_gaze.demo.seeds import STREAM_PERSON, stream

Floats = NDArray[np.float32]

PATCH_LOW_MM = (-21.0, -17.0)  # the patch about the opening's middle
PATCH_SIZE_MM = (42.0, 32.0)
CENTER_BEHIND_MM = 10.0  # the eyeball's centre behind the skin's relief
CENTER_BELOW_MM = -0.4  # and below the line between the corners
UPPER_MM, LOWER_MM = 5.3, 4.3  # lids above and below the line between the corners
LOWER_FOLLOW = 0.32  # share of the eye's pitch that the lower lid goes along with
CORNEA_CENTER_MM, CORNEA_RADIUS_MM = 5.6, 7.8  # the gleaming cap in front of the iris
IRIS_RINGS, IRIS_SPOKES = 48, 256


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


def eye_middles_mm(person: Person) -> NDArray[np.float64]:
    """Middles of the two openings on the head (2, 2) in mm, the image's left eye first."""
    half = person.eye_distance_mm / 2
    return np.array([[-half, 0.0], [half, 0.0]]) + np.array([eye.offset_mm for eye in person.eyes])


def optical_axes(
    person: Person, gaze_deg: tuple[float, float], pose: HeadPose, distance_mm: float
) -> list[tuple[NDArray[np.float64], float]]:
    """Per eye, the optical axis in the camera's axes and the eye's pitch in the head in degrees.

    Both eyes turn towards the point looked at (vergence); then each is turned back by its kappa,
    visual = optical + kappa, in the head's axes.
    """
    rotation = pose.matrix()
    yaw_deg, pitch_deg = angles_deg(rotation.T @ direction(*gaze_deg))
    axes = []
    for eye, middle in zip(person.eyes, eye_middles_mm(person), strict=True):
        vergence_deg = -np.rad2deg(np.arctan2(middle[0], distance_mm))
        optical_pitch_deg = pitch_deg - eye.kappa_pitch_deg
        own = direction(yaw_deg + vergence_deg - eye.kappa_yaw_deg, optical_pitch_deg)
        axes.append((rotation @ own, float(optical_pitch_deg)))
    return axes


def eyeball_view(middle_mm: NDArray[np.float64], pose: HeadPose) -> tuple[Floats, NDArray[np.float64]]:
    """(2, 2) skin to camera millimetres at an eye, and the eyeball's centre seen from there (2,)."""
    _, jacobian = turned(middle_mm.astype(np.float32)[None, None], pose)
    rotation = pose.matrix()
    center = rotation[:2] @ np.array([0.0, CENTER_BELOW_MM, -CENTER_BEHIND_MM])
    return jacobian[0, 0].astype(np.float32), center


def patch_grid(px_per_mm: float, offset_mm: NDArray[np.float64]) -> Floats:
    """Millimetres (rows, columns, 2) of an eye patch's pixels about the opening's middle.

    `offset_mm` (2,) moves all of them, less than a pixel, to meet the pixels of the whole face.
    """
    columns, rows = (round(size * px_per_mm) for size in PATCH_SIZE_MM)
    x = PATCH_LOW_MM[0] + offset_mm[0] + (np.arange(columns) + 0.5) / px_per_mm
    y = PATCH_LOW_MM[1] + offset_mm[1] + (np.arange(rows) + 0.5) / px_per_mm
    return np.stack(np.meshgrid(x, y), -1).astype(np.float32)


@lru_cache(maxsize=16)
def iris_texture(person: Person) -> Floats:
    """The iris unrolled: (rings from the pupil to the limbus, spokes, RGB) in 0 … 255."""
    rng = stream(STREAM_PERSON, person.seed, 1)
    rings = np.linspace(0, 1, IRIS_RINGS)[:, None]
    fibres = np.zeros((IRIS_RINGS, IRIS_SPOKES))
    for waves, share in ((18, 0.5), (41, 0.8), (90, 0.6)):
        angle = np.linspace(0, 2 * np.pi, IRIS_SPOKES, endpoint=False)[None]
        bend = rng.uniform(-2.5, 2.5)
        phase = rng.uniform(0, 2 * np.pi) + bend * rings + 0.8 * np.sin(3 * angle + rng.uniform(0, 6))
        fibres += share * np.sin(waves * angle + phase)
    fibres = 1 + 0.13 * fibres * (0.4 + 0.6 * np.sin(np.pi * rings))
    collarette = 0.34 + 0.05 * np.sin(7 * np.linspace(0, 2 * np.pi, IRIS_SPOKES))[None]
    inner = 1 / (1 + np.exp((rings - collarette) / 0.07))
    color = np.array(person.iris_inner) * inner[..., None]
    color = color + np.array(person.iris_outer) * (1 - inner[..., None])
    limbus = 1 - 0.62 * np.clip((rings - 0.72) / 0.28, 0, 1) ** 1.6
    texture = color * (fibres * limbus * (0.82 + 0.18 * rings))[..., None]
    return np.clip(texture, 0, 255).astype(np.float32)


def draw_eye(
    skin: Floats, grid: Floats, person: Person, index: int, look: Look, px_per_mm: float
) -> Floats:
    """Paint eye `index` (0 the image's left) over `skin` (rows, columns, 3), RGB 0 … 255, float32.

    `grid` (rows, columns, 2) is the patch's `patch_grid`. Returns a new array.
    """
    eye = person.eyes[index]
    nasal = grid[..., 0] if index == 0 else -grid[..., 0]
    along = np.clip(nasal / np.float32(person.eye_half_width_mm), -1.35, 1.35)
    lids = _Lids(person, eye, look, along, grid[..., 1])
    painted = _lid_skin(skin, person, lids)
    ball = _eyeball(grid, person, look, along, lids)
    open_share = np.clip(np.minimum(lids.below_upper, lids.above_lower) * px_per_mm + 0.5, 0, 1)
    open_share = (open_share * (np.abs(along) < 1.0))[..., None]
    painted = painted + open_share * (ball - painted)
    return _lashes(painted, person, lids, px_per_mm)


class _Lids:
    """Signed distances in mm of a patch's pixels to the margins of the lids.

    `below_upper` is positive below the upper margin, `above_lower` above the lower one: the
    opening is where both are. `rest_upper` is the distance to where the upper margin lies in an
    eye that looks straight on; the crease above it moves less than the margin does.
    """

    def __init__(self, person: Person, eye: Eye, look: Look, along: Floats, y: Floats) -> None:
        drop_mm = person.eye_radius_mm * float(np.sin(np.deg2rad(look.pitch_deg)))
        rising = 0.72 if drop_mm < 0 else 1.0
        upper = UPPER_MM * eye.lid_opening - rising * person.lid_follow * drop_mm
        lower = LOWER_MM * (0.5 + 0.5 * eye.lid_opening) + LOWER_FOLLOW * drop_mm
        upper = max(upper, 1.6 - 0.55 * lower)
        upper += look.closed * (-0.75 * lower - upper)
        lower -= 0.2 * look.closed * lower
        corner_line = eye.corner_tilt_mm * along
        shape_up = _arch(along - 0.13 * (1 - along * along), 2.2, 0.8)
        shape_down = _arch(along + 0.14 * (1 - along * along), 2.3, 0.85)
        rest_mm = UPPER_MM * eye.lid_opening
        self.along = along
        self.upper_mm = upper
        self.drop_mm = rest_mm - upper
        self.below_upper = (y - corner_line + upper * shape_up).astype(np.float32)
        self.above_lower = (corner_line + lower * shape_down - y).astype(np.float32)
        self.rest_upper = (y - corner_line + rest_mm * shape_up).astype(np.float32)
        self.width = _arch(along / 1.12, 4.0, 1.0)


def _arch(t: Floats, sharpness: float, power: float) -> Floats:
    """1 in the middle, 0 at the corners t = ±1 and beyond."""
    arch: Floats = np.power(np.clip(1 - np.power(np.abs(t), sharpness), 0, 1), power)
    return arch


def _bell(distance: Floats, width: float) -> Floats:
    bell: Floats = np.exp(-0.5 * (distance / np.float32(width)) ** 2)
    return bell


def _lid_skin(skin: Floats, person: Person, lids: _Lids) -> Floats:
    """The skin around the opening: hollow, crease, lid, lower lid's rim and fold."""
    above = -lids.below_upper  # mm above the upper margin
    moved = 0.35 * lids.drop_mm
    crease = -lids.rest_upper - person.crease_mm - 0.3 + moved  # mm above the crease
    near = lids.width
    depth = person.crease_depth * float(np.clip(1 - 0.07 * lids.drop_mm, 0.35, 1.2))
    shade = 1 - depth * near * _bell(crease, 0.62)
    shade *= 1 - 0.10 * near * _bell(crease - 2.2, 2.4)  # hollow under the brow
    shade *= 1 + 0.07 * near * _bell(crease + 0.5 * (person.crease_mm + lids.drop_mm * 0.6), 1.1)
    shade *= 1 - 0.16 * _bell(above - 0.2, 1.0) * near * (above > -1)
    below = -lids.above_lower  # mm below the lower margin
    shade *= 1 + 0.06 * near * _bell(below - 0.5, 0.55)
    shade *= 1 - 0.13 * near * _bell(below - 1.6, 0.8) - 0.05 * near * _bell(below - 5.0, 1.5)
    outer = _bell(lids.along + 1.08, 0.14) * _bell(lids.below_upper - 0.2, 1.6)
    inner = _bell(lids.along - 1.06, 0.1) * _bell(lids.below_upper - 0.3, 1.5)
    shade *= (1 - 0.20 * outer) * (1 - 0.16 * inner)
    painted = skin * shade[..., None]
    if person.shadow:
        on_lid = near * np.clip(above / 0.8, 0, 1) * np.clip((2.5 - crease) / 4.0, 0, 1)
        tint = np.array(person.shadow_color, np.float32) / 128
        painted *= 1 + (person.shadow * on_lid)[..., None] * (tint - 1)
    rim = near * _bell(below - 0.3, 0.4)
    return painted * (1 + rim[..., None] * np.array([0.03, -0.07, -0.05], np.float32))


def _eyeball(grid: Floats, person: Person, look: Look, along: Floats, lids: _Lids) -> Floats:
    """Sclera, iris, pupil, caruncle and glints for every pixel of the patch (rows, columns, 3)."""
    radius = np.float32(person.eye_radius_mm)
    seen = grid @ look.to_camera.T - look.center_mm.astype(np.float32)
    from_center = np.sqrt(np.sum(seen * seen, -1))
    squeeze = np.minimum(1, 0.985 * radius / np.maximum(from_center, 1e-3))
    normal_xy = seen * (squeeze / radius)[..., None]
    normal_z = np.sqrt(np.maximum(1 - np.sum(normal_xy * normal_xy, -1), 1e-4))
    axis = look.optical.astype(np.float32)
    cosine = normal_xy @ axis[:2] + normal_z * axis[2]
    off_axis_mm = radius * np.sqrt(np.clip(1 - cosine * cosine, 0, 1))
    off_axis_mm = np.where(cosine > 0, off_axis_mm, np.float32(20))  # not the eye's back
    color = _sclera(person, along, normal_z, lids)
    color = _iris(color, person, look, normal_xy, normal_z, off_axis_mm)
    return _lit(color, look, seen, normal_xy, normal_z, off_axis_mm, along, lids)


def _sclera(person: Person, along: Floats, normal_z: Floats, lids: _Lids) -> Floats:
    white = np.array(person.sclera, np.float32)
    rosy = np.clip(np.abs(along) - 0.45, 0, 1)[..., None] * np.array([0.0, 0.30, 0.26], np.float32)
    color = white * (1 - rosy) * (0.55 + 0.45 * normal_z)[..., None]
    caruncle = np.clip((along - 0.74) / 0.09, 0, 1)[..., None]
    flesh = np.array([192, 118, 106], np.float32) * (1 - 0.3 * _bell(along - 0.77, 0.03))[..., None]
    color = color + caruncle * (flesh - color)
    wet_rim = 0.5 * _bell(lids.above_lower - 0.25, 0.3)[..., None]
    return color + wet_rim * (np.array([222, 178, 166], np.float32) - color)


def _iris(
    color: Floats,
    person: Person,
    look: Look,
    normal_xy: Floats,
    normal_z: Floats,
    off_axis_mm: Floats,
) -> Floats:
    """Iris and pupil over the sclera, where the normal is close to the optical axis."""
    axis = look.optical.astype(np.float32)
    right = np.array([axis[2], 0, -axis[0]], np.float32)
    right /= np.linalg.norm(right)
    down = np.cross(axis, right)
    x = normal_xy @ right[:2] + normal_z * right[2]
    y = normal_xy @ down[:2] + normal_z * down[2]
    spoke = (np.arctan2(y, x) / (2 * np.pi) % 1.0) * (IRIS_SPOKES - 1)
    pupil, limbus = np.float32(look.pupil_mm), np.float32(person.iris_radius_mm)
    ring = np.clip((off_axis_mm - pupil) / (limbus - pupil), 0, 1) * (IRIS_RINGS - 1)
    drawn = cv2.remap(
        iris_texture(person),
        spoke.astype(np.float32),
        ring.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    drawn = drawn * np.clip((off_axis_mm - pupil) / 0.35 + 0.5, 0.06, 1)[..., None]
    share = np.clip((limbus - off_axis_mm) / 1.1 + 0.5, 0, 1)[..., None]
    return color + share * share * (3 - 2 * share) * (drawn - color)


def _lit(
    color: Floats,
    look: Look,
    seen: Floats,
    normal_xy: Floats,
    normal_z: Floats,
    off_axis_mm: Floats,
    along: Floats,
    lids: _Lids,
) -> Floats:
    """Shadow of the lids, light and shade on the ball, and the glints on the cornea."""
    shadow = 1 - 0.62 * np.exp(-np.maximum(lids.below_upper, 0) / 1.5)
    shadow *= 1 - 0.22 * np.exp(-np.maximum(lids.above_lower, 0) / 0.9)
    shadow *= 1 - 0.3 * np.clip((np.abs(along) - 0.72) / 0.28, 0, 1)
    light = np.array(look.light, np.float32)
    facing = np.clip(normal_xy @ light[:2] + normal_z * light[2], 0, 1)
    level = look.level * (1 + look.light_share * (facing - 0.8))
    color = color * (shadow * level)[..., None]
    for toward, strength, width_mm in (
        (light, 0.35 + 0.65 * look.light_share, 0.62),
        (np.array([0.0, 0.12, 0.99], np.float32), look.screen_glow, 0.85),
    ):
        half = toward + np.array([0, 0, 1], np.float32)
        half /= max(float(np.linalg.norm(half)), 1e-6)
        axis = look.optical[:2].astype(np.float32)
        spot = seen - (CORNEA_CENTER_MM * axis + CORNEA_RADIUS_MM * half[:2])
        gleam = np.exp(-np.sum(spot * spot, -1) / np.float32(2 * (width_mm / 1.6) ** 2))
        gleam *= strength * float(np.clip(4 * toward[2], 0, 1))  # none from behind the head
        gleam *= np.clip((6.6 - off_axis_mm) / 1.5, 0.1, 1)
        color = color + np.minimum(gleam, 1)[..., None] * (248 - color)
    return color


def _lashes(painted: Floats, person: Person, lids: _Lids, px_per_mm: float) -> Floats:
    """Lash lines along both margins, lashes fanning out above, liner."""
    outward = np.clip(0.5 - 0.5 * lids.along, 0, 1)  # 1 at the outer corner
    above = -lids.below_upper
    within = (np.abs(lids.along) < 1.08) * lids.width
    line_mm = 0.5 + 0.3 * outward + 0.45 * person.liner * outward
    ink = (0.55 + 0.4 * min(1.0, person.lash_darkness)) * np.exp(
        -0.5 * ((above - 0.1) / line_mm) ** 2
    )
    length = person.lash_mm * (0.35 + 0.65 * outward)
    phase = lids.along * person.eye_half_width_mm * 1.05 - (1.6 * outward - 0.5) * above * 0.5
    uneven = np.sin(2 * np.pi * phase + 2.2 * np.sin(1.9 * phase)) + 0.6 * np.sin(9.1 * phase)
    streaks = 0.6 + 0.28 * uneven * min(1.0, px_per_mm / 2)
    fan = np.clip(1 - above / np.maximum(length, 0.3), 0, 1) * (above > 0)
    ink = np.maximum(ink, 0.75 * person.lash_darkness * fan * streaks)
    below = -lids.above_lower
    lower = (0.10 + 0.28 * person.lash_darkness + 0.3 * person.liner) * (0.35 + 0.65 * outward)
    ink = np.maximum(ink, lower * _bell(below - 0.75, 0.5))
    ink = np.clip(ink * within, 0, 0.95)[..., None]
    return painted + ink * (np.array([34, 24, 20], np.float32) - painted)
