"""Contact sheets: a session's frames, or many persons, as one picture to look at."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw

from custom_gaze.common.console import bar
from custom_gaze.common.files import no_more_open_than, whole_file
from custom_gaze.common.look import DARK, font, rgb
from custom_gaze.config.paths import Paths
from custom_gaze.data.session_file import read_heeded
from custom_gaze.data.sessions import Frame, load_frame
from custom_gaze.data.splits import number_targets
from custom_gaze.demo.world.conditions import draw_conditions, draw_moment
from custom_gaze.demo.world.person import Person, draw_person
from custom_gaze.demo.world.render import Scene
from custom_gaze.geometry import ScreenGeometry

Image = NDArray[np.uint8]

PAPER, SCREEN, EDGE, GRID = rgb(DARK.paper), rgb(DARK.screen), rgb(DARK.edge), rgb(DARK.grid)
INK, FAINT, TARGET = rgb(DARK.ink), rgb(DARK.faint), rgb(DARK.target)
GAP_PX = 14
TILE_WIDTH_PX = 300
FRAME_HEIGHT_PX = 169  # 16:9
EYES_HEIGHT_PX = 120
CAPTION_PX = 50
MAX_TILES = 60
FACE_PX = 224  # a face on the sheets of persons and of sessions


def sheet(
    folder: Path, output: Path, paths: Paths, default: ScreenGeometry, same_target_px: float
) -> int:
    """Draw a session's contact sheet as PNG; returns the number of frames it shows.

    Each target's first frame, in the order of the targets on the screen: the frame, the eyes close
    by where the app recorded their places, and a small screen with the target on it, the session's
    own or `default`. Excluded frames are not shown.

    Raises:
        InputError: the folder is no session, or one of its images cannot be read.
        CustomGazeError: the picture cannot be written.
    """
    session, geometry = read_heeded(folder, paths, default)
    _, first = np.unique(number_targets(session.frames, same_target_px), return_index=True)
    firsts = [session.frames[row] for row in first]
    rows = _rows(firsts, same_target_px)
    shown = [frame for row in rows for frame in row][:MAX_TILES]
    columns = min(max(len(rows[0]), 3), 8)  # what a page holds
    tiles = [_frame_tile(frame, geometry) for frame in bar(shown, f"sheet of {session.id}")]
    of_all = "" if len(shown) == len(firsts) else f", the first {len(shown)} of them shown"
    title = f"{session.id}: {len(session.frames)} frames of {len(firsts)} targets{of_all}"
    _write(output, _page(tiles, columns, title, "as the network sees it: mirrored"), shown)
    return len(shown)


def persons_sheet(output: Path, seeds: Sequence[int], columns: int = 6) -> None:
    """Draw the persons of `seeds` as PNG, each as a face looking at the screen's centre.

    Raises:
        CustomGazeError: the picture cannot be written.
    """
    shown = bar(seeds, "sheet of persons", unit="persons")
    tiles = [_captioned(_face(draw_person(seed)), f"person {seed}") for seed in shown]
    _write(output, _page(tiles, columns, f"{len(tiles)} persons", "day 1, looking at the centre"))


def _face(person: Person) -> Image:
    """A person's face on the first day as the network sees it, at FACE_PX."""
    conditions = draw_conditions(person, 1, 1)
    moment = draw_moment(person, conditions, (0.0, 0.0), (person.seed, 1, 1))
    rng = np.random.default_rng(moment.noise_seed)
    return Scene(person, conditions, whole=False).crop(moment.gaze_deg, moment.pose, FACE_PX, rng)


def sessions_sheet(output: Path, seed: int, days: Sequence[int] = (1, 2, 3, 4)) -> None:
    """Draw one person's sessions on several days as PNG, three whole frames of each.

    Raises:
        CustomGazeError: the picture cannot be written.
    """
    person = draw_person(seed)
    looks = (("up left", (-24.0, -15.0)), ("centre", (0.0, 0.0)), ("down right", (24.0, 15.0)))
    tiles = []
    for day in bar(days, "sheet of sessions", unit="days"):
        conditions = draw_conditions(person, day, 1)
        scene = Scene(person, conditions)
        for index, (name, gaze_deg) in enumerate(looks):
            moment = draw_moment(person, conditions, gaze_deg, (seed, day, 1, index))
            frame = _resized(scene.frame(moment), (480, 270))
            tiles.append(_captioned(frame, f"day {day}, looking {name}"))
    _write(output, _page(tiles, len(looks), f"person {seed}", f"{len(days)} sessions"))


def _rows(frames: Sequence[Frame], same_target_px: float) -> list[list[Frame]]:
    """The frames by the rows of their targets, from the top, each from the left."""
    from_top = sorted(frames, key=lambda frame: frame.target_y_px)
    steps_px = np.diff([frame.target_y_px for frame in from_top])
    ends = [0, *(np.flatnonzero(steps_px > same_target_px) + 1), len(frames)]
    rows = [from_top[start:end] for start, end in pairwise(ends)]
    return [sorted(row, key=lambda frame: frame.target_x_px) for row in rows]


def _frame_tile(frame: Frame, geometry: ScreenGeometry) -> Image:
    picture = load_frame(frame.image)
    rows = [_resized(picture, (TILE_WIDTH_PX, FRAME_HEIGHT_PX))]
    if frame.eyes_px is not None:
        rows.append(_eye_strip(picture, np.array(frame.eyes_px)))
    rows.append(_caption(frame, geometry))
    return np.concatenate(rows)


def _eye_strip(picture: Image, eyes_px: NDArray[np.float64]) -> Image:
    """The eyes close by: a strip about them, twice as wide as they are apart."""
    middle = eyes_px.mean(0)
    width = max(8.0, 2.0 * float(np.linalg.norm(eyes_px[1] - eyes_px[0])))
    scale = TILE_WIDTH_PX / width
    to_strip = np.array(
        [
            [scale, 0, TILE_WIDTH_PX / 2 - scale * middle[0]],
            [0, scale, EYES_HEIGHT_PX / 2 - scale * middle[1]],
        ]
    )
    strip = cv2.warpAffine(
        picture,
        to_strip,
        (TILE_WIDTH_PX, EYES_HEIGHT_PX),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(strip, np.uint8)


def _caption(frame: Frame, geometry: ScreenGeometry) -> Image:
    """The target on a small screen, and its place in pixels and degrees."""
    canvas = Pillow.new("RGB", (TILE_WIDTH_PX, CAPTION_PX), PAPER)
    draw = ImageDraw.Draw(canvas)
    height = CAPTION_PX - 8
    width = round(height * geometry.center_x_px / geometry.center_y_px)
    draw.rectangle((0, 4, width, 4 + height), outline=EDGE, fill=SCREEN)
    x = frame.target_x_px / (2 * geometry.center_x_px) * width
    y = 4 + frame.target_y_px / (2 * geometry.center_y_px) * height
    draw.line((x - 5, y, x + 5, y), TARGET, 2)
    draw.line((x, y - 5, x, y + 5), TARGET, 2)
    yaw_deg, pitch_deg = geometry.to_degrees((frame.target_x_px, frame.target_y_px))
    pixels = f"{frame.target_x_px:.0f}, {frame.target_y_px:.0f} px"
    draw.text((width + 12, 5), pixels, INK, font(15))
    draw.text((width + 12, 27), f"yaw {yaw_deg:+.1f}°  pitch {pitch_deg:+.1f}°", FAINT, font(13))
    return np.asarray(canvas)


def _captioned(picture: Image, text: str) -> Image:
    strip = Pillow.new("RGB", (picture.shape[1], 24), PAPER)
    ImageDraw.Draw(strip).text((2, 4), text, INK, font(14))
    return np.concatenate([picture, np.asarray(strip)])


def _page(tiles: Sequence[Image], columns: int, title: str, note: str) -> Image:
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    top = 56
    size = (columns * (width + GAP_PX) + GAP_PX, rows * (height + GAP_PX) + GAP_PX + top)
    page = Pillow.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((GAP_PX, 14), title, INK, font(20))
    start = GAP_PX + draw.textlength(title, font(20)) + 18
    draw.text((start, 19), note, FAINT, font(15))
    draw.line((GAP_PX, 50, size[0] - GAP_PX, 50), GRID, 1)
    for index, tile in enumerate(tiles):
        x = GAP_PX + index % columns * (width + GAP_PX)
        y = top + GAP_PX + index // columns * (height + GAP_PX)
        page.paste(Pillow.fromarray(tile), (x, y))
    return np.asarray(page)


def _resized(picture: Image, size_px: tuple[int, int]) -> Image:
    shrinks = picture.shape[1] > size_px[0]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size_px, interpolation=way), np.uint8)


def _write(output: Path, page: Image, shown: Sequence[Frame] = ()) -> None:
    with whole_file(output) as temporary:
        Pillow.fromarray(page).save(temporary, format="PNG", optimize=True)
        no_more_open_than(temporary, *(frame.image for frame in shown))
