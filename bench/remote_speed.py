"""What `custom-gaze remote` costs around a training: seconds, bytes, growth of the store.

    python bench/remote_speed.py [--frames 100] [--files 5000] [--repeats 3]

A far machine as the tests have it: sshd on the loopback, two homes, and instead of the pipeline one
stage that writes a model of 1.5 MB. Each command is a process of its own and counts as a whole,
Python's start included. `dvc exp run --temp` of the same stage here is what DVC alone takes: the
far machine's run has it inside.
"""

import argparse
import importlib
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from speed_world import machine, markdown

TESTS = Path(__file__).parent.parent / "tests" / "remote"
FRAME_BYTES, FILE_BYTES = 100_000, 2_000
OWN_MODEL = """
of = f"{seed} {params['sessions']}"  # each session has a model of its own
pathlib.Path("models/custom_gaze.onnx").write_bytes(random.Random(of).randbytes(1_500_000))
"""
LONGEST_S = 8 * 3600  # a hundred sessions on a machine that does other things too
_SENT = re.compile(r"sent ([0-9.]+ k?M?B), received ([0-9.]+ k?M?B)")
_FILES = re.compile(r"(\d+) of (\d+) files sent")


@dataclass(frozen=True)
class Timed:
    """One command: how long it took, what it said, by how much the far store grew in bytes."""

    seconds: float
    said: str
    grown: int

    @property
    def carried(self) -> str:
        """Its own count of files and bytes."""
        files, carried = _FILES.search(self.said), _SENT.search(self.said)
        words = [f"{files[1]} of {files[2]} files"] if files else []
        return ", ".join([*words, *([f"{carried[1]} up, {carried[2]} down"] if carried else [])])


class Bench:
    """Commands on one site; each has to succeed."""

    def __init__(self, site: Any, finish: Callable[..., tuple[int, str, str]]) -> None:
        self.site, self._finish = site, finish
        self._seed = 0

    def remote(self, *words: str) -> Timed:
        before, started = self.stored(), time.perf_counter()
        said = self.finish(self.site.start(*words))
        return Timed(time.perf_counter() - started, said, self.stored() - before)

    def finish(self, command: Any) -> str:
        """What a command has said when it has ended well."""
        code, said, errors = self._finish(command)
        if code:
            raise SystemExit(f"{' '.join(command.args)}: {errors}")
        return said

    def train(self, session: str) -> Timed:
        """A run that nobody has had before."""
        self._seed += 1
        changes = ("-S", f"sessions=[{session}]", "-S", f"train.seed={self._seed}")
        return self.remote("train", "--name", f"run-{self._seed}", *changes)

    def dvc_alone(self, session: str) -> float:
        """Seconds of the same experiment with DVC here, without another machine."""
        self._seed += 1
        changes = ("-S", f"sessions=[{session}]", "-S", f"train.seed={self._seed}")
        started = time.perf_counter()
        self.site.dvc("exp", "run", "--temp", *changes, "dvc.yaml")
        return time.perf_counter() - started

    def stored(self) -> int:
        store = self.site.far_folder / "store"
        return sum(path.stat().st_size for path in store.rglob("*") if path.is_file())


@contextmanager
def benched(train_s: float = 0.0) -> Iterator[Bench]:
    """A far machine and a project that know each other, gone afterwards.

    `train_s`: so long the stage waits, as if it trained.
    """
    sys.path.append(str(TESTS))
    tests: Any = importlib.import_module("remote_site")
    tests.TINY_STAGE += OWN_MODEL + f"\ntime.sleep({train_s})\n"
    with (
        tempfile.TemporaryDirectory(prefix="remote-speed-") as folder,
        tests.far_site(Path(folder)) as site,
    ):
        yield Bench(site, partial(tests.finish, seconds=LONGEST_S))


def measure(bench: Bench, frames: int, files: int, repeats: int) -> list[list[str]]:
    """The table's rows."""
    site, rows = bench.site, []

    def row(what: str, runs: list[Timed]) -> None:
        seconds = statistics.median(run.seconds for run in runs)
        grown = runs[-1].grown / 1e6
        rows.append([what, f"{seconds:.1f}", runs[-1].carried, f"{grown:.1f}"])

    firsts = []
    for number in range(repeats):
        content = {f"img_{n:04d}.jpg": os.urandom(FRAME_BYTES) for n in range(frames)}
        site.add_session(f"frames{number}", content)
        firsts.append(bench.train(f"frames{number}"))
    row(f"`remote train`, {frames} new frames of 100 kB", firsts)
    row("the same session, another parameter", [bench.train("frames0") for _ in range(repeats)])
    site.add_session("more", {**content, "img_new.jpg": os.urandom(FRAME_BYTES)})
    row("the last session and one frame more", [bench.train("more")])
    alone = statistics.median(bench.dvc_alone("frames0") for _ in range(repeats))
    rows.append(["of each: `dvc exp run --temp` of this stage, here", f"{alone:.1f}", "", ""])
    site.add_session("many", {f"f{n:05d}.json": os.urandom(FILE_BYTES) for n in range(files)})
    row(f"`remote train`, {files} new files of 2 kB", [bench.train("many")])
    row("the same, another parameter", [bench.train("many")])
    alone = bench.dvc_alone("many")
    rows.append(["of both: `dvc exp run --temp` of this stage, here", f"{alone:.1f}", "", ""])
    row("`remote status`", [bench.remote("status") for _ in range(repeats)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with benched() as bench:
        load = os.getloadavg()[0]
        rows = measure(bench, asked.frames, asked.files, asked.repeats)
    print(f"{machine()}, loopback, load {load:.1f} before, {os.getloadavg()[0]:.1f} after\n")
    print(markdown(["", "s", "carried", "store + MB"], rows))


if __name__ == "__main__":
    main()
