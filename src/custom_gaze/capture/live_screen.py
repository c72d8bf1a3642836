"""The screen that the live page is on: its geometry, and how it is known."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from custom_gaze.common.stage_files import Strict
from custom_gaze.config.screen import DISTANCE_CM, WIDTH_CM, Screen
from custom_gaze.geometry import ScreenGeometry

SAME_PX = 1.0  # a centre may lie between two pixels


class PageScreen(Strict):
    """The screen as the page knows it: its size in CSS pixels, which the targets are in, and what
    the user said of it; None where nothing was said."""

    width_px: float = Field(ge=100, le=100_000)
    height_px: float = Field(ge=100, le=100_000)
    width_cm: float | None = Field(default=None, ge=WIDTH_CM[0], le=WIDTH_CM[1])
    distance_cm: float | None = Field(default=None, ge=DISTANCE_CM[0], le=DISTANCE_CM[1])


@dataclass(frozen=True)
class KnownScreen:
    """Its geometry; `pixel_cm` is the side of a pixel, None where nobody said how wide it is.

    `known`: "measured" by the user, the "same" one that the model was trained on, or "guessed":
    another size, of which the degrees a pixel are those of the model's screen.
    """

    geometry: ScreenGeometry
    pixel_cm: float | None
    known: Literal["measured", "same", "guessed"]


def known_screen(page: PageScreen, model: ScreenGeometry) -> KnownScreen:
    """What is known of the page's screen; `model` is the screen of the model's labels.

    Raises:
        InputError: a pixel would span more or less than on any screen.
    """
    pixel_cm = None if page.width_cm is None else page.width_cm / page.width_px
    if page.width_cm is not None and page.distance_cm is not None:
        size_px = round(page.width_px), round(page.height_px)
        measured = Screen(*size_px, page.width_cm, page.distance_cm).geometry()
        return KnownScreen(measured, pixel_cm, "measured")
    center_px = page.width_px / 2, page.height_px / 2
    away_px = center_px[0] - model.center_x_px, center_px[1] - model.center_y_px
    if max(map(abs, away_px)) <= SAME_PX / 2:
        return KnownScreen(model, pixel_cm, "same")
    return KnownScreen(ScreenGeometry(*center_px, model.deg_per_pixel), pixel_cm, "guessed")
