"""The lids around an eye: their margins, the skin on them, and the lashes.

Drawn in the head's axes, in millimetres about the opening's middle. `along` runs from the outer
corner, -1, to the inner one, 1.
"""

import numpy as np

from custom_gaze.demo.world.arrays import Floats, floats
from custom_gaze.demo.world.person import Eye, Person

UPPER_MM, LOWER_MM = 5.3, 4.3  # lids above and below the line between the corners
LOWER_FOLLOW = 0.32  # share of the eye's pitch that the lower lid goes along with


class Lids:
    """Signed distances in mm of a patch's pixels to the margins of the lids.

    `below_upper` is positive below the upper margin, `above_lower` above the lower one: the
    opening is where both are. `rest_upper` is the distance to where the upper margin lies in an
    eye that looks straight on, and `drop_mm` how far it has dropped from there; the crease above
    it moves less than the margin does. `width` is 1 along the lids and 0 beside them.
    """

    def __init__(
        self, person: Person, eye: Eye, pitch_deg: float, closed: float, along: Floats, y: Floats
    ) -> None:
        drop_mm = person.eye_radius_mm * float(np.sin(np.deg2rad(pitch_deg)))
        rising = 0.72 if drop_mm < 0 else 1.0
        upper = UPPER_MM * eye.lid_opening - rising * person.lid_follow * drop_mm
        lower = LOWER_MM * (0.5 + 0.5 * eye.lid_opening) + LOWER_FOLLOW * drop_mm
        upper = max(upper, 1.6 - 0.55 * lower)
        upper += closed * (-0.75 * lower - upper)
        lower -= 0.2 * closed * lower
        corner_line = eye.corner_tilt_mm * along
        shape_up = _arch(along - 0.13 * (1 - along * along), 2.2, 0.8)
        shape_down = _arch(along + 0.14 * (1 - along * along), 2.3, 0.85)
        rest_mm = UPPER_MM * eye.lid_opening
        self.along = along
        self.drop_mm = rest_mm - upper
        self.below_upper = floats(y - corner_line + upper * shape_up)
        self.above_lower = floats(corner_line + lower * shape_down - y)
        self.rest_upper = floats(y - corner_line + rest_mm * shape_up)
        self.width = _arch(along / 1.12, 4.0, 1.0)


def _arch(t: Floats, sharpness: float, power: float) -> Floats:
    """1 in the middle, 0 at the corners t = ±1 and beyond."""
    return floats(np.power(np.clip(1 - np.power(np.abs(t), sharpness), 0, 1), power))


def bell(distance: Floats, width: float) -> Floats:
    """A Gaussian of a distance: 1 at 0, 0.61 at `width`."""
    return floats(np.exp(-0.5 * (distance / np.float32(width)) ** 2))


def lid_skin(skin: Floats, person: Person, lids: Lids) -> Floats:
    """The skin around the opening: hollow, crease, lid, lower lid's rim and fold."""
    above = -lids.below_upper  # mm above the upper margin
    moved = 0.35 * lids.drop_mm
    crease = -lids.rest_upper - person.crease_mm - 0.3 + moved  # mm above the crease
    near = lids.width
    depth = person.crease_depth * float(np.clip(1 - 0.07 * lids.drop_mm, 0.35, 1.2))
    shade = 1 - depth * near * bell(crease, 0.62)
    shade *= 1 - 0.10 * near * bell(crease - 2.2, 2.4)  # hollow under the brow
    shade *= 1 + 0.07 * near * bell(crease + 0.5 * (person.crease_mm + lids.drop_mm * 0.6), 1.1)
    shade *= 1 - 0.16 * bell(above - 0.2, 1.0) * near * (above > -1)
    below = -lids.above_lower  # mm below the lower margin
    shade *= 1 + 0.06 * near * bell(below - 0.5, 0.55)
    shade *= 1 - 0.13 * near * bell(below - 1.6, 0.8) - 0.05 * near * bell(below - 5.0, 1.5)
    outer = bell(lids.along + 1.08, 0.14) * bell(lids.below_upper - 0.2, 1.6)
    inner = bell(lids.along - 1.06, 0.1) * bell(lids.below_upper - 0.3, 1.5)
    shade *= (1 - 0.20 * outer) * (1 - 0.16 * inner)
    painted = skin * shade[..., None]
    if person.shadow:
        on_lid = near * np.clip(above / 0.8, 0, 1) * np.clip((2.5 - crease) / 4.0, 0, 1)
        tint = np.array(person.shadow_color, np.float32) / 128
        painted *= 1 + (person.shadow * on_lid)[..., None] * (tint - 1)
    rim = near * bell(below - 0.3, 0.4)
    return floats(painted * (1 + rim[..., None] * floats([0.03, -0.07, -0.05])))


def lashes(painted: Floats, person: Person, lids: Lids, px_per_mm: float) -> Floats:
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
    ink = np.maximum(ink, lower * bell(below - 0.75, 0.5))
    ink = np.clip(ink * within, 0, 0.95)[..., None]
    return floats(painted + ink * (floats([34, 24, 20]) - painted))
