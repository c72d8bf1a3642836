"""The exporter writes of each operation, and of a part of the crop, what PyTorch computes."""

import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from custom_gaze.models.network import GazeNetwork
from custom_gaze.models.onnx_export import to_onnx
from custom_gaze.models.onnx_runtime import cpu_session, predict_onnx
from custom_gaze.models.operations import OPERATIONS

WINDOW = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}
SPREAD = {"dilation": (1, 1), "groups": 1, "bias": 1}
CHANNELS = {"sizes": (1, 3, 1, 1)}
SETTINGS: dict[str, dict[str, Any]] = {
    "convolution": {"inputs": 3, "outputs": 4, **WINDOW, **SPREAD},
    "linear": {"inputs": 16, "outputs": 4, "bias": 1},
    "scale": {"channels": 3},
    "prelu": {"channels": 3},
    "leaky_relu": {"slope": 0.1},
    "elu": {"alpha": 1.0},
    "clip": {"lowest": 0.0, "highest": 6.0},
    "hard_sigmoid": {"slope": 0.2, "offset": 0.5},
    "softmax": {"axis": 1},
    "add": CHANNELS,
    "subtract": {**CHANNELS, "before": 1},
    "multiply": CHANNELS,
    "divide": {**CHANNELS, "before": 1},
    "power": {"sizes": (1,)},
    "maximum": {"sizes": (1,)},
    "minimum": {"sizes": (1,)},
    "max_pool": {**WINDOW, "ceil": 1},
    "average_pool": {**WINDOW, "count_padding": 0},
    "reshape": {"sizes": (3, -1)},
    "transpose": {"axes": (2, 3, 1)},
    "concatenate": {"axis": 1},
    "slice": {"axis": 2, "start": 1, "stop": 9, "step": 2},
    "pad": {"sizes": (1, 1, 2, 2), "value": 0.5},
    "resize_nearest": {"sizes": (32, 32)},
    "resize_linear": {"sizes": (40, 24), "corners": 1},
}


class Two(nn.Module):
    """The first two numbers of what an operation makes of an image."""

    def __init__(self, operation: nn.Module, inputs: int) -> None:
        super().__init__()
        self.operation, self.inputs = operation, inputs

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.operation(*[x] * self.inputs), 1)[:, :2]


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation(name: str, opset: int) -> None:
    torch.manual_seed(1)
    operation = OPERATIONS[name](**SETTINGS.get(name, {}))
    for number, buffer in enumerate(operation.buffers()):
        buffer.fill_(0.5 + number)  # a constant of zeros would hide which operand it is
    network = Two(operation, 2 if name == "concatenate" else 1).eval()
    model = to_onnx(network, 16, opset)
    onnx.checker.check_model(model, full_check=True)
    x = np.abs(np.random.default_rng(0).standard_normal((1, 3, 16, 16))).astype(np.float32) + 0.1
    [given] = cpu_session(model.SerializeToString()).run(None, {"input": x})
    np.testing.assert_allclose(given, network(torch.from_numpy(x)).detach(), atol=1e-5)


@pytest.mark.parametrize("share", [0.5, 2 / 3, 0.7])
def test_a_part_of_the_crop(share: float) -> None:
    torch.manual_seed(1)
    network = GazeNetwork("slim18", "layer3", inner_share=share).eval()
    session = cpu_session(to_onnx(network, 64, 18).SerializeToString())
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
        network.inner_share = 1.0
        whole = network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(predict_onnx(session, x), expected, atol=1e-5)
    assert np.abs(whole - expected).max() > 1e-3


def test_neither_shapes_nor_the_export_load_dynamo() -> None:
    """It would be seconds of every stage."""
    code = """
import sys
import torch
from custom_gaze.models.network import GazeNetwork
from custom_gaze.models.onnx_export import to_onnx
with torch.device("meta"):
    GazeNetwork("slim18", "layer3")
to_onnx(GazeNetwork("slim18", "layer3"), 64, 18)
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
