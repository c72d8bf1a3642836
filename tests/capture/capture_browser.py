"""A capture page in headless Chromium, before whose pretended camera a demo person sits."""

import base64
import dataclasses
import functools
import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from conftest import REPOSITORY
from custom_gaze.capture import run as capture
from custom_gaze.capture.desk import Options
from custom_gaze.capture.targets import Pattern
from custom_gaze.config.params import load_params
from custom_gaze.config.paths import Paths
from custom_gaze.config.screen import Screen
from custom_gaze.demo.world.camera import as_jpeg
from custom_gaze.demo.world.conditions import draw_conditions, draw_moment
from custom_gaze.demo.world.person import draw_person
from custom_gaze.demo.world.render import Scene

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PRETEND = (Path(__file__).parent / "pretend_camera.js").read_text()
SIZE = {"width": 1280, "height": 720}
GEOMETRY = Screen(1280, 720, 34.0, 60.0).geometry()

FOUR = Options(Pattern(grid=(2, 2)), 1, None)  # targets, with a frame each

Frame = Callable[[str], str]  # of a target, "index x y" or "", as base64


class DemoPerson:
    """A simulated person who looks at the page's current target, before it into the camera.

    As a webcam does it, the frame comes not mirrored: the page mirrors it where the session is.
    """

    def __init__(self, person: int = 3) -> None:
        self.who = draw_person(person)
        self.conditions = draw_conditions(self.who, 1, 1)
        self.scene = Scene(self.who, self.conditions)
        self.asked: list[str] = []
        self.closed: Callable[[str, int], float] = lambda target, times: 0.0

    def frame(self, target: str) -> str:
        """What the camera sees while the person looks at "index x y"."""
        index, *point = target.split() or ["0"]
        self.asked.append(target)
        times = self.asked.count(target)
        gaze = GEOMETRY.to_degrees([float(part) for part in point]) if point else (0.0, -8.0)
        words = (self.who.seed, 1, 1, int(index), times)
        moment = draw_moment(self.who, self.conditions, (float(gaze[0]), float(gaze[1])), words)
        moment = dataclasses.replace(
            moment, closed=self.closed(target, times), motion_px=(0.0, 0.0)
        )
        picture = np.ascontiguousarray(self.scene.frame(moment)[:, ::-1])
        return base64.b64encode(as_jpeg(picture, 95)).decode()


@functools.cache
def empty_room() -> str:
    """A frame without anybody."""
    rng = np.random.default_rng(1)
    picture = cv2.resize(rng.integers(90, 160, (9, 16, 3), np.uint8), (1280, 720))
    return base64.b64encode(as_jpeg(picture, 90)).decode()


@contextmanager
def chromium(*flags: str) -> Iterator[Any]:
    """Debian's Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        args = ["--no-sandbox", *flags]
        running = play.chromium.launch(executable_path=CHROMIUM, args=args)
        yield running
        running.close()


def opened(
    browser: Any, url: str, frame: Frame, before: str = "", pretend: bool = True, **options: Any
) -> Any:
    """The page at `url`, whose camera shows what `frame` gives; `before` is a script that runs
    before the page's."""
    context = browser.new_context(**{"viewport": SIZE, "locale": "en-GB", **options})
    page = context.new_page()
    if pretend:
        page.expose_function("demoFrame", frame)
        page.add_init_script(PRETEND + before)
    page.goto(url)
    return page


class Running:
    """`capture` in a thread; what it gives, or raises, is waited for."""

    def __init__(self, session: str, paths: Paths, options: Options = FOUR) -> None:
        self._told: queue.Queue[Any] = queue.Queue()
        self._ended: queue.Queue[Any] = queue.Queue()
        params = load_params(REPOSITORY / "params.yaml")

        def work() -> None:
            try:
                self._ended.put(capture.run(session, params, paths, options, self._told.put))
            except BaseException as error:
                self._told.put(error)
                self._ended.put(error)

        threading.Thread(target=work, daemon=True).start()
        self.url = self._told.get(timeout=30)
        if isinstance(self.url, BaseException):
            raise self.url

    def result(self) -> Any:
        """What `run` returned, or the error that it raised."""
        return self._ended.get(timeout=30)


def begin(page: Any) -> None:
    """Measure the screen, wait for the camera's face, and begin."""
    page.wait_for_selector("#check-face.good", timeout=15_000)
    page.check("#by-width")
    page.fill("#width", "34")
    page.fill("#distance", "60")
    for _ in range(6):  # for the median of the eyes' openness
        with page.expect_response("**/api/look"):
            pass
    page.click("#start")


def until(page: Any, expression: str, longest_s: float = 60.0) -> None:
    """Wait until a JavaScript expression holds; the page's policy forbids Playwright's own way."""
    for _ in range(int(longest_s / 0.1)):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"still not: {expression}; the page says {page.inner_text('body')}")
