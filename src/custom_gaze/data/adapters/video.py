"""Frames of a video file, by their numbers; nothing in the file is trusted.

A file is a video by its name and by its first bytes: what FFmpeg would take for a list of other
files or addresses (m3u8, concat) is none.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import regular_file
from custom_gaze.data.pictures import MAX_IMAGE_PIXELS

VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm"}
MOST_VIDEO_BYTES = 1 << 40  # it is read frame by frame


def is_video(file: Path) -> bool:
    """Whether it is one by its name."""
    return file.suffix.lower() in VIDEO_SUFFIXES


def frames_of(path: Path, numbers: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Those of the frames `numbers` that the video has, rising: (number, uint8 (H, W, 3) RGB).

    Raises:
        InputError: it is no video that can be read, or its pictures are absurdly large.
    """
    regular_file(path, MOST_VIDEO_BYTES, "give a video file")
    with path.open("rb") as file:
        if not _is_container(file.read(12)):
            raise InputError(f"{path}: is no MP4, MOV, AVI, MKV or WebM video")
    wanted = sorted(set(numbers))
    with _opened(path) as capture:
        number = 0
        for each in wanted:
            while number < each and capture.grab():
                number += 1
            there, picture = capture.read()
            if number < each or not there:
                return
            number += 1
            yield each, np.ascontiguousarray(picture[..., ::-1])


def _is_container(start: bytes) -> bool:
    atom = start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
    return atom or start[:4] == b"\x1aE\xdf\xa3" or (start[:4] + start[8:12]) == b"RIFFAVI "


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    """The video, without the remarks of OpenCV and FFmpeg on standard error."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # ffmpeg reads it when first used
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise InputError(f"{path}: no video that OpenCV can read")
        width, height = (int(capture.get(prop)) for prop in (3, 4))  # CAP_PROP_FRAME_WIDTH, HEIGHT
        if width * height > MAX_IMAGE_PIXELS:
            raise InputError(f"{path}: its frames have {width} x {height} pixels, far too many")
        yield capture
    finally:
        capture.release()
        cv2.utils.logging.setLogLevel(level)
