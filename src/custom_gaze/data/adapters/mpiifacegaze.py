"""MPIIFaceGaze: a person's folder pXX, with pXX.txt, dayNN/*.jpg and Calibration/screenSize.mat.

Format, from the data set's readme.txt (https://www.perceptualui.org/research/datasets/MPIIFaceGaze/):
a line of pXX.txt has 28 words: 1 the picture's path below the folder; 2–3 the target on the screen
in pixels, from its top left corner; 4–15 six facial landmarks; 16–21 the head's pose; 22–24 the
face's centre and 25–27 the target in millimetres in the camera's coordinates; 28 which eye an
evaluation used. Calibration/screenSize.mat holds width_pixel, height_pixel, width_mm, height_mm.

Signs: pixels to the right and down, as here. Degrees a pixel follow from the screen's millimetres
and the median distance from face to target. Pictures are not mirrored; outside the face they are
black. Either a person's folder becomes a session, or one of its days, pXX/dayNN.
"""

import math
import re
from pathlib import Path

import numpy as np

from custom_gaze.common.errors import InputError
from custom_gaze.common.stage_files import NUMBER
from custom_gaze.common.untrusted import (
    MOST_TABLE_BYTES,
    inside,
    printable,
    read_file,
    read_text,
)
from custom_gaze.config.screen import screen_of
from custom_gaze.data.adapters.foreign import (
    APART_MS,
    Adapter,
    ForeignFrame,
    ForeignSession,
    Options,
    checked,
    refuse_many,
)
from custom_gaze.data.adapters.matfile import single_numbers
from custom_gaze.data.prepared import LeftOut
from custom_gaze.geometry import ScreenGeometry

PERSON = re.compile(r"p[0-9]{2}")
DAY = re.compile(r"day([0-9]{2})")
WORDS = 28
FACE_MM, TARGET_MM = slice(21, 24), slice(24, 27)
MOST_MAT_BYTES = 1 << 16  # four numbers: 0.3 kB
DAY_MS, NOON_MS = 86_400_000, 43_200_000


def knows(path: Path) -> bool:
    """Whether it is a person's folder, or a day's in it."""
    person = _person(path)
    return PERSON.fullmatch(person.name) is not None and _labels(person).is_file()


def read(path: Path, options: Options) -> ForeignSession:
    """The person's session, or that of one day.

    Raises:
        InputError: a file is missing, or is not as the format says.
    """
    person = _person(path)
    wanted = f"{path.resolve().name}/" if person != path.resolve() else ""
    frames, left_out, distances_mm = [], [], []
    lines = read_text(_labels(person), MOST_TABLE_BYTES).splitlines()
    refuse_many(_labels(person), len(lines))
    for number, line in enumerate(lines):
        name, *words = line.split() or [""]
        if not name or not name.startswith(wanted):
            continue
        try:
            numbers = _numbers(words)
            file = inside(person, name)
            if not file.is_file():
                raise ValueError("is not there")
        except (InputError, ValueError) as error:
            left_out.append(LeftOut(printable(name, 100), str(error)))
            continue
        day = DAY.match(name)
        time_ms = (int(day[1]) if day else 0) * DAY_MS + NOON_MS + number * APART_MS
        frames.append(ForeignFrame(name, file, time_ms, (numbers[0], numbers[1])))
        distances_mm.append(math.dist(numbers[20:23], numbers[23:26]))
    screen = _screen_size(person / "Calibration" / "screenSize.mat")
    geometry = _geometry(person, screen, float(np.median(distances_mm)) if frames else 500.0)
    return checked(path, frames, geometry, left_out)


ADAPTER = Adapter("MPIIFaceGaze", knows, read)


def _person(path: Path) -> Path:
    try:
        path = path.resolve()
    except (OSError, RuntimeError):  # a loop of links, which Python 3.10 to 3.12 say so
        return path
    return path.parent if DAY.fullmatch(path.name) else path


def _labels(person: Path) -> Path:
    return person / f"{person.name}.txt"


def _numbers(words: list[str]) -> list[float]:
    """The numbers behind the picture's name."""
    if len(words) != WORDS - 1:
        raise ValueError(f"its line has {len(words) + 1} words, not {WORDS}")
    bad = next((word for word in words[:-1] if not NUMBER.fullmatch(word)), None)
    if bad is not None:
        raise ValueError(f"its line has {printable(bad, 40)!r}, not a number")
    return [float(word) for word in words[:-1]]


def _geometry(person: Path, screen: dict[str, float], distance_mm: float) -> ScreenGeometry:
    size = f"{screen['width_pixel']:.0f}x{screen['height_pixel']:.0f}"
    try:
        return screen_of(size, screen["width_mm"] / 10, None, distance_mm / 10).geometry()
    except InputError as error:
        raise InputError(f"{person}: its screen and distances are none ({error})") from None


def _screen_size(path: Path) -> dict[str, float]:
    """The four numbers of screenSize.mat.

    Raises:
        InputError: the file is missing, no MAT-file of version 5, or lacks one of them.
    """
    content = read_file(path, MOST_MAT_BYTES, "the screen's size belongs to the data set")
    try:
        found = single_numbers(content)
    except ValueError as error:
        raise InputError(f"{path}: {error}; take the data set's own") from None
    for name in ("width_pixel", "height_pixel", "width_mm", "height_mm"):
        if name not in found:
            raise InputError(f"{path}: holds no single number {name}")
        if not 1.0 <= found[name] <= 100_000.0:
            raise InputError(f"{path}: {name} is {found[name]:g}, no size of a screen")
    return found
