"""A page on this machine's loopback, for as long as a command runs.

Only who has the page's address gets an answer: it ends in a random token, behind a `#`, which
browsers send to nobody; the page sends it back in a header, so that no other page can ask in its
name, whatever it knows of the port. Host and Origin are held to this server's own on every request,
against names that were made to point here (DNS rebinding) and against foreign pages. The page
itself may ask nobody else: its content security policy knows only this server.
"""

import asyncio
import importlib.resources
import logging
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.look import DARK, FAMILY, LIGHT, Palette

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")  # of this machine, in an address that was typed or forwarded by ssh
TOKEN_HEADER = "x-custom-gaze-token"
API = "/api"  # what the page asks
STATIC = "static"  # the folder in this package, and its address
STARTS_S, ENDS_S = 30.0, 1
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob:; media-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Served:
    """A page that answers. `url` is its whole address, the token included: for the user alone."""

    url: str
    _ended: threading.Event = field(default_factory=threading.Event)

    def end(self) -> None:
        """Let `wait` return; any thread may call it, and the page does by POST /api/end."""
        self._ended.set()

    def wait(self) -> None:
        """Wait until somebody ends the page; Ctrl-C and the like interrupt it."""
        self._ended.wait()


@contextmanager
def serving(page: str, routes: Sequence[BaseRoute]) -> Iterator[Served]:
    """Serve static/`page`.html and `routes`, each below /api, while the block runs.

    The server has a thread of its own, so that the block may do the command's work. A route that
    raises a CustomGazeError answers {"error": its message}, with 400 for an InputError, else 500.

    Raises:
        CustomGazeError: no port can be had.
    """
    import uvicorn

    with _listening() as listening:
        port = listening.getsockname()[1]
        token = secrets.token_urlsafe(32)
        served = Served(f"http://{HOST}:{port}/#{token}")
        app = _Doorkeeper(_application(page, routes, served), port, token)
        # No access log: there is nobody to read it. Without a websocket library uvicorn would warn
        # of whoever asks for one.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=ENDS_S,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=_run, args=(server, listening, served), daemon=True)
        thread.start()
        try:
            _wait_for(server, thread)
            yield served
        finally:
            server.should_exit = True
            thread.join(2 * ENDS_S + 1)


def _run(server: Any, listening: socket.socket, served: Served) -> None:
    try:
        asyncio.run(server.serve(sockets=[listening]))
    finally:
        served.end()  # whoever waits for the page does not wait for one that is gone


def _wait_for(server: Any, thread: threading.Thread) -> None:
    pause = threading.Event()
    for _ in range(int(STARTS_S / 0.01)):
        if server.started:
            return
        if not thread.is_alive():
            break
        pause.wait(0.01)
    raise CustomGazeError("the page's server did not start; try again")


@contextmanager
def _listening() -> Iterator[socket.socket]:
    listening = socket.socket()
    try:
        try:
            listening.bind((HOST, 0))
        except OSError as error:
            raise CustomGazeError(
                f"{HOST}: no port can be had ({error.strerror}); is the loopback up?"
            ) from None
        yield listening
    finally:
        listening.close()


def _application(page: str, routes: Sequence[BaseRoute], served: Served) -> Starlette:
    def end(_: Request) -> Response:
        served.end()
        return JSONResponse({})

    return Starlette(
        routes=[
            Route("/", lambda _: _file(f"{page}.html")),
            Route(f"/{STATIC}/look.css", lambda _: Response(look(), media_type=TYPES[".css"])),
            Route(f"/{STATIC}/{{name}}", lambda request: _file(request.path_params["name"])),
            Mount(API, routes=[*routes, Route("/end", end, methods=["POST"])]),
        ],
        exception_handlers={CustomGazeError: _refused, HTTPException: _not_done},
    )


def _refused(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400 if isinstance(error, InputError) else 500)


def _not_done(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


def _file(name: str) -> Response:
    """One of the package's own files; a name is compared with those that there are, never opened
    as it was asked for."""
    folder = importlib.resources.files("custom_gaze.capture") / STATIC
    for file in folder.iterdir():
        suffix = f".{file.name.rpartition('.')[2]}"
        if file.name == name and suffix in TYPES:
            return Response(file.read_bytes(), media_type=TYPES[suffix])
    raise HTTPException(404)


def look() -> str:
    """The colours of `common/look.py` as CSS variables, light and dark."""

    def variables(palette: Palette) -> str:
        return " ".join(f"--{name}: {color};" for name, color in vars(palette).items())

    return (
        f":root {{ color-scheme: light dark; --family: {FAMILY}; {variables(LIGHT)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {variables(DARK)} }} }}\n"
    )


async def body_of(request: Request, most_bytes: int) -> bytes:
    """What was sent, read only as far as it may go.

    Raises:
        HTTPException: it has more than `most_bytes`.
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > most_bytes:
            raise HTTPException(413, f"more than {most_bytes} bytes")
    return bytes(content)


@dataclass(frozen=True)
class _Doorkeeper:
    """Every request passes here first: who asks, under which name, and with the token."""

    app: App
    port: int
    token: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # no websocket is spoken here
            return

        async def answer(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if reason := self._reason_against(scope["path"], Headers(scope=scope)):
            await JSONResponse({"error": reason}, 403)(scope, receive, answer)
        else:
            await self.app(scope, receive, answer)

    def _reason_against(self, path: str, headers: Headers) -> str:
        hosts = headers.getlist("host")
        if hosts not in [[f"{name}:{self.port}"] for name in NAMES]:
            return "this server answers to its own address alone"
        own = [f"http://{hosts[0]}"]
        foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if foreign or headers.getlist("origin") not in ([], own):
            return "another page may not ask"
        said = headers.get(TOKEN_HEADER, "").encode()
        if is_public(path) or secrets.compare_digest(said, self.token.encode()):
            return ""
        return "the page's address has a token behind #: open it as the command printed it"


def is_public(path: str) -> bool:
    """Whether a path is of the package's own files, which hold nothing of anybody."""
    return path == "/" or path.startswith(f"/{STATIC}/")
