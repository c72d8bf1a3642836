"""The screen of a capture and who sits before it: where the labels' geometry comes from."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import write_text
from custom_gaze.common.untrusted import printable, read_text
from custom_gaze.geometry import ScreenGeometry

SIZE = re.compile(r"([0-9]{3,5})[xX×]([0-9]{3,5})")
CM_PER_INCH = 2.54
# Of a screen's width and of the eyes' distance; beyond them somebody meant another unit.
WIDTH_CM, DISTANCE_CM = (5.0, 500.0), (15.0, 500.0)


@dataclass(frozen=True)
class Screen:
    """Its size in the pixels that the app counts, its width and the eyes' distance in cm."""

    width_px: int
    height_px: int
    width_cm: float
    distance_cm: float

    @property
    def pixel_cm(self) -> float:
        """The side of a pixel, which is square."""
        return self.width_cm / self.width_px

    def geometry(self) -> ScreenGeometry:
        """The middle, and the angle that a pixel there spans from where the eyes are.

        Raises:
            InputError: the angle is none that params.yaml may hold.
        """
        span_deg = float(f"{math.degrees(math.atan(self.pixel_cm / self.distance_cm)):.3g}")
        try:
            return ScreenGeometry(self.width_px / 2, self.height_px / 2, span_deg)
        except ValueError:
            raise InputError(
                f"a pixel would span {span_deg:g} degrees; check --size, the width and the distance"
            ) from None

    def lines(self) -> list[str]:
        """What the geometry means, against the eye's own angle and the specification's number."""
        geometry, specified = self.geometry(), ScreenGeometry().deg_per_pixel
        edge = geometry.center_x_px * geometry.deg_per_pixel
        turned = math.degrees(math.atan(self.width_cm / 2 / self.distance_cm))
        meant_cm = self.pixel_cm / math.tan(math.radians(specified))
        return [
            *described(geometry),
            f"a pixel is {10 * self.pixel_cm:.3f} mm, seen from {self.distance_cm:g} cm; at the "
            f"left and right edge the label is {edge:.1f}° where the eye turns {turned:.1f}°",
            f"the specification's {specified:g} degrees a pixel would be this screen seen from "
            f"{meant_cm:.0f} cm",
        ]


def described(geometry: ScreenGeometry) -> list[str]:
    """A geometry in words."""
    width, height = 2 * geometry.center_x_px, 2 * geometry.center_y_px
    return [
        f"screen of {width:g} × {height:g} pixels, centre ({geometry.center_x_px:g}, "
        f"{geometry.center_y_px:g}), {geometry.deg_per_pixel:g} degrees a pixel "
        f"({1 / geometry.deg_per_pixel:.1f} pixels a degree)"
    ]


def screen_of(
    size: str, width_cm: float | None, diagonal_inch: float | None, distance_cm: float
) -> Screen:
    """A screen by what its owner knows of it.

    Args:
        size: in pixels, as '2560x1440'.
        width_cm: of the visible picture; or
        diagonal_inch: the same from corner to corner, as screens are sold.
        distance_cm: from the eyes to the screen.

    Raises:
        InputError: one of them is none, or none that a screen has.
    """
    found = SIZE.fullmatch(size)
    if not found:
        said = printable(repr(size), 60)
        raise InputError(f"--size is {said}, but must be the pixels of a screen, like 2560x1440")
    width_px, height_px = (int(part) for part in found.groups())
    if width_cm is None:
        if diagonal_inch is None:
            raise InputError("--size needs --width-cm or --diagonal-inch: how wide the picture is")
        width_cm = diagonal_inch * CM_PER_INCH * width_px / math.hypot(width_px, height_px)
    for name, value, (low, high) in (
        ("the screen's width", width_cm, WIDTH_CM),
        ("--distance-cm", distance_cm, DISTANCE_CM),
    ):
        if not low <= value <= high:
            raise InputError(f"{name} is {value:g} cm, but must lie in {low:g} … {high:g}")
    screen = Screen(width_px, height_px, width_cm, distance_cm)
    screen.geometry()  # refuses
    return screen


def write_geometry(geometry: ScreenGeometry, path: Path) -> None:
    """Put a geometry into params.yaml, which is known to be valid; all else in it stays.

    Line by line: YAML libraries that keep comments write other lines anew, `null` as nothing.

    Raises:
        InputError: the section is not written as the shipped one is, a key a line.
        CustomGazeError: it cannot be written.
    """
    before, found, rest = read_text(path).partition("\ngeometry:")
    for name in ("center_x_px", "center_y_px", "deg_per_pixel"):
        line = re.compile(rf"(\n +{name}: *)[^\s#]+")
        rest, count = line.subn(rf"\g<1>{getattr(geometry, name)!r}", rest, count=1)
        if not (found and count):
            raise InputError(
                f"{path}: geometry.{name} has no line of its own; "
                f"write {getattr(geometry, name)!r} there by hand"
            )
    write_text(path, before + found + rest)
