"""A person's face and bust as one picture, made from the portrait: colours, shape, brows, glasses.

The picture lies on the head's millimetres: pixel (column, row) shows the point
`low_mm + (column + 0.5, row + 0.5) / px_per_mm`.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from custom_gaze.demo.seeds import STREAM_PERSON, stream
from custom_gaze.demo.world.arrays import Floats, Image, blurred, floats, image, resized, sample
from custom_gaze.demo.world.eyes import eye_middles_mm
from custom_gaze.demo.world.person import Person
from custom_gaze.demo.world.portrait import EYES_PX, portrait, to_head, to_source

BUST_MM = ((-300.0, -150.0), (410.0, 560.0))  # all of the portrait that can come into a frame
HEAD_MM = ((-170.0, -150.0), (170.0, 230.0))  # what a crop around the face shows
WHOLE_PX = (slice(0, 512), slice(0, 512))  # rows and columns of the portrait
HEAD_PX = (slice(0, 300), slice(80, 380))  # those that HEAD_MM needs
FRECKLED_ROW = 121  # of the portrait: nose and cheeks
PORES_FROM_PX_PER_MM = 1.0  # coarser pictures show none
SHARPENED = 0.5
MAP_STEP_MM = 4.0  # the face's warp is computed on this grid and interpolated
EYE_SPREAD_MM = 17.0  # about each eye the picture shifts as one


@dataclass(frozen=True)
class Picture:
    """`rgb` (rows, columns, 3) float32 in 0 … 255, `alpha` (rows, columns) in 0 … 1."""

    rgb: Floats
    alpha: Floats
    low_mm: tuple[float, float]


def make_picture(person: Person, px_per_mm: float, whole: bool) -> Picture:
    """The person's picture at a resolution: the whole bust, or the head alone (quicker)."""
    low, high = BUST_MM if whole else HEAD_MM
    columns, rows = (round((high[i] - low[i]) * px_per_mm) for i in (0, 1))
    source_px = _source_map(person, low, (columns, rows), px_per_mm)
    part_px = source_px if whole else source_px - floats([HEAD_PX[1].start, HEAD_PX[0].start])
    painted = sample(_recolored(person, whole), part_px, cv2.INTER_CUBIC, cv2.BORDER_REPLICATE)
    rgb, alpha = floats(painted[..., :3]), floats(painted[..., 3] / np.float32(255))
    if px_per_mm > PORES_FROM_PX_PER_MM:
        rgb = rgb + SHARPENED * (rgb - blurred(rgb, 1.3 * px_per_mm))
        rgb *= _pores_at(person, source_px)
    return Picture(floats(np.clip(rgb, 0, 255)), alpha, low)


@lru_cache(maxsize=4)
def _recolored(person: Person, whole: bool) -> Image:
    """The portrait, or HEAD_PX of it, in the person's colours: RGB and opacity, 4 channels."""
    box = WHOLE_PX if whole else HEAD_PX
    parts = portrait().part(box)
    rgb = parts.rgb.copy()
    skin = parts.skin[..., None]
    # teeth keep their brightness better than skin does
    gain = floats(person.skin_gain)
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
    rgb *= _blemishes(person, parts.skin, box)[..., None]
    layers = np.concatenate([rgb, 255 * parts.person[..., None]], -1)
    return image(np.clip(layers, 0, 255).astype(np.uint8))


def _dyed(rgb: Floats, person: Person) -> Floats:
    """The suit in the person's colour, its folds kept."""
    angle = np.deg2rad(person.suit_hue_deg) + np.array([0, -2 * np.pi / 3, 2 * np.pi / 3])
    hue = floats(person.suit_brightness * (1 + person.suit_saturation * np.cos(angle)))
    gray = rgb @ np.array([0.42, 0.4, 0.18], np.float32)
    dyed: Floats = gray[..., None] * hue
    return dyed


def _source_map(
    person: Person, low: tuple[float, float], size: tuple[int, int], px_per_mm: float
) -> Floats:
    """The portrait's pixel that each of the picture's pixels shows (rows, columns, 2)."""
    size_mm = (size[0] / px_per_mm, size[1] / px_per_mm)
    columns, rows = (int(np.ceil(side / MAP_STEP_MM)) for side in size_mm)
    x = low[0] + (np.arange(columns) + 0.5) * size_mm[0] / columns
    y = low[1] + (np.arange(rows) + 0.5) * size_mm[1] / rows
    grid = floats(np.stack(np.meshgrid(x, y), -1))
    return resized(to_source(grid + _displacement(person, grid)), size)


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
    return floats(_plain_warps(person, at) + left * both[0] + right * both[1])


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


def _blemishes(person: Person, skin: Floats, box: tuple[slice, slice]) -> Floats:
    """Uneven tone and freckles on the portrait's `skin` in `box`, as a factor of its size."""
    rng = stream(STREAM_PERSON, person.seed, 2)
    noise = rng.standard_normal((WHOLE_PX[0].stop, WHOLE_PX[1].stop), np.float32)[box]
    uneven = blurred(noise, 2.5)
    spots = np.clip(blurred(noise, 0.9) * 4.0 - 2.0, 0, 1)
    row = np.arange(box[0].start, box[0].stop)[:, None]
    freckled = person.freckles * np.exp(-0.5 * ((row - FRECKLED_ROW) / 15) ** 2)
    return floats(1 + skin * (0.09 * uneven - 1.6 * freckled * spots))


@lru_cache(maxsize=1)
def _pores() -> Floats:
    """The detail that an enlarged photograph lacks, as a factor (1024, 1024); the same for all."""
    rng = stream(STREAM_PERSON, 0, 3)
    return floats(1 + 0.02 * blurred(rng.standard_normal((1024, 1024), np.float32), 0.5))


def _pores_at(person: Person, source_px: Floats) -> Floats:
    """The pores of a person, whose skin shows a part of them of its own, (rows, columns, 1)."""
    first = floats(stream(STREAM_PERSON, person.seed, 3).uniform(0, 1024, 2))
    return floats(sample(_pores(), 2 * source_px + first, border=cv2.BORDER_WRAP))[..., None]
