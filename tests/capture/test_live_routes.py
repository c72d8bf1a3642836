"""What the live page asks, without a browser: frames, rounds, and what is refused."""

import http.client
import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conftest import Project
from custom_gaze.capture.live import load_loop
from custom_gaze.capture.live_loop import HEAT_CELLS, MOST_TABS, WHOLE_EVERY_S
from custom_gaze.capture.live_round import FRAMES
from custom_gaze.capture.live_routes import Live
from custom_gaze.capture.server import TOKEN_HEADER, serving
from custom_gaze.demo.world.camera import as_jpeg
from custom_gaze.demo.world.conditions import draw_conditions, draw_moment
from custom_gaze.demo.world.person import draw_person
from custom_gaze.demo.world.render import Scene
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.faces.finder import FoundFace
from gaze_files import write_network

SCREEN = {"width_px": 1280, "height_px": 720, "width_cm": 34, "distance_cm": 60}
TINY = as_jpeg(np.zeros((16, 16, 3), np.uint8), 90)
REFUSED: list[tuple[str, object, str]] = [
    ("/frame?tab=a&seconds=1", b"GIF89a", "is no JPEG"),
    ("/frame?tab=../a&seconds=1", b"", "^tab: "),
    ("/frame?tab=a&seconds=nan", b"", "^seconds: "),
    ("/frame?tab=a&seconds=1&x=-1", b"", "^x: "),
    ("/frame?tab=a&seconds=1&x=1&width=16&height=16", TINY, "outside its frame"),
    ("/frame?tab=a&seconds=1&width=99999&height=99999", TINY, "far too many pixels"),
    ("/round/frame?round=a&target=9", b"", "^target: "),
    ("/round/frame?round=a&target=1", b"", "that round is over"),
    ("/round/frame?round=a&target=1&x=0&y=0&width=64&height=64", TINY, "^x: "),  # whole, always
    ("/round", b"{", "Invalid JSON"),
    ("/round", {"kind": "validate"}, "^screen: "),
    ("/round", {"kind": "guess", "screen": SCREEN}, "^kind: "),
    ("/screen", {**SCREEN, "width_px": 0}, "^width_px: "),
    ("/recalibrate", {"round": "a", "session": "b"}, "that round is over"),
]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A demo person who looks at the camera."""
    who = draw_person(2051)
    conditions = draw_conditions(who, 1, 1)
    moment = draw_moment(who, conditions, (0.0, 0.0), (who.seed, 1, 1, 0, 1))
    return Scene(who, conditions).frame(moment)


class Page:
    """Asks as the page does."""

    def __init__(self, url: str, picture: np.ndarray) -> None:
        self.place, _, self.token = url.removeprefix("http://").partition("/#")
        self.picture, self.frames = picture, 0

    def ask(self, path: str, body: object = None, code: int = 200) -> Any:
        """What /api/live`path` answers; `body` is a frame's bytes, words, or None: a GET."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection(self.place, timeout=30)
        method = "GET" if body is None else "POST"
        connection.request(method, f"/api/live{path}", content, {TOKEN_HEADER: self.token})
        answer = connection.getresponse()
        said = json.loads(answer.read())
        connection.close()
        assert answer.status == code, said
        return said if code == 200 else said["error"]

    def frame(self) -> bytes:
        """Another frame of the person, who keeps still."""
        self.frames += 1
        noisy = self.picture.copy()
        noisy[:16, :16] = self.frames
        return as_jpeg(noisy, 90)

    def look(self, tab: str, seconds: float) -> Any:
        return self.ask(f"/frame?tab={tab}&seconds={seconds}", self.frame())


@pytest.fixture
def live(project: Project) -> Live:
    project.paths.faces.mkdir(parents=True)
    (project.paths.faces / "face_detection.onnx").write_bytes(embedded_detector())
    write_network(project.paths.model)
    loop, _ = load_loop(project.params, project.paths, None)
    return Live(loop, project.params, project.paths)


@pytest.fixture
def page(live: Live, picture: np.ndarray) -> Iterator[Page]:
    with serving("live", live.routes()) as served:
        yield Page(served.url, picture)


def test_frames_and_what_a_tab_remembers(page: Page, live: Live) -> None:
    state = page.ask("")
    assert (state["model"], state["names"]) == ("custom_gaze.onnx", ["personal"])
    first = page.look("one", 0.0)
    assert (first["size"], first["why"]) == ([1280, 720], "")
    for seconds in (0.1, 0.2, 0.3):  # followed
        again = page.look("one", seconds)
        assert again["face"] == pytest.approx(first["face"], abs=2.0)
        assert set(again["models"]["personal"]) == {"none", "euro", "app"}
    page.look("two", 0.0)
    assert [len(live.loop.tab(name).minute) for name in ("one", "two")] == [4, 1]
    heat = page.ask("/heat?tab=one&seconds=0", SCREEN)
    assert (heat["cells"], len(heat["heat"])) == (list(HEAT_CELLS), HEAT_CELLS[0] * HEAT_CELLS[1])
    nobody = as_jpeg(np.full((720, 1280, 3), 90, np.uint8), 90)
    seen = page.ask("/frame?tab=one&seconds=0.4", nobody)
    assert (seen["face"], seen["why"], seen["models"]) == (None, "no_face", {})
    for number in range(MOST_TABS):
        live.loop.tab(f"more-{number}")
    assert len(live.loop.tab("one").minute) == 0  # forgotten for the others


def test_a_part_of_a_frame_shows_what_the_whole_one_does(page: Page, live: Live) -> None:
    def angles(seen: Any) -> list[float]:
        return list(seen["models"]["personal"]["none"])

    first = page.look("one", 0.0)
    x1, y1, x2, y2 = first["part"]
    still = np.ascontiguousarray(page.picture[y1:y2, x1:x2])
    place = f"x={x1}&y={y1}&width=1280&height=720"
    part = page.ask(f"/frame?tab=one&seconds=0.1&{place}", as_jpeg(still, 90))
    assert part["size"] == [1280, 720]
    assert part["face"] == pytest.approx(first["face"], abs=0.3)
    assert angles(part) == pytest.approx(angles(first), abs=0.2)
    # The detector is not shown a part, and a tab that has seen no face wants the whole frame.
    other = page.ask(f"/frame?tab=two&seconds=0.1&{place}", as_jpeg(still, 90))
    assert other == {"whole": True}
    # A face whose crop is not in the part: the whole frame is wanted.
    x1, y1, x2, y2 = (round(edge) for edge in first["face"])
    less = page.picture[y1 - 8 : y2 + 8, x1 - 8 : x2 + 8]
    query = f"tab=one&seconds=0.2&x={x1 - 8}&y={y1 - 8}&width=1280&height=720"
    assert page.ask(f"/frame?{query}", as_jpeg(np.ascontiguousarray(less), 90)) == {"whole": True}
    # Now and then a frame comes whole, for the detector.
    live.loop.tab("one").whole_s -= WHOLE_EVERY_S
    x1, y1, x2, y2 = first["part"]
    late = page.ask(f"/frame?tab=one&seconds=0.3&{place}", as_jpeg(still, 90))
    assert late["part"] is None


def test_a_round_from_its_first_frame_to_its_end(page: Page, live: Live) -> None:
    page.look("one", 0.0)  # whose face could be followed
    looked: list[int] = []
    finder = live.loop.finder

    def find(frame: np.ndarray) -> FoundFace:
        looked.append(1)
        return finder.find(frame)

    live.loop.finder = SimpleNamespace(find=find)  # type: ignore[assignment]
    made = page.ask("/round", {"kind": "validate", "screen": SCREEN})
    assert (len(made["targets"]), made["frames"]) == (9, FRAMES)
    words = {"round": made["round"]}
    assert "no frame of the round" in page.ask("/round/end", words, 400)
    for target in (0, 1, 1):
        taken = page.ask(f"/round/frame?round={made['round']}&target={target}", page.frame())
        assert taken == {"why": ""}
    assert len(looked) == 3  # the detector sees each of them, as in training
    page.frames -= 1
    still = page.ask(f"/round/frame?round={made['round']}&target=1", page.frame())
    assert still == {"why": "still"}
    found = page.ask("/round/end", words)
    assert (found["frames"], len(found["targets"])) == (3, 2)
    personal = found["models"]["personal"]
    assert personal["error_cm"] == pytest.approx(personal["error_px"] * 34 / 1280)
    assert "session" in page.ask("/round/keep", words | {"session": "../out"}, 400)
    for _ in range(4):
        page.ask("/round", {"kind": "validate", "screen": SCREEN})
    assert "that round is over" in page.ask("/round/end", words, 400)


def test_what_is_no_question_is_refused_in_words(page: Page) -> None:
    for path, body, words in REFUSED:
        assert re.search(words, page.ask(path, body, 400)), (path, body)


def test_a_screen_that_nobody_measured_calibrates_nothing(page: Page) -> None:
    screen = {"width_px": 1280, "height_px": 720}
    wish = {"kind": "recalibrate", "screen": screen}
    assert "say how wide it is" in page.ask("/round", wish, 400)
    assert page.ask("/recalibration")["stands"] == "idle"
