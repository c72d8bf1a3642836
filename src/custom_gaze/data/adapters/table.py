"""Any CSV of pictures, or of a video's frames, and where the person looked.

The header names the columns, in any order and case; others are not read:

- `x`, `y`: the target in screen pixels from the top left corner; or `yaw`, `pitch`: the gaze in
  degrees, right and down positive, zero at the screen's centre;
- `file`: a picture or a video, as a path from the CSV's folder; it may be missing where `--video`
  names one for all lines;
- `frame`: which of the video's frames, from 0; without it a video's first line is its frame 0, its
  second line frame 1, and so on.

With pixels the screen is params.yaml's, until `custom-gaze screen` says another one of the session;
for degrees a screen is made up on which the angles come out exactly.
"""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.common.stage_files import NUMBER, WHOLE
from custom_gaze.common.untrusted import (
    MOST_TABLE_BYTES,
    inside,
    printable,
    read_text,
    regular_file,
)
from custom_gaze.data.adapters.foreign import (
    APART_MS,
    MADE_UP_DEG_PER_PIXEL,
    Adapter,
    ForeignFrame,
    ForeignSession,
    Options,
    around_zero,
    checked,
    refuse_many,
)
from custom_gaze.data.adapters.video import MOST_VIDEO_BYTES, is_video
from custom_gaze.data.prepared import LeftOut
from custom_gaze.geometry import ScreenGeometry

PIXELS, DEGREES = ("x", "y"), ("yaw", "pitch")
KNOWN = {"file", "frame", *PIXELS, *DEGREES}
MOST = {PIXELS: 1e6, DEGREES: 180.0}  # either way


def knows(path: Path) -> bool:
    """Whether it is a CSV, or a folder with a single one."""
    return _csv_of(path) is not None


def read(path: Path, options: Options) -> ForeignSession:
    """The table's session.

    Raises:
        InputError: it is no such table, or the video is not there.
    """
    found = _csv_of(path)
    if found is None:
        raise InputError(f"{path}: is neither a CSV nor a folder with one")
    if options.video is not None:
        regular_file(options.video, MOST_VIDEO_BYTES, "give --video a video file")
    header, rows = _rows(found)
    pair = _pair(found, header)
    if "file" not in header and options.video is None:
        raise InputError(f"{found}: has no column `file`; add it, or name the video: --video FILE")
    kept, left_out = [], []
    lines_of: Counter[Path] = Counter()
    for line, cells in rows:
        try:
            named = _named(header, cells)
            file = inside(found.parent, named["file"]) if "file" in named else options.video
            assert file is not None  # there is a column or a video
            video_frame = _video_frame(file, named, lines_of)
            x, y = (_number(named, key, MOST[pair]) for key in pair)
            if not file.is_file():
                raise ValueError("its file is not there")
            kept.append((line, file, video_frame, (x, y)))
        except (InputError, ValueError) as error:
            left_out.append(LeftOut(f"line {line}", str(error)))
    if not kept:
        return checked(found, [], None, left_out)
    targets, geometry = _on_a_screen(np.array([place for *_, place in kept]), pair)
    frames = [
        ForeignFrame(f"line {line}, {file.name}", file, (1 + n) * APART_MS, (x, y), video_frame)
        for n, ((line, file, video_frame, _), (x, y)) in enumerate(
            zip(kept, targets.tolist(), strict=True)
        )
    ]
    ignored = [printable(name, 40) for name in header if name not in KNOWN]
    notes = [f"columns that are not read: {', '.join(ignored[:10])}"] if ignored else []
    return checked(found, frames, geometry, left_out, notes)


ADAPTER = Adapter("a table of files and targets", knows, read, frozenset({"video"}))


def _csv_of(path: Path) -> Path | None:
    if path.is_dir():
        tables = [file for file in sorted(path.iterdir()) if file.suffix.lower() == ".csv"]
        return tables[0] if len(tables) == 1 else None
    return path if path.suffix.lower() == ".csv" else None


def _rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header's names in small letters, and each further line's number and cells."""
    text = read_text(path, MOST_TABLE_BYTES).removeprefix(codecs.BOM_UTF8.decode())
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        rows = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:  # a NUL, a cell of more than 128 KiB
        raise InputError(f"{path}: line {reader.line_num}: no line of a table ({error})") from None
    if len(rows) < 2:
        raise InputError(f"{path}: has no line behind its header")
    refuse_many(path, len(rows) - 1)
    return [name.strip().lower() for name in rows[0][1]], rows[1:]


def _pair(path: Path, header: Sequence[str]) -> tuple[str, str]:
    """Whether the targets are in pixels or in degrees."""
    has = [pair for pair in (PIXELS, DEGREES) if set(pair) <= set(header)]
    if len(has) != 1:
        wrong = "both x, y and yaw, pitch" if has else "neither x, y nor yaw, pitch"
        raise InputError(
            f"{path}: its header has {wrong}; it needs file, x, y (pixels) or file, yaw, pitch "
            "(degrees, right and down positive)"
        )
    twice = [name for name in KNOWN if header.count(name) > 1]
    if twice:
        raise InputError(f"{path}: its header names {sorted(twice)[0]} twice")
    return has[0]


def _named(header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise ValueError(f"has {len(cells)} cells, not {len(header)}")
    named = dict(zip(header, cells, strict=True))
    return {name: cell.strip() for name, cell in named.items() if name in KNOWN}


def _video_frame(file: Path, named: dict[str, str], lines_of: Counter[Path]) -> int | None:
    """Which frame of a video; a line that names none is counted, whatever else is wrong with it."""
    if not is_video(file):
        return None
    number = lines_of[file]
    lines_of[file] += 1
    if "frame" not in named:
        return number
    if not WHOLE.fullmatch(named["frame"]):
        raise ValueError(f"frame is {printable(named['frame'], 40)!r}, not a whole number from 0")
    return int(named["frame"])


def _number(named: dict[str, str], key: str, most: float) -> float:
    cell = named[key]
    value = float(cell) if NUMBER.fullmatch(cell) else float("nan")
    if not abs(value) <= most:
        said = printable(repr(cell), 40)
        raise ValueError(f"{key} is {said}, but must be a number from {-most:g} to {most:g}")
    return value


def _on_a_screen(
    places: NDArray[np.float64], pair: tuple[str, str]
) -> tuple[NDArray[np.float64], ScreenGeometry | None]:
    """Targets (N, 2) in pixels of the screen that is given beside them."""
    if pair == PIXELS:
        return places, None
    return around_zero(places / MADE_UP_DEG_PER_PIXEL, MADE_UP_DEG_PER_PIXEL)
