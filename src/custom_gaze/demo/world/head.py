"""The head's shape, and where each of its points goes when the head turns.

The photograph is flat, so every point of it is given a depth: a smooth relief with nose, cheeks
that fall back, and a chin. Turning the relief and dropping the depth (weak perspective) gives the
turned face. Below the chin the turn fades out, so that the shoulders stay where they are. The
relief's slopes are kept below 1, so that turns of up to 40 degrees never fold the face.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.demo.world.arrays import Floats, floats, sample

PIVOT_MM = np.array([0.0, 60.0, -80.0])  # in the neck's upper end
STIFF_TO_MM, STILL_FROM_MM = 105.0, 185.0  # below the chin the turn fades out
GRID_MM = 4.0  # step of the relief's table
GRID_LOW_MM = np.array([-320.0, -260.0])
GRID_SIZE = (180, 220)  # columns, rows
NEWTON_STEPS, CLOSE_ENOUGH_MM = 12, 0.02  # three steps do for the turns of a laptop's user


@dataclass(frozen=True)
class HeadPose:
    """How the head is turned, in degrees: yaw right, pitch down, roll clockwise in the image."""

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0

    def matrix(self) -> NDArray[np.float64]:
        """Rotation (3, 3) of head directions to camera directions, axes x right, y down, z out."""
        yaw, pitch, roll = np.deg2rad([self.yaw_deg, self.pitch_deg, self.roll_deg])
        turn_yaw = np.array(
            [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
        )
        turn_pitch = np.array(
            [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
        )
        turn_roll = np.array(
            [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
        )
        rotation: NDArray[np.float64] = turn_roll @ turn_yaw @ turn_pitch
        return rotation


def direction(yaw_deg: float, pitch_deg: float) -> NDArray[np.float64]:
    """Unit vector (3,) of a gaze: x right, y down, z towards the camera."""
    yaw, pitch = np.deg2rad([yaw_deg, pitch_deg])
    return np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])


def angles_deg(vector: NDArray[np.float64]) -> tuple[float, float]:
    """(yaw, pitch) in degrees of a unit vector (3,); the inverse of `direction`."""
    yaw = np.rad2deg(np.arctan2(vector[0], vector[2]))
    return float(yaw), float(np.rad2deg(np.arcsin(np.clip(vector[1], -1, 1))))


@lru_cache(maxsize=1)
def relief() -> Floats:
    """Table (rows, columns, 3) of depth z in mm and its slopes dz/dx, dz/dy; read-only."""
    columns, rows = GRID_SIZE
    x, y = np.meshgrid(
        GRID_LOW_MM[0] + GRID_MM * np.arange(columns), GRID_LOW_MM[1] + GRID_MM * np.arange(rows)
    )
    z = -_falling(x, 0.85, 45.0) - _falling(np.minimum(y + 45, 0), 0.7, 45.0)
    z -= _falling(np.maximum(y - 95, 0), 0.7, 20.0)
    z += 15.0 * np.exp(-0.5 * (x / 14) ** 2 - 0.5 * ((y - 38) / 17) ** 2)  # nose
    z += 5.0 * np.exp(-0.5 * (x / 13) ** 2 - 0.5 * ((y - 8) / 16) ** 2)  # its bridge
    z += 5.0 * np.exp(-0.5 * (x / 20) ** 2 - 0.5 * ((y - 92) / 14) ** 2)  # chin
    dz_dy, dz_dx = np.gradient(z, GRID_MM)
    table = np.stack([z, dz_dx, dz_dy], -1).astype(np.float32)
    table.setflags(write=False)
    return table


def _falling(value: NDArray[np.float64], slope: float, width: float) -> NDArray[np.float64]:
    """A hyperbola: flat at zero, falling with `slope` far out."""
    fall: NDArray[np.float64] = slope * width * (np.sqrt(1 + (value / width) ** 2) - 1)
    return fall


def relief_at(points_mm: Floats) -> Floats:
    """Depth and its two slopes (rows, columns, 3) at points (rows, columns, 2) on the head."""
    at = (points_mm - floats(GRID_LOW_MM)) / np.float32(GRID_MM)
    return floats(sample(relief(), at, border=cv2.BORDER_REPLICATE))


def _stiffness(y_mm: Floats) -> tuple[Floats, Floats]:
    """How much of the head's turn a row follows, 1 … 0, and its slope along y."""
    span = STILL_FROM_MM - STIFF_TO_MM
    t = np.clip((y_mm - STIFF_TO_MM) / span, 0, 1)
    return (1 - t * t * (3 - 2 * t)), (-6 * t * (1 - t) / span)


def turned(points_mm: Floats, pose: HeadPose) -> tuple[Floats, Floats]:
    """Where points (rows, columns, 2) on the head go, and the Jacobian (rows, columns, 2, 2)."""
    surface = relief_at(points_mm)
    rotation = pose.matrix()
    flat, depth = rotation[:2, :2].astype(np.float32), rotation[:2, 2].astype(np.float32)
    lever = points_mm - PIVOT_MM[:2].astype(np.float32)
    height = surface[..., :1] - np.float32(PIVOT_MM[2])
    shift = lever @ (flat - np.eye(2, dtype=np.float32)).T + height * depth
    follow, slope = _stiffness(points_mm[..., 1])
    moved = points_mm + follow[..., None] * shift
    jacobian = (flat - np.eye(2, dtype=np.float32)) + depth[:, None] * surface[..., None, 1:]
    jacobian = np.eye(2, dtype=np.float32) + follow[..., None, None] * jacobian
    jacobian[..., 1] += slope[..., None] * shift
    return moved, jacobian


def untwisted(camera_mm: Floats, pose: HeadPose) -> Floats:
    """The head's points (rows, columns, 2) that are seen at `camera_mm` (rows, columns, 2)."""
    at = camera_mm.copy()
    for _ in range(NEWTON_STEPS):
        moved, jacobian = turned(at, pose)
        miss = camera_mm - moved
        if float(np.abs(miss).max()) < CLOSE_ENOUGH_MM:
            break
        a, b = jacobian[..., 0, 0], jacobian[..., 0, 1]
        c, d = jacobian[..., 1, 0], jacobian[..., 1, 1]
        # a step is held to 40 mm, and the determinant away from zero, for points beside the head
        determinant = np.maximum(a * d - b * c, 0.15)
        step_x = (d * miss[..., 0] - b * miss[..., 1]) / determinant
        step_y = (a * miss[..., 1] - c * miss[..., 0]) / determinant
        at += np.clip(np.stack([step_x, step_y], -1), -40, 40)
    return floats(at)
