"""What the capture page asks over HTTP, told to the desk, and its answers as JSON."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from custom_gaze.capture.desk import Desk, OtherTab, Verdict
from custom_gaze.capture.looking import Seen
from custom_gaze.capture.record import Camera, CapturedScreen
from custom_gaze.capture.server import Served, body_of
from custom_gaze.common.errors import InputError
from custom_gaze.common.stage_files import Strict
from custom_gaze.common.untrusted import printable
from custom_gaze.data.sessions import MAX_IMAGE_BYTES

MOST_WORDS_BYTES = 64 << 10
OF_ONE_TAB = ("look", "begin", "keep", "more", "clear", "finish")
TAB_HEADER = "x-custom-gaze-tab"

Model = TypeVar("Model", bound=BaseModel)
Answer = Callable[[Request], Awaitable[Response]]


class _Claim(Strict):
    force: bool


class _Begin(Strict):
    screen: CapturedScreen
    camera: Camera


def routes_of(desk: Desk, served: Callable[[], Served]) -> list[Route]:
    """The page's routes; `served` is asked once the page is open."""
    answers = _Answers(desk, served)
    of_one = {name: getattr(answers, name) for name in OF_ONE_TAB}
    return [
        Route("/state", answers.state),
        Route("/claim", answers.claim, methods=["POST"]),
        Route("/release", answers.release, methods=["POST"]),
        *(Route(f"/{n}", answers.of_this_tab(a), methods=["POST"]) for n, a in of_one.items()),
    ]


@dataclass(frozen=True)
class _Answers:
    """One method a route, of its name."""

    desk: Desk
    served: Callable[[], Served]

    async def state(self, _: Request) -> Response:
        if self.desk.outcome is not None:
            self.desk.told.set()
        return JSONResponse(state_of(self.desk))

    async def claim(self, request: Request) -> Response:
        asked = await _said(request, _Claim)
        try:
            self.desk.claim(_tab(request), asked.force)
        except OtherTab as error:
            return _elsewhere(error)
        return JSONResponse(state_of(self.desk))

    async def release(self, request: Request) -> Response:
        self.desk.release(_tab(request))
        return JSONResponse({})

    async def look(self, request: Request) -> Response:
        content = await body_of(request, MAX_IMAGE_BYTES)
        return JSONResponse(seen_of(await run_in_threadpool(self.desk.watcher.look, content)))

    async def begin(self, request: Request) -> Response:
        asked = await _said(request, _Begin)
        await run_in_threadpool(self.desk.begin, asked.screen, asked.camera)
        return JSONResponse(state_of(self.desk))

    async def keep(self, request: Request) -> Response:
        index, insist = request.query_params.get("target", ""), request.query_params.get("insist")
        if not (index.isascii() and index.isdigit() and len(index) < 6):
            raise InputError("which target?")
        content = await body_of(request, MAX_IMAGE_BYTES)
        kept = await run_in_threadpool(self.desk.keep, content, int(index), insist == "1")
        return JSONResponse(_kept(self.desk, int(index), *kept))

    async def more(self, _: Request) -> Response:
        await run_in_threadpool(self.desk.more)
        return JSONResponse(state_of(self.desk))

    async def clear(self, _: Request) -> Response:
        await run_in_threadpool(self.desk.clear)
        return JSONResponse(state_of(self.desk))

    async def finish(self, _: Request) -> Response:
        self.desk.finish()
        self.served().end()
        return JSONResponse({})

    def of_this_tab(self, answer: Answer) -> Answer:
        async def checked(request: Request) -> Response:
            try:
                self.desk.heard(_tab(request))
            except OtherTab as error:
                return _elsewhere(error)
            return await answer(request)

        return checked


def state_of(desk: Desk) -> dict[str, object]:
    """All that the page has to know to show itself."""
    record, last = desk.record, desk.last_screen
    return {
        "session": desk.session,
        "mirrored": desk.mirrored,
        "framesPerTarget": desk.frames_per_target,
        "targetsPlanned": desk.targets_planned,
        "screen": record.screen.model_dump() if record else None,
        "lastScreen": last.model_dump() if last else None,
        "round": record.rounds if record else 0,
        "targets": [
            {"x": target.x_px, "y": target.y_px, "round": target.round, "kept": len(target.frames)}
            for target in (record.targets if record else ())
        ],
        "finishing": desk.finishing.is_set(),
        "outcome": vars(desk.outcome) if desk.outcome else None,
    }


def seen_of(seen: Seen) -> dict[str, object]:
    """What the page shows of a look."""
    return {
        "problem": seen.problem,
        "width": seen.width_px,
        "height": seen.height_px,
        "box": seen.box,
        "eyes": seen.eyes,
        "size": seen.size_px,
        "light": seen.light,
        "level": seen.level,
        "edges": seen.edges,
        "distance": seen.distance_cm,
        "checks": seen.checks(),
    }


def _kept(desk: Desk, index: int, verdict: Verdict, seen: Seen) -> dict[str, object]:
    assert desk.record is not None
    return {
        "verdict": verdict,
        "kept": len(desk.record.targets[index].frames),
        "seen": seen_of(seen),
    }


def _tab(request: Request) -> str:
    return request.headers.get(TAB_HEADER, "")[:64]


def _elsewhere(error: OtherTab) -> Response:
    return JSONResponse({"error": str(error), "elsewhere": True}, 409)


async def _said(request: Request, schema: type[Model]) -> Model:
    try:
        return schema.model_validate_json(await body_of(request, MOST_WORDS_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(printable(f"{key}: {first['msg']}")) from None
