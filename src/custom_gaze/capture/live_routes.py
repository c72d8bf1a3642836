"""What the live page asks, below /api/live: looks at frames, rounds of targets, a recalibration."""

import functools
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated, TypeVar

import numpy as np
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import to_jsonable_python
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from custom_gaze.capture.folder import LAST_SCREEN
from custom_gaze.capture.live_keep import keep
from custom_gaze.capture.live_loop import FILTERS, HEAT_CELLS, Frame, Loop, heat_map
from custom_gaze.capture.live_models import NAMES, load_side_by_side
from custom_gaze.capture.live_round import FRAMES, Kind, Round, new_round
from custom_gaze.capture.live_screen import PageScreen, known_screen
from custom_gaze.capture.recalibration import Recalibration
from custom_gaze.capture.record import CapturedScreen, read_record
from custom_gaze.capture.server import body_of
from custom_gaze.common.errors import InputError
from custom_gaze.common.stage_files import Strict, read_json
from custom_gaze.common.untrusted import printable
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.pictures import MAX_IMAGE_PIXELS, decoded
from custom_gaze.data.sessions import MAX_IMAGE_BYTES
from custom_gaze.faces.crops import PixelBox
from custom_gaze.faces.following import WholeWanted

MOST_WORDS_BYTES = 10_000
MOST_ROUNDS = 4
MOST_TAKEN = 500  # frames of a round
Model = TypeVar("Model", bound=BaseModel)
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
NO_ROUND = "that round is over; begin another one"


class FrameQuery(Strict):
    """What comes with a frame: the page's tab and time, whether the models stand side by side; and
    where in a frame of `width` times `height` pixels the part that comes lies, 0: it is whole."""

    tab: Name
    seconds: float = Field(ge=0)
    beside: bool = True
    x: int = Field(0, ge=0)
    y: int = Field(0, ge=0)
    width: int = Field(0, ge=0)
    height: int = Field(0, ge=0)


class RoundWish(Strict):
    """A round that is to begin."""

    kind: Kind
    screen: PageScreen


class RoundFrame(Strict):
    """What comes with a frame of a round."""

    round: Name
    target: int = Field(ge=0, le=8)


class Which(Strict):
    """A round, by the name that it was given."""

    round: Name


class Kept(Strict):
    """A round that is to be a session."""

    round: Name
    session: str = Field(max_length=200)


class Live:
    """All that the page asks of: the loop, its rounds, and the recalibration."""

    def __init__(self, loop: Loop, params: Params, paths: Paths) -> None:
        self.loop, self.params, self.paths = loop, params, paths
        self.recalibration = Recalibration(paths)
        self._rounds: OrderedDict[str, Round] = OrderedDict()

    def routes(self) -> list[BaseRoute]:
        """The addresses below /api."""
        answers: dict[str, tuple[str, Callable[[Request], Awaitable[object]]]] = {
            "": ("GET", self.state),
            "/screen": ("POST", self.screen),
            "/frame": ("POST", self.frame),
            "/heat": ("POST", self.heat),
            "/round": ("POST", self.begin),
            "/round/frame": ("POST", self.take),
            "/round/end": ("POST", self.end),
            "/round/keep": ("POST", self.keep),
            "/recalibrate": ("POST", self.recalibrate),
            "/recalibration": ("GET", self.progress),
        }
        return [
            Route(f"/live{path}", functools.partial(_answer, answer), methods=[method])
            for path, (method, answer) in answers.items()
        ]

    async def state(self, _: Request) -> object:
        """What runs, and the words that the page needs for it."""
        models = self.loop.models
        sessions = models.model.sessions
        return {
            "model": models.model.path.name,
            "sessions": None if sessions is None else list(sessions),
            "alone": models.alone,
            "names": list(NAMES) if models.correction else list(NAMES[:1]),
            "filters": list(FILTERS),
            "frames": FRAMES,
            "geometry": models.model.geometry,
            **self._remembered(),
        }

    async def screen(self, request: Request) -> object:
        """The geometry of the page's screen."""
        return known_screen(await _words(request, PageScreen), self.loop.models.model.geometry)

    async def frame(self, request: Request) -> object:
        """Look at a frame: where the face is, each model's angles through each filter, what part of
        the next frame will do; `whole` where what came did not."""
        query = _query(request, FrameQuery)
        content = await body_of(request, MAX_IMAGE_BYTES)

        def look() -> object:
            began = time.perf_counter()
            frame, part = _placed(decoded(content), query)
            tab = self.loop.tab(query.tab)
            try:
                seen = self.loop.follow(frame, tab, query.beside, part)
            except WholeWanted:
                return {"whole": True}
            shown = tab.filtered(query.seconds, seen)
            height_px, width_px = frame.shape[:2]
            return {
                "size": (width_px, height_px),
                "face": seen.face,
                "why": seen.why,
                "part": seen.part,
                "models": shown,
                "took_ms": 1e3 * (time.perf_counter() - began),
            }

        return await run_in_threadpool(look)

    async def heat(self, request: Request) -> object:
        """The last minute of a tab over its screen, row by row, 0 … 255."""
        tab = self.loop.tab(_query(request, FrameQuery).tab)
        page = await _words(request, PageScreen)
        screen = known_screen(page, self.loop.models.model.geometry)
        points = [(yaw_deg, pitch_deg) for _, yaw_deg, pitch_deg in list(tab.minute)]
        return {"cells": HEAT_CELLS, "heat": heat_map(points, screen.geometry).ravel().tolist()}

    async def begin(self, request: Request) -> object:
        """Begin a round; one that calibrates needs a screen that was measured."""
        wish = await _words(request, RoundWish)
        screen = known_screen(wish.screen, self.loop.models.model.geometry)
        if wish.kind == "recalibrate" and screen.known == "guessed":
            raise InputError(
                "this screen is another one than the model's, or the page is zoomed: say how wide "
                "it is and how far away your eyes are"
            )
        made = new_round(wish.kind, screen.geometry, screen.pixel_cm, np.random.default_rng())
        name = secrets.token_hex(8)
        self._rounds[name] = made
        while len(self._rounds) > MOST_ROUNDS:
            self._rounds.popitem(last=False)
        return {"round": name, "targets": made.targets_px.tolist(), "frames": FRAMES}

    async def take(self, request: Request) -> object:
        """A frame of a round; `why` says why it was not taken, '' where it was."""
        query = _query(request, RoundFrame)
        content = await body_of(request, MAX_IMAGE_BYTES)
        made = self._round(query.round)
        if len(made.taken) >= MOST_TAKEN:
            raise InputError(NO_ROUND)

        def look() -> str:
            seen = self.loop.look(decoded(content))
            return made.take(content, time.time_ns() // 1_000_000, query.target, seen)

        return {"why": await run_in_threadpool(look)}

    async def end(self, request: Request) -> object:
        """What a round found."""
        made = self._round((await _words(request, Which)).round)
        if not made.taken:
            raise InputError("no frame of the round could be used; see that your face is found")
        return made.result()

    async def keep(self, request: Request) -> object:
        """Make a session of a round."""
        wish = await _words(request, Kept)
        made = self._round(wish.round)
        frames = await run_in_threadpool(self.keep_round, made, wish.session)
        return {"session": wish.session, "frames": frames}

    async def recalibrate(self, request: Request) -> object:
        """Begin the run over the old sessions and a round's."""
        wish = await _words(request, Kept)
        made = self._round(wish.round)
        if not made.taken:
            raise InputError("no frame of the round could be used; see that your face is found")

        def kept() -> str:
            self.keep_round(made, wish.session)
            return wish.session

        self.recalibration.start(made, kept, self.exchange)
        return self.recalibration.state()

    async def progress(self, _: Request) -> object:
        """How the recalibration stands."""
        return self.recalibration.state()

    def _remembered(self) -> dict[str, object]:
        """What `capture` knows: whether the model's frames were mirrored, and the last screen."""
        known: dict[str, object] = {"mirrored": True}
        for session in self.loop.models.model.sessions or ():
            with suppress(InputError):
                record = read_record(self.paths.sessions / session)
                known["mirrored"] = record.mirrored if record else known["mirrored"]
        with suppress(InputError):
            last = read_json(self.paths.captures / LAST_SCREEN, CapturedScreen, "measure it again")
            known |= {"width_cm": last.width_cm, "distance_cm": last.distance_cm}
        return known

    def _round(self, name: str) -> Round:
        if name not in self._rounds:
            raise InputError(NO_ROUND)
        return self._rounds[name]

    def keep_round(self, made: Round, session: str) -> int:
        """Make a session of a round; returns how many frames it has."""
        same_px = self.params.split.same_target_px
        return keep(made, session, self.paths, self.params.geometry, same_px).frames

    def exchange(self) -> Callable[[], None]:
        """Show what the run exported; what this returns brings back what was shown before."""
        old = self.loop.models
        self.loop.exchange(load_side_by_side(self.params, self.paths))
        return lambda: self.loop.exchange(old)


async def _answer(answer: Callable[[Request], Awaitable[object]], request: Request) -> Response:
    found = await answer(request)
    return JSONResponse(to_jsonable_python(found, inf_nan_mode="null"))


def _placed(picture: Frame, query: FrameQuery) -> tuple[Frame, PixelBox | None]:
    """A frame, and the part of it that came, the rest black; None where it came whole.

    Raises:
        InputError: the part does not lie in a frame of that size.
    """
    if not query.width:
        return picture, None
    high_px, wide_px = picture.shape[:2]
    right, bottom = query.x + wide_px, query.y + high_px
    if right > query.width or bottom > query.height:
        raise InputError("the part lies outside its frame")
    if query.width * query.height > MAX_IMAGE_PIXELS:
        raise InputError("the frame has far too many pixels")
    frame = np.zeros((query.height, query.width, 3), np.uint8)
    frame[query.y : bottom, query.x : right] = picture
    return frame, (query.x, query.y, right, bottom)


def _query(request: Request, schema: type[Model]) -> Model:
    return _checked(lambda: schema.model_validate(dict(request.query_params), strict=False))


async def _words(request: Request, schema: type[Model]) -> Model:
    content = await body_of(request, MOST_WORDS_BYTES)
    return _checked(lambda: schema.model_validate_json(content))


def _checked(read: Callable[[], Model]) -> Model:
    try:
        return read()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(printable(f"{key}: {first['msg']}", 200)) from None
