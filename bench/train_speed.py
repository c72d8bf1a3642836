"""The project's training beside a plain reference, on the same crops, and its memory.

    python bench/train_speed.py [--trunk resnet50|embedded|FILE] [--targets 9] [--epochs 4] …
    python bench/train_speed.py --epochs-only 3      seconds an epoch, nothing else
    python bench/train_speed.py --profile            the three largest costs of an epoch
    python bench/train_speed.py --memory 2500        memory against train.feature_memory_gb

The reference (bench/train_reference.py) is the specification taken literally: Adam at 1e-4,
batches of 16, all samples in every epoch, from the base network's head. The project trains
twice on the same samples of the same frames of a simulated person: by the same recipe from the same
head, and as it is shipped, from a probe and by a schedule of its own (`train.method: finetune`).
Each is a process of its own, and they take turns epoch by epoch, so that what else the machine does
slows all of them. Seconds count a side's own turns, from after its imports; the project's include
its pass through the base network, its closed forms and its features.

The default, ResNet-50 with 9 targets of one frame each, takes about 15 minutes on 2 cores: its few
epochs give the seconds of an epoch, but the best validation loss of a whole training takes
--epochs 50, an hour and more. --auto adds the whole default training, with all candidates.
"""

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from custom_gaze.common.errors import InputError
from custom_gaze.config.candidate import AUTO, Candidate
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import of_split, read_index
from custom_gaze.data.splits import TRAIN, VALIDATION
from custom_gaze.models.devices import pick_device
from speed_world import exit_code, machine, markdown
from train_speed_sides import Job, Outcome, ours, reference, taking_turns, whole
from train_speed_world import EMBEDDED, RESNET50, SESSION, make_project, multiply

REFERENCE, SAME, SHIPPED = "reference", "custom-gaze, same recipe", "custom-gaze as shipped"
RECIPE: dict[str, Any] = {
    "start": "base",
    "frozen_through": "layer3",
    "schedule": "constant",
    "batch_size": 16,
    "learning_rate": 1e-4,
}
QUICK = {"trunk": EMBEDDED, "targets": 5, "samples": 2, "epochs": 2}
MEMORY = {"trunk": EMBEDDED, "targets": 100, "samples": 4, "epochs": 1}
BASELINE_FRAMES, GIB = 25, 1024
LIMITS = {
    "targets": (5, 400),
    "samples": (0, 1000),
    "epochs": (1, 10_000),
    "epochs_only": (1, 10_000),
    "threads": (0, 1024),
    "workers": (0, 1024),
    "memory": (BASELINE_FRAMES, 100_000),
    "budget_gb": (0.001, 4096),
}


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="train_speed", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = result.add_argument
    add(
        "--trunk", help="resnet50 (random weights; the default), embedded, or what fetch.base takes"
    )
    add("--targets", type=int, metavar="N", help="of the session, a frame each; default: 9")
    add("--samples", type=int, metavar="N", help="augmented, of each training frame; default: 50")
    add("--epochs", type=int, metavar="N", help="at most, on both sides; default: 4")
    add("--epochs-only", type=int, metavar="N", help="so many, for their seconds alone")
    add("--threads", type=int, default=0, metavar="N", help="of torch; default: as torch has it")
    add(
        "--workers",
        type=int,
        metavar="N",
        help="of the reference's DataLoader; default: a core each",
    )
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--auto", action="store_true", help="also time the whole training with train.method: auto")
    add("--profile", action="store_true", help="the three largest costs of an epoch of each side")
    add("--memory", type=int, nargs="?", const=2500, metavar="FRAMES", help="default: 2500")
    add("--budget-gb", type=float, default=0.25, metavar="GB", help="for --memory; default: 0.25")
    add("--quick", action="store_true", help="5 targets, 2 samples, 2 epochs, the embedded base")
    return result


@dataclass(frozen=True)
class Plan:
    """What one command asks for. `params` are as shipped but for the sizes asked for; `recipe` are
    the specification's."""

    arguments: argparse.Namespace
    trunk: str
    targets: int
    params: Params
    recipe: Params
    workers: int

    def job(self, paths: Paths, params: Params) -> Job:
        """One side's."""
        arguments = self.arguments
        return Job(params, paths, arguments.threads, self.workers, arguments.profile)


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan in the command line.

    Raises:
        InputError: a value is out of its range, or the device is not there.
    """
    for name, (low, high) in LIMITS.items():
        value = getattr(arguments, name)
        if value is not None and not low <= value <= high:
            option = "--" + name.replace("_", "-")
            raise InputError(f"{option} is {value}; choose from {low} to {high}")
    modes = (arguments.epochs_only, arguments.memory, arguments.profile or None)
    if sum(mode is not None for mode in modes) > 1:
        raise InputError("--epochs-only, --memory and --profile exclude each other")
    chosen: dict[str, Any] = {"trunk": RESNET50, "targets": 9, "samples": 50, "epochs": 4}
    chosen |= MEMORY if arguments.memory else {}
    chosen |= QUICK if arguments.quick else {}
    chosen |= {k: v for k in chosen if (v := getattr(arguments, k)) is not None}
    patience = Params().train.patience
    if arguments.epochs_only or arguments.profile:
        chosen["epochs"] = patience = arguments.epochs_only or 1
    pick_device(arguments.device, "--device")
    train = replace(Params().train, method=str(Candidate.FINETUNE), device=arguments.device)
    augment = replace(Params().augment, samples=chosen["samples"])
    params = replace(Params(), sessions=(SESSION,), augment=augment, train=train)
    constant = replace(train, **RECIPE, epochs=chosen["epochs"], patience=patience)
    cores = min(8, os.cpu_count() or 1)
    workers = cores if arguments.workers is None else arguments.workers
    recipe = replace(params, train=constant)
    return Plan(arguments, chosen["trunk"], chosen["targets"], params, recipe, workers)


def run(plan: Plan) -> str:
    """Measure; returns the Markdown.

    Raises:
        CustomGazeError: a base network cannot be read, or a side failed.
    """
    with tempfile.TemporaryDirectory(prefix="train-speed-") as folder:
        root = Path(folder)
        if plan.arguments.memory:
            return memory_page(plan, root)
        paths = make_project(root, plan.targets, plan.params, plan.trunk)
        job, own = plan.job(paths, plan.recipe), plan.job(paths, plan.params)
        sides = {REFERENCE: (reference, job), SAME: (ours, job), SHIPPED: (ours, own)}
        if plan.arguments.profile or plan.arguments.epochs_only:
            del sides[SHIPPED]
        outcomes = taking_turns(sides)
        if plan.arguments.profile:
            return "\n\n".join([said(plan, paths), costs_table(outcomes)]) + "\n"
        if plan.arguments.auto:
            train = replace(plan.params.train, method=AUTO)
            job = plan.job(paths, replace(plan.params, train=train))
            outcomes |= taking_turns({AUTO: (whole, job)})
        samples = len(of_split(read_index(paths.index), TRAIN))
        samples *= plan.params.augment.samples + 1
        parts = [said(plan, paths), speed_table(outcomes, samples), notes(outcomes)]
        return "\n\n".join(parts) + "\n"


def said(plan: Plan, paths: Paths) -> str:
    """What was measured, and where."""
    train, samples = plan.recipe.train, read_index(paths.index)
    device = pick_device(train.device, "--device")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    threads = plan.arguments.threads or torch.get_num_threads()
    return (
        f"{machine()}, torch {torch.__version__} with {threads} threads, computed on {name}. "
        f"Trunk {plan.trunk}, {plan.targets} targets: {len(of_split(samples, TRAIN))} training and "
        f"{len(of_split(samples, VALIDATION))} validation frames, {plan.params.augment.samples} "
        f"augmented samples of each training frame; at most {train.epochs} epochs, patience "
        f"{train.patience}; the reference's DataLoader had "
        f"{plan.workers} workers."
    )


def speed_table(sides: Mapping[str, Outcome], samples: int) -> str:
    """The figures of all sides; a ratio says how many times better than the reference's one is."""
    plain, same, shipped = sides[REFERENCE], sides[SAME], sides.get(SHIPPED)
    epoch_s = [median(side.epochs_s) for side in (plain, same)]
    rows = [_row(f"seconds an epoch ({samples} samples; median)", *epoch_s)]
    rate = [samples / seconds for seconds in epoch_s]
    rows.append([*_row("samples a second", *rate)[:3], _ratio(rate[1], rate[0]), "", ""])
    if shipped is not None:
        best = plain.losses.index(min(plain.losses))
        loss = plain.losses[best]
        label = f"seconds to the reference's best validation loss, {loss:.3f} deg² in epoch {best}"
        reached = [reached_s(side, loss) for side in (same, shipped)]
        rows.append(_row(label, plain.known_s[best], *reached))
        rows.append(_row("seconds in all", plain.total_s, same.total_s, shipped.total_s))
    peaks = [side.peak_mib for side in (plain, same, shipped) if side is not None]
    rows.append(_row("peak memory, MiB", *peaks))
    rows.append(_row("largest peak of a DataLoader worker, MiB", plain.workers_mib))
    if AUTO in sides:
        label = f"seconds in all, `train.method: auto` (exported: {sides[AUTO].method})"
        rows.append([label, "", "", "", f"{sides[AUTO].total_s:.2f}", ""])
        rows.append(["peak memory with it, MiB", "", "", "", f"{sides[AUTO].peak_mib:.2f}", ""])
    return markdown(("", REFERENCE, SAME, "ratio", SHIPPED, "ratio"), rows)


def _row(label: str, plain: float, *others: float | None) -> list[str]:
    cells = [label, f"{plain:.2f}"]
    for other in others:
        cells += ["never", ""] if other is None else [f"{other:.2f}", _ratio(plain, other)]
    return cells + [""] * (6 - len(cells))


def _ratio(above: float, below: float) -> str:
    return f"{above / below:.2f}"


def reached_s(own: Outcome, loss: float) -> float | None:
    """When a validation loss no worse than that was known; None where it never was."""
    known = zip(own.known_s, own.losses, strict=True)
    return next((seconds for seconds, reached in known if reached <= loss), None)


def notes(sides: Mapping[str, Outcome]) -> str:
    """Every epoch, since a median hides what else the machine did."""
    lines = []
    for name, side in sides.items():
        if not side.losses:
            continue
        epochs = ", ".join(f"{seconds:.2f}" for seconds in side.epochs_s)
        losses = ", ".join(f"{loss:.3f}" for loss in side.losses)
        lines.append(
            f"- {name}: start known after {side.known_s[0]:.2f} s; epochs {epochs} s; "
            f"validation loss {losses} deg²"
        )
    if sides[REFERENCE].losses.index(min(sides[REFERENCE].losses)) == 0:
        lines.append("- the reference never improved on its start: the time to it says little")
    return "\n".join(lines)


def costs_table(sides: Mapping[str, Outcome]) -> str:
    """The largest costs of an epoch."""
    rows = [
        [name, f"`{cost}`" if "::" in cost else cost, f"{100 * share:.0f} %"]
        for name, side in sides.items()
        for cost, share in side.costs
    ]
    return markdown(("side", "own time in", "of the epoch"), rows)


def memory_page(plan: Plan, root: Path) -> str:
    """The peak of a training on many frames, beside that of the same one on few."""
    frames, budget_gb = plan.arguments.memory, plan.arguments.budget_gb
    train = replace(plan.params.train, feature_memory_gb=budget_gb)
    params = replace(plan.params, train=train)
    outcomes = []
    for count in (BASELINE_FRAMES, frames):
        targets = max(5, min(plan.targets, count))
        paths = make_project(root / str(count), targets, params, plan.trunk)
        if count > targets:
            multiply(paths, count, params)
        outcomes.append(taking_turns({SHIPPED: (whole, plan.job(paths, params))})[SHIPPED])
    return "\n\n".join([said(plan, paths), memory_table(outcomes, frames, budget_gb)]) + "\n"


def memory_table(outcomes: Sequence[Outcome], frames: int, budget_gb: float) -> str:
    """What the frames cost, against the budget."""
    few, many = outcomes
    grown = [
        few.imported_mib,
        few.peak_mib,
        many.peak_mib,
        many.peak_mib - few.peak_mib,
        many.watched.own_mib - few.watched.own_mib,
        many.watched.mapped_mib - few.watched.mapped_mib,
    ]
    labels = (
        "interpreter and torch, before training",
        f"peak with {BASELINE_FRAMES} frames: the network, its optimiser, a batch",
        f"peak with {frames} frames",
        "what the frames add",
        "of that the process's own",
        "of that pages of mapped files, which the system drops when it needs room",
    )
    rows = [
        [label, f"{mib:.0f}", f"{mib / (budget_gb * GIB):.2f}" if number >= 3 else ""]
        for number, (label, mib) in enumerate(zip(labels, grown, strict=True))
    ]
    rows.append(["budget, `train.feature_memory_gb`", f"{budget_gb * GIB:.0f}", "1.00"])
    rows.append([f"seconds with {frames} frames: {many.total_s:.0f}", "", ""])
    return markdown(("training", "MiB", "÷ budget"), rows)


def main(argv: list[str] | None = None) -> int:
    """0: done; 2: bad input; 1: a failure of ours; 130: interrupted."""

    def work() -> None:
        print(run(plan_of(parser().parse_args(argv))), end="")

    return exit_code("train_speed", work)


if __name__ == "__main__":
    raise SystemExit(main())
