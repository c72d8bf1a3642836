"""Files from where the user says they are: a path, or an https address with its SHA-256.

A download goes to a temporary file below the project's root and stays there when the connection
breaks, so that the next try resumes it. What is complete is kept under its hash, and hashed again
every time it is used.
"""

import fcntl
import ipaddress
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any

from custom_gaze.errors import CustomGazeError, InputError
from custom_gaze.files import sha256_of, whole_file, write_text
from custom_gaze.progress import bar

DOWNLOADS_FOLDER = ".downloads"
SHA256 = re.compile(r"[0-9a-f]{64}")
TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 18
MOST_BYTES = 2 << 30  # twenty times the largest file known here


def is_address(source: str) -> bool:
    """Whether `source` is an address of any scheme, and not a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source) is not None


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
    expected = _checked_hash(sha256, source)
    if not is_address(source):
        return _copy(_local(source, root), expected, target)
    _check_address(source)
    if expected is None:
        raise InputError(f"{shown(source)}: an address needs the SHA-256 of its file beside it")
    if target.is_file() and sha256_of(target) == expected:
        return expected
    return _copy(_downloaded(source, expected, root / DOWNLOADS_FOLDER), expected, target)


def _checked_hash(sha256: str | None, source: str) -> str | None:
    if sha256 is None:
        return None
    expected = sha256.strip().lower()
    if not SHA256.fullmatch(expected):
        raise InputError(
            f"{shown(source)}: {sha256!r} is no SHA-256; expected 64 hexadecimal digits"
        )
    return expected


def _local(source: str, root: Path) -> Path:
    path = Path(source).expanduser()
    path = path if path.is_absolute() else root / path
    if not path.is_file():
        what = "is no file" if path.exists() else "not found"
        raise InputError(f"{path}: {what}; expected a path or an https address")
    return path


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
    if not parts.scheme or not parts.netloc:
        return address
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _check_address(address: str) -> None:
    try:
        parts = urllib.parse.urlsplit(address)
        scheme, host = parts.scheme, parts.hostname
    except ValueError:  # brackets that hold no IPv6 address
        scheme, host = "", None
    if host and (scheme == "https" or (scheme == "http" and _is_loopback(host))):
        return
    raise InputError(f"{shown(address)}: not an https address; only https and paths are read")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to addresses that would be accepted in params.yaml, and to no others."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


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
        CustomGazeError: the connection broke; `part` keeps what has arrived.
    """
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "custom-gaze"}
    if have:
        headers["Range"] = f"bytes={have}-"
    opener = urllib.request.build_opener(_SafeRedirects)
    request = urllib.request.Request(address, headers=headers)
    try:
        with opener.open(request, timeout=TIMEOUT_S) as response:
            _save(response, part, have if response.status == 206 else 0, shown(address))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or not have:  # 416: nothing left to send, the part is whole or wrong
            kind = InputError if error.code < 500 else CustomGazeError
            raise kind(
                f"{shown(address)}: the server answers {error.code} {error.reason}"
            ) from None
    except urllib.error.URLError as error:
        raise _broken(address, error.reason, part) from None
    except (TimeoutError, ConnectionError, HTTPException) as error:
        raise _broken(address, error, part) from None
    return sha256_of(part)


def _broken(address: str, reason: Any, part: Path) -> CustomGazeError:
    have = part.stat().st_size if part.is_file() else 0
    kept = f"; {have} bytes are kept, run this again to resume" if have else "; run this again"
    return CustomGazeError(
        f"{shown(address)}: the connection failed ({' '.join(str(reason).split())}){kept}"
    )


def _save(response: Any, part: Path, start: int, shown: str) -> None:
    """Append the answer's body to the first `start` bytes of `part`."""
    announced = response.headers.get("Content-Length", "")
    total = start + int(announced) if announced.isdigit() else None
    have = start
    what, nothing = f"download {shown.rpartition('/')[2]}", tuple[bytes]()
    with (
        part.open("r+b" if start else "wb") as file,
        bar(nothing, what, total, "bytes") as shown_bar,
    ):
        file.truncate(start)
        file.seek(start)
        shown_bar.update(start)
        for chunk in _chunks(response):
            have += len(chunk)
            if max(have, total or 0) > MOST_BYTES:
                part.unlink()
                raise InputError(f"{shown}: is larger than {MOST_BYTES >> 20} MiB; not a model")
            file.write(chunk)
            shown_bar.update(len(chunk))
    if total is not None and have < total:  # http.client ends a broken body without an error
        raise ConnectionError(f"it ended after {have} of {total} bytes")


def _chunks(response: Any) -> Iterator[bytes]:
    """The body as it arrives, so that little is lost when the connection breaks."""
    while True:
        try:
            chunk = response.read1(CHUNK_BYTES)
        except OSError as error:  # TLS and routing errors too, which are no ConnectionError
            raise ConnectionError(str(error)) from error
        if not chunk:
            return
        yield chunk
