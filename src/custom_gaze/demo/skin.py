"""A person's face and bust as one picture, made from the portrait: colours, shape, brows, glasses.

The picture lies on the head's millimetres: pixel (column, row) shows the point
`low_mm + (column + 0.5, row + 0.5) / px_per_mm`.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.demo.eyes import eye_middles_mm
from custom_gaze.demo.person import Glasses, Person
from custom_gaze.demo.portrait import EYES_PX, portrait, to_head, to_source
from custom_gaze.demo.seeds import STREAM_PERSON, stream

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

BUST_MM = ((-300.0, -150.0), (410.0, 560.0))  # all of the portrait that can come into a frame
HEAD_MM = ((-170.0, -150.0), (170.0, 230.0))  # what a crop around the face shows
GLASSES_MM = ((-80.0, -32.0), (80.0, 40.0))
EYE_SPREAD_MM = 17.0  # about each eye the picture shifts as one


@dataclass(frozen=True)
class Picture:
    """`rgb` (rows, columns, 3) float32 in 0 … 255, `alpha` (rows, columns) in 0 … 1."""

    rgb: Floats
    alpha: Floats
    low_mm: tuple[float, float]
    px_per_mm: float


def make_picture(person: Person, px_per_mm: float, whole: bool) -> Picture:
    """The person's picture at a resolution: the whole bust, or the head alone (quicker)."""
    low, high = BUST_MM if whole else HEAD_MM
    columns, rows = (round((high[i] - low[i]) * px_per_mm) for i in (0, 1))
    x = low[0] + (np.arange(columns, dtype=np.float32) + 0.5) / np.float32(px_per_mm)
    y = low[1] + (np.arange(rows, dtype=np.float32) + 0.5) / np.float32(px_per_mm)
    source_map = _source_map(person, low, high, (columns, rows))
    painted = cv2.remap(
        _recolored(person), source_map, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    rgb, alpha = painted[..., :3].astype(np.float32), painted[..., 3].astype(np.float32) / 255
    if px_per_mm > 1.0:
        rgb = rgb + 0.5 * (rgb - cv2.GaussianBlur(rgb, (0, 0), 1.3 * px_per_mm))
    rgb *= _grain(person, x, y, px_per_mm)
    return Picture(np.clip(rgb, 0, 255), alpha, low, px_per_mm)


@lru_cache(maxsize=4)
def _recolored(person: Person) -> Image:
    """The portrait in the person's colours, RGB and opacity (512, 512, 4) uint8."""
    parts = portrait()
    rgb = parts.rgb.copy()
    skin = parts.skin[..., None]
    # teeth keep their brightness better than skin does
    gain = np.array(person.skin_gain, np.float32)
    rgb *= 1 + (parts.skin * (1 - 0.75 * parts.teeth))[..., None] * (gain - 1)
    rgb *= 1 + parts.lips[..., None] * (np.array(person.lips_gain, np.float32) - 1)
    rgb *= 1 + skin * person.blush * np.array([0.6, -0.8, -0.6], np.float32)
    brow = np.clip((person.brow_width_px + 0.5 - parts.brows) / 1.2, 0, 1)
    brow = (parts.skin * brow * person.brow_darkness)[..., None]
    hair_tone = np.array(person.hair_gain, np.float32) * np.array([88, 72, 52], np.float32)
    rgb += brow * (np.minimum(hair_tone * 0.75, rgb * 0.8) - rgb)
    hair = parts.hair[..., None]
    gray = rgb @ np.array([0.3, 0.59, 0.11], np.float32)
    rgb += hair * (gray[..., None] * np.array(person.hair_gain, np.float32) - rgb)
    rgb += parts.suit[..., None] * (_dyed(rgb, person) - rgb)
    layers = np.concatenate([rgb, 255 * parts.person[..., None]], -1)
    return np.clip(layers, 0, 255).astype(np.uint8)


def _dyed(rgb: Floats, person: Person) -> Floats:
    """The suit in another colour: its brightness kept, hue and saturation the person's."""
    angle = np.deg2rad(person.suit_hue_deg) + np.array([0, -2 * np.pi / 3, 2 * np.pi / 3])
    hue = (1 + person.suit_saturation * np.cos(angle)).astype(np.float32)
    gray = rgb @ np.array([0.42, 0.4, 0.18], np.float32)
    dyed: Floats = gray[..., None] * hue
    return dyed


def _source_map(
    person: Person,
    low: tuple[float, float],
    high: tuple[float, float],
    size: tuple[int, int],
) -> Floats:
    """The portrait's pixel that each of the picture's pixels shows (rows, columns, 2)."""
    step_mm = 4.0
    columns, rows = (int(np.ceil((high[i] - low[i]) / step_mm)) for i in (0, 1))
    x = low[0] + (np.arange(columns) + 0.5) * (high[0] - low[0]) / columns
    y = low[1] + (np.arange(rows) + 0.5) * (high[1] - low[1]) / rows
    grid = np.stack(np.meshgrid(x, y), -1).astype(np.float32)
    coarse = to_source(grid + _displacement(person, grid))
    return cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR)


def _displacement(person: Person, at: Floats) -> Floats:
    """What to add to the person's points (…, 2) to get the portrait's, in mm.

    The person's warps and stretch, and about each eye whatever more is needed for the drawn eye
    to lie on the portrait's.
    """
    middles = eye_middles_mm(person).astype(np.float32)
    wanted = to_head(np.array(EYES_PX)).astype(np.float32) - middles
    left = _spread(at, middles[0], EYE_SPREAD_MM)[..., None]
    right = _spread(at, middles[1], EYE_SPREAD_MM)[..., None]
    overlap = float(_spread(middles[:1], middles[1], EYE_SPREAD_MM)[0])
    lacking = wanted - _plain_warps(person, middles)
    both = np.linalg.solve(np.array([[1, overlap], [overlap, 1]]), lacking).astype(np.float32)
    return _plain_warps(person, at) + left * both[0] + right * both[1]


def _spread(at: Floats, center: Floats, sigma: float) -> Floats:
    distance = np.sum((at - center) ** 2, -1)
    spread: Floats = np.exp(-distance / np.float32(2 * sigma * sigma))
    return spread


def _plain_warps(person: Person, at: Floats) -> Floats:
    near_head = _spread(at, np.array([0, 20], np.float32), 130.0)[..., None]
    stretch = (1 / np.array(person.face_stretch, np.float32) - 1).astype(np.float32)
    total: Floats = near_head * at * stretch
    for x, y, sigma, dx, dy in person.warps:
        weight = _spread(at, np.array([x, y], np.float32), sigma)[..., None]
        total = total - weight * np.array([dx, dy], np.float32)
    return total


def _grain(person: Person, x: Floats, y: Floats, px_per_mm: float) -> Floats:
    """Pores and freckles: what an enlarged photograph lacks in detail, as a factor."""
    rng = stream(STREAM_PERSON, person.seed, 2)
    coarse = rng.standard_normal((110, 90)).astype(np.float32)
    fine = rng.standard_normal((440, 360)).astype(np.float32)
    spots = np.clip(cv2.GaussianBlur(fine, (0, 0), 1.0) * 3.5 - 1.6, 0, 1)
    size = (len(x), len(y))
    grain = 0.010 * cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    visible = min(1.0, px_per_mm / 1.5)
    grain += 0.020 * visible * cv2.resize(fine, size, interpolation=cv2.INTER_AREA)
    if person.freckles:
        face = np.exp(-0.5 * (x / 45) ** 2)[None] * np.exp(-0.5 * ((y - 25) / 22) ** 2)[:, None]
        grain -= 1.6 * person.freckles * face * cv2.resize(spots, size)
    return (1 + grain)[..., None].astype(np.float32)


def draw_glasses(person: Person, glasses: Glasses, px_per_mm: float) -> Floats:
    """The glasses' flat front (rows, columns, 4) float32: colour times opacity, and opacity.

    0 … 255 both; it covers GLASSES_MM. The lenses gleam a little.
    """
    low, high = GLASSES_MM
    size = (round((high[0] - low[0]) * px_per_mm), round((high[1] - low[1]) * px_per_mm))
    shift = 16  # of OpenCV's fixed-point coordinates, in parts
    frame = np.zeros((size[1], size[0]), np.uint8)
    lens = np.zeros_like(frame)
    width_px = max(1, round(glasses.line_mm * px_per_mm))

    def place(points_mm: NDArray[np.float64]) -> NDArray[np.int32]:
        spots = (points_mm - np.array(low)) * px_per_mm - 0.5
        return np.round(spots * shift).astype(np.int32)

    def line(points_mm: NDArray[np.float64], closed: bool) -> None:
        cv2.polylines(frame, [place(points_mm)], closed, 255, width_px, cv2.LINE_AA, 4)

    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    power = 2 / glasses.roundness
    ring = np.stack([np.cos(angle), np.sin(angle)], -1)
    ring = np.sign(ring) * np.abs(ring) ** power
    ring *= (glasses.half_width_mm, glasses.half_height_mm)
    for middle, side in zip(eye_middles_mm(person), (-1, 1), strict=True):
        outline = middle + (side * 1.5, 3.0) + ring
        cv2.fillPoly(lens, [place(outline)], 255, cv2.LINE_AA, 4)
        line(outline, True)
        edge = middle[0] + side * (1.5 + glasses.half_width_mm)
        line(np.array([[edge, -3.0], [side * 70.0, -4.0]]), False)
    gap = person.eye_distance_mm / 2 + 1.5 - glasses.half_width_mm
    line(np.array([[-gap, 0.0], [-gap / 2, -2.2], [gap / 2, -2.2], [gap, 0.0]]), False)
    opacity = frame.astype(np.float32) / 255 * min(1.0, glasses.line_mm * px_per_mm)
    columns = np.arange(size[0], dtype=np.float32)[None] / px_per_mm
    rows = np.arange(size[1], dtype=np.float32)[:, None] / px_per_mm
    streak = 0.5 + 0.5 * np.sin((columns + 0.7 * rows) / 7.0)
    gleam = glasses.gleam * streak**2 * (lens.astype(np.float32) / 255) * (1 - opacity)
    color = np.array(glasses.color, np.float32) * opacity[..., None] + 235 * gleam[..., None]
    return np.concatenate([color, 255 * (opacity + gleam)[..., None]], -1)
