"""The 8-bit form of an exported model.

The trunk's convolutions and what lies between them compute with unsigned 8-bit activations and
signed 8-bit weights, a scale for each output channel (onnxruntime's static quantisation, nodes
between pairs of QuantizeLinear and DequantizeLinear). Pooling, head and correction stay in float32:
they cost nothing, and a degree is told there by small differences. The activations' ranges are the
smallest and largest values that crops to train on give; the same crops tell what the rounding does
to each channel's mean, which is corrected (models/bias_correction.py).
"""

import copy
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.models.bias_correction import Crops, correct_biases, with_biases
from custom_gaze.models.onnx_metadata import QUANTISATION_KEY, props_of

QUANTISED_OPS = ("Conv", "Relu", "MaxPool", "Add")


def tries_in_float(model: Path) -> list[int]:
    """How many convolutions, counted from the end, each try to quantise leaves in float32."""
    import onnx

    count = sum(node.op_type == "Conv" for node in onnx.load(str(model)).graph.node)
    return [0, 1, max(2, count // 4)]


def quantised(model: Path, crops: Crops, in_float: int = 0) -> bytes:
    """The model in `model` in 8 bits, its ranges and its biases by `crops`, which are gone through
    several times.

    The last `in_float` convolutions and what follows them stay in float32. The same crops give
    the same bytes. Input, output and metadata stay as they are.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
    from onnxruntime.quantization.quantize import quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(crops())

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            x = next(self._left, None)
            return None if x is None else {"input": x}

    plain = onnx.shape_inference.infer_shapes(onnx.load(str(model)), strict_mode=True)
    with_biases(plain)
    names = _maps(plain, in_float)
    with tempfile.TemporaryDirectory() as folder, _without_advice():
        made = Path(folder) / "int8.onnx"
        quantize_static(
            copy.deepcopy(plain),  # whose weights it moves into a file
            str(made),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED_OPS),
            nodes_to_quantize=names,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        small = onnx.load(str(made))
    correct_biases(plain, small, crops)
    said = (
        f"{len(names)} nodes: activations of 8 bits unsigned, weights of 8 bits signed a channel, "
        "biases corrected"
    )
    onnx.helper.set_model_props(small, {**props_of(plain), QUANTISATION_KEY: said})
    onnx.checker.check_model(small, full_check=True)
    content: bytes = small.SerializeToString(deterministic=True)
    return content


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep onnxruntime from advising, by the root logger, what has been done already."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def _maps(model: Any, in_float: int) -> list[str]:
    """The names of the nodes that work on maps (N, channels, h, w), not on features or angles,
    up to the last `in_float` convolutions."""
    values = (*model.graph.value_info, *model.graph.output)
    rank = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    nodes = [
        node
        for node in model.graph.node
        if node.op_type in QUANTISED_OPS and rank.get(node.output[0]) == 4
    ]
    convolutions = [place for place, node in enumerate(nodes) if node.op_type == "Conv"]
    end = convolutions[-in_float] if in_float else len(nodes)
    return [node.name for node in nodes[:end]]


def latencies_ms(sessions: Sequence[Any], x: NDArray[np.float32], runs: int) -> list[float]:
    """Median milliseconds of each session on one crop, taken in turns."""
    times: list[list[float]] = [[] for _ in sessions]
    for _ in range(runs + 1):
        for session, taken in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(None, {"input": x})
            taken.append(1000 * (time.perf_counter() - start))
    return [float(np.median(taken[1:])) for taken in times]  # the first run sets up
