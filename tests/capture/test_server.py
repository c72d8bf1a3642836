"""The pages' server: who gets an answer, what it says, when it ends."""

import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from custom_gaze.capture.server import HOST, STATIC, TOKEN_HEADER, Served, body_of, serving
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.look import DARK, LIGHT

PACKAGE_STATIC = Path(__file__).parents[2] / "src" / "custom_gaze" / "capture" / STATIC
FOREIGN = "http://evil.example"


async def echo(request: Request) -> Response:
    return JSONResponse({"got": len(await body_of(request, 1000))})


def refuse(request: Request) -> Response:
    raise {"input": InputError, "ours": CustomGazeError}[request.path_params["kind"]]("no such eye")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    routes = [Route("/echo", echo, methods=["POST"]), Route("/refuse/{kind}", refuse)]
    with serving("capture", routes) as running:
        yield running


def asked(
    served: Served, path: str, method: str = "GET", body: bytes | None = None, **headers: str | None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Ask as the page would, but for `headers`, of which None leaves one out."""
    place, _, token = served.url.removeprefix("http://").partition("/#")
    host, port = place.split(":")
    sent = {"Host": place, TOKEN_HEADER: token, "Origin": f"http://{place}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.putrequest(method, path, skip_host=True)
    for name, value in sent.items():
        if value is not None:
            connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def test_the_page_gets_its_answers(served: Served) -> None:
    assert re.fullmatch(rf"http://{re.escape(HOST)}:\d+/#[\w-]{{43}}", served.url)
    assert asked(served, "/api/echo", "POST", b"123")[2] == b'{"got":3}'
    assert asked(served, "/api/echo", "POST", b"123", Origin=None)[0] == 200
    port = served.url.split(":")[2].split("/")[0]
    local = f"localhost:{port}"
    assert asked(served, "/", Host=local, Origin=f"http://{local}")[0] == 200


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({TOKEN_HEADER: None}, "token"),
        ({TOKEN_HEADER: "x" * 43}, "token"),
        ({TOKEN_HEADER: "é"}, "token"),
        ({"Origin": FOREIGN}, "another page"),
        ({"Origin": "null"}, "another page"),
        ({"Origin": "http://127.0.0.1:1"}, "another page"),
        ({"Sec_Fetch_Site": "same-site"}, "another page"),  # another port of this machine
        ({"Sec_Fetch_Site": "cross-site"}, "another page"),
        ({"Host": "evil.example"}, "its own address"),
        ({"Host": "127.0.0.1:1"}, "its own address"),
        ({"Host": "127.0.0.1"}, "its own address"),
    ],
)
def test_nobody_else_does(served: Served, headers: dict[str, str | None], reason: str) -> None:
    status, _, content = asked(served, "/api/echo", "POST", b"1", **headers)
    assert status == 403
    assert reason in json.loads(content)["error"]
    if TOKEN_HEADER not in headers:  # the files tell nothing, and still only to this machine
        assert asked(served, "/", **headers)[0] == 403
    else:
        assert asked(served, "/", **headers)[0] == 200
        assert asked(served, "/elsewhere", **headers)[0] == 403


def test_a_websocket_is_none(served: Served) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    status, _, _ = asked(served, "/api/echo", Sec_WebSocket_Key="x" * 22 + "==", **upgrade)
    assert status == 405
    status, _, _ = asked(
        served, "/api/echo", Sec_WebSocket_Key="x" * 22 + "==", Origin=FOREIGN, **upgrade
    )
    assert status == 403


def test_every_answer_forbids_the_page_to_ask_anybody_else(served: Served) -> None:
    refused = {TOKEN_HEADER: "wrong"}
    for path, headers in (
        ("/", {}),
        (f"/{STATIC}/page.js", {}),
        ("/api/nothing", {}),
        ("/api/refuse/ours", {}),
        ("/api/nothing", refused),
    ):
        _, said, _ = asked(served, path, **headers)
        policy = dict(rule.split(" ", 1) for rule in said["content-security-policy"].split("; "))
        assert policy.pop("default-src") == "'none'"
        allowed = {source for sources in policy.values() for source in sources.split()}
        assert allowed == {"'self'", "'none'", "blob:"}  # this server and the page's own pictures
        assert policy["connect-src"] == policy["script-src"] == "'self'"
        assert said["x-content-type-options"] == "nosniff"
        assert said["cache-control"] == "no-store"


def test_a_route_s_refusal_is_words(served: Served) -> None:
    for kind, expected in (("input", 400), ("ours", 500)):
        status, _, content = asked(served, f"/api/refuse/{kind}")
        assert (status, json.loads(content)) == (expected, {"error": "no such eye"})
    assert asked(served, "/api/echo", "POST", b"1" * 1001)[0] == 413


def test_the_package_s_files_and_no_others(served: Served) -> None:
    for path in PACKAGE_STATIC.iterdir():
        status, headers, content = asked(served, f"/{STATIC}/{path.name}")
        assert (status, content) == (200, path.read_bytes())
        assert headers["content-type"].startswith(("text/", "image/svg+xml"))
    for name in ("../server.py", "%2e%2e/server.py", "..%2fserver.py", "nothing.js", ""):
        assert asked(served, f"/{STATIC}/{name}")[0] in (403, 404)
    look = asked(served, f"/{STATIC}/look.css")[2].decode()
    light, dark = look.split("@media")
    assert f"--ink: {LIGHT.ink};" in light
    assert f"--ink: {DARK.ink};" in dark


def test_the_loopback_alone_and_an_end_when_the_page_asks() -> None:
    with serving("capture", []) as served:
        port = int(served.url.split(":")[2].split("/")[0])
        waiting = threading.Thread(target=served.wait)
        waiting.start()
        assert asked(served, "/api/end", "POST", b"{}", Origin=FOREIGN)[0] == 403
        assert waiting.is_alive()
        assert asked(served, "/api/end", "POST", b"{}")[0] == 200
        waiting.join(5)
        assert not waiting.is_alive()
        with socket.socket() as other:  # 127.0.0.2 is this machine too, and not this address
            assert other.connect_ex(("127.0.0.2", port)) != 0
    with pytest.raises(ConnectionRefusedError):
        asked(served, "/")


def test_texts_are_in_both_languages() -> None:
    """Each key has an English and a German text with the same blanks."""
    text = (PACKAGE_STATIC / "texts.js").read_text(encoding="utf-8")
    keys = re.findall(r'^  "([\w.]+)": \{$', text, re.MULTILINE)
    pairs = re.findall(r'^    en: "(.*)",\n    de: "(.*)",$', text, re.MULTILINE)
    assert len(keys) == len(set(keys)) == len(pairs)
    for english, german in pairs:
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", german))
    used = "\n".join(
        path.read_text(encoding="utf-8")
        for path in PACKAGE_STATIC.iterdir()
        if path.stem != "texts"
    )
    composed = ("camera", "check", "face", "size", "light", "eyes", "middle", "live")
    assert [key for key in keys if key not in used and key.split(".")[0] not in composed] == []
    families = {key.split(".")[0] for key in keys}
    named = set(re.findall(r"\"(\w+\.\w+)\"", used))
    assert {name for name in named if name.split(".")[0] in families} <= {*keys}
