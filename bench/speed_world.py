"""What the speed benches share: memory of a process, frames in quantity, tables, exit codes."""

import os
import platform
import resource
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError

MIB = 2**20
SAMPLED_EVERY_S = 0.02


def peak_mib(who: int = resource.RUSAGE_SELF) -> float:
    """The largest resident memory so far, of this process or, with RUSAGE_CHILDREN, of its largest
    finished child, in MiB.

    Linux hands a process's peak on to the programs it starts; /proc knows this program's own.
    """
    status = Path("/proc/self/status")
    if who == resource.RUSAGE_SELF and status.exists():
        return _status_mib(status.read_text(), "VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(who).ru_maxrss * unit / MIB


def _status_mib(text: str, key: str) -> float:
    (line,) = (line for line in text.splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) / 1024


@dataclass
class Peak:
    """The largest of the samples, in MiB: all resident memory, the process's own part of it, and
    the pages of files that are mapped, which the system may drop whenever it needs room."""

    all_mib: float = 0.0
    own_mib: float = 0.0
    mapped_mib: float = 0.0

    def sample(self) -> None:
        """Look at this process now. Where there is no /proc, only `all_mib` is known."""
        status = Path("/proc/self/status")
        if not status.exists():
            self.all_mib = peak_mib()
            return
        text = status.read_text()
        self.all_mib = max(self.all_mib, _status_mib(text, "VmRSS"))
        self.own_mib = max(self.own_mib, _status_mib(text, "RssAnon"))
        self.mapped_mib = max(self.mapped_mib, _status_mib(text, "RssFile"))


@contextmanager
def watched() -> Iterator[Peak]:
    """Sample this process's memory from a thread until the block ends."""
    peak, ended = Peak(), threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLED_EVERY_S):
            peak.sample()

    thread = threading.Thread(target=watch, daemon=True)
    peak.sample()
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
        peak.sample()


def even(count: int, total: int) -> list[int]:
    """`count` of the numbers 0 … total - 1, evenly spaced, the first one 0."""
    return [number * total // count for number in range(count)]


def grid_of(targets: int) -> tuple[int, int]:
    """(columns, rows) of a grid with exactly so many targets, as square as can be."""
    rows = next(n for n in range(int(targets**0.5), 0, -1) if targets % n == 0)
    return targets // rows, rows


def machine() -> str:
    """One line about the machine and Python, without its name."""
    return f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column to the left, the others to the right."""
    rule = ["---", *["--:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def exit_code(program: str, work: Callable[[], None]) -> int:
    """Do a bench's work. 0: done; 2: bad input; 1: a failure of ours; 130: interrupted."""
    try:
        work()
    except CustomGazeError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0
