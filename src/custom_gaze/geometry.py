"""Screen pixels ↔ gaze degrees, and the angular error between two gazes.

Yaw is positive to the right of the screen's centre, pitch positive below it, both zero at the
centre. The specification's formula is linear, `yaw = (x - center_x) * deg_per_pixel`, so a degree
is the same number of pixels everywhere and the error in pixels is the error in degrees divided
by `deg_per_pixel`.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from custom_gaze.common.stage_files import CHECKED


@dataclass(frozen=True, config=CHECKED)
class ScreenGeometry:
    """The screen's centre in pixels and the degrees of gaze that one pixel spans."""

    center_x_px: float = Field(default=864.0, ge=1.0, le=100_000.0)
    center_y_px: float = Field(default=558.5, ge=1.0, le=100_000.0)
    deg_per_pixel: float = Field(default=0.0307, ge=1e-4, le=1.0)

    def to_degrees(self, points_px: ArrayLike) -> NDArray[np.float64]:
        """Screen points (..., 2) [x, y] in pixels → (..., 2) [yaw, pitch] in degrees, float64."""
        center = np.array([self.center_x_px, self.center_y_px])
        angles: NDArray[np.float64] = (
            np.asarray(points_px, np.float64) - center
        ) * self.deg_per_pixel
        return angles

    def to_pixels(self, angles_deg: ArrayLike) -> NDArray[np.float64]:
        """Gaze angles (..., 2) [yaw, pitch] in degrees → (..., 2) [x, y] in screen pixels."""
        center = np.array([self.center_x_px, self.center_y_px])
        points: NDArray[np.float64] = (
            np.asarray(angles_deg, np.float64) / self.deg_per_pixel + center
        )
        return points


def angular_error_deg(predicted_deg: ArrayLike, true_deg: ArrayLike) -> NDArray[np.float64]:
    """Distance between (..., 2) [yaw, pitch] pairs in degrees, float64 (...,).

    Euclidean in the plane of the two angles, like the specification's linear geometry: times
    1 / deg_per_pixel it is the distance on the screen in pixels. Over ±26° this differs from the
    angle between the two gaze vectors by less than 3 %.
    """
    difference = np.asarray(predicted_deg, np.float64) - np.asarray(true_deg, np.float64)
    return np.hypot(difference[..., 0], difference[..., 1])
