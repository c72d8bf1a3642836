"""Messages over a pipe: one line of JSON, then as many bytes as its `bytes` says.

Used on both sides; over there only the standard library is at hand.
"""

import json
from typing import IO, Any

PAYLOAD = 1 << 16  # the most bytes one message carries: a slow line still shows life
_LONGEST_LINE = 1 << 26

Header = dict[str, Any]


class BrokenFrame(Exception):
    """What came is no message: something else wrote into the pipe, or it was cut."""


def write_frame(stream: IO[bytes], header: Header, payload: bytes = b"") -> int:
    """Write one message and flush; return its length in bytes."""
    line = json.dumps({**header, "bytes": len(payload)}).encode() + b"\n"
    stream.write(line + payload)
    stream.flush()
    return len(line) + len(payload)


def read_frame(stream: IO[bytes]) -> tuple[Header, bytes, int] | None:
    """The next message (header, payload, its length in bytes), or None where the pipe has ended.

    Raises:
        BrokenFrame: it ended within a message, or what came is no message.
    """
    line = stream.readline(_LONGEST_LINE)
    if not line:
        return None
    try:
        header = json.loads(line)
        size = header["bytes"]
    except (ValueError, TypeError, KeyError):
        raise BrokenFrame(line[:200].decode(errors="replace").strip()) from None
    if not isinstance(size, int) or not 0 <= size <= PAYLOAD:
        raise BrokenFrame(f"a message of {size!r} bytes")
    payload = stream.read(size)
    if len(payload) != size:
        raise BrokenFrame("the connection ended within a message")
    return header, payload, len(line) + size
