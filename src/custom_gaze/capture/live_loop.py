"""From a camera's frame to what the live page shows: the face, and each model's gaze, filtered.

A tab of the page is told apart by an id of its own: its filters and its last minute are not another
one's. Frames are looked at one after the other, however many tabs ask.

The frames of a round are looked at as in training, the face found on the whole of each. Between
rounds a tab's face is followed (faces/following.py): the dot does not wait for the detector.
"""

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom_gaze.capture.live_models import PERSONAL, Angles, SideBySide
from custom_gaze.common.errors import InputError
from custom_gaze.data.frame_looks import CLOSED_BELOW, LEAST_FRAMES, eye_openness, eye_patch
from custom_gaze.faces.crops import Box, PixelBox, gaze_crop, gaze_crop_box
from custom_gaze.faces.eye_points import EyeFinder
from custom_gaze.faces.finder import FaceFinder, FoundFace, SeveralFaces
from custom_gaze.faces.following import FaceFollower, WholeWanted, surroundings
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.inference.smoothing import Exponential, OneEuro

Frame = NDArray[np.uint8]  # (H, W, 3) RGB
Why = Literal["", "no_face", "two_faces", "unusable"]
RAW, EURO, APP = FILTERS = ("none", "euro", "app")
MINUTE_S = 60.0
WHOLE_EVERY_S = 0.3  # a frame comes whole, for the detector; a part of it does in between
MOST_TABS = 8
HEAT_CELLS = (48, 27)  # columns, rows over the screen
HEAT_SIGMA_DEG = 1.0  # about what the eye holds still by, and the network's own noise


@dataclass(frozen=True)
class Seen:
    """What was seen in one frame.

    Attributes:
        face: its box in frame pixels, None where there is none.
        why: there is no gaze in it, as the page's word; "" where there is one.
        angles_deg: of each model its angles (2,).
        part: of the next frame, that would do; None means that the whole is wanted.
        openness: of the eyes, see data/frame_looks.py; None between rounds, or where it is unknown.
    """

    face: Box | None = None
    why: Why = ""
    angles_deg: Mapping[str, Angles] = field(default_factory=dict)
    part: PixelBox | None = None
    openness: float | None = None


@dataclass
class Tab:
    """What one tab of the page has seen so far."""

    follower: FaceFollower
    whole_s: float = -math.inf  # when a whole frame came last
    euro: dict[str, OneEuro] = field(default_factory=dict)
    app: dict[str, Exponential] = field(default_factory=dict)
    minute: deque[tuple[float, float, float]] = field(default_factory=deque)  # s, yaw, pitch

    def filtered(self, seconds: float, seen: Seen) -> dict[str, dict[str, list[float]]]:
        """By model and filter the angles to show; they are remembered."""
        shown = {}
        for name, angles_deg in seen.angles_deg.items():
            euro = self.euro.setdefault(name, OneEuro())(seconds, angles_deg)
            app = self.app.setdefault(name, Exponential())(angles_deg)
            by_filter = {RAW: angles_deg, EURO: euro, APP: app}
            shown[name] = {which: values.tolist() for which, values in by_filter.items()}
        if PERSONAL in shown:
            yaw_deg, pitch_deg = shown[PERSONAL][EURO]
            self.minute.append((seconds, yaw_deg, pitch_deg))
        while self.minute and self.minute[0][0] < seconds - MINUTE_S:
            self.minute.popleft()
        return shown


class Loop:
    """The models, and the tabs that are shown what they see; any thread may call it."""

    def __init__(self, finder: FaceFinder, eyes: EyeFinder, models: SideBySide) -> None:
        self.finder, self.eyes, self.models = finder, eyes, models
        self._beside = ThreadPoolExecutor(1, "detector")
        self._tabs: OrderedDict[str, Tab] = OrderedDict()
        self._lock = threading.Lock()

    def look(self, frame: Frame) -> Seen:
        """Look at a round's frame, at the eyes' openness too; one without a gaze is no error."""
        with self._lock:
            seen, face = self._seen(frame, lambda: self.finder.find(frame), beside=True)
            if face is None or seen.why:
                return seen
            if found := face.eyes or self.eyes.find(frame, face.detected):
                openness = eye_openness([eye_patch(frame, eye, found) for eye in found])
                return replace(seen, openness=openness)
            return seen

    def follow(
        self, frame: Frame, tab: Tab, beside: bool = True, part: PixelBox | None = None
    ) -> Seen:
        """Look at the next of a tab's frames, of which only a `part` may be there; one without a
        gaze is no error.

        Raises:
            WholeWanted: the part does not do.
        """
        with self._lock:
            seen, face = self._seen(frame, lambda: tab.follower.find(frame, part), beside, part)
            if part is None:
                tab.whole_s = time.monotonic()
                tab.follower.learn(frame)
            if face is None or time.monotonic() - tab.whole_s > WHOLE_EVERY_S:
                return seen
            margin = self.models.model.spec.margin
            return replace(seen, part=surroundings(face, frame.shape[:2], margin))

    def _seen(
        self,
        frame: Frame,
        find: Callable[[], FoundFace],
        beside: bool,
        part: PixelBox | None = None,
    ) -> tuple[Seen, FoundFace | None]:
        models = self.models
        try:
            face = find()
        except WholeWanted:
            raise
        except SeveralFaces:
            return Seen(why="two_faces"), None
        except InputError:
            return Seen(why="no_face"), None
        try:
            if part is not None:
                _check_within(part, face.box, frame, models.model.spec.margin)
            crop = gaze_crop(frame, face.box, models.model.spec)
            return Seen(face.box, "", models.angles_deg(crop, beside)), face
        except WholeWanted:
            raise
        except InputError:
            return Seen(face.box, "unusable"), face

    def tab(self, name: str) -> Tab:
        """A tab's memory; the one that was away longest is forgotten for a new one."""
        with self._lock:
            if name not in self._tabs:
                self._tabs[name] = Tab(FaceFollower(self.finder, self._beside))
            tab = self._tabs[name]
            self._tabs.move_to_end(name)
            while len(self._tabs) > MOST_TABS:
                self._tabs.popitem(last=False)
            return tab

    def exchange(self, models: SideBySide) -> None:
        """Go on with other models; what filters remember of the old ones is forgotten."""
        with self._lock:
            self.models = models
            self._tabs.clear()


def _check_within(part: PixelBox, face: Box, frame: Frame, margin: float) -> None:
    height_px, width_px = frame.shape[:2]
    x1, y1, x2, y2 = gaze_crop_box(face, width_px, height_px, margin)
    if x1 < part[0] or y1 < part[1] or x2 > part[2] or y2 > part[3]:
        raise WholeWanted("the face has left the part of the frame that came")


def eyes_closed(openness: float | None, others: ArrayLike) -> bool:
    """Whether an openness is a blink's against those of other frames of the same person."""
    known = np.asarray(others, np.float64)
    if openness is None or len(known) < LEAST_FRAMES:
        return False
    return bool(openness < CLOSED_BELOW * np.median(known))


def heat_map(points_deg: ArrayLike, geometry: ScreenGeometry) -> NDArray[np.uint8]:
    """Where on the screen a gaze was, uint8 (rows, columns), 255 where it was most.

    A Gaussian of HEAT_SIGMA_DEG about each of the points (N, 2) [yaw, pitch]; what lies beside the
    screen counts as far as it reaches onto it. All 0 without a point near the screen.
    """
    columns, rows = HEAT_CELLS
    points = geometry.to_pixels(np.asarray(points_deg, np.float64).reshape(-1, 2))
    sigma_px = HEAT_SIGMA_DEG / geometry.deg_per_pixel

    def near(places_px: NDArray[np.float64], extent_px: float, cells: int) -> NDArray[np.float64]:
        middles_px = (np.arange(cells) + 0.5) * extent_px / cells
        away = (middles_px[None] - places_px[:, None]) / sigma_px  # (N, cells)
        return np.asarray(np.exp(-(away**2) / 2))

    across = near(points[:, 0], 2 * geometry.center_x_px, columns)
    down = near(points[:, 1], 2 * geometry.center_y_px, rows)
    heat = down.T @ across  # (rows, columns)
    most = float(heat.max()) if len(points) else 0.0
    if most < 1e-6:
        return np.zeros((rows, columns), np.uint8)
    return np.asarray(np.round(255 * heat / most), np.uint8)
