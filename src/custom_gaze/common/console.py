"""The terminal: what is said there and in which characters, progress, tables, signals."""

import codecs
import io
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import printable, visible

if TYPE_CHECKING:
    from tqdm import tqdm

Item = TypeVar("Item")

READABLE = "custom_gaze.readable"  # our way to encode what an encoding lacks
_ASCII = {
    **{"→": "->", "↔": "<->", "°": " deg", "–": "-", "−": "-", "…": "...", "·": "|", "’": "'"},
    **{"×": "x", "±": "+/-", "²": "^2", "³": "^3", "≥": ">=", "≤": "<=", "√": "sqrt", "∞": "inf"},
    **{"σ": "sigma", "│": "|", "─": "-", "┌": "+", "┐": "+", "└": "+", "┘": "+", "▁": "_"},
}


def readable_streams() -> None:
    """Let standard output and error stand in ASCII for what their encoding lacks: -> for →.

    A terminal of another alphabet, LANG=C in a cron job or PYTHONIOENCODING=ascii must not end a
    command half way. Where one of them is closed (2>&-), what is said goes nowhere.
    """
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    codecs.register_error(READABLE, _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=READABLE)


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    told = (_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking)
    return "".join(told), error.end


def say(*lines: object) -> None:
    """Print lines, which may hold foreign words, to standard output: each of them stays one line.

    Raises:
        CustomGazeError: standard output cannot be written.
        BrokenPipeError: its reader has seen enough.
    """
    try:
        print("\n".join(visible(str(line)) for line in lines))
    except OSError as error:
        raise _not_written(error) from None


def warn(line: object) -> None:
    """The same for a remark, to standard error; where nobody is left to read it, it is lost."""
    try:
        print(visible(str(line)), file=sys.stderr, flush=True)
    except OSError:
        leave(sys.stderr)


def bar(
    items: Iterable[Item],
    what: str,
    total: int | None = None,
    unit: str = "frames",
    done: int = 0,
    shown: bool = True,
    leave: bool = True,
) -> "tqdm[Item]":
    """Iterate over `items`; after two seconds a bar appears on standard error, beginning at `done`,
    unless it is not to be `shown`. At its end it is left there, or not: one of several within
    another bar, which is shown on a terminal alone, for only there can it be taken away.

    `set_postfix_str(text, False)` adds figures that appear with the next redrawing. Where nobody
    watches (a log file, another machine), it prints a line now and then instead of redrawing
    itself ten times a second.
    """
    from tqdm import tqdm

    return tqdm(
        items,
        desc=printable(what, 60),
        total=total,
        disable=not shown or not (leave or sys.stderr.isatty()),
        leave=leave,
        initial=done,
        unit=f" {unit}",
        delay=2.0,
        mininterval=0.2 if sys.stderr.isatty() else 5.0,
        dynamic_ncols=True,
        file=sys.stderr,
    )


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text: the first column to the left, the others to the right.

    Ours, since tabulate's columns are two characters wider than their titles: too wide for these.
    """
    columns = list(zip(header, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]

    def line(cells: Sequence[str]) -> str:
        _, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        return "  ".join([cells[0].ljust(widths[0]), *others]).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(header), rule, *(line(row) for row in rows)])


def flush() -> None:
    """Have all that was said written.

    Raises:
        CustomGazeError, BrokenPipeError: as `say`.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        raise _not_written(error) from None


def leave(stream: io.TextIOBase | object) -> None:
    """Write the rest of a stream to nowhere: at its end Python would try again, and complain."""
    if isinstance(stream, io.TextIOWrapper):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _not_written(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return error
    leave(sys.stdout)
    return CustomGazeError(f"standard output cannot be written ({error.strerror})")


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP, as an exception: whatever tidies up after Ctrl-C does so here too."""


class StopSignals:
    """While it is entered, SIGTERM and SIGHUP raise `Stopped` in the main thread.

    A second one is ignored, so that the tidying ends; signals that were ignored (nohup) stay so.
    """

    def __init__(self) -> None:
        self.name = ""
        self._before: dict[int, object] = {}

    @property
    def code(self) -> int:
        """128 and the number of the signal that came; 0 where none did."""
        return 128 + signal.Signals[self.name].value if self.name else 0

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            owner = os.getpid()

            def stop(number: int, _: FrameType | None) -> None:
                if os.getpid() != owner:  # a worker that was forked off: it only has to go
                    signal.signal(number, signal.SIG_DFL)
                    os.kill(os.getpid(), number)
                    return
                for other in self._before:
                    signal.signal(other, signal.SIG_IGN)
                self.name = signal.Signals(number).name
                raise Stopped

            for number in (signal.SIGTERM, signal.SIGHUP):  # Ctrl-C is Python's own
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave us
