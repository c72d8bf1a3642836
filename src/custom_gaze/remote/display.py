"""How runs, logs and figures of the far machine are shown here."""

import re
from collections.abc import Callable
from datetime import datetime

from custom_gaze.common.console import flush, say
from custom_gaze.common.untrusted import printable, visible

# What `dvc exp run --temp` says of every output that is not there yet, and how to apply a result.
_NOISE = ("No file hash info found for", "To apply the results of an", "dvc exp apply <exp>")

_LONGEST_LINE = 1 << 16
_LONGEST_SHOWN = 1000
# 3/50 [00:35<03:35, 5.0s/ epochs, loss 9.10]; short, so that no text makes the search long
_EPOCHS = re.compile(r"(\d{1,9})/(\d{1,9}) \[[^\]\r\n]{0,100}epochs?(?:, ([^\]\r\n]{0,100}))?\]")


def in_bytes(count: float) -> str:
    """E.g. 812 B, 4.1 kB, 95.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


class Screen:
    """Shows a log piece by piece; progress that redraws its line becomes a line of its own.

    `seen` is how many bytes of it have come.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show, self._rest, self.seen = show, b"", 0

    def write(self, chunk: bytes) -> None:
        self.seen += len(chunk)
        *lines, self._rest = re.split(rb"[\r\n]", self._rest + chunk)
        if len(self._rest) > _LONGEST_LINE:  # it may never end
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            text = readable(line)
            if text and not any(noise in text for noise in _NOISE):
                self._show(text)

    def end(self) -> None:
        self.write(b"\n")


def readable(line: bytes) -> str:
    """A line of a log without colours, other control characters escaped: it is not from here."""
    text = re.sub(r"\x1b\[[0-9;?]{0,20}[A-Za-z]", "", line.decode(errors="replace"))
    return visible(text.expandtabs(4).rstrip()[:_LONGEST_SHOWN])


def gpu_line(entry: str) -> str:
    """One line of nvidia-smi; where memory is shared with the CPU it names none."""
    name, used, total, load = (part.strip() for part in [*entry.split(","), "", "", ""][:4])
    memory = f"{used} of {total} MiB" if used.isdigit() and total.isdigit() else "shared memory"
    return f"{name}, {memory}, {load if load.isdigit() else '?'} % load"


def progress(tail: bytes) -> str:
    """Stage and epoch, read from the end of a log."""
    text = tail.decode(errors="replace")
    stages = re.findall(r"Running stage '([^'\r\n]{1,100})'", text)
    found = f"stage {stages[-1]}" if stages else ""
    if found.startswith("stage train"):
        epochs = re.findall(_EPOCHS, text)
        if epochs:
            done, total, figures = epochs[-1]
            found += f", epoch {done} of {total}" + (f", {figures}" if figures else "")
    return printable(found)


def clock(seconds: float) -> str:
    """A time of day here, with the date where it is another day."""
    then = datetime.fromtimestamp(seconds)
    today = then.date() == datetime.now().date()
    return then.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")


def print_now(text: str) -> None:
    """Print a line at once, also into a pipe."""
    say(text)
    flush()
