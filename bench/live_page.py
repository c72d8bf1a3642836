"""From a webcam's frame to the dot on the screen, as the page of `custom-gaze live` has it.

    python bench/live_page.py [--seconds 10] [--trunks slim18 resnet50] [--forms float32 "8 bits"]

The real page in headless Chromium (which Playwright finds as `chromium`), whose pretended webcam
plays a film of demo frames, 1280x720 at 30 a second, MJPEG as most webcams send it; the real server
behind it. A browser without a graphics card decodes the film, encodes each frame and draws on the
same processors as the networks run on: with one, less of the time is the browser's. Weights are
random, which latency does not depend on.

The parts of a frame's way: `came` from the camera's frame until the page is told of it, `JPEG`
until it is encoded, `answer` from the question to the read answer, of it `server` the time in the
server's own code, `draw` until the dot is drawn, and `shown` until the browser has put it on the
screen. `page` is the page's own figure, JPEG + answer + draw; `whole` is from the camera's frame to
the screen. Most frames come as the face's surroundings, some whole, for the detector.
"""

import argparse
import math
import os
import platform
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from custom_gaze.capture.live_loop import Loop
from custom_gaze.capture.live_routes import Live
from custom_gaze.capture.server import serving
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.pictures import decoded
from custom_gaze.demo.session import write_session
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.faces.eye_points import load_eye_finder
from custom_gaze.faces.finder import DETECTOR_FILE, load_finder
from latency import models
from live_latency import FORMS, side_by_side

FILM_FRAMES = 90  # three seconds
WARM_S = 3.0
PARTS = ("came", "JPEG", "answer", "server", "draw", "page", "shown", "whole")
# The page's own functions, timed from outside: what is measured is what is shipped.
TIMED = """
  const rows = (window.benchRows = []);
  let now = {};
  const video = HTMLVideoElement.prototype;
  const request = video.requestVideoFrameCallback;
  video.requestVideoFrameCallback = function (then) {
    return request.call(this, (at, frame) => {
      now = { captured: frame.captureTime ?? frame.presentationTime, told: performance.now() };
      then(at, frame);
    });
  };
  const asked = window.fetch;
  window.fetch = async (address, init) => {
    if (!String(address).includes("live/frame")) return asked(address, init);
    const row = now;
    row.encoded = performance.now();
    row.bytes = init.body.size;
    const answer = await asked(address, init);
    const json = answer.json.bind(answer);
    answer.json = async () => {
      const seen = await json();
      row.answered = performance.now();
      row.server = seen.took_ms;
      new MutationObserver((_, watcher) => {
        watcher.disconnect();
        row.drawn = performance.now();
        requestAnimationFrame(() => {
          const channel = new MessageChannel();
          channel.port1.onmessage = () => { row.shown = performance.now(); rows.push(row); };
          channel.port2.postMessage(0);
        });
      }).observe(document.getElementById("screen"), { attributeFilter: ["data-latency"] });
      return seen;
    };
    return answer;
  };
"""


def film(folder: Path) -> Path:
    """A film of three seconds of a demo person who sways, by 12 pixels to the side and 5 down."""
    write_session(folder / "demo", person=2051, grid=(2, 2), frames_per_target=1, purpose="tuning")
    picture = decoded(sorted((folder / "demo").glob("*.jpg"))[0].read_bytes())
    still = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    frames = []
    for number in range(FILM_FRAMES):
        turn = 2 * math.pi * number / FILM_FRAMES
        moved = np.array([[1, 0, 12 * math.sin(turn)], [0, 1, 5 * math.sin(2 * turn)]])
        frame = cv2.warpAffine(still, moved, still.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        frames.append(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    path = folder / "film.mjpeg"
    path.write_bytes(b"".join(frames))
    return path


def parts(row: dict[str, float]) -> dict[str, float]:
    """The milliseconds of one frame's way."""
    return {
        "came": row["told"] - row["captured"],
        "JPEG": row["encoded"] - row["told"],
        "answer": row["answered"] - row["encoded"],
        "server": row["server"],
        "draw": row["drawn"] - row["answered"],
        "page": row["drawn"] - row["told"],
        "shown": row["shown"] - row["drawn"],
        "whole": row["shown"] - row["captured"],
    }


def watched(browser: Any, loop: Loop, folder: Path, seconds: float) -> list[dict[str, float]]:
    """The rows of the frames that the page showed in so many seconds."""
    with serving("live", Live(loop, Params(), Paths(folder)).routes()) as served:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.add_init_script(TIMED)
        page.goto(served.url)
        page.wait_for_selector("#screen[data-latency]", timeout=60_000)
        page.wait_for_timeout(1000 * WARM_S)
        page.evaluate("window.benchRows.length = 0")
        page.wait_for_timeout(1000 * seconds)
        found = [parts(row) for row in page.evaluate("window.benchRows")]
        print(f"the page itself says: {page.inner_text('#numbers')}", file=sys.stderr)
        context.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="From a frame to the dot that the page shows")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--trunks", nargs="+", default=["slim18", "resnet50"])
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name, sync_playwright() as play:
        folder = Path(name)
        (folder / DETECTOR_FILE).write_bytes(embedded_detector())
        finder, eyes = load_finder(folder, Params().prepare.min_score), load_eye_finder()
        args = [
            "--no-sandbox",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-video-capture={film(folder)}",
        ]
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = play.chromium.launch(executable_path=chromium, args=args)
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        print(f"{platform.machine()}, {os.cpu_count()} CPUs, load {load}; median, fastest ms\n")
        print(f"| trunk | form | frames | {' | '.join(PARTS)} |")
        print("|---" * (3 + len(PARTS)) + "|", flush=True)
        for trunk in arguments.trunks:
            made = models(trunk)
            for form in arguments.forms:
                loop = Loop(finder, eyes, side_by_side(made[FORMS[form]], folder / "model.onnx"))
                rows = watched(browser, loop, folder, arguments.seconds)
                shown = [
                    f"{statistics.median(values):.0f}, {min(values):.0f}"
                    for values in ([row[part] for row in rows] for part in PARTS)
                ]
                print(f"| {trunk} | {form} | {len(rows)} | {' | '.join(shown)} |", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
