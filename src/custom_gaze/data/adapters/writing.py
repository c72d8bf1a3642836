"""A foreign session as a folder of img_<ms>.jpg and img_<ms>.json, as the app captures one.

A JPEG is copied byte for byte. What is no JPEG, a video's frame for instance, becomes one of
quality 98 with full colours.
"""

import io
import json
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from custom_gaze.common.console import bar
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import no_more_open_than
from custom_gaze.common.untrusted import printable, read_file
from custom_gaze.data.adapters.foreign import ForeignFrame, ForeignSession
from custom_gaze.data.adapters.video import frames_of
from custom_gaze.data.pictures import MAX_IMAGE_PIXELS
from custom_gaze.data.prepared import LeftOut
from custom_gaze.data.sessions import MAX_IMAGE_BYTES
from custom_gaze.faces.crops import jpeg

QUALITY = 98
JPEG_START = b"\xff\xd8\xff"
OTHER_PICTURES = ("PNG", "BMP", "WEBP")


def write_session(session: ForeignSession, folder: Path) -> tuple[LeftOut, ...]:
    """Fill the empty `folder`; returns what could not be written as a frame, and why.

    Who may not read a picture may not read the frame that it became. A picture that is a damaged
    JPEG is written all the same: reading the session names it.

    Raises:
        InputError: a video cannot be read, or nothing is left.
    """
    left_out = []
    for frame, content in bar(_contents(session.frames), "converting", len(session.frames)):
        if isinstance(content, LeftOut):
            left_out.append(content)
            continue
        stem = folder / f"img_{frame.timestamp_ms}"
        for file, data in ((".jpg", content), (".json", _record(frame))):
            made = stem.with_suffix(file)
            made.write_bytes(data)
            no_more_open_than(made, frame.file)
    if len(left_out) == len(session.frames):
        first = left_out[0]
        raise InputError(f"{first.filename}: {first.reason}; so is every other picture of it")
    return tuple(left_out)


def _contents(
    frames: Iterable[ForeignFrame],
) -> Iterator[tuple[ForeignFrame, bytes | LeftOut]]:
    """Every frame with its JPEG, or why there is none; a video's frames one video at a time."""
    of_video: dict[Path, list[ForeignFrame]] = defaultdict(list)
    for frame in frames:
        if frame.video_frame is not None:
            of_video[frame.file].append(frame)
            continue
        try:
            yield frame, _as_jpeg(read_file(frame.file, MAX_IMAGE_BYTES))
        except (InputError, ValueError) as error:
            yield frame, LeftOut(frame.name, printable(error))
    for video, some in of_video.items():
        yield from _of_video(video, some)


def _of_video(
    video: Path, frames: list[ForeignFrame]
) -> Iterator[tuple[ForeignFrame, bytes | LeftOut]]:
    by_number: dict[int, list[ForeignFrame]] = defaultdict(list)
    for frame in frames:
        by_number[frame.video_frame or 0].append(frame)
    for number, picture in frames_of(video, list(by_number)):
        content = jpeg(picture, QUALITY)
        for frame in by_number.pop(number):
            yield frame, content
    for number, missing in by_number.items():
        for frame in missing:
            yield frame, LeftOut(frame.name, f"{video.name} has no frame {number} to be read")


def _as_jpeg(content: bytes) -> bytes:
    """A picture's bytes, where they are a JPEG; else the same pixels as one."""
    from PIL import Image, UnidentifiedImageError

    if content.startswith(JPEG_START):
        return content
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            with Image.open(io.BytesIO(content), formats=OTHER_PICTURES) as image:
                if image.width * image.height > MAX_IMAGE_PIXELS:
                    raise ValueError(f"has {image.width} x {image.height} pixels, far too many")
                return jpeg(np.asarray(image.convert("RGB"), np.uint8), QUALITY)
    except UnidentifiedImageError:
        raise ValueError(f"is no JPEG, {', '.join(OTHER_PICTURES)}") from None
    except Image.DecompressionBombError:
        raise ValueError("has far too many pixels") from None
    except (OSError, SyntaxError, MemoryError) as error:
        raise ValueError(f"is damaged ({' '.join(str(error).split())})") from None


def _record(frame: ForeignFrame) -> bytes:
    """The frame's JSON with the keys that the app writes, and which picture it was."""
    record = {
        "timestamp": frame.timestamp_ms,
        "screen_x": frame.target_px[0],
        "screen_y": frame.target_px[1],
        "inference": None,
        "moondream_result": None,
        "source": frame.name,
    }
    return (json.dumps(record, indent=2) + "\n").encode()
