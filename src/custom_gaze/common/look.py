"""One look for all that is shown: the report's page, and the pictures of sheet, predict and watch.

The page follows the reader's light or dark setting; pictures and videos are dark. In both a colour
means the same thing, and is told apart by people who do not see all colours, since every mark has
a shape of its own too: targets are crosses, predictions discs.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Color = tuple[int, int, int]  # red, green, blue, 0 … 255


@dataclass(frozen=True)
class Palette:
    """Colours as '#rrggbb', by what they are for."""

    paper: str  # behind everything
    screen: str  # a picture's area, and what lies on the paper
    edge: str  # around a screen
    grid: str
    ink: str  # text
    faint: str  # text that is said by the way, lines from targets to predictions
    target: str  # where to look was asked
    gaze: str  # where the exported network says that somebody looked
    corrected: str  # the same of the best correction
    base: str  # of the base network as it is
    face: str  # a face's box


LIGHT = Palette(
    paper="#fbfaf7",
    screen="#ffffff",
    edge="#8a95a3",
    grid="#e3e6ea",
    ink="#1d2530",
    faint="#566170",
    target="#1566a8",
    gaze="#c8323f",
    corrected="#8f5f00",
    base="#6b7684",
    face="#b07d00",
)
DARK = Palette(
    paper="#11141a",
    screen="#212731",
    edge="#7a8696",
    grid="#343c49",
    ink="#e4e8ee",
    faint="#a3adba",
    target="#5cbaff",
    gaze="#ff626a",
    corrected="#f2b632",
    base="#96a0ae",
    face="#ffcd40",
)
FAMILY = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'  # of the page


def rgb(color: str) -> Color:
    """'#rrggbb' as three numbers."""
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue


@cache
def font(size_px: int) -> "FreeTypeFont":
    """DejaVu Sans for pictures, which matplotlib brings: Pillow's own font lacks × and −."""
    import matplotlib
    from PIL import ImageFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size_px)
