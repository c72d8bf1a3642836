"""`custom-gaze export --as l2cs`: the personal network in the stock L2CS-Net's two-output form.

A stock L2CS-Net gives two rows of 90 logits; the softmax's expectation over bins 4° apart
is the angle. Here each row is built from the personal network's angle a: the logits of a normal
distribution about a, -(a - c)² / (2 σ²) for the bin at c. Its term in a² is the same for all bins
and falls out of the softmax, and what is left, a c / σ² - c² / (2 σ²), is linear in a: one layer
behind the network, as a stock network has one, and nothing in it grows with a².

With σ one bin's width the bins are close enough together: by Poisson's summation formula the
expectation differs from a by at most 4π σ²/h · exp(-2π² σ²/h²), 1.3e-7° for σ = h = 4°. The row of
bins ends at -180° and 176°: up to ±150° nothing more is lost, at ±160° 3e-5°, at ±170° 0.2°. The
layer's numbers, multiples of a half and a quarter, are exact in float32.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from custom_gaze.common.errors import InputError
from custom_gaze.models.heads import BIN_LAYOUTS, bin_angles_deg
from custom_gaze.models.onnx_files import describe, outputs_of, run_session
from custom_gaze.models.onnx_metadata import OUTPUT_KEY, add_props
from custom_gaze.models.onnx_runtime import app_angles_deg, cpu_session

BINS = 90  # the stock network's
BIN_WIDTH_DEG, FIRST_BIN_DEG = BIN_LAYOUTS[BINS]
SIGMA_DEG = BIN_WIDTH_DEG
NAMES = ("yaw", "pitch")
OURS = "custom_gaze_bins"  # prefix of the added values' names


def with_bins(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """A copy of a network with one output (1, 2) degrees, its angles spread over bins.

    Raises:
        InputError: the output is another one; the message begins with `where`.
    """
    outputs = outputs_of(model)
    if [shape for _, shape in outputs] != [(1, 2)]:
        raise InputError(
            f"{where}: has {describe(model)}; the two-output form is made from one output of 1x2, "
            "run `custom-gaze export` first"
        )
    made = onnx.ModelProto()
    made.CopyFrom(model)
    _add_layer(made.graph, outputs[0][0])
    add_props(made, {OUTPUT_KEY: _meaning()})
    return made


def _add_layer(graph: onnx.GraphProto, angles: str) -> None:
    """Append yaw = angles @ W + b and the same for pitch, and make them the outputs."""
    del graph.output[:]
    for row, name in enumerate(NAMES):
        weight, bias = layer(row)
        for kind, values in (("weight", weight), ("bias", bias)):
            graph.initializer.append(numpy_helper.from_array(values, f"{OURS}_{name}_{kind}"))
        inputs = [angles, f"{OURS}_{name}_weight", f"{OURS}_{name}_bias"]
        graph.node.append(helper.make_node("Gemm", inputs, [name], name=f"{OURS}_{name}"))
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, BINS]))


def layer(row: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight (2, 90) and bias (90,) that turn (1, 2) degrees into the logits of angle `row`."""
    bins_deg = bin_angles_deg(BINS, BIN_WIDTH_DEG, FIRST_BIN_DEG).numpy()
    weight = np.zeros((2, BINS))
    weight[row] = bins_deg / SIGMA_DEG**2
    bias = -(bins_deg**2) / (2 * SIGMA_DEG**2)
    return weight.astype(np.float32), bias.astype(np.float32)


def _meaning() -> str:
    last_deg = float(bin_angles_deg(BINS, BIN_WIDTH_DEG, FIRST_BIN_DEG)[-1])
    return (
        f"{NAMES[0]}, {NAMES[1]}: {BINS} logits each, bins {BIN_WIDTH_DEG:g} degrees apart from "
        f"{FIRST_BIN_DEG:g} to {last_deg:g}; the softmax's expectation is the angle in degrees, "
        "right and down positive"
    )


def layer_error_deg(range_deg: float, step_deg: float) -> float:
    """The added layer's largest error in degrees, run alone over ±`range_deg` of both angles."""
    graph = helper.make_graph(
        [],
        "layer",
        [helper.make_tensor_value_info("angles", TensorProto.FLOAT, [1, 2])],
        [],
    )
    _add_layer(graph, "angles")
    opset = [helper.make_opsetid("", 18)]
    session = cpu_session(
        helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    )
    steps = round(range_deg / step_deg)
    values = np.linspace(-range_deg, range_deg, 2 * steps + 1)
    errors = []
    for pair in np.stack([values, values[::-1]], axis=1):  # (yaw, pitch), one against the other
        read = app_angles_deg(run_session(session, pair[None].astype(np.float32)), "the layer")
        errors.append(np.abs(read - pair).max())
    return float(np.max(errors))  # NaN stays NaN, which Python's max would lose
