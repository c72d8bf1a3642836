"""What a network's frozen blocks make of crops, in float16."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from custom_gaze.faces.crops import normalise
from custom_gaze.models.devices import SideBySide, lower_precision
from custom_gaze.models.network import GazeNetwork
from custom_gaze.models.onnx_export import traced
from custom_gaze.models.onnx_files import open_session, run_session

# float16 keeps 11 bits of each value, bfloat16 keeps 8: of the two 2-byte types the one whose
# rounding disturbs the features least. After ReLU they stay far below its largest value, 65504.
KEPT = torch.float16
GPU_BATCH = 32
OPSET = 18


class FrozenBlocks:
    """The frozen blocks of a network, which must not change afterwards.

    On the CPU they run in onnxruntime, as they will in the app, and each crop passes alone, on one
    thread: batches are no faster there, and alone its numbers cannot depend on its neighbours.
    PyTorch takes 1.4 times as long, 1.8 times in a small trunk (docs/performance.md): it folds no
    BatchNorm and passes over every layer's output several times. A GPU gets batches, in PyTorch.
    """

    def __init__(self, network: GazeNetwork, device: torch.device, size_px: int) -> None:
        """`device` is where the network lies, `size_px` the crops' side."""
        self.device, self._network = device, network
        self._session = _session(network, size_px) if device.type == "cpu" else None

    def one(self, crop: NDArray[np.uint8]) -> NDArray[np.float16]:
        """(H, W, 3) RGB → (channels, h, w); threads may ask at the same time."""
        x = normalise(crop[None])
        passed = self._batch(x) if self._session is None else run_session(self._session, x)[0]
        features: NDArray[np.float16] = passed[0].astype(np.float16)
        return features

    def each(
        self, crops: Iterable[NDArray[np.uint8]], threads: SideBySide
    ) -> Iterator[NDArray[np.float16]]:
        """Of crops, in their order."""
        if self.device.type == "cpu":
            yield from threads.map(self.one, crops)
            return
        some = iter(crops)
        while batch := list(islice(some, GPU_BATCH)):
            yield from self._batch(normalise(np.stack(batch)))

    def _batch(self, x: NDArray[np.float32]) -> NDArray[np.float16]:
        with torch.inference_mode(), lower_precision(self.device):
            passed = self._network.frozen(torch.from_numpy(x).to(self.device))
            features: NDArray[np.float16] = passed.to(KEPT).cpu().numpy()
        return features


class _Alone(nn.Module):
    def __init__(self, network: GazeNetwork) -> None:
        super().__init__()
        self._network = network

    def forward(self, x: Tensor) -> Tensor:
        return self._network.frozen(x)


def _session(network: GazeNetwork, size_px: int) -> Any:
    return open_session(traced(_Alone(network), size_px, OPSET), "the frozen blocks")


def features_of(
    network: GazeNetwork, crops: Iterable[NDArray[np.uint8]], device: torch.device
) -> NDArray[np.float16]:
    """The frozen blocks' outputs for plain crops, one or more: (N, channels, h, w)."""
    crops = iter(crops)
    first = next(crops)
    blocks = FrozenBlocks(network, device, len(first))
    return np.stack(list(blocks.each(chain([first], crops), SideBySide())))
