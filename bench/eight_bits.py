"""How far the 8-bit model's predictions are from the float model's, and what it saves.

    python bench/eight_bits.py [--persons 2000 2001 2002] [--methods probe finetune base]
    python bench/eight_bits.py --trunk resnet50 --persons 2000 --methods base
    python bench/eight_bits.py --projects FOLDER …   trained ones, the demo's for example

Each simulated person is trained on one day, 25 targets with two frames each, and both models are
compared on another day, which neither was fitted to. Rows are of each try of `custom-gaze
quantise`: all convolutions in 8 bits, the last one in float32, the last quarter of them. "Shift" is
the length of the mean difference; the rest differs from frame to frame. Latencies are medians in
turns, on one thread. Two cores take about a minute for each person and method; the ResNet-50 has
random weights (bench/train_speed_world.py) and takes ten.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample, load_crop, of_split, read_index
from custom_gaze.data.splits import CROSS_SESSION, TEST, TRAIN
from custom_gaze.demo.session import write_session
from custom_gaze.faces.crops import normalise
from custom_gaze.geometry import angular_error_deg
from custom_gaze.models.onnx_files import open_session
from custom_gaze.models.onnx_runtime import predict_onnx
from custom_gaze.models.quantisation import latencies_ms, quantised, tries_in_float
from custom_gaze.stages import export, fetch, index, prepare, train
from custom_gaze.stages.quantise import COMPARED_CROPS, calibrating, calibration_crops, spread
from custom_gaze.weights.base import save_base
from speed_world import exit_code, machine, markdown
from train_speed_world import EMBEDDED, RESNET50, headed_resnet50

DAYS = {"day1": (5, 5), "day2": (4, 4)}  # columns and rows of targets
METHODS = (Candidate.PROBE, Candidate.FINETUNE, Candidate.BASE)
HEADER = ("", "last in float32", "mean", "largest", "shift", "÷ float's time")
TIMED_RUNS = 20


def params_of(method: str) -> Params:
    """As shipped, with the demo's few augmented samples."""
    params, (first, second) = Params(), DAYS
    return replace(
        params,
        sessions=(first,),
        evaluate=replace(params.evaluate, sessions=(second,)),
        augment=replace(params.augment, samples=4),
        train=replace(params.train, method=method),
    )


def made(root: Path, person: int, trunk: str) -> Paths:
    """A project of one person of the tuning range, prepared, its base network in place.

    Raises:
        InputError: the person is none of that range.
    """
    params, paths = params_of(Candidate.PROBE), Paths(root)
    fetch.run(params, paths)
    for day, (session, grid) in enumerate(DAYS.items(), 1):
        folder = paths.sessions / session
        write_session(folder, person=person, day=day, grid=grid, purpose="tuning")
        prepare.run(session, params, paths, progress=False)
    index.run(params, paths)
    if trunk == RESNET50:
        alone = replace(params, evaluate=replace(params.evaluate, sessions=()))
        save_base(headed_resnet50(root / "others", alone), paths.base)
    return paths


def trained(root: Path) -> Paths:
    """A project whose model is exported.

    Raises:
        InputError: it has none.
    """
    paths = Paths(root)
    if not paths.model.is_file():
        raise InputError(f"{paths.model}: not found; train and export there first")
    return paths


def inputs(samples: Sequence[Sample], most: int, paths: Paths) -> Iterator[NDArray[np.float32]]:
    """At most so many crops as the network takes them, (1, 3, H, W) each."""
    return (normalise(load_crop(sample, paths)[None]) for sample in spread(samples, most))


def measured(params: Params, paths: Paths) -> dict[str, list[float]]:
    """Of an exported model, by how many convolutions stay in float32: degrees between the
    predictions, mean and largest and the length of the mean difference, and the share of time."""
    samples = read_index(paths.index)
    judging = of_split(samples, CROSS_SESSION) or of_split(samples, TEST)
    x = np.concatenate(list(inputs(judging, COMPARED_CROPS, paths)))
    plain = open_session(paths.model.read_bytes(), paths.model)
    predicted = predict_onnx(plain, x)
    fitted = partial(calibrating, calibration_crops(of_split(samples, TRAIN), params, paths))
    found = {}
    for in_float in tries_in_float(paths.model):
        small = open_session(quantised(paths.model, fitted, in_float), "the 8-bit model")
        ours = predict_onnx(small, x)
        apart_deg = angular_error_deg(ours, predicted)
        shift_deg = np.linalg.norm((ours - predicted).mean(axis=0))
        whole_ms, small_ms = latencies_ms([plain, small], x[:1], TIMED_RUNS)
        figures = (apart_deg.mean(), apart_deg.max(), shift_deg, small_ms / whole_ms)
        found[str(in_float)] = [float(figure) for figure in figures]
    return found


def rows(name: str, found: dict[str, list[float]]) -> list[list[str]]:
    """Those of the table."""
    return [
        [name, in_float, *(f"{each:.3f}°" for each in figures[:3]), f"{figures[3]:.2f}"]
        for in_float, figures in found.items()
    ]


def of_persons(persons: Sequence[int], methods: Sequence[str], trunk: str) -> Iterator[list[str]]:
    """The rows of each person and method, then the means of each method."""
    all_found: dict[str, list[dict[str, list[float]]]] = {method: [] for method in methods}
    for person in persons:
        with tempfile.TemporaryDirectory(prefix="eight-bits-") as folder:
            paths = made(Path(folder), person, trunk)
            for method in methods:
                train.run(params_of(method), paths)
                export.run(params_of(method), paths)
                all_found[method].append(measured(params_of(method), paths))
                yield from rows(f"{person}, {method}", all_found[method][-1])
    for method, several in all_found.items():
        means = {key: np.mean([each[key] for each in several], axis=0) for key in several[0]}
        yield from rows(f"mean, {method}", {key: each.tolist() for key, each in means.items()})


def main(argv: list[str] | None = None) -> int:
    """0: done; 2: bad input; 1: a failure of ours; 130: interrupted."""
    parser = argparse.ArgumentParser(
        prog="eight_bits", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--persons", nargs="+", type=int, default=[2000, 2001, 2002])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--trunk", default=EMBEDDED, choices=(EMBEDDED, RESNET50))
    parser.add_argument("--projects", nargs="+", type=Path, help="trained ones instead of persons")
    arguments = parser.parse_args(argv)

    def work() -> None:
        if arguments.projects is None:
            table = list(of_persons(arguments.persons, arguments.methods, arguments.trunk))
        else:
            folders = arguments.projects
            table = [
                row
                for each in folders
                for row in rows(each.name, measured(Params(), trained(each)))
            ]
        print(f"{machine()}; degrees between the predictions\n\n{markdown(HEADER, table)}")

    return exit_code("eight_bits", work)


if __name__ == "__main__":
    raise SystemExit(main())
