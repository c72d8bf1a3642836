"""Pictures of a gaze: the frame with face box and arrows, beside it the screen with the points."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.framing import Edge, framed
from custom_gaze.common.look import DARK, Color, font, rgb
from custom_gaze.faces.crops import cut, gaze_crop_box
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.inference.predictor import Gaze

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
Point = tuple[float, float]

HEIGHT_PX = 560  # of the frame, and of the screen beside it
GAP_PX, CAPTION_PX, FONT_PX, SMALL_FONT_PX = 12, 48, 19, 14
BACKGROUND, SCREEN, EDGE, GRID, INK, FAINT, FACE, TARGET, GAZE = (
    rgb(color)
    for color in (
        *(DARK.paper, DARK.screen, DARK.edge, DARK.grid, DARK.ink, DARK.faint),
        *(DARK.face, DARK.target, DARK.gaze),
    )
)
ROOM_SHARE = 0.09  # around the screen, for predictions that fall beside it
MARGIN_PX = 10.0  # between the panel's border and what is marked at its edge
CLOSE_UP = 1.9  # side of a close-up over the face's larger side
ARROW_SHARE = 1.6  # length of a sideways gaze's arrow over the face's width
OUTWARDS = {"left": (-1, 0), "top": (0, -1), "right": (1, 0), "bottom": (0, 1)}
FRACTION_BITS = 4  # cv2 draws at sixteenths of a pixel


@dataclass(frozen=True)
class Dot:
    """One frame's prediction on the screen, in pixels, and its target where there is one."""

    predicted_px: Point
    target_px: Point | None


def with_gaze(frame: Picture, gaze: Gaze) -> Picture:
    """A copy of a frame with the face's box, its corners marked, and an arrow from each eye.

    An arrow points where the gaze goes in the image: right for a positive yaw, down for a
    positive pitch, as long as the sines of the two say.
    """
    drawn: Picture = frame.copy()
    width_px = gaze.face.detected[2] - gaze.face.detected[0]
    line_px = max(2, round(width_px / 90))
    _corners(drawn, gaze.face.detected, line_px)
    x1, y1, x2, y2 = gaze.face.detected
    starts = gaze.eyes_px or (((x1 + x2) / 2, y1 + 0.4 * (y2 - y1)),)
    ahead = np.sin(np.deg2rad([gaze.yaw_deg, gaze.pitch_deg])) * ARROW_SHARE * width_px
    for x, y in starts:
        _arrow(drawn, (x, y), (x + float(ahead[0]), y + float(ahead[1])), line_px)
    return drawn


def close_up(frame: Picture, gaze: Gaze) -> Picture:
    """The part of a frame around the face, for a mosaic: a view, about twice the face's side."""
    box = gaze_crop_box(gaze.face.detected, frame.shape[1], frame.shape[0], CLOSE_UP)
    around: Picture = cut(frame, box)
    return around


def compose(
    frames: Sequence[Picture], dots: Sequence[Dot], geometry: ScreenGeometry, caption: str
) -> Picture:
    """One frame, or several as a mosaic, beside the screen; a line of text below."""
    left = _mosaic(frames)
    right = _screen(dots, geometry)
    canvas = np.full(
        (HEIGHT_PX + 2 * GAP_PX + CAPTION_PX, left.shape[1] + right.shape[1] + 3 * GAP_PX, 3),
        BACKGROUND,
        np.uint8,
    )
    canvas[GAP_PX : GAP_PX + HEIGHT_PX, GAP_PX : GAP_PX + left.shape[1]] = left
    start = 2 * GAP_PX + left.shape[1]
    canvas[GAP_PX : GAP_PX + HEIGHT_PX, start : start + right.shape[1]] = right
    middle = HEIGHT_PX + GAP_PX + (CAPTION_PX + GAP_PX) // 2
    _legend(canvas, start, middle, any(dot.target_px for dot in dots))
    size = f"{2 * geometry.center_x_px:g} × {2 * geometry.center_y_px:g} px"
    end = canvas.shape[1] - GAP_PX - HEIGHT_PX * ROOM_SHARE
    canvas = _text(canvas, (end, middle), size, FAINT, SMALL_FONT_PX, "rm")
    return _text(canvas, (GAP_PX + 4, middle), caption, INK, FONT_PX, "lm")


def _mosaic(frames: Sequence[Picture]) -> Picture:
    """Frames in one or two rows, HEIGHT_PX high together, in cells of the first one's aspect."""
    rows = 1 if len(frames) == 1 else 2
    columns = -(-len(frames) // rows)
    height_px = (HEIGHT_PX - (rows - 1) * GAP_PX) // rows
    width_px = max(1, round(height_px * frames[0].shape[1] / frames[0].shape[0]))
    size = (columns * (width_px + GAP_PX) - GAP_PX, HEIGHT_PX)
    canvas = np.full((size[1], size[0], 3), BACKGROUND, np.uint8)
    for number, frame in enumerate(frames):
        y, x = (number // columns) * (height_px + GAP_PX), (number % columns) * (width_px + GAP_PX)
        shrink = min(width_px / frame.shape[1], height_px / frame.shape[0])
        wide, high = (max(1, round(side * shrink)) for side in (frame.shape[1], frame.shape[0]))
        small = cv2.resize(frame, (wide, high), interpolation=cv2.INTER_AREA)
        canvas[y : y + high, x : x + wide] = small
    return canvas


def _screen(dots: Sequence[Dot], geometry: ScreenGeometry) -> Picture:
    """The screen, HEIGHT_PX high with room around it, a line from each target to its prediction."""
    screen_px = (2 * geometry.center_x_px, 2 * geometry.center_y_px)
    shrink = HEIGHT_PX * (1 - 2 * ROOM_SHARE) / screen_px[1]
    room_px = HEIGHT_PX * ROOM_SHARE
    canvas = np.full(
        (HEIGHT_PX, round(screen_px[0] * shrink + 2 * room_px), 3), BACKGROUND, np.uint8
    )

    def place(point: Point) -> Point:
        """Screen pixels → panel pixels."""
        return point[0] * shrink + room_px, point[1] * shrink + room_px

    _background(canvas, place, screen_px)
    small = 1.0 if len(dots) <= 12 else 0.62
    area = (MARGIN_PX, MARGIN_PX, canvas.shape[1] - MARGIN_PX, HEIGHT_PX - MARGIN_PX)
    middle = (screen_px[0] / 2, screen_px[1] / 2)
    ways = [place(dot.target_px or middle) for dot in dots]
    predicted = framed([place(dot.predicted_px) for dot in dots], area, ways)
    targets = framed([place(dot.target_px) for dot in dots if dot.target_px is not None], area)
    for dot, start, (x, y) in zip(dots, ways, predicted.places.tolist(), strict=True):
        if dot.target_px is not None:
            _line(canvas, start, (x, y), FAINT, 1)
    for x, y in targets.inside.tolist():
        _cross(canvas, (x, y), 11 * small)
    for x, y in predicted.inside.tolist():
        _point(canvas, (x, y), 7.5 * small)
    for some, color in ((targets, TARGET), (predicted, GAZE)):
        for edge in some.edges():
            canvas = _marked(canvas, edge, color)
    return canvas


def _marked(canvas: Picture, edge: Edge, color: Color) -> Picture:
    """An arrowhead for each point beside the panel, and how many there are."""
    out = np.array(OUTWARDS[edge.side])
    across = out[::-1]
    for place in edge.places:
        corners = [place, place - 11 * out + 7 * across, place - 11 * out - 7 * across]
        fixed = np.array([_fixed((x, y)) for x, y in corners])
        cv2.fillPoly(canvas, [fixed], color, cv2.LINE_AA, FRACTION_BITS)
    x, y = (np.array(edge.middle) - np.array([16, 20]) * out).tolist()
    anchor = {"left": "lm", "right": "rm"}.get(edge.side, "mm")
    return _text(canvas, (x, y), f"{edge.count} outside", color, SMALL_FONT_PX, anchor)


def _background(canvas: Picture, place: Callable[[Point], Point], screen_px: Point) -> None:
    (x1, y1), (x2, y2) = (tuple(map(round, place(p))) for p in ((0.0, 0.0), screen_px))
    cv2.rectangle(canvas, (x1, y1), (x2, y2), SCREEN, -1)
    for share in (0.25, 0.5, 0.75):
        x, y = place((share * screen_px[0], share * screen_px[1]))
        _line(canvas, (x, y1), (x, y2), GRID, 1)
        _line(canvas, (x1, y), (x2, y), GRID, 1)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), EDGE, 1, cv2.LINE_AA)


def _legend(canvas: Picture, x: int, y: int, with_targets: bool) -> None:
    """Which mark is what, in the caption's line below the screen; changes `canvas`."""
    entries = [("target", _cross, 8.0)] if with_targets else []
    at = float(x + HEIGHT_PX * ROOM_SHARE)
    for name, mark, size_px in [*entries, ("gaze", _point, 6.0)]:
        mark(canvas, (at + 8, float(y)), size_px)
        canvas[:] = _text(canvas, (at + 24, y), name, FAINT, SMALL_FONT_PX, "lm")
        at += 100


def _cross(canvas: Picture, at: Point, size_px: float) -> None:
    x, y = at
    _line(canvas, (x - size_px, y), (x + size_px, y), TARGET, 2)
    _line(canvas, (x, y - size_px), (x, y + size_px), TARGET, 2)


def _point(canvas: Picture, at: Point, size_px: float) -> None:
    center, radius = _fixed(at), round(size_px * 2**FRACTION_BITS)
    cv2.circle(canvas, center, radius, GAZE, -1, cv2.LINE_AA, FRACTION_BITS)
    cv2.circle(canvas, center, radius, INK, 1, cv2.LINE_AA, FRACTION_BITS)


def _arrow(canvas: Picture, start: Point, end: Point, line_px: int) -> None:
    """A dark outline below, so that it shows on any skin."""
    long = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    tip = min(0.5, 5.0 * line_px / long) if long > 0 else 0.0
    for color, extra_px in ((BACKGROUND, 2), (GAZE, 0)):
        cv2.arrowedLine(
            canvas,
            _fixed(start),
            _fixed(end),
            color,
            line_px + extra_px,
            cv2.LINE_AA,
            FRACTION_BITS,
            tip,
        )
        radius = round((1.4 * line_px + extra_px / 2) * 2**FRACTION_BITS)
        cv2.circle(canvas, _fixed(start), radius, color, -1, cv2.LINE_AA, FRACTION_BITS)


def _corners(canvas: Picture, box: tuple[float, float, float, float], line_px: int) -> None:
    """The box as a thin line with heavier corners."""
    x1, y1, x2, y2 = box
    arm = 0.16 * min(x2 - x1, y2 - y1)
    cv2.rectangle(canvas, _fixed((x1, y1)), _fixed((x2, y2)), FACE, 1, cv2.LINE_AA, FRACTION_BITS)
    for x, inward_x in ((x1, arm), (x2, -arm)):
        for y, inward_y in ((y1, arm), (y2, -arm)):
            _line(canvas, (x, y), (x + inward_x, y), FACE, line_px + 1)
            _line(canvas, (x, y), (x, y + inward_y), FACE, line_px + 1)


def _line(canvas: Picture, start: Point, end: Point, color: Color, width_px: int) -> None:
    cv2.line(canvas, _fixed(start), _fixed(end), color, width_px, cv2.LINE_AA, FRACTION_BITS)


def _fixed(point: Point) -> tuple[int, int]:
    return round(point[0] * 2**FRACTION_BITS), round(point[1] * 2**FRACTION_BITS)


def _text(
    canvas: Picture, at: Point, text: str, color: Color, size_px: int, anchor: str
) -> Picture:
    from PIL import Image, ImageDraw

    image = Image.fromarray(canvas)
    ImageDraw.Draw(image).text(at, text, fill=color, font=font(size_px), anchor=anchor)
    return np.array(image)
