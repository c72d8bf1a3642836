"""A hundred sessions queued on SLURM with one, two and four places: what each costs.

    python bench/remote_queue.py [--sessions 100] [--slots 1 2 4] [--train 0]

The far machine, its stage and its project are those of bench/remote_speed.py; SLURM is a real one
in a folder of its own, as in the tests (Debian: apt-get install slurm-wlm munge). `--train` lets
the stage wait for so many seconds, as if a graphics card worked: only then do more places help on
a machine of few processors. Everything counts: sending, `dvc exp run` of each session in a working
copy of its own, and the way back of all experiments. Each row is one `custom-gaze remote queue`;
"overhead" is what a session keeps a place for beyond its training. "First one here": when the first
experiment has ended there, `custom-gaze remote fetch` brings it while the others go on.
"""

import argparse
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote_speed import Bench, benched
from speed_world import machine, markdown

SITE = Path(__file__).parent.parent / "tests"
SETTINGS = "engine: slurm\nsbatch: --time=60\n"
HEADER = [
    *("places", "all, s", "sending, s", "the runs there, s", "the way back, s"),
    *("first one here, s", "overhead a session, s", "store + kB a session", "came once"),
]


@dataclass(frozen=True)
class Queued:
    """One queue: seconds since its start of what was seen, and what it left."""

    started: float
    first_there: float
    last_there: float
    first_back: float
    ended: float
    grown: int
    once: int


def queue(bench: Bench, sessions: list[str], slots: int) -> Queued:
    """All sessions through SLURM, which has so many processors and lets so many run at once."""
    site, run = bench.site, f"slots{slots}"
    words = ("-j", str(slots), "--name", run, "-S", f"train.seed={slots}")
    before, began = bench.stored(), time.time()
    folder = site.far_folder / "runs" / run
    client = site.start("queue", *sessions, *words)
    try:
        while not any(folder.glob("result-*.json")) and client.poll() is None:
            time.sleep(0.2)
        if client.poll():
            bench.finish(client)  # says why it failed
        bench.remote("fetch", run)
        first_back = time.time() - began
        bench.finish(client)
    finally:
        client.kill()
    ended = time.time() - began
    results = [json.loads(path.read_text())["ended"] for path in folder.glob("result-*.json")]
    started = json.loads((folder / "run.json").read_text())["started"]
    came = site.experiments()
    there = site.git("--git-dir", str(site.far_folder / "project" / ".git"), "for-each-ref")
    names = [f"{run}-{session}" for session in sessions]
    once = sum(came.count(name) == there.count(f"/{name}\n") == 1 for name in names)
    grown = bench.stored() - before
    first, last = min(results) - began, max(results) - began
    return Queued(started - began, first, last, first_back, ended, grown, once)


def row(queued: Queued, slots: int, sessions: int, train: float) -> list[str]:
    seconds = [
        *(queued.ended, queued.started, queued.last_there - queued.started),
        *(queued.ended - queued.last_there, queued.first_back),
    ]
    overhead = queued.ended * slots / sessions - train
    grown = queued.grown / sessions / 1e3
    once = f"{queued.once} of {sessions}"
    return [str(slots), *(f"{s:.0f}" for s in seconds), f"{overhead:.1f}", f"{grown:.0f}", once]


def looks(bench: Bench) -> list[list[str]]:
    """What a user looks at, with all those experiments there."""
    site, found = bench.site, []

    def timed(what: str, call: Any, *words: str) -> None:
        began = time.perf_counter()
        call(*words)
        found.append([what, f"{time.perf_counter() - began:.1f}"])

    timed("`dvc exp show`", site.dvc, "exp", "show", "--csv")
    timed("`dvc exp show`, again", site.dvc, "exp", "show", "--csv")
    timed("`custom-gaze remote status`", bench.remote, "status")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--train", type=float, default=0.0)
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # SLURM and sshd end with us
    sys.path.append(str(SITE))
    tests: Any = importlib.import_module("slurm_site")
    rows = []
    with benched(asked.train) as bench:
        site = bench.site
        names = [f"s{number:03d}" for number in range(asked.sessions)]
        for name in names:
            site.add_session(name, {"img_0.jpg": os.urandom(100_000)})
        site.git("push", "-q", "jowestdgxe", "HEAD:main")
        for slots in asked.slots:
            with (
                tempfile.TemporaryDirectory(prefix="remote-queue-") as folder,
                tests.slurm(Path(folder), processors=slots) as running,
            ):
                conf = running.environment["SLURM_CONF"]
                site.machine.log_in_with("sh", before=f"export SLURM_CONF={conf}")
                (site.project / "remote.yaml").write_text(SETTINGS)
                queued = queue(bench, names, slots)
                rows.append(row(queued, slots, len(names), asked.train))
                print(rows[-1], file=sys.stderr, flush=True)
                seen = looks(bench)
        count = len(site.experiments())
    load = os.getloadavg()[0]
    print(
        f"{machine()}, load {load:.1f}; {asked.sessions} sessions, a stage of {asked.train:g} s\n"
    )
    print(markdown(HEADER, rows))
    print(f"\n{markdown([f'with {count} experiments', 's'], seen)}")


if __name__ == "__main__":
    main()
