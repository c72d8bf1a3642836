"""From a webcam's frame to the dot of `custom-gaze live`: what each part of it takes.

    python bench/live_latency.py [--runs 40] [--trunks slim18 resnet50] [--frame FRAME.jpg]

A frame of 1280x720 from the demo world, or one that is given, is looked at as the page's server
does: decoded, the face found or followed, the crop cut, the networks run; then the same frame is
posted to the real server over the loopback, as often as the page does. `slim18` is the embedded
base's trunk. Weights are random, which latency does not depend on. Beside the median stand the
fastest run, which other programs on the machine disturb least, and the processor time, of all
threads together. What the browser adds, the JPEG and the drawing, is in the page itself: it shows
the whole, frame to dot.
"""

import argparse
import http.client
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from custom_gaze.capture.live_loop import Loop
from custom_gaze.capture.live_models import SideBySide, base_output, with_output
from custom_gaze.capture.live_routes import Live
from custom_gaze.capture.server import TOKEN_HEADER, serving
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.pictures import decoded
from custom_gaze.demo.session import write_session
from custom_gaze.faces.crops import gaze_crop
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.faces.eye_points import load_eye_finder
from custom_gaze.faces.finder import DETECTOR_FILE, load_finder
from custom_gaze.faces.following import FaceFollower
from custom_gaze.inference.predictor import load_gaze_model
from custom_gaze.models.onnx_files import open_session, read_onnx
from latency import models

FORMS = {
    "float32": "ours: corrected base, probe, fine-tuned",
    "8 bits": "ours in 8 bits",
}
BETWEEN_S = 0.04  # from an answer to the page's next frame: drawn, waited for, made a JPEG
Row = tuple[str, float, float, float]  # what, and of it median, fastest and processor's ms


def timed(what: str, do: Callable[[], object], runs: int, pause_s: float = 0.0) -> Row:
    """How long it takes, after three runs that do not count, with a pause before each."""
    for _ in range(3):
        do()
    walls, cpus = [], []
    for _ in range(runs):
        time.sleep(pause_s)
        wall, cpu = time.perf_counter(), time.process_time()
        do()
        walls.append(1e3 * (time.perf_counter() - wall))
        cpus.append(1e3 * (time.process_time() - cpu))
    return what, statistics.median(walls), min(walls), statistics.median(cpus)


def side_by_side(content: bytes, path: Path) -> SideBySide:
    """A model, and its base's angles out of the same graph where it has them."""
    path.write_bytes(content)
    model = load_gaze_model(path, Params())
    proto, _ = read_onnx(path)
    name = base_output(proto)
    if name is None:
        return SideBySide(model)
    inner = open_session(with_output(proto, name), path, threads=0)
    return SideBySide(model, lambda base_deg: base_deg, inner=inner)


def demo_frame(folder: Path) -> bytes:
    """A JPEG of 1280x720 with a face."""
    write_session(folder / "demo", person=2051, grid=(2, 2), frames_per_target=1, purpose="tuning")
    return sorted((folder / "demo").glob("*.jpg"))[0].read_bytes()


def rows(content: bytes, loop: Loop, folder: Path, runs: int) -> list[Row]:
    """The parts, and the whole over HTTP."""
    frame, models_ = decoded(content), loop.models
    face = loop.finder.find(frame)
    crop = gaze_crop(frame, face.box, models_.model.spec)
    followed = FaceFollower(loop.finder, ThreadPoolExecutor(1))
    found = [
        timed("JPEG decoded", lambda: decoded(content), runs),
        timed("face found", lambda: loop.finder.find(frame), runs),
        timed("face followed", lambda: followed.find(frame), runs),
        timed("crop cut", lambda: gaze_crop(frame, face.box, models_.model.spec), runs),
        timed("model alone", lambda: models_.angles_deg(crop, beside=False), runs),
    ]
    if models_.correction is not None:
        found.append(timed("all three models", lambda: models_.angles_deg(crop), runs))
    live = Live(loop, Params(), Paths(folder))
    with serving("live", live.routes()) as served:
        place, _, token = served.url.removeprefix("http://").partition("/#")
        connection = http.client.HTTPConnection(place)
        headers = {TOKEN_HEADER: token}

        def ask() -> None:
            path = f"/api/live/frame?tab=bench&seconds={time.monotonic()}"
            connection.request("POST", path, content, headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()

        found.append(timed("posted and answered", ask, runs, BETWEEN_S))
        connection.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="From a frame to the live page's dot")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--trunks", nargs="+", default=["slim18", "resnet50"])
    parser.add_argument("--frame", type=Path, help="a JPEG with a face; default: a demo frame")
    arguments = parser.parse_args()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, load {load}, {arguments.runs} runs\n")
    print(
        "| trunk | form | part | median ms | fastest ms | processor ms |\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = arguments.frame.read_bytes() if arguments.frame else demo_frame(folder)
        (folder / DETECTOR_FILE).write_bytes(embedded_detector())
        finder, eyes = load_finder(folder, Params().prepare.min_score), load_eye_finder()
        for trunk in arguments.trunks:
            made = models(trunk)
            for form, key in FORMS.items():
                loop = Loop(finder, eyes, side_by_side(made[key], folder / "model.onnx"))
                for what, *numbers in rows(content, loop, folder, arguments.runs):
                    shown = " | ".join(f"{np.round(value, 1):.1f}" for value in numbers)
                    print(f"| {trunk} | {form} | {what} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
