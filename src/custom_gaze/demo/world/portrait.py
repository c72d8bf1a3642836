"""The photograph that lends its face: NASA's public-domain portrait that scikit-image ships.

Everything here is in the photograph's own pixels (512 x 512); `to_source` leads from the head's
millimetres to them. What cannot be computed is measured on the photograph and written down here:
outlines, the eyes' places, the brows.
"""

from dataclasses import dataclass, fields
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.demo.seeds import STREAM_ROOM, stream
from custom_gaze.demo.world.arrays import Floats, blurred, floats

# Middle between the eyes, scale (63 mm between the eyes) and tilt of the head in the photograph.
CENTER_PX = (225.2, 102.1)
PX_PER_MM = 0.698
TILT_DEG = 2.8

# The woman with her suit and helmet against the backdrop.
PERSON_OUTLINE = """
193,29 191,33 185,38 174,43 163,51 156,58 153,68 154,92 157,104 167,115 170,116 170,121 174,128
182,132 182,141 184,147 153,151 140,158 131,167 121,183 120,193 122,194 124,206 119,206 116,200
114,200 113,205 110,206 103,215 101,215 90,227 76,235 65,246 55,262 54,267 46,278 40,294 39,306
34,315 29,336 26,342 25,375 23,376 19,390 19,418 21,420 24,432 23,460 26,484 30,495 37,502 40,511
511,511 511,502 508,506 506,487 504,483 501,482 500,475 498,475 496,478 492,477 493,468 498,463
501,463 502,455 498,455 495,452 495,430 486,400 478,384 455,361 436,351 418,345 393,344 376,346
374,348 367,350 365,349 363,345 360,344 359,336 362,330 357,323 356,302 352,291 352,286 347,282
345,272 340,262 319,243 303,233 299,219 289,203 276,189 255,173 256,163 264,149 266,137 275,134
290,117 296,107 296,103 299,96 299,72 296,66 296,58 288,43 276,31 260,24 259,22 255,22 248,18
241,19 237,16 227,16 219,18 212,22 205,21
"""
# Her skin: face, ears, neck.
SKIN_OUTLINE = """
188,76 185,80 185,86 181,101 180,115 172,117 169,121 173,128 181,132 182,141 184,149 186,152
186,176 187,178 194,184 217,186 228,189 241,189 250,186 253,182 254,172 257,160 262,153 265,146
266,137 271,136 277,132 277,130 273,130 269,126 270,106 267,91 266,90 260,90 249,85 244,84 240,85
238,83 235,83 226,79 221,80 218,82 213,81 207,82 205,80 198,80 193,75
"""
MOUTH_OUTLINE = "202,139 212,141 225,142 237,141 245,139 240,147 230,152 218,152 209,148"
HAIR_BELOW_PX = 135.0  # hair lies above this row
EYES_PX = ((203.2, 101.3), (247.2, 103.4))  # drawn-over eyes, left one of the image first
EYE_HOLE_PX = (15.0, 7.0)  # half axes of what is taken away: eye, lashes, crease of the lid
BROWS = ("190,91 198.5,88.3 207,90 213.5,92.8", "238.5,93.6 246,92 254,91.8 263,95.6")


@dataclass(frozen=True)
class Portrait:
    """The photograph without its eyes, and where things are in it; each (512, 512[, 3]) float32.

    `rgb` in 0 … 255; the masks `person`, `skin`, `hair`, `lips`, `teeth`, `suit` in 0 … 1; `brows`
    is the distance in pixels from the brows' middle lines.
    """

    rgb: Floats
    person: Floats
    skin: Floats
    hair: Floats
    lips: Floats
    teeth: Floats
    suit: Floats
    brows: Floats

    def part(self, box: tuple[slice, slice]) -> "Portrait":
        """A rectangle (rows, columns) of all of it."""
        return Portrait(**{entry.name: getattr(self, entry.name)[box] for entry in fields(self)})


def points(text: str) -> NDArray[np.float64]:
    """'x,y x,y …' → (n, 2)."""
    return np.array([[float(number) for number in pair.split(",")] for pair in text.split()])


def to_source(points_mm: NDArray[np.float32]) -> Floats:
    """Points on the head (..., 2) in mm → the photograph's pixels (..., 2)."""
    tilt = np.deg2rad(TILT_DEG)
    turn = PX_PER_MM * np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    moved: Floats = points_mm @ turn.astype(np.float32) + np.array(CENTER_PX, np.float32)
    return moved


def to_head(points_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """The photograph's pixels (..., 2) → points on the head (..., 2) in mm."""
    tilt = np.deg2rad(TILT_DEG)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]) / PX_PER_MM
    moved: NDArray[np.float64] = (points_px - np.array(CENTER_PX)) @ turn
    return moved


@lru_cache(maxsize=1)
def portrait() -> Portrait:
    """Read the photograph and take it apart; the arrays are shared, so they are read-only."""
    from skimage import data

    photo = np.asarray(data.astronaut(), np.float32)
    person = _mask(PERSON_OUTLINE, photo.shape[0], 0.7)
    skin = _mask(SKIN_OUTLINE, photo.shape[0], 1.0)
    mouth = _mask(MOUTH_OUTLINE, photo.shape[0], 1.0)
    rows = np.arange(photo.shape[0], dtype=np.float32)[:, None]
    hair = person * (1 - skin) * np.clip((HAIR_BELOW_PX - rows) / 4, 0, 1)
    spread = (photo.max(-1) - photo.min(-1)) / np.maximum(photo.max(-1), 1)
    teeth = mouth * np.clip((0.32 - spread) / 0.12, 0, 1)  # pale, in the mouth
    red_over_blue = photo[..., 0] - photo[..., 2]
    suit = person * np.clip((red_over_blue - 60) / 50, 0, 1) * (rows > 190)
    rgb = _without_backdrop(_without_eyes(photo), person)
    person = _ragged(_mask(PERSON_OUTLINE, photo.shape[0], 2.0), rows)
    lips, suit = mouth * (1 - teeth), suit.astype(np.float32)
    parts = Portrait(rgb, person, skin, hair, lips, teeth, suit, _brow_distance())
    for entry in fields(parts):
        getattr(parts, entry.name).setflags(write=False)
    return parts


def _mask(outline: str, size_px: int, softness_px: float) -> Floats:
    mask = np.zeros((size_px, size_px), np.uint8)
    corners = np.round(points(outline) * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, lineType=cv2.LINE_AA, shift=4)
    return blurred(mask.astype(np.float32) / 255, softness_px)


def _ragged(soft: Floats, rows: Floats) -> Floats:
    """The outline's opacity: drawn in a little, so that no seam of the old backdrop shows, and
    frayed where it is hair's.
    """
    strands = stream(STREAM_ROOM, 1).standard_normal(soft.shape).astype(np.float32)
    strands = blurred(strands, 0.8) * 0.45
    frayed = np.clip((HAIR_BELOW_PX - 5 - rows) / 10, 0, 1) * 4 * soft * (1 - soft)
    ragged: Floats = np.clip((soft - 0.58 + frayed * strands) / (0.3 + 0.25 * frayed) + 0.5, 0, 1)
    return blurred(ragged, 0.5)


def _without_eyes(photo: Floats) -> Floats:
    """Replace both eyes by the smooth membrane that the skin around them spans (Laplace)."""
    result: Floats = photo.copy()
    ys, xs = np.mgrid[: photo.shape[0], : photo.shape[1]]
    for x, y in EYES_PX:
        turned = np.deg2rad(TILT_DEG)
        dx = (xs - x) * np.cos(turned) + (ys - y) * np.sin(turned)
        dy = (ys - y) * np.cos(turned) - (xs - x) * np.sin(turned)
        hole = (dx / EYE_HOLE_PX[0]) ** 2 + (dy / EYE_HOLE_PX[1]) ** 2 < 1
        box = np.s_[int(y) - 12 : int(y) + 13, int(x) - 20 : int(x) + 21]
        patch, inside = result[box].copy(), hole[box][..., None]
        for _ in range(600):
            around = cv2.blur(patch, (3, 3))
            patch = np.where(inside, around, patch)
        result[box] = patch
    return result


def _without_backdrop(photo: Floats, person: Floats) -> Floats:
    """Let the person's colours run out over her outline, so that soft edges hold no backdrop."""
    sure = (person > 0.97).astype(np.float32)[..., None]
    spread, weight = photo * sure, sure.copy()
    for sigma_px in (1.5, 4.0, 12.0):
        near = blurred(photo * sure, sigma_px)
        near_weight = blurred(sure, sigma_px)[..., None]
        missing = weight < 0.05
        spread = np.where(missing, near, spread)
        weight = np.where(missing, near_weight, weight)
    return floats(spread / np.maximum(weight, 1e-3))


def _brow_distance() -> Floats:
    lines = np.full((512 * 4, 512 * 4), 255, np.uint8)
    for brow in BROWS:
        corners = np.round((points(brow) + 0.5) * 4).astype(np.int32)
        cv2.polylines(lines, [corners], False, 0, thickness=1)
    distance = cv2.distanceTransform(lines, cv2.DIST_L2, 5) / 4
    return floats(cv2.resize(distance, (512, 512), interpolation=cv2.INTER_AREA))
