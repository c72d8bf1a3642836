"""How far the live page's followed face lies from the detector's own, in real films.

    python bench/face_following.py FILM.mp4 ... [--frames 300] [--faces models/faces]

The detector looks at each frame; then the film is followed as the live page does, the detector
looking at one frame in so many only, and its word coming some frames later. What is compared is
where the crop's edges lie, the furthest one counts. The detector's own restlessness stands beside:
the same from each frame to the next.
"""

import argparse
import itertools
import tempfile
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.config.params import Params
from custom_gaze.faces.crops import gaze_crop_box
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.faces.finder import DETECTOR_FILE, FaceFinder, FoundFace, load_finder
from custom_gaze.faces.following import FaceFollower

Frames = list[NDArray[np.uint8]]
EVERY_AND_LATE = ((1, 1), (3, 2), (10, 3), (15, 3))  # frames


class Known:
    """A finder that has seen the film: it says what it found, and whether it was asked."""

    def __init__(self, frames: Frames, found: list[FoundFace | None]) -> None:
        self._by_frame = {id(frame): face for frame, face in zip(frames, found, strict=True)}
        self.asked = False

    def find(self, frame: NDArray[np.uint8]) -> FoundFace:
        self.asked = True
        face = self._by_frame[id(frame)]
        if face is None:
            raise InputError("no face")
        return face


class Later(Executor):
    """Does what it was given when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def submit(self, do: Any, /, *words: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: do(*words, **named)))
        return future

    def run(self) -> None:
        for future, do in self.waiting:
            future.set_result(do())
        self.waiting.clear()


def read(path: Path, most: int) -> Frames:
    """The first frames of a film, RGB."""
    film = cv2.VideoCapture(str(path))
    frames: Frames = []
    while len(frames) < most:
        there, frame = film.read()
        if not there:
            break
        frames.append(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8))
    return frames


def edges(face: FoundFace, frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Of the crop that a face gives."""
    height_px, width_px = frame.shape[:2]
    return np.array(gaze_crop_box(face.box, width_px, height_px, Params().prepare.margin), float)


def found_in(frames: Frames, finder: FaceFinder) -> list[FoundFace | None]:
    """What the detector finds in each."""
    found: list[FoundFace | None] = []
    for frame in frames:
        try:
            found.append(finder.find(frame))
        except InputError:
            found.append(None)
    return found


def off_px(frames: Frames, found: list[FoundFace | None], every: int, late: int) -> list[float]:
    """Of each frame that did not wait for the detector, how far off its crop's furthest edge is."""
    known, later, away = Known(frames, found), Later(), []
    follower: Any = FaceFollower(known, later)  # type: ignore[arg-type]
    asked_at = 0
    for number, (frame, seen) in enumerate(zip(frames, found, strict=True)):
        if number - asked_at >= late:
            later.run()
        known.asked = False
        try:
            face = follower.find(frame)
        except InputError:
            continue
        if not known.asked and seen is not None:
            away.append(float(np.abs(edges(face, frame) - edges(seen, frame)).max()))
        if number % every == 0 and not later.waiting:
            follower.learn(frame)
            asked_at = number
    return away


def row(name: str, what: str, values: list[float]) -> str:
    median, most, worst = np.percentile(values, [50, 95, 100])
    return f"| {name} | {what} | {len(values)} | {median:.1f} | {most:.1f} | {worst:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="How far a followed face lies from a found one")
    parser.add_argument("films", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--faces", type=Path, help="default: the embedded detector")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.faces or Path(name)
        if arguments.faces is None:
            (folder / DETECTOR_FILE).write_bytes(embedded_detector())
        finder = load_finder(folder, Params().prepare.min_score)
    print("| film | box | frames | median px | 95 % px | most px |\n|---|---|---|---|---|---|")
    for path in arguments.films:
        frames = read(path, arguments.frames)
        found = found_in(frames, finder)
        pairs = [
            (edges(one, frames[0]), edges(two, frames[0]))
            for one, two in itertools.pairwise(found)
            if one and two
        ]
        jumps = [float(np.abs(one - two).max()) for one, two in pairs]
        wide = np.median([face.box[2] - face.box[0] for face in found if face])
        print(row(path.stem, f"found, {wide:.0f} px wide: from frame to frame", jumps))
        for every, late in EVERY_AND_LATE:
            what = f"followed, looked at 1 in {every}, {late} late"
            print(row(path.stem, what, off_px(frames, found, every, late)), flush=True)


if __name__ == "__main__":
    main()
