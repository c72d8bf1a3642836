"""Calibration sessions: reading and checking a folder that the app captured.

A session is a folder of pairs `img_<unix ms>.jpg` and `img_<unix ms>.json`, as RustyEyes writes
them. Nothing in such a folder is trusted: a frame that cannot be used is left out and named with
its reason, never repaired and never filled in with defaults.
"""

import hashlib
import json
import math
import os
import re
import stat
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import lies_inside, printable
from custom_gaze.data.pictures import NoPicture, decoded
from custom_gaze.data.prepared import LeftOut
from custom_gaze.geometry import ScreenGeometry

FRAME_NAME = re.compile(r"img_([0-9]{1,18})\.(jpg|json)")
TARGET_KEYS = (("screen_x", "screen_y"), ("target_x", "target_y"))  # the second is the older one
# What the demo writes where the app has the gaze that its network found: exactly 0, all of it.
DRAWN_GAZE = {"yaw": 0.0, "pitch": 0.0, "roll": 0.0, "vector": {"x": 0.0, "y": 0.0, "z": 1.0}}
TURNED = "to be shown turned (EXIF orientation), which the app and training ignore"
UPRIGHT = "see that the picture is upright as it is stored"
MAX_JSON_BYTES = 4 << 20  # a frame's JSON has about 1 kB, with all 468 landmarks about 60 kB
MAX_IMAGE_BYTES = 64 << 20
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Frame:
    """One usable frame and the screen point the user looked at.

    `eyes_px` is (left, right) as (x, y) in frame pixels where the app recorded them; `drawn` says
    that it is one of the demo's.
    """

    image: Path
    timestamp_ms: int
    target_x_px: float
    target_y_px: float
    eyes_px: tuple[tuple[float, float], tuple[float, float]] | None
    drawn: bool = False


@dataclass(frozen=True)
class Session:
    """A session's usable frames, sorted by timestamp, and what was left out, by filename."""

    id: str
    folder: Path
    frames: tuple[Frame, ...]
    left_out: tuple[LeftOut, ...]


class FrameError(InputError):
    """One frame cannot be decoded; `reason` says why, without the path."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}; this frame cannot be used")
        self.reason = reason


class _Unusable(Exception):
    """Why one frame cannot be used; never leaves this module."""


def read_session(
    folder: Path, geometry: ScreenGeometry, excluded: Mapping[str, str] = NOTHING
) -> Session:
    """Read and check a session's pairs and targets; images are hashed here, not decoded.

    A target more than one screen's width or height outside the screen (whose size is twice
    `geometry`'s centre) is taken for an error of whatever wrote it. The images that `excluded`
    names are left out for the reasons that it has, before anything else is asked of them.

    Raises:
        InputError: the folder is missing, is no session, or has no usable frame; an excluded
            image is none of its.
    """
    names = _session_names(folder)
    _refuse_strangers(folder, names, excluded)
    frames: list[Frame] = []
    left_out: list[LeftOut] = []
    first_with: dict[str, str] = {}
    for name in sorted(names, key=_by_timestamp):
        if name in excluded:
            left_out.append(LeftOut(name, f"excluded: {excluded[name]}", excluded=True))
            continue
        try:
            frame = _read_frame(folder, name, names, geometry)
            if frame is None:
                continue
            digest = hashlib.sha256(_read_inside(folder, name, MAX_IMAGE_BYTES)).hexdigest()
            if first_with.setdefault(digest, name) != name:
                raise _Unusable(f"is the same image as {first_with[digest]}, byte for byte")
        except _Unusable as error:
            left_out.append(LeftOut(printable(name), str(error)))
        else:
            frames.append(frame)
    return checked_session(folder, frames, left_out)


def _refuse_strangers(folder: Path, names: set[str], excluded: Mapping[str, str]) -> None:
    strangers = sorted(set(excluded) - names)
    if strangers:
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise InputError(
            f"{folder}.yaml: excludes {strangers[0]}{more}, which {folder} does not hold; take it "
            f"out: custom-gaze session include {folder.name} {strangers[0]}"
        )


def checked_session(folder: Path, frames: list[Frame], left_out: list[LeftOut]) -> Session:
    """A session of `frames`, which are sorted already, and `left_out`, sorted here.

    Raises:
        InputError: there is no frame.
    """
    left_out = sorted(left_out, key=lambda entry: entry.filename)
    if not frames:
        first = left_out[0]
        more = f" ({len(left_out)} files in all)" if len(left_out) > 1 else ""
        raise InputError(
            f"{folder}: not one usable frame; {first.filename}: {first.reason}{more}; "
            "capture the session again"
        )
    return Session(folder.resolve().name, folder, tuple(frames), tuple(left_out))


def load_frame(path: Path) -> NDArray[np.uint8]:
    """Decode one frame to uint8 (H, W, 3) RGB; an EXIF orientation is ignored, as in the app.

    Raises:
        FrameError: the file is missing, empty, truncated, no JPEG, or absurdly large.
    """
    try:
        return decoded(_read_regular(path, MAX_IMAGE_BYTES))
    except (_Unusable, NoPicture) as error:
        raise FrameError(path, str(error)) from None


def is_turned(path: Path) -> bool:
    """Whether a frame asks, by an EXIF orientation other than 1, to be shown turned.

    The app ignores that, and so does everything here: such a frame is used as it is stored.
    """
    from PIL import ExifTags, Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size and of damaged EXIF
            with Image.open(path, formats=["JPEG"]) as image:
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return False  # damaged EXIF: a viewer does not turn it either
    except Image.DecompressionBombError:
        return False
    return orientation in range(2, 9)


def _session_names(folder: Path) -> set[str]:
    """The names in `folder` that belong to frames, or were perhaps meant to."""
    shown = printable(folder)
    advice = "a session is a folder of calibration frames"
    try:
        present = [name for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        raise InputError(f"{shown}: not found; {advice}") from None
    except NotADirectoryError:
        raise InputError(f"{shown}: is no folder; {advice}") from None
    except (OSError, ValueError) as error:  # a name too long, a NUL in it
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{shown}: cannot be read ({reason}); {advice}") from None
    names = {
        name
        for name in present
        if FRAME_NAME.fullmatch(name) or name.lower().endswith((".jpg", ".jpeg"))
    }
    if not any(FRAME_NAME.fullmatch(name) for name in names):
        hint = "calibration_data" if "calibration_data" in present else None
        advice = f"; did you mean {folder / hint}?" if hint else ""
        raise InputError(
            f"{shown}: no calibration session; it holds no img_<unix milliseconds>.jpg{advice}"
        )
    return names


def _by_timestamp(name: str) -> tuple[int, str]:
    match = FRAME_NAME.fullmatch(name)
    return (int(match[1]) if match else 0, name)


def _read_frame(folder: Path, name: str, names: set[str], geometry: ScreenGeometry) -> Frame | None:
    """The frame of the image `name`; None where `name` is the JSON of an image that is there."""
    match = FRAME_NAME.fullmatch(name)
    if match is None:
        rename = f"; rename it {name.lower()}" if FRAME_NAME.fullmatch(name.lower()) else ""
        raise _Unusable(f"is not named img_<unix milliseconds>.jpg{rename}")
    twin = f"img_{match[1]}.{'json' if match[2] == 'jpg' else 'jpg'}"
    if twin not in names:
        raise _Unusable(f"has no {twin} beside it")
    if match[2] == "json":
        return None
    try:
        content = _read_inside(folder, twin, MAX_JSON_BYTES)
    except _Unusable as error:
        raise _Unusable(f"{twin} {error}") from None
    record = _parse(twin, content)
    x_px, y_px = _target(twin, record, geometry)
    found = int(match[1]), x_px, y_px, _eyes(record), _is_drawn(record)
    return Frame(folder / name, *found)


def _read_inside(folder: Path, name: str, limit_bytes: int) -> bytes:
    if not lies_inside(folder, folder / name):
        raise _Unusable("is a link that leaves the session's folder")
    return _read_regular(folder / name, limit_bytes)


def _read_regular(path: Path, limit_bytes: int) -> bytes:
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # a folder, a pipe: opening some of them would hang
            raise _Unusable("is no regular file")
        if found.st_size > limit_bytes:
            raise _Unusable(f"is larger than {limit_bytes >> 20} MiB")
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):  # a dangling link
        raise _Unusable("is not there") from None
    except (OSError, ValueError) as error:
        raise _Unusable(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not content:
        raise _Unusable("is empty")
    return content


def _parse(name: str, content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except RecursionError:
        raise _Unusable(f"{name} is nested too deeply") from None
    except ValueError as error:
        raise _Unusable(f"{name} is no valid JSON ({' '.join(str(error).split())})") from None
    if not isinstance(record, dict):
        raise _Unusable(f"{name} holds no JSON object")
    return record


def _target(name: str, record: dict[str, Any], geometry: ScreenGeometry) -> tuple[float, float]:
    """The target in screen pixels, under whichever spelling; never a default."""
    spelled = [keys for keys in TARGET_KEYS if any(key in record for key in keys)]
    if not spelled:
        raise _Unusable(f"{name} lacks the screen position (screen_x, screen_y)")
    extents_px = (2 * geometry.center_x_px, 2 * geometry.center_y_px)
    found = []
    for keys in spelled:
        missing = [key for key in keys if key not in record]
        if missing:
            raise _Unusable(f"{name} lacks {missing[0]}")
        x_px, y_px = (
            _coordinate(name, key, record[key], extent_px)
            for key, extent_px in zip(keys, extents_px, strict=True)
        )
        found.append((x_px, y_px))
    if len(set(found)) > 1:
        raise _Unusable(f"{name} names two targets: screen_x, screen_y and target_x, target_y")
    return found[0]


def _coordinate(name: str, key: str, value: Any, extent_px: float) -> float:
    shown = repr(value) if not isinstance(value, (list, dict)) else type(value).__name__
    shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Unusable(f"{name}: {key} is {shown}, not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise _Unusable(f"{name}: {key} is {shown}, not a finite number")
    if not -extent_px <= value <= 2 * extent_px:
        raise _Unusable(
            f"{name}: {key} is {shown}, far off the screen of 0 to {extent_px:g} "
            "(geometry in params.yaml)"
        )
    return float(value)


def _eyes(record: dict[str, Any]) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The eyes the app recorded, (left, right) in frame pixels; None unless both are there."""
    inference = record.get("inference")
    gaze = inference.get("Gaze") if isinstance(inference, dict) else None
    if not isinstance(gaze, dict):
        return None
    left, right = _point(gaze.get("left_eye")), _point(gaze.get("right_eye"))
    return None if left is None or right is None else (left, right)


def _is_drawn(record: dict[str, Any]) -> bool:
    inference = record.get("inference")
    gaze = inference.get("Gaze") if isinstance(inference, dict) else None
    return isinstance(gaze, dict) and all(gaze.get(k) == v for k, v in DRAWN_GAZE.items())


def _point(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, dict):
        return None
    numbers: list[Any] = [value.get("x"), value.get("y")]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            return None
        if not -1e6 < number < 1e6:  # NaN and infinity fail this too
            return None
    return float(numbers[0]), float(numbers[1])
