"""Messages over a pipe: one line of JSON, then as many bytes as its `bytes` says.

Used on both sides; the agent has only the standard library at hand. What is read may come from a
machine that lies: lines, payloads and numbers have a limit.
"""

import json
from typing import IO, Any, NoReturn

PAYLOAD = 1 << 16  # the most bytes one message carries: a slow line still shows life
START = b"custom-gaze: messages follow\n"  # what the far machine's shell says before is skipped
MOST_GREETING = 1 << 16
_LONGEST_LINE = 1 << 23  # the names of 200,000 objects
_LONGEST_NUMBER = 30

Header = dict[str, Any]


class BrokenFrame(Exception):
    """What came is no message."""


class CutFrame(BrokenFrame):
    """The pipe ended within a message."""


def write_frame(stream: IO[bytes], header: Header, payload: bytes = b"") -> int:
    """Write one message and flush; return its length in bytes."""
    line = json.dumps({**header, "bytes": len(payload)}).encode() + b"\n"
    stream.write(line + payload)
    stream.flush()
    return len(line) + len(payload)


def read_frame(stream: IO[bytes]) -> tuple[Header, bytes, int] | None:
    """The next message (header, payload, its length in bytes), or None where the pipe has ended.

    Raises:
        CutFrame: it ended within a message.
        BrokenFrame: what came is no message.
    """
    line = stream.readline(_LONGEST_LINE)
    if not line:
        return None
    if not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
        raise CutFrame("the connection ended within a message")
    try:
        header = json.loads(line, parse_int=_whole_number, parse_constant=_no_number)
        size = header["bytes"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BrokenFrame(line[:200].decode(errors="replace").strip()) from None
    if type(size) is not int or not 0 <= size <= PAYLOAD:
        raise BrokenFrame(f"a message of {size!r:.40} bytes")
    payload = stream.read(size)
    if len(payload) != size:
        raise CutFrame("the connection ended within a message")
    return header, payload, len(line) + size


def _whole_number(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("a number of too many digits")
    return int(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def skip_greeting(stream: IO[bytes]) -> bytes:
    """Read up to where the messages start; return what was said before.

    A shell may greet whoever logs in (a message of the day in ~/.bashrc) before it starts anything.

    Raises:
        BrokenFrame: it has no end.
    """
    said = b""
    while len(said) < MOST_GREETING:
        line = stream.readline(4096)
        if line in (START, b""):
            return said.strip()
        said += line
    raise BrokenFrame(
        f"a greeting of more than {MOST_GREETING >> 10} kB; keep the shell there silent for logins "
        "without a terminal"
    )
