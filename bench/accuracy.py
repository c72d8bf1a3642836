"""What calibration gains: error on simulated persons that nothing was trained or chosen on.

    python bench/accuracy.py [--base embedded easy PATH …] [--persons 10] [--targets 9,25] [--quick]

Each person has two sessions, drawn and prepared as a user's would be. Of the first day's 120
targets 20 are held out for testing; of the others k are calibrated on, spread over the screen, by
every method alike; those that validate set a fifth of the k aside themselves. Tested are the
held-out targets and the whole second session, of another day.

In the folder --work lie accuracy.md, accuracy.json and accuracy.png, rewritten after each person,
and the results so far: the same command goes on where it was stopped.
"""

import argparse
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from accuracy_bases import base_network
from accuracy_methods import METHODS, Case, measured, views_of
from accuracy_report import draw, markdown, summary
from accuracy_results import Clock, Results
from accuracy_world import (
    QUICK,
    SAMPLES_AN_EPOCH,
    Settings,
    check_targets,
    person_seeds,
    prepared_person,
)
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.files import write_json, write_text
from custom_gaze.models.devices import pick_device

DEFAULT_WORK = Path(".dvc/tmp/custom-gaze/accuracy")
THREADS = 2  # more do not help one image at a time
PERSONS = 10


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="accuracy", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = result.add_argument
    add("--base", nargs="+", default=["embedded"], help="embedded, easy or a file; each a section")
    add("--persons", metavar="N", help=f"the first N of the bench's; default: {PERSONS}")
    add("--seeds", metavar="S,S,…", help="these persons instead")
    add("--targets", metavar="K,K,…", help="default: 9,16,25,50,100")
    add("--samples", metavar="N", help="augmented samples of each training frame; default: 10")
    add("--methods", metavar="M,M,…", help=f"default: all of {', '.join(METHODS)}")
    add(
        "--quick",
        action="store_true",
        help="2 persons, 9 and 16 targets, short sessions and training",
    )
    add("--tuning", action="store_true", help="persons for choosing settings, not for reporting")
    add("--work", type=Path, default=DEFAULT_WORK, help=f"default: {DEFAULT_WORK}")
    return result


@dataclass(frozen=True)
class Plan:
    """What one command asks for."""

    bases: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Settings
    work: Path


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan in the command line.

    Raises:
        InputError: a value is no number or out of its range.
    """
    chosen: dict[str, Any] = dict(QUICK) if arguments.quick else {}
    if arguments.targets is not None:
        chosen["targets"] = tuple(sorted(set(_numbers(arguments.targets, "--targets"))))
    if arguments.samples is not None:
        (chosen["samples"],) = _numbers(arguments.samples, "--samples", most=1)
        if not 1 <= chosen["samples"] <= 1000:
            raise InputError(f"--samples is {chosen['samples']}; choose from 1 to 1000")
    if arguments.methods is not None:
        chosen["methods"] = _methods(arguments.methods)
    settings = Settings("tuning" if arguments.tuning else "bench", **chosen)
    check_targets(settings)
    count = 2 if arguments.quick else PERSONS
    if arguments.persons is not None:
        (count,) = _numbers(arguments.persons, "--persons", most=1)
    seeds = None if arguments.seeds is None else _numbers(arguments.seeds, "--seeds")
    bases = tuple(dict.fromkeys(arguments.base))
    if len({Path(name).name for name in bases}) < len(bases):
        raise InputError("--base: two files have the same name, which is their section's title")
    return Plan(bases, person_seeds(settings.purpose, count, seeds), settings, arguments.work)


def _methods(text: str) -> tuple[str, ...]:
    named = {name.strip() for name in text.split(",")}
    if unknown := sorted(named - METHODS.keys()):
        raise InputError(f"--methods names {unknown[0]!r}; known are {', '.join(METHODS)}")
    return tuple(name for name in METHODS if name in named)


def _numbers(text: str, option: str, most: int | None = None) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts) or (most and len(parts) > most):
        wanted = "a whole number" if most == 1 else "whole numbers with commas between them"
        raise InputError(f"{option} {text!r}: {wanted} needed")
    return [int(part) for part in parts]


def run(plan: Plan) -> str:
    """Measure what is missing, write the report, and return it as Markdown.

    Raises:
        CustomGazeError: the folder cannot be written, or a base network or a person's frames
            cannot be used.
    """
    torch.set_num_threads(min(THREADS, torch.get_num_threads()))
    _check_writable(plan.work)
    device = pick_device("auto", "train.device")
    bases = {
        Path(name).name: Results(base_network(name, plan.work), plan.settings, plan.work)
        for name in plan.bases
    }
    pairs = [(seed, name) for seed in plan.seeds for name in bases]
    todo = [(seed, name) for seed, name in pairs if bases[name].missing(seed)]
    print(f"{len(todo)} of {len(pairs)} calibrated persons to do", flush=True)
    clock = Clock()

    def left() -> str:
        return clock.left([bases[name].missing(seed) for seed, name in todo])

    try:
        for number, (seed, name) in enumerate(todo, start=1):
            _measure_person(plan, bases[name], seed, device, clock)
            done = f"{number} of {len(todo)} done in {clock.spent()}, {left()}"
            print(f"person {seed}, {name} base: {done}", flush=True)
            _report(plan, bases, device, clock)
    except KeyboardInterrupt:
        print(f"\nstopped; what is done is kept, the same command goes on: {left()}", flush=True)
        raise
    return _report(plan, bases, device, clock)


def _measure_person(
    plan: Plan, results: Results, seed: int, device: torch.device, clock: Clock
) -> None:
    """Calibrate one person on one base network at the k that are missing; keep the results."""
    base, targets = results.base, results.missing(seed)
    if not targets:  # another process with the same folder has been quicker
        return
    unfinished = plan.work / "unfinished"
    start = time.monotonic()
    person = prepared_person(seed, plan.settings, plan.work)
    views = views_of(person, base, plan.settings, targets, device, unfinished / "features")
    clock.per_person.append(time.monotonic() - start)
    for k in targets:
        start = time.monotonic()
        state = unfinished / f"{results.weights}-{results.name(seed, k)}.pt"
        outcome = measured(Case(person, base, views, plan.settings, k, device, state))
        seconds = time.monotonic() - start
        clock.per_target.append(seconds / k)
        results.write(seed, k, {**outcome, "seconds": round(seconds, 1)})
    shutil.rmtree(unfinished, ignore_errors=True)


def _report(plan: Plan, bases: Mapping[str, Results], device: torch.device, clock: Clock) -> str:
    """Write accuracy.md, .json and .png of the persons that are complete; returns the Markdown."""
    results = {name: of_base.read(plan.seeds) for name, of_base in bases.items()}
    sections = {name: summary(some) for name, some in results.items() if some}
    facts = _facts(plan, bases, device, sections, clock)
    page = markdown(sections, facts)
    content = {"facts": facts, "settings": asdict(plan.settings), "bases": sections}
    write_text(plan.work / "accuracy.md", page)
    write_json(plan.work / "accuracy.json", {**content, "results": results})
    if sections:
        draw(sections, plan.work / "accuracy.png")
    return page


def _facts(
    plan: Plan,
    bases: Mapping[str, Results],
    device: torch.device,
    sections: Mapping[str, dict[str, Any]],
    clock: Clock,
) -> list[str]:
    settings = plan.settings
    done = [len(sections[name]["persons"]) if name in sections else 0 for name in bases]
    purpose = "" if settings.purpose == "bench" else f" of the {settings.purpose} range"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return [
        f"{' and '.join(map(str, done))} of {len(plan.seeds)} persons{purpose} done, seeds "
        f"{', '.join(map(str, plan.seeds))}; {_grid(settings.grid)} targets on the first day, "
        f"{settings.held_out} of them held out, {_grid(settings.other_day_grid)} on the other day, "
        f"frames of each: {settings.frames_per_target}",
        f"fine-tuned: up to {settings.epochs} epochs, {settings.samples} augmented samples of each "
        f"training frame, fewer where an epoch would exceed {SAMPLES_AN_EPOCH} samples",
        *(f"{name} base: {r.base.trunk}, weights {r.weights}" for name, r in bases.items()),
        f"{platform.machine()}, {os.cpu_count()} CPUs, computed on {name}, "
        f"Python {platform.python_version()}, torch {torch.__version__}; "
        f"the last run took {clock.spent()}",
    ]


def _grid(grid: tuple[int, int]) -> str:
    return f"{grid[0]}×{grid[1]}"


def _check_writable(work: Path) -> None:
    try:
        work.mkdir(parents=True, exist_ok=True)
        probe = work / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"--work {work}: cannot be written ({error.strerror}); name another folder"
        ) from None


def main(argv: list[str] | None = None) -> int:
    """0: done; 2: bad input; 1: a failure of ours; 130: interrupted."""
    try:
        print(run(plan_of(parser().parse_args(argv))), end="")
    except CustomGazeError as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
