"""GazeCapture: a recording's numbered folder, with frames/*.jpg and JSON files of equal length.

Format, from the data set's README (https://github.com/CSAILVision/GazeCapture): element i of every
array belongs to frame i. frames.json: the pictures' names in frames/. dotInfo.json: XCam, YCam, the
dot in centimetres from the camera, which stays where it is however the device is held (below the
camera, as the screen of a phone held upright is, YCam is negative); Time, seconds since the dot
appeared; also DotNum, XPts, YPts in points. screen.json: H, W in points and Orientation.
info.json: TotalFrames and DeviceName, among others.

Signs: XCam grows to the user's right, YCam upwards; so x is XCam and y is −YCam here. The zero of
the angles is the camera and not the screen's centre, so that frames of all orientations fit
together. A pixel is a tenth of a millimetre. The set does not say how far the eyes were: 30 cm are
taken for a phone and 40 cm for a tablet where `--distance-cm` does not say. Frames of a dot's first
half second are left out: the eyes have to find it first. Pictures are not mirrored.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import MOST_TABLE_BYTES, inside, printable, read_text
from custom_gaze.config.screen import DISTANCE_CM
from custom_gaze.data.adapters.foreign import (
    APART_MS,
    Adapter,
    ForeignFrame,
    ForeignSession,
    Options,
    around_zero,
    checked,
)
from custom_gaze.data.prepared import LeftOut

PIXELS_PER_CM = 100.0
PHONE_CM, TABLET_CM = 30.0, 40.0
FOUND_AFTER_S = 0.5
MOST_CM = 100.0  # from the camera; a tablet's far corner is 26 cm away
NAME = re.compile(r"[0-9]{1,9}\.jpg")


def knows(path: Path) -> bool:
    """Whether it is a recording's folder."""
    return (path / "dotInfo.json").is_file() and (path / "frames.json").is_file()


def read(path: Path, options: Options) -> ForeignSession:
    """The recording's session.

    Raises:
        InputError: a file is missing, or is not as the format says.
    """
    names = _list(path / "frames.json", _json(path / "frames.json"), "frames")
    dots = _json(path / "dotInfo.json")
    x_cm, y_cm, seconds = (
        _list(path / "dotInfo.json", dots.get(key) if isinstance(dots, dict) else None, key)
        for key in ("XCam", "YCam", "Time")
    )
    if len({len(names), len(x_cm), len(y_cm), len(seconds)}) > 1:
        raise InputError(
            f"{path}: frames.json names {len(names)} frames, and dotInfo.json has XCam, YCam and "
            f"Time of {len(x_cm)}, {len(y_cm)} and {len(seconds)}; they belong to each other"
        )
    kept, left_out = [], []
    for number, (name, x, y, since) in enumerate(zip(names, x_cm, y_cm, seconds, strict=True)):
        try:
            kept.append((number, name, _picture(path, name), _place_cm(x, y, since)))
        except (InputError, ValueError) as error:
            left_out.append(LeftOut(printable(name, 40), str(error)))
    distance_cm, note = _distance(path, options)
    points = np.array([place for *_, place in kept]).reshape(-1, 2) * PIXELS_PER_CM
    if not kept:
        return checked(path, [], None, left_out)
    span_deg = math.degrees(math.atan(1 / PIXELS_PER_CM / distance_cm))
    targets, geometry = around_zero(points, span_deg)
    frames = [
        ForeignFrame(f"frames/{name}", file, (1 + number) * APART_MS, (float(x), float(y)))
        for (number, name, file, _), (x, y) in zip(kept, targets, strict=True)
    ]
    return checked(path, frames, geometry, left_out, [note] if note else [])


ADAPTER = Adapter("GazeCapture", knows, read, frozenset({"distance_cm"}))


def _json(path: Path) -> Any:
    try:
        return json.loads(read_text(path, MOST_TABLE_BYTES, "it belongs to the recording"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no valid JSON ({printable(error, 80)})") from None


def _list(path: Path, found: Any, key: str) -> list[Any]:
    if not isinstance(found, list):
        raise InputError(f"{path}: has no list of {key}")
    return found


def _picture(path: Path, name: Any) -> Path:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError("is no name of a frame")
    file = inside(path, f"frames/{name}")
    if not file.is_file():
        raise ValueError("is not there")
    return file


def _place_cm(x: Any, y: Any, since: Any) -> tuple[float, float]:
    """The dot in centimetres to the right of the camera and below it."""
    for key, value in (("XCam", x), ("YCam", y), ("Time", since)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"its {key} is no number")
    if not (abs(x) <= MOST_CM and abs(y) <= MOST_CM):  # NaN fails this too
        raise ValueError(f"its dot lies more than {MOST_CM:g} cm from the camera")
    if not since >= FOUND_AFTER_S:
        raise ValueError(f"is of the first {FOUND_AFTER_S:g} s of its dot")
    return float(x), -float(y)


def _distance(path: Path, options: Options) -> tuple[float, str]:
    """From the eyes to the screen in cm, and what to say where that was taken for granted."""
    if options.distance_cm is not None:
        low, high = DISTANCE_CM
        if not low <= options.distance_cm <= high:
            raise InputError(f"--distance-cm is {options.distance_cm:g}; choose {low:g} … {high:g}")
        return options.distance_cm, ""
    info = _json(path / "info.json") if (path / "info.json").exists() else {}
    device = str(info.get("DeviceName", "")) if isinstance(info, dict) else ""
    distance_cm = TABLET_CM if "ipad" in device.lower() else PHONE_CM
    shown = printable(device, 40) or "an unknown device"
    return distance_cm, (
        f"the set does not say how far the eyes were: {distance_cm:g} cm taken for {shown}; "
        "another distance: --distance-cm"
    )
