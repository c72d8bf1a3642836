"""A hundred sessions queued on SLURM with one, two and four places: what each costs.

    python bench/remote_queue.py [--sessions 100] [--slots 1 2 4] [--train 0]

The far machine, its stage and its project are those of bench/remote_speed.py; SLURM is a real one
in a folder of its own, as in the tests (Debian: apt-get install slurm-wlm munge). `--train` lets
the stage wait for so many seconds, as if a graphics card worked. Everything counts: sending, `dvc
exp run` of each session in a working copy of its own, and the way back of all experiments.
"""

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from remote_speed import Bench, Timed, benched
from speed_world import machine, markdown

SITE = Path(__file__).parent.parent / "tests"
SETTINGS = "engine: slurm\nsbatch: --time=60\n"


def queue(bench: Bench, sessions: list[str], slots: int) -> Timed:
    """All sessions through SLURM, which has so many processors and lets so many run at once."""
    sys.path.append(str(SITE))
    tests: Any = importlib.import_module("slurm_site")
    site = bench.site
    with (
        tempfile.TemporaryDirectory(prefix="remote-queue-") as folder,
        tests.slurm(Path(folder), processors=slots) as running,
    ):
        conf = running.environment["SLURM_CONF"]
        site.machine.log_in_with("sh", before=f"export SLURM_CONF={conf}")
        (site.project / "remote.yaml").write_text(SETTINGS)
        words = ("-j", str(slots), "--name", f"slots{slots}", "-S", f"train.seed={slots}")
        return bench.remote("queue", *sessions, *words)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--train", type=float, default=0.0)
    asked = parser.parse_args()
    rows = []
    with benched(asked.train) as bench:
        names = [f"s{number:03d}" for number in range(asked.sessions)]
        for name in names:
            bench.site.add_session(name, {"img_0.jpg": os.urandom(100_000)})
        bench.train(names[0])  # what all share is there
        for slots in asked.slots:
            run = queue(bench, names, slots)
            each = run.seconds * slots / len(names)
            rows.append([str(slots), f"{run.seconds:.0f}", f"{each:.1f}"])
    print(f"{machine()}; {asked.sessions} sessions, a stage of {asked.train:g} s\n")
    print(markdown(["places", "all, s", "a place for each, s"], rows))


if __name__ == "__main__":
    main()
