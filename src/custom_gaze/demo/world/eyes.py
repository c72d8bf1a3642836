"""Where the eyes are and how they are turned, and the drawing of one of them onto the skin.

The eyeball is drawn in the camera's axes, so that the iris is where it would be under any turn of
the head; the lids are drawn in the head's axes and follow the eye's pitch.
"""

import numpy as np
from numpy.typing import NDArray

from custom_gaze.demo.world.arrays import Floats, floats
from custom_gaze.demo.world.eyeball import Look, draw_eyeball
from custom_gaze.demo.world.head import HeadPose, angles_deg, direction, turned
from custom_gaze.demo.world.lids import Lids, lashes, lid_skin
from custom_gaze.demo.world.person import Person

PATCH_LOW_MM = (-21.0, -17.0)  # the patch about the opening's middle
PATCH_SIZE_MM = (42.0, 32.0)
CENTER_BEHIND_MM = 10.0  # the eyeball's centre behind the skin's relief
CENTER_ABOVE_MM = 0.4  # and above the line between the corners


def eye_middles_mm(person: Person) -> NDArray[np.float64]:
    """Middles of the two openings on the head (2, 2) in mm, the image's left eye first."""
    half = person.eye_distance_mm / 2
    (x1, y1), (x2, y2) = (eye.offset_mm for eye in person.eyes)
    return np.array([[x1 - half, y1], [x2 + half, y2]])


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
        vergence_deg = -float(np.rad2deg(np.arctan2(middle[0], distance_mm)))
        optical_pitch_deg = pitch_deg - eye.kappa_pitch_deg
        own = direction(yaw_deg + vergence_deg - eye.kappa_yaw_deg, optical_pitch_deg)
        axes.append((rotation @ own, float(optical_pitch_deg)))
    return axes


def eyeball_view(
    middle_mm: NDArray[np.float64], pose: HeadPose
) -> tuple[Floats, NDArray[np.float64]]:
    """(2, 2) skin to camera millimetres at an eye, and the eyeball's centre seen there (2,)."""
    _, jacobian = turned(floats(middle_mm)[None, None], pose)
    center: NDArray[np.float64] = pose.matrix()[:2] @ [0.0, -CENTER_ABOVE_MM, -CENTER_BEHIND_MM]
    return jacobian[0, 0], center


def patch_grid(px_per_mm: float, offset_mm: NDArray[np.float64]) -> Floats:
    """Millimetres (rows, columns, 2) of an eye patch's pixels about the opening's middle.

    `offset_mm` (2,) moves all of them, less than a pixel, to meet the pixels of the whole face.
    """
    columns, rows = (round(size * px_per_mm) for size in PATCH_SIZE_MM)
    x = PATCH_LOW_MM[0] + offset_mm[0] + (np.arange(columns) + 0.5) / px_per_mm
    y = PATCH_LOW_MM[1] + offset_mm[1] + (np.arange(rows) + 0.5) / px_per_mm
    return floats(np.stack(np.meshgrid(x, y), -1))


def draw_eye(
    skin: Floats, grid: Floats, person: Person, index: int, look: Look, px_per_mm: float
) -> Floats:
    """Paint eye `index` (0 the image's left) over `skin` (rows, columns, 3), RGB 0 … 255, float32.

    `grid` (rows, columns, 2) is the patch's `patch_grid`. Returns a new array.
    """
    nasal = grid[..., 0] if index == 0 else -grid[..., 0]
    along = floats(np.clip(nasal / np.float32(person.eye_half_width_mm), -1.35, 1.35))
    lids = Lids(person, person.eyes[index], look.pitch_deg, look.closed, along, grid[..., 1])
    painted = lid_skin(skin, person, lids)
    ball = draw_eyeball(grid, person, look, along, lids)
    opening = np.clip(np.minimum(lids.below_upper, lids.above_lower) * px_per_mm + 0.5, 0, 1)
    opening = (opening * (np.abs(along) < 1.0))[..., None]
    return lashes(floats(painted + opening * (ball - painted)), person, lids, px_per_mm)
