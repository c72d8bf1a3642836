"""How large a base network is, where it is cut, and how fast it is on this machine."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from custom_gaze.models.graph import multiplications
from custom_gaze.models.network import GazeNetwork
from custom_gaze.weights.base import SIZE_PX, BaseModule, BaseNetwork

RUNS, SECONDS = 5, 4.0  # timed passes, fewer where they take longer than that together


@dataclass(frozen=True)
class Costs:
    """What a base network costs.

    Attributes:
        parameters: of its trunk and its heads.
        multiplications: of one image in its trunk.
        frozen_share: of these, up to the cut.
        kept: shape of what is kept of each sample at the cut, (channels, height, width).
    """

    parameters: int
    multiplications: float
    frozen_share: float
    kept: tuple[int, ...]


def costs_of(base: BaseNetwork, frozen_through: str | None = None) -> Costs:
    """Count; nothing is computed. The cut is that of the trunk's first three quarters.

    Raises:
        InputError: `frozen_through` does not fit the trunk.
    """
    counted: list[float] = []

    def count(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        counted.append(multiplications(module, tuple(output.shape)))

    with torch.device("meta"), torch.no_grad():
        network = GazeNetwork(base.trunk, frozen_through or base.spec.frozen_through).eval()
        for module in network.trunk.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(count)
        kept = network.frozen(torch.empty(1, 3, SIZE_PX, SIZE_PX))
        frozen = sum(counted)
        network.features(kept)
    trunk = sum(parameter.numel() for parameter in network.trunk.parameters())
    heads = 0 if base.heads is None else sum(n.numel() for n in base.heads.numbers().values())
    return Costs(
        trunk + heads, sum(counted), frozen / max(sum(counted), 1.0), tuple(kept.shape[1:])
    )


def latency_ms(run: Callable[[np.ndarray], object]) -> float:
    """Median milliseconds of a network on one image, after a pass that sets up."""
    x = np.zeros((1, 3, SIZE_PX, SIZE_PX), np.float32)
    run(x)
    taken: list[float] = []
    while len(taken) < RUNS and sum(taken) < SECONDS:
        start = time.perf_counter()
        run(x)
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)


def in_torch(base: BaseNetwork) -> Callable[[np.ndarray], object]:
    """A base network as PyTorch runs it; without heads its trunk alone."""
    trunk = base.spec.build().eval() if base.heads is None else BaseModule(base)

    def run(x: np.ndarray) -> object:
        with torch.inference_mode():
            return trunk(torch.from_numpy(x))

    return run
