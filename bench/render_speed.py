"""How fast the demo world is drawn: `python bench/render_speed.py [SECONDS]`.

Prints a table in Markdown: whole frames of 1280 x 720 with their JPEG, and crops around the face
as pretraining draws them, for one process and for one a core, each measured for SECONDS (5). Other
work on the machine slows the rates, but hardly the CPU time.
"""

import os
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context

import cv2
import numpy as np

from custom_gaze.demo.world.camera import as_jpeg
from custom_gaze.demo.world.conditions import draw_conditions, draw_moment
from custom_gaze.demo.world.person import draw_person
from custom_gaze.demo.world.render import Scene, scale_of_face

FRAMES_PER_SCENE = {"frame": 50, "crop": 10}  # of one person under the same conditions
CASES = (
    ("1280 x 720 frame, with its JPEG", "frame", 0.0),
    ("crop of a 40-pixel face, to 224 x 224", "crop", 40.0),
    ("crop of an 80-pixel face, to 224 x 224", "crop", 80.0),
    ("crop of a 150-pixel face, to 224 x 224", "crop", 150.0),
)


def drawer(seed: int, kind: str, face_px: float) -> Callable[[int], object]:
    """A function that draws the i-th image of a new person."""
    person = draw_person(seed)
    conditions = draw_conditions(person, 1, 1)
    scale = scale_of_face(face_px) if kind == "crop" else None
    scene = Scene(person, conditions, scale, whole=kind == "frame")

    def draw(index: int) -> object:
        gaze = (float(index % 7 - 3) * 8, float(index % 5 - 2) * 7)
        moment = draw_moment(person, conditions, gaze, (seed, 1, 1, index))
        if kind == "frame":
            return as_jpeg(scene.frame(moment), conditions.jpeg_quality)
        return scene.crop(moment.gaze_deg, moment.pose, 224, np.random.default_rng(index))

    return draw


def measure(seconds: float, kind: str, face_px: float, seed: int) -> tuple[float, float]:
    """Images a second in this process and milliseconds of its CPU time for each.

    The making of new persons and scenes is included.
    """
    cv2.setNumThreads(1)
    drawer(seed, kind, face_px)(0)  # the photograph is read and taken apart once
    drawn, start, cpu_start = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        seed += 1
        draw = drawer(seed, kind, face_px)
        for index in range(FRAMES_PER_SCENE[kind]):
            draw(index)
        drawn += FRAMES_PER_SCENE[kind]
    cpu_ms = 1000 * (time.process_time() - cpu_start) / drawn
    return drawn / (time.perf_counter() - start), cpu_ms


def main(seconds: float) -> None:
    """Measure and print."""
    cores = os.cpu_count() or 1
    print(f"| | CPU ms each | a second, 1 process | a second, {cores} processes |")
    print("|---|---|---|---|")
    with get_context("spawn").Pool(cores) as pool:
        for name, kind, face_px in CASES:
            tasks = [(seconds, kind, face_px, 20_000 + 1_000 * k) for k in range(cores)]
            (alone,) = pool.starmap(measure, tasks[:1])
            together = sum(rate for rate, _ in pool.starmap(measure, tasks, chunksize=1))
            print(f"| {name} | {alone[1]:.1f} | {alone[0]:.0f} | {together:.0f} |", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
