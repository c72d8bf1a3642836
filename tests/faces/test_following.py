"""A face followed from frame to frame, the detector beside."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import cv2
import numpy as np
import pytest

from custom_gaze.common.errors import InputError
from custom_gaze.faces import following
from custom_gaze.faces.crops import gaze_crop_box
from custom_gaze.faces.finder import FoundFace
from custom_gaze.faces.following import FaceFollower, WholeWanted, surroundings

PLACE = (200.0, 120.0)  # of the face's upper left corner
SIDES = (150, 180)


def portrait(seed: int) -> np.ndarray:
    """Something like a face: blurred blotches, the same for a seed."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(20, 235, (22, 18, 3), np.uint8)
    return cv2.resize(rough, SIDES, interpolation=cv2.INTER_CUBIC)


def frame_of(seed: int, x: float, y: float) -> np.ndarray:
    """A grey frame with a portrait whose corner is at (x, y), and a camera's noise."""
    frame = np.full((480, 640, 3), 110, np.uint8)
    moved = np.array([[1, 0, x], [0, 1, y]], np.float64)
    cv2.warpAffine(portrait(seed), moved, (640, 480), frame, borderMode=cv2.BORDER_TRANSPARENT)
    noise = np.random.default_rng(round(x * 1000 + y)).normal(0, 3, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


class Finder:
    """Says where the test has put the face, and counts how often it was asked."""

    def __init__(self) -> None:
        self.at: tuple[float, float] | None = PLACE
        self.asked = 0

    def find(self, frame: np.ndarray) -> FoundFace:
        self.asked += 1
        if self.at is None:
            raise InputError("no face")
        x, y = self.at
        box = (x, y, x + SIDES[0], y + SIDES[1])
        return FoundFace(box, box, 0.9, ((x + 40, y + 70), (x + 110, y + 70)))


class Later(Executor):
    """Runs what it was given when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: fn(*args, **kwargs)))
        return future

    def run(self) -> None:
        for future, do in self.waiting:
            future.set_result(do())
        self.waiting.clear()


@pytest.fixture
def finder() -> Finder:
    return Finder()


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def follower(finder: Finder, later: Later, monkeypatch: pytest.MonkeyPatch) -> FaceFollower:
    """One that has seen the first frame, and takes its time on a busy machine."""
    monkeypatch.setattr(following, "OLDEST_S", 600.0)
    made = FaceFollower(finder, later)
    assert made.find(frame_of(1, *PLACE)).box == finder.find(None).box
    finder.asked = 0
    return made


@pytest.mark.parametrize("moved", [(0.0, 0.0), (7.0, -5.0), (-2.5, 1.5), (-12.0, 14.0)])
def test_a_face_that_moves_takes_box_and_eyes_along_without_the_detector(
    follower: FaceFollower, finder: Finder, moved: tuple[float, float]
) -> None:
    x, y = PLACE[0] + moved[0], PLACE[1] + moved[1]
    face = follower.find(frame_of(1, x, y))
    assert finder.asked == 0
    assert face.box == face.detected == pytest.approx((x, y, x + 150, y + 180), abs=1.0)
    assert face.eyes is not None
    assert face.eyes[1] == pytest.approx((x + 110, y + 70), abs=1.0)


@pytest.mark.parametrize("case", ["further", "another", "gone", "other camera", "old"])
def test_what_cannot_be_followed_waits_for_the_detector(
    follower: FaceFollower, finder: Finder, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "old":
        monkeypatch.setattr(following, "OLDEST_S", -1.0)
    finder.at = (260.0, 160.0)
    frame = {
        "further": frame_of(1, 260.0, 160.0),
        "another": frame_of(2, *PLACE),
        "gone": frame_of(1, 900.0, 900.0),
        "other camera": np.full((720, 1280, 3), 110, np.uint8),
        "old": frame_of(1, *PLACE),
    }[case]
    assert follower.find(frame).box[:2] == finder.at
    assert finder.asked == 1


def test_the_surroundings_of_a_face_do_for_the_next_frame(
    follower: FaceFollower, finder: Finder
) -> None:
    """As far as a face may move from the frame that the part was chosen in."""
    face = finder.find(frame_of(1, *PLACE))
    part = surroundings(face, (480, 640), 1.2)
    assert part is not None
    assert all(edge % 16 == 0 for edge in part)  # a JPEG's blocks, so it is compressed alike
    for moved in ((14.0, -17.0), (-14.0, 17.0)):
        whole = frame_of(1, PLACE[0] + moved[0], PLACE[1] + moved[1])
        frame = np.zeros_like(whole)
        x1, y1, x2, y2 = part
        frame[y1:y2, x1:x2] = whole[y1:y2, x1:x2]
        found = follower.find(frame, part)
        assert found == follower.find(whole)
        a1, b1, a2, b2 = gaze_crop_box(found.box, 640, 480, 1.2)
        assert x1 <= a1 < a2 <= x2
        assert y1 <= b1 < b2 <= y2
    assert finder.asked == 1  # by this test
    assert surroundings(face, (310, 360), 2.0) is None  # which saves nothing


@pytest.mark.parametrize("case", ["further", "left the part", "old"])
def test_a_part_that_does_not_tell_where_the_face_is_wants_the_whole(
    follower: FaceFollower, finder: Finder, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "old":
        monkeypatch.setattr(following, "OLDEST_S", -1.0)
    place = {"further": (260.0, 160.0), "left the part": (211.0, 120.0), "old": PLACE}[case]
    with pytest.raises(WholeWanted):
        follower.find(frame_of(1, *place), (192, 112, 356, 304))
    assert finder.asked == 0  # the detector sees whole frames only


def test_the_detector_looks_at_each_frame_beside_and_says_what_it_sees_with_the_next(
    follower: FaceFollower, finder: Finder, later: Later
) -> None:
    follower.learn(frame_of(1, *PLACE))
    assert not later.waiting  # it has looked at that one
    frame = frame_of(1, 205.0, 120.0)
    follower.find(frame)
    follower.learn(frame)
    follower.find(frame)
    follower.learn(frame)
    assert len(later.waiting) == 1  # it is busy
    finder.at = (206.0, 121.0)  # it knows better
    later.run()
    assert follower.find(frame).box[:2] == pytest.approx((206.0, 121.0), abs=0.01)
    follower.learn(frame)
    finder.at = None
    later.run()
    with pytest.raises(InputError, match="no face"):
        follower.find(frame)


def test_a_look_that_comes_late_does_not_replace_a_newer_one(
    follower: FaceFollower, finder: Finder, later: Later
) -> None:
    frame = frame_of(1, 203.0, 120.0)
    follower.find(frame)
    follower.learn(frame)
    finder.at = (260.0, 160.0)
    far = frame_of(1, *finder.at)
    follower.find(far)  # waits for the detector
    finder.at = PLACE
    later.run()  # of the frame before
    assert follower.find(far).box[:2] == pytest.approx((260.0, 160.0), abs=0.1)
