"""`custom-gaze watch`: the gaze live, from a webcam or a video file.

The same crop and the same network as in training and in the app, and the app's smoothing.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import regular_file
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.inference.drawing import Picture
from custom_gaze.inference.predictor import GazeReader, load_reader
from custom_gaze.inference.smoothing import Exponential
from custom_gaze.inference.watch_output import (
    ENDINGS,
    Moment,
    Put,
    no_display,
    said,
    window,
    written,
)

USUAL_FPS = 25.0  # of a file that does not say
MOST_VIDEO_BYTES = 1 << 40  # it is read frame by frame
MOST_WEBCAMS = 100  # OpenCV reads higher numbers as a choice of driver


@dataclass(frozen=True)
class WatchResult:
    """What `custom-gaze watch` saw; `with_gaze` of the `frames` had one clear face."""

    frames: int
    with_gaze: int
    output: Path | None


@dataclass(frozen=True)
class Source:
    """An opened webcam or video file; `mirror`: its frames are turned round before use."""

    name: str
    capture: Any  # cv2.VideoCapture
    live: bool
    mirror: bool
    fps: float

    def frames(self) -> Iterator[tuple[float, Picture]]:
        """(seconds since the start, frame uint8 (H, W, 3) RGB) until the source ends."""
        start, number = time.monotonic(), 0
        while True:
            there, frame = self.capture.read()
            if not there:
                return
            if self.mirror:
                frame = frame[:, ::-1]
            seconds = time.monotonic() - start if self.live else number / self.fps
            yield seconds, np.ascontiguousarray(frame[..., ::-1])
            number += 1


def run(
    source: str,
    params: Params,
    paths: Paths,
    model: Path | None = None,
    output: Path | None = None,
    mirror: bool | None = None,
    say: Callable[[str], None] = print,
) -> WatchResult:
    """Watch until the video ends, `q` is pressed in the window, or Ctrl-C.

    Args:
        source: a webcam's number, or a video file's path.
        params: the parameters.
        paths: the project.
        model: None means models/custom_gaze.onnx.
        output: an .avi or .mp4 with everything that was seen, or a .png of the last frame.
        mirror: turn the frames round. None: a webcam's, since the app shows and captures them
            turned round unless it is told otherwise; a file's are taken as they are.
        say: takes a warning, and one line for each frame, where neither a window nor `output` shows
            them.

    Raises:
        InputError: there is no such webcam or no readable video, the model or detector cannot be
            used, or `output` has another ending.
        CustomGazeError: `output` cannot be written.
    """
    if output is not None and output.suffix.lower() not in ENDINGS:
        raise InputError(f"{output}: give the output a name ending in .avi, .mp4 or .png")
    with _opened(source, mirror) as opened:
        reader = load_reader(params, paths, model)
        if reader.other_faces:
            say(f"warning: {reader.other_faces}")
        if output is not None:
            sink = written(output, opened.fps, opened.live)
        elif problem := no_display():
            say(f"{problem}: one line a frame instead of a window; --output writes a video")
            sink = said(say)
        else:
            sink = window()
        with sink as put:
            frames, with_gaze = _watch(opened, reader, put)
            if frames == 0:
                what = "gives no picture" if opened.live else "holds no frame OpenCV can read"
                raise InputError(f"{opened.name}: {what}")
    return WatchResult(frames, with_gaze, output)


def _watch(source: Source, reader: GazeReader, put: Put) -> tuple[int, int]:
    """Read every frame and hand it to `put`; returns how many, and how many had a gaze."""
    smooth = Exponential()
    frames = with_gaze = 0
    try:
        for seconds, frame in source.frames():
            frames += 1
            gaze, reason = None, ""
            try:
                seen = reader.read(frame)
                yaw_deg, pitch_deg = smooth((seen.yaw_deg, seen.pitch_deg)).tolist()
                gaze = dataclasses.replace(seen, yaw_deg=yaw_deg, pitch_deg=pitch_deg)
                with_gaze += 1
            except InputError as error:
                reason = str(error)
            if not put(Moment(seconds, frame, gaze, reason, reader.model.geometry)):
                break
    except KeyboardInterrupt:
        if not source.live:
            raise
    return frames, with_gaze


@contextmanager
def _opened(source: str, mirror: bool | None) -> Iterator[Source]:
    """Open a webcam or a video file, without OpenCV's own remarks on standard error.

    Raises:
        InputError: there is none.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # ffmpeg reads it when first used
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "5")  # seconds for one picture
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    live = source.isascii() and source.isdecimal() and len(source) < 10
    if live:
        name = f"webcam {source}"
        capture = cv2.VideoCapture(int(source)) if int(source) < MOST_WEBCAMS else None
    else:
        name = source
        regular_file(Path(source), MOST_VIDEO_BYTES, "give a video file or a webcam's number")
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG)
    try:
        if capture is None or not capture.isOpened():
            advice = "connect one, allow access to it, or give --source a video file"
            problem = f"none here; {advice}" if live else "no video that OpenCV can read"
            raise InputError(f"{name}: {problem}")
        fps = float(capture.get(cv2.CAP_PROP_FPS))
        fps = fps if not live and 1.0 <= fps <= 1000.0 else USUAL_FPS
        yield Source(name, capture, live, live if mirror is None else mirror, fps)
    finally:
        if capture is not None:
            capture.release()
        cv2.utils.logging.setLogLevel(level)
