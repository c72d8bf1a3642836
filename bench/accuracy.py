"""What calibration gains: error on persons that nothing was trained or chosen on.

    python bench/accuracy.py [--base embedded easy PATH …] [--persons 10] [--targets 9,25] [--quick]
    python bench/accuracy.py --sessions anna=monday,tuesday bert=week1 --targets 9,25

Simulated persons have two sessions each, drawn and prepared as a user's would be; of the first
day's 120 targets 20 are held out for testing. Of real people, --sessions names sessions of a
project (--project), grouped by whom they are of: the first of each is calibrated on, a fifth of its
targets held out, and the others are only tested on. Of the targets that are left k are calibrated
on, spread over the screen, by every method alike; those that validate set a fifth of the k aside
themselves. Tested are the held-out targets and the person's other sessions whole.

In the folder --work lie accuracy.md, accuracy.json and accuracy.png, rewritten after each person,
and the results so far: the same command goes on where it was stopped. A calibration that fails is
named, and the others go on. With --executor they run in processes of their own, on this machine or
as jobs of SLURM (which need submitit).
"""

import argparse
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic_core import to_jsonable_python

from accuracy_bases import base_network
from accuracy_jobs import LOCAL, SLURM, Elsewhere, Job, jobs_of, run_elsewhere, run_here
from accuracy_methods import METHODS
from accuracy_people import PEOPLE, People, people_of
from accuracy_person import SAMPLES_AN_EPOCH, Settings, World
from accuracy_report import Summary, draw, markdown, summary
from accuracy_results import Clock, Results
from accuracy_world import QUICK, DemoWorld, person_seeds
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.files import write_json, write_text
from custom_gaze.models.devices import pick_device

DEFAULT_WORK = Path(".dvc/tmp/custom-gaze/accuracy")
PERSONS = 10


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="accuracy", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = result.add_argument
    add("--base", nargs="+", default=["embedded"], help="embedded, easy or a file; each a section")
    add("--persons", metavar="N", help=f"the first N of the bench's; default: {PERSONS}")
    add("--seeds", metavar="S,S,…", help="these persons instead")
    add(
        "--sessions", nargs="+", metavar="WHO=ID,…", help="real people's, instead of simulated ones"
    )
    add(
        "--project", type=Path, default=Path(), help="whose sessions they are; default: this folder"
    )
    add("--targets", metavar="K,K,…", help="default: 9,16,25,50,100")
    add("--samples", metavar="N", help="augmented samples of each training frame; default: 10")
    add("--methods", metavar="M,M,…", help=f"default: all of {', '.join(METHODS)}")
    add(
        "--quick",
        action="store_true",
        help="2 persons, 9 and 16 targets, short sessions and training",
    )
    add("--tuning", action="store_true", help="persons for choosing settings, not for reporting")
    add("--executor", choices=[LOCAL, SLURM], help="default: in this process, one by one")
    add("--at-once", default="2", metavar="N", help="jobs of the executor; default: 2")
    add("--minutes", default="240", metavar="N", help="that one job may take; default: 240")
    add("--slurm", nargs="+", default=[], metavar="KEY=VALUE", help="sbatch's, as partition=gpu")
    add("--work", type=Path, default=DEFAULT_WORK, help=f"default: {DEFAULT_WORK}")
    return result


@dataclass(frozen=True)
class Plan:
    """What one command asks for."""

    bases: tuple[str, ...]
    world: World
    settings: Settings
    work: Path
    elsewhere: Elsewhere | None  # None: in this process


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan in the command line.

    Raises:
        InputError: a value is no number or out of its range, or two options exclude each other.
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
    bases = tuple(dict.fromkeys(arguments.base))
    if len({Path(name).name for name in bases}) < len(bases):
        raise InputError("--base: two files have the same name, which is their section's title")
    world = _world(arguments, chosen)
    return Plan(bases, world, world.settings, arguments.work, _elsewhere(arguments))


def _world(arguments: argparse.Namespace, chosen: dict[str, Any]) -> DemoWorld | People:
    if arguments.sessions is not None:
        for name in ("persons", "seeds"):
            if getattr(arguments, name) is not None:
                raise InputError(f"--{name} is of simulated persons; --sessions names real ones")
        people = people_of(arguments.sessions)
        return People(arguments.project.resolve(), people, Settings(PEOPLE, **chosen))
    settings = Settings("tuning" if arguments.tuning else "bench", **chosen)
    count = 2 if arguments.quick else PERSONS
    if arguments.persons is not None:
        (count,) = _numbers(arguments.persons, "--persons", most=1)
    seeds = None if arguments.seeds is None else _numbers(arguments.seeds, "--seeds")
    return DemoWorld(person_seeds(settings.purpose, count, seeds), settings)


def _elsewhere(arguments: argparse.Namespace) -> Elsewhere | None:
    if arguments.executor is None:
        return None
    (at_once,) = _numbers(arguments.at_once, "--at-once", most=1)
    (minutes,) = _numbers(arguments.minutes, "--minutes", most=1)
    if not (1 <= at_once <= 1000 and 1 <= minutes <= 100_000):
        raise InputError("--at-once goes from 1 to 1000, --minutes from 1 to 100000")
    pairs = [word.partition("=") for word in arguments.slurm]
    if wrong := [word for word in arguments.slurm if not word.partition("=")[2]]:
        raise InputError(f"--slurm {wrong[0]!r}: write KEY=VALUE, as in partition=gpu")
    return Elsewhere(arguments.executor, at_once, minutes, {key: value for key, _, value in pairs})


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


def run(plan: Plan) -> tuple[str, list[str]]:
    """Measure what is missing and write the report; returns it as Markdown, and what has failed.

    Raises:
        CustomGazeError: the folder cannot be written, or a base network or a person's sessions
            are not there.
    """
    _check_writable(plan.work)
    work = plan.work.resolve()
    bases = {
        Path(name).name: Results(base_network(name, work), plan.settings, plan.world, work)
        for name in plan.bases
    }
    jobs = list(jobs_of(plan.bases, list(bases.values()), plan.world, plan.settings, work))
    total = len(plan.bases) * len(plan.world.names) * len(plan.settings.targets)
    print(f"{len(jobs)} of {total} calibrations to do", flush=True)
    clock, left, failed = Clock(), len(jobs), list[str]()

    def told(job: Job, reason: str | None) -> None:
        nonlocal left
        left, clock.done = left - 1, clock.done + 1
        said = "done" if reason is None else f"failed: {reason}"
        print(f"{job}: {said}; {clock.left(left)}", flush=True)
        if reason is not None:
            failed.append(f"{job}: {reason}")
        elif not any(results.missing(job.person) for results in bases.values()):
            _report(plan, bases, clock)

    try:
        if plan.elsewhere is None:
            run_here(jobs, told)
        elif jobs:
            run_elsewhere(jobs, plan.elsewhere, told)
    except KeyboardInterrupt:
        kept = "stopped; what is done is kept, the same command goes on"
        print(f"\n{kept}: {clock.left(left)}", flush=True)
        raise
    return _report(plan, bases, clock), failed


def _report(plan: Plan, bases: Mapping[str, Results], clock: Clock) -> str:
    """Write accuracy.md, .json and .png of the persons that are complete; returns the Markdown."""
    outcomes = {name: of_base.read() for name, of_base in bases.items()}
    sections = {name: summary(some) for name, some in outcomes.items() if some}
    every = [outcome for some in outcomes.values() for outcome in some]
    facts = [*plan.world.facts(every), *_facts(plan, bases, sections, clock)]
    page = markdown(sections, facts)
    content = {"facts": facts, "settings": asdict(plan.settings)}
    content["bases"] = {name: asdict(figures) for name, figures in sections.items()}
    content["results"] = {
        name: [outcome.model_dump(mode="json") for outcome in some]
        for name, some in outcomes.items()
    }
    write_text(plan.work / "accuracy.md", page)
    write_json(plan.work / "accuracy.json", to_jsonable_python(content))
    if sections:
        draw(sections, plan.work / "accuracy.png")
    return page


def _facts(
    plan: Plan, bases: Mapping[str, Results], sections: Mapping[str, Summary], clock: Clock
) -> list[str]:
    settings = plan.settings
    done = [len(sections[name].persons) if name in sections else 0 for name in bases]
    device = pick_device("auto", "train.device")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return [
        f"{' and '.join(map(str, done))} of {len(plan.world.names)} persons done",
        f"fine-tuned: up to {settings.epochs} epochs, {settings.samples} augmented samples of each "
        f"training frame, fewer where an epoch would exceed {SAMPLES_AN_EPOCH} samples",
        *(f"{name} base: {r.base.spec.name}, weights {r.weights}" for name, r in bases.items()),
        f"{platform.machine()}, {os.cpu_count()} CPUs, computed on {name}, "
        f"Python {platform.python_version()}, torch {torch.__version__}; "
        f"the last run took {clock.spent()}",
    ]


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
    """0: done; 2: bad input; 1: a failure of ours, or of some calibrations; 130: interrupted."""
    try:
        page, failed = run(plan_of(parser().parse_args(argv)))
        print(page, end="")
        for line in failed:
            print(f"accuracy: {line}", file=sys.stderr)
        return int(bool(failed))
    except CustomGazeError as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
