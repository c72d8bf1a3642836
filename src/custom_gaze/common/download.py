"""Files from where the user says they are: a path, or an https address with its SHA-256.

A download goes to a temporary file below the project's root and stays there when the connection
breaks, so that the next try resumes it. What is complete is kept under its hash, and hashed again
every time it is used. Not by pooch: it follows redirects to plain http and into private networks,
limits neither size nor time, and starts anew after a cut.
"""

import fcntl
import ipaddress
import os
import re
import shutil
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import requests
from requests.exceptions import InvalidURL, RequestException
from urllib3.exceptions import HTTPError, LocationParseError

from custom_gaze.common.console import bar
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.files import sha256_of, whole_file, write_text
from custom_gaze.common.untrusted import MOST_MODEL_BYTES, printable, regular_file

DOWNLOADS_FOLDER = ".downloads"
SHA256 = re.compile(r"[0-9a-f]{64}")
TIMEOUT_S = 30.0  # without a single byte
HEAD_S = 60.0  # for the whole of an answer's head
# A drip that keeps the connection alive is given up: this much time, then this average speed.
PATIENCE_S = 60.0
SLOWEST_BYTES_PER_S = 2000
CHUNK_BYTES = 1 << 18
MOST_REDIRECTS = 5
# What requests raises, what urllib3 raises while a body is read, and what the socket itself does.
UNREACHABLE = (RequestException, HTTPError, TimeoutError, ConnectionError)
NO_HOST = (InvalidURL, LocationParseError, UnicodeError)  # the last: what IDNA cannot write


def is_address(source: str) -> bool:
    """Whether `source` is an address of any scheme, and not a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://|https?:", source) is not None


def obtain(source: str, sha256: str | None, target: Path, root: Path) -> str:
    """Put the file at `source` into `target`, whole or not at all, and return its SHA-256.

    `source` is a path (relative ones start at `root`, ~ is the home folder) or an https address,
    which needs `sha256` (64 hexadecimal digits). A path is checked against `sha256` where it is
    given. Plain http is allowed on the machine itself only. Downloads are kept in
    `root`/.downloads.

    Raises:
        InputError: the source is missing, is something else than the hash says, or is neither.
        CustomGazeError: the connection or the server failed, or writing did.
    """
    expected = None if sha256 is None else sha256.strip().lower()
    if expected is not None and not SHA256.fullmatch(expected):
        named = repr((sha256 or "")[:80])
        raise InputError(f"{shown(source)}: {named} is no SHA-256; expected 64 hexadecimal digits")
    if not is_address(source):
        return _copy(local_file(source, root), expected, target)
    if "@" in source:
        raise InputError(
            f"{shown(source)}: holds an @, and with it perhaps a user and a password; those "
            "belong into ~/.netrc, and an @ in a path is written %40"
        )
    _check_address(source)
    if expected is None:
        raise InputError(f"{shown(source)}: an address needs the SHA-256 of its file beside it")
    if target.is_file() and sha256_of(target) == expected:
        return expected
    return _copy(_downloaded(source, expected, root / DOWNLOADS_FOLDER), expected, target)


def local_file(source: str, root: Path) -> Path:
    """The file at a path that the user names; relative ones start at `root`.

    Raises:
        InputError: it is missing, no regular file, too large for a model, or ~ is nobody's.
    """
    try:
        path = Path(source).expanduser()
    except RuntimeError:  # ~ of somebody who is not known here
        raise InputError(f"{printable(source)}: there is no such home folder") from None
    path = path if path.is_absolute() else root / path
    return regular_file(path, MOST_MODEL_BYTES, "expected a path or an https address")


def _copy(path: Path, expected: str | None, target: Path) -> str:
    """Copy `path` to `target` and hash what was written."""
    with whole_file(target) as temporary:
        try:
            shutil.copyfile(path, temporary)
        except PermissionError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        found = sha256_of(temporary)
        if expected not in (None, found):
            raise InputError(f"{path}: its SHA-256 is {found}, but {expected} was named")
    return found


# -------------------------------------------------------------------------------- addresses


def shown(address: str) -> str:
    """An address for messages, without user, password and query: they may be secret."""
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:  # brackets that hold no IPv6 address
        return "the address"
    if not is_address(address):
        return printable(address)
    hidden = not parts.netloc and "://" not in address  # https:user:password@…
    if hidden or "@" in parts.path:  # behind a / in a password the rest looks like a path
        return "the address"
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def _check_address(address: str) -> None:
    """Refuse what is neither https nor http on this machine, and what no address looks like.

    Raises:
        InputError: it is such an address.
    """
    scheme, host = "", None
    try:
        parts = urllib.parse.urlsplit(address)
        plain = address.isprintable() and not {" ", "\\"} & set(address)
        if plain and parts.port != 0 and "@" not in parts.netloc:
            scheme, host = parts.scheme, parts.hostname
    except ValueError:  # a port that is no number, brackets that hold no IPv6 address
        pass
    if host and (scheme == "https" or (scheme == "http" and _is_loopback(host))):
        return
    raise InputError(f"{shown(address)}: not an https address; only https and paths are read")


def _check_redirect(start: str, before: str, address: str) -> None:
    """Refuse to be led from https to http, and from elsewhere into this machine or its network.

    Raises:
        InputError: it is such a redirect, or not an address that would be accepted by itself.
    """
    _check_address(address)
    host, first = (urllib.parse.urlsplit(one).hostname or "" for one in (address, start))
    if before.startswith("https:") and not address.startswith("https:"):
        raise InputError(f"{shown(start)}: redirects from https to {shown(address)}; not followed")
    if not _is_loopback(first) and _is_private(host):
        raise InputError(
            f"{shown(start)}: redirects into this machine's own network ({shown(address)}); "
            "not followed"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_private(host: str) -> bool:
    """Whether a host is, or has an address, that is not of the public network."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):  # unknown here; a proxy may know it
        return False
    return any(not ipaddress.ip_address(one.partition("%")[0]).is_global for one in found)


# -------------------------------------------------------------------------------- downloads


def _downloaded(address: str, expected: str, folder: Path) -> Path:
    """The verified download, made now or kept from before."""
    complete, part = folder / expected, folder / f"{expected}.part"
    with _locked(folder, expected):
        if complete.is_file() and sha256_of(complete) == expected:
            return complete
        resumed = part.is_file() and part.stat().st_size > 0
        found = _fetch(address, part)
        if found != expected and resumed:  # the part may be of another file: once more, from zero
            part.unlink()
            found = _fetch(address, part)
        if found != expected:
            part.unlink()
            raise InputError(
                f"{shown(address)}: answers with a file whose SHA-256 is {found}, but {expected} "
                "was named; nothing of it was kept"
            )
        part.replace(complete)
    return complete


@contextmanager
def _locked(folder: Path, name: str) -> Iterator[None]:
    """One download of a file at a time; a second process waits for the first one's file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / ".gitignore").exists():
            write_text(folder / ".gitignore", "*\n")
        with (folder / f"{name}.lock").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise CustomGazeError(f"{folder}: cannot be written ({error.strerror or error})") from error


def _fetch(address: str, part: Path) -> str:
    """Complete `part` from the address and return its SHA-256.

    Raises:
        InputError: the server says that there is no such file, or it is absurdly large.
        CustomGazeError: the connection broke or is too slow; `part` keeps what has arrived.
    """
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "custom-gaze"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with requests.Session() as session, _answer(session, address, headers) as response:
            status = response.status_code
            if status in (200, 206):
                _save(response, part, have if status == 206 else 0, shown(address))
            elif status != 416 or not have:  # 416: nothing left, the part is whole or wrong
                kind = InputError if status < 500 else CustomGazeError
                reason = printable(response.reason or "", 60)
                raise kind(f"{shown(address)}: the server answers {status} {reason}".rstrip())
    except (*UNREACHABLE, UnicodeError) as error:
        if isinstance(_innermost(error), NO_HOST):
            raise InputError(f"{shown(address)}: has no host that can be looked up") from None
        raise _broken(address, error, part) from None
    return sha256_of(part)


def _answer(session: Any, address: str, headers: dict[str, str]) -> Any:
    """The answer's head, redirects followed; its body is still to be read.

    Raises:
        InputError: a redirect leads where nothing is fetched from.
    """
    verify = True if "REQUESTS_CA_BUNDLE" in os.environ else os.environ.get("SSL_CERT_FILE", True)
    place = address
    for _ in range(MOST_REDIRECTS):
        ask = partial(session.get, place, headers=headers, verify=verify, timeout=TIMEOUT_S)
        response = _within(HEAD_S, partial(ask, stream=True, allow_redirects=False))
        if not response.is_redirect:
            return response
        response.close()
        before, place = place, urllib.parse.urljoin(place, response.headers["Location"])
        _check_redirect(address, before, place)
    raise InputError(f"{shown(address)}: redirects more than {MOST_REDIRECTS} times")


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """What `call` returns, given so long: a server can send its headers byte by byte.

    Raises:
        TimeoutError: it takes longer; it is left to itself.
    """
    returned: Future[Any] = Future()

    def run() -> None:
        try:
            returned.set_result(call())
        except Exception as error:  # raised below, in the thread that waits
            returned.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    if not wait([returned], seconds).done:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return returned.result()


def _broken(address: str, error: Exception, part: Path) -> CustomGazeError:
    have = part.stat().st_size if part.is_file() else 0
    kept = f"; {have} bytes are kept, run this again to resume" if have else "; run this again"
    reason = printable(_innermost(error), 200)
    query = urllib.parse.urlsplit(address).query
    if query and query in reason:
        reason = type(error).__name__
    return CustomGazeError(f"{shown(address)}: the connection failed ({reason}){kept}")


def _innermost(error: BaseException) -> BaseException:
    """The error that requests and urllib3 wrapped; theirs repeat the address."""
    for inner in (getattr(error, "reason", None), *error.args):
        if isinstance(inner, BaseException):
            return _innermost(inner)
    return error


def _save(response: Any, part: Path, start: int, shown: str) -> None:
    """Append the answer's body to the first `start` bytes of `part`."""
    announced = response.headers.get("Content-Length", "")
    total = start + int(announced) if re.fullmatch("[0-9]{1,15}", announced) else None
    have = start
    what, nothing = f"download {shown.rpartition('/')[2]}", tuple[bytes]()
    began = time.monotonic()
    with (
        part.open("r+b" if start else "wb") as file,
        bar(nothing, what, total, "bytes") as shown_bar,
    ):
        file.truncate(start)
        file.seek(start)
        shown_bar.update(start)
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
            have += len(chunk)
            if max(have, total or 0) > MOST_MODEL_BYTES:
                part.unlink()
                raise InputError(
                    f"{shown}: is larger than {MOST_MODEL_BYTES >> 20} MiB; not a model"
                )
            file.write(chunk)
            shown_bar.update(len(chunk))
            seconds = time.monotonic() - began
            if seconds > PATIENCE_S and have - start < SLOWEST_BYTES_PER_S * seconds:
                raise TimeoutError(f"less than {SLOWEST_BYTES_PER_S} bytes a second")
    if total is not None and have < total:
        raise ConnectionError(f"it ended after {have} of {total} bytes")
