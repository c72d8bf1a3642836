"""What `custom-gaze watch` does with each frame: a line of text, a window, a video, a picture."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.files import whole_file, write_bytes
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.inference import drawing
from custom_gaze.inference.drawing import Picture
from custom_gaze.inference.predictor import Gaze

TITLE = "custom-gaze watch (q ends it)"
ESCAPE = 27
LIVE_FPS = 10.0  # of a video made live
CODECS = {".avi": "MJPG", ".mp4": "mp4v"}
ENDINGS = (*CODECS, ".png")
PROBE_S = 10.0
PROBE = "import cv2; cv2.namedWindow('custom-gaze'); cv2.destroyAllWindows()"


@dataclass(frozen=True)
class Moment:
    """One frame and what was seen in it; `reason` says why where `gaze` is None."""

    seconds: float
    frame: Picture
    gaze: Gaze | None
    reason: str
    geometry: ScreenGeometry

    def line(self) -> str:
        """The moment as one line of text."""
        if self.gaze is None:
            return f"{self.seconds:7.2f} s  no gaze: {self.reason}"
        x_px, y_px = self._point_px(self.gaze)
        return (
            f"{self.seconds:7.2f} s  yaw {self.gaze.yaw_deg:+6.1f}°  "
            f"pitch {self.gaze.pitch_deg:+6.1f}°  x {x_px:5.0f}  y {y_px:5.0f}"
        )

    def picture(self) -> Picture:
        """The frame with face and arrows beside the screen with the point looked at."""
        if self.gaze is None:
            return drawing.compose([self.frame], [], self.geometry, self.line().strip())
        drawn = drawing.with_gaze(self.frame, self.gaze)
        dot = drawing.Dot(self._point_px(self.gaze), None)
        return drawing.compose([drawn], [dot], self.geometry, self.line().strip())

    def _point_px(self, gaze: Gaze) -> tuple[float, float]:
        x_px, y_px = self.geometry.to_pixels((gaze.yaw_deg, gaze.pitch_deg)).tolist()
        return x_px, y_px


Put = Callable[[Moment], bool]  # takes a moment; False ends the watching


def no_display() -> str | None:
    """Why no window can be opened here, in words; None where one can."""
    gui = [line for line in cv2.getBuildInformation().splitlines() if "GUI:" in line]
    if not gui or gui[0].split("GUI:")[1].strip() == "NONE":
        return "this OpenCV was built without windows"
    if not sys.platform.startswith("linux"):
        return None
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "no display here"
    try:  # in a process of its own: where the display does not answer, Qt ends the process
        probe = [sys.executable, "-c", PROBE]
        done = subprocess.run(probe, capture_output=True, timeout=PROBE_S, check=False)
    except subprocess.TimeoutExpired:
        return "the display does not answer"
    return None if done.returncode == 0 else "the display does not answer"


@contextmanager
def said(say: Callable[[str], None]) -> Iterator[Put]:
    """One line of text a frame."""

    def put(moment: Moment) -> bool:
        say(moment.line())
        return True

    yield put


@contextmanager
def window() -> Iterator[Put]:
    """A window, until q or Escape is pressed or it is closed."""

    def put(moment: Moment) -> bool:
        cv2.imshow(TITLE, moment.picture()[..., ::-1])
        if cv2.waitKey(1) & 0xFF in (ord("q"), ESCAPE):
            return False
        return cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1  # closed with the mouse

    try:
        yield put
    finally:
        cv2.destroyAllWindows()


@contextmanager
def written(output: Path, fps: float, live: bool) -> Iterator[Put]:
    """Write a video (.avi, .mp4) or the last frame's picture (.png), whole or not at all.

    `fps` is the source's; `live` says that its frames come when they can.

    Raises:
        CustomGazeError: it cannot be written.
    """
    if output.suffix.lower() == ".png":
        last: list[Moment] = []

        def keep(moment: Moment) -> bool:
            last[:] = [moment]
            return True

        yield keep
        there, content = cv2.imencode(".png", last[0].picture()[..., ::-1])
        if not there:
            raise CustomGazeError(f"{output}: OpenCV could not make the PNG")
        write_bytes(output, content.tobytes())
        return
    # OpenCV takes the container from the name's ending, which the temporary file shares.
    with whole_file(output) as temporary, _video(temporary, LIVE_FPS if live else fps, live) as put:
        yield put


@contextmanager
def _video(path: Path, fps: float, live: bool) -> Iterator[Put]:
    """A video file; live pictures come as they can and are repeated to keep time."""
    writer = cv2.VideoWriter()
    written = 0

    def put(moment: Moment) -> bool:
        nonlocal written
        picture = moment.picture()
        height_px, width_px = (side - side % 2 for side in picture.shape[:2])  # codecs want even
        if written == 0:
            code = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
            if not writer.open(str(path), code, fps, (width_px, height_px)):
                raise CustomGazeError(
                    f"OpenCV cannot write {path.suffix} here; try another ending (.avi, .mp4)"
                )
        due = max(written + 1, round(moment.seconds * fps)) if live else written + 1
        for _ in range(due - written):
            writer.write(np.ascontiguousarray(picture[:height_px, :width_px, ::-1]))
        written = due
        return True

    try:
        yield put
    finally:
        writer.release()
