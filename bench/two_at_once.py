"""What the CPU's threads do better side by side: crops in the frozen blocks, and folds in training.

    python bench/two_at_once.py [--trunks slim18,resnet50] [--rounds 5]

Milliseconds by the clock for one crop through the frozen blocks, and for one batch of 8 in the
trained ones (forward, backward, the optimiser's step): alone with all of torch's threads; and as
many crops at once as there are threads, in PyTorch and, as training has them, in onnxruntime, or
two folds at once, with their share of threads each. `batch` is in the layout of the trained blocks'
weights that training has on the CPU. The sides take turns; the best round counts. Two free cores
take two minutes.
"""

import custom_gaze  # noqa: F401, isort: skip; before torch: it says how OpenMP's threads wait

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from custom_gaze.calibration.cross_training import folds_at_once
from custom_gaze.calibration.frozen_blocks import FrozenBlocks
from custom_gaze.calibration.optimizer import BoundedAdam
from custom_gaze.calibration.recipe import Recipe
from custom_gaze.config.candidate import AUTO
from custom_gaze.config.params import Params, TrainParams
from custom_gaze.faces.crops import normalise
from custom_gaze.models.devices import SideBySide
from custom_gaze.models.network import GazeNetwork
from speed_world import exit_code, machine, markdown

CPU = torch.device("cpu")
BATCH = Params().train.batch_size
CROP = np.random.default_rng(0).integers(0, 256, (448, 448, 3), np.uint8)


def network(trunk: str) -> GazeNetwork:
    """A trunk of random weights as `auto` cuts it, laid out as training has it on the CPU."""
    return GazeNetwork(trunk, AUTO).eval().placed(CPU)


def frozen(one: GazeNetwork) -> Tensor:
    """A crop of noise through the frozen blocks, in PyTorch."""
    with torch.inference_mode():
        return one.frozen(torch.from_numpy(normalise(CROP[None])))


class Fold:
    """A training that goes on, batch by batch, with the same features each time."""

    def __init__(self, one: GazeNetwork, x: Tensor) -> None:
        self._network, self._x = one, x
        self._optimizer = BoundedAdam(one.trained_parameters())

    def step(self) -> Tensor:
        y = torch.zeros(len(self._x), 2)
        loss = torch.nn.functional.mse_loss(self._network.unbounded(self._x.float()), y)
        self._optimizer.step(loss, 1e-5)
        return loss.detach()


def milliseconds(sides: dict[str, tuple[Callable[[], object], int]], rounds: int) -> list[str]:
    """Each side's best round, a call of it doing so many things, for one of them."""
    best = dict.fromkeys(sides, float("inf"))
    for work, _ in sides.values():
        work()
    for _ in range(rounds):
        for name, (work, count) in sides.items():
            started = time.perf_counter()
            work()
            best[name] = min(best[name], 1e3 * (time.perf_counter() - started) / count)
    return [f"{best[name]:.1f}" for name in sides]


def row(trunk: str, rounds: int) -> Sequence[str]:
    """A trunk's milliseconds."""
    one = network(trunk)
    crops, folds = SideBySide(), SideBySide(folds_at_once(Recipe(TrainParams()), CPU))
    many, blocks = 8 * crops.count, FrozenBlocks(one, CPU, len(CROP))
    x = frozen(one).repeat(BATCH, 1, 1, 1).half()
    before = Fold(GazeNetwork(trunk, AUTO).eval().to(memory_format=torch.channels_last), x)
    both = [Fold(network(trunk), x) for _ in range(folds.count)]
    return [
        trunk,
        *milliseconds(
            {
                "crop": (lambda: [frozen(one) for _ in range(many)], many),
                "crops": (lambda: [*crops.map(frozen, [one] * many)], many),
                "blocks": (lambda: [*crops.map(blocks.one, [CROP] * many)], many),
                "before": (lambda: [before.step() for _ in range(4)], 4),
                "batch": (lambda: [both[0].step() for _ in range(4)], 4),
                "folds": (
                    lambda: [[*folds.map(Fold.step, both)] for _ in range(4)],
                    4 * folds.count,
                ),
            },
            rounds,
        ),
    ]


def main(argv: list[str] | None = None) -> int:
    """0: done; 2: bad input; 130: interrupted."""
    parser = argparse.ArgumentParser(
        prog="two_at_once", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trunks", default="slim18,resnet50", help="with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)

    def work() -> None:
        print(f"{machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads\n")
        header = (
            "ms for one",
            "crop",
            "crops at once",
            "in onnxruntime",
            "batch, channels last",
            "batch",
            "of 2 folds",
        )
        rows = [row(trunk, arguments.rounds) for trunk in arguments.trunks.split(",")]
        print(markdown(header, rows))

    return exit_code("two_at_once", work)


if __name__ == "__main__":
    raise SystemExit(main())
