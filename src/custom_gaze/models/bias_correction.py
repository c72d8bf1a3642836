"""The mean error that 8 bits put into each convolution, taken out of its bias.

Rounded weights are off by as much in every frame, so they shift a channel's mean to the same side
always, and so does an input that is cut off at the end of its range (Nagel et al. 2019, "Data-Free
Quantization Through Weight Equalization and Bias Correction", section 4.2, with means over crops
where the paper has BatchNorm's). Each convolution is looked at by itself, on the float model's
input: as all before it are corrected too, that is the mean input it will have. What the sums
between blocks add is taken out of the prediction.

The trunk gets no node more: biases have 32 bits, and the model takes as long as before.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.models.onnx_files import open_session, run_session

Crops = Callable[[], Iterable[NDArray[np.float32]]]  # (1, 3, H, W) each, the same ones every time
WHERE = "the model in 8 bits"
STEPS = np.iinfo(np.int32)


@dataclass(frozen=True)
class _Convolution:
    """One in 8 bits: its nodes in the float and the 8-bit model, and what makes the second one's
    input, weights and bias float numbers again."""

    plain: Any
    dequantised: tuple[Any, Any, Any]


def with_biases(model: Any) -> None:
    """Give each convolution of a ModelProto that has no bias one of zeros, to be corrected."""
    from onnx import numpy_helper

    channels = {tensor.name: tensor.dims[:1] for tensor in model.graph.initializer}
    for number, node in enumerate(model.graph.node):
        if node.op_type == "Conv" and len(node.input) == 2 and node.input[1] in channels:
            zeros = np.zeros(channels[node.input[1]], np.float32)
            node.input.append(f"no_bias_{number}")
            model.graph.initializer.append(numpy_helper.from_array(zeros, node.input[2]))


def correct_biases(plain: Any, small: Any, crops: Crops) -> None:
    """Correct the ModelProto `small`, which is `plain` in 8 bits, in place.

    The same crops give the same biases.
    """
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in small.graph.initializer}
    convolutions = _convolutions(plain, small)
    predicted, *errors = _means(_both(plain, tensors, convolutions), crops)
    for convolution, error in zip(convolutions, errors, strict=True):
        stored, scale = (tensors[name] for name in convolution.dequantised[2].input[:2])
        steps = numpy_helper.to_array(stored) - np.round(error / numpy_helper.to_array(scale))
        steps = steps.clip(STEPS.min, STEPS.max).astype(np.int32)
        stored.CopyFrom(numpy_helper.from_array(steps, stored.name))
    _shift(small, predicted - _means(small, crops)[0])


def _convolutions(plain: Any, small: Any) -> list[_Convolution]:
    """Those in 8 bits, in the model's order."""
    made_by = {name: node for node in small.graph.node for name in node.output}
    named = {node.name: node for node in plain.graph.node}
    found = []
    for node in small.graph.node:
        if node.op_type == "Conv":
            behind = tuple(made_by.get(name) for name in node.input)
            if len(behind) == 3 and all(n and n.op_type == "DequantizeLinear" for n in behind):
                found.append(_Convolution(named[node.name], behind))
    return found


def _both(plain: Any, tensors: dict[str, Any], convolutions: Sequence[_Convolution]) -> Any:
    """The float ModelProto, with each convolution in 8 bits beside itself: its outputs are the
    prediction and of each of them (channels,), what it gives in 8 bits less what it gives in
    float32 on the same input, the mean over a map."""
    import onnx
    from onnx import helper, numpy_helper

    both = onnx.ModelProto()
    both.CopyFrom(plain)
    graph = both.graph
    graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 3]), "axes_of_a_map"))
    for number, convolution in enumerate(convolutions):
        node, called = convolution.plain, f"in_8_bits_{number}"
        rounding = [f"{called}_scale", f"{called}_zero"]
        for name, given in zip(rounding, convolution.dequantised[0].input[1:], strict=True):
            values = numpy_helper.to_array(tensors[given])
            graph.initializer.append(numpy_helper.from_array(values, name))
        for part, made in zip(("weight", "bias"), convolution.dequantised[1:], strict=True):
            values = _dequantised(made, tensors)
            graph.initializer.append(numpy_helper.from_array(values, f"{called}_{part}"))
        again = onnx.NodeProto()
        again.CopyFrom(node)
        again.name, again.output[0] = called, f"{called}_map"
        again.input[:] = [f"{called}_input", f"{called}_weight", f"{called}_bias"]
        graph.node.extend(
            (
                helper.make_node("QuantizeLinear", [node.input[0], *rounding], [f"{called}_steps"]),
                helper.make_node(
                    "DequantizeLinear", [f"{called}_steps", *rounding], [again.input[0]]
                ),
                again,
                helper.make_node("Sub", [again.output[0], node.output[0]], [f"{called}_error"]),
                helper.make_node(
                    "ReduceMean", [f"{called}_error", "axes_of_a_map"], [called], keepdims=0
                ),
            )
        )
        graph.output.append(helper.make_tensor_value_info(called, onnx.TensorProto.FLOAT, None))
    return both


def _dequantised(node: Any, tensors: dict[str, Any]) -> NDArray[np.float32]:
    """What a DequantizeLinear node makes of a stored tensor whose first axis are the channels."""
    from onnx import numpy_helper

    steps, scale, zero = (numpy_helper.to_array(tensors[name]) for name in node.input)
    along = (-1,) + (1,) * (steps.ndim - 1)
    exact = (steps.astype(np.float64) - zero.reshape(along)) * scale.reshape(along)
    return np.asarray(exact, np.float32)


def _means(model: Any, crops: Crops) -> list[NDArray[np.float64]]:
    """Each output of a ModelProto, its mean over the crops."""
    session = open_session(model, WHERE, threads=0)
    count = 0
    sums: list[NDArray[np.float64]] = []
    for x in crops():
        outputs = [np.asarray(values, np.float64) for values in run_session(session, x)]
        sums = [a + b for a, b in zip(sums, outputs, strict=True)] if sums else outputs
        count += 1
    return [total / count for total in sums]


def _shift(model: Any, by_deg: NDArray[np.float64]) -> None:
    """Add (1, 2) degrees to a model's prediction, before it is held within its limits."""
    from onnx import helper, numpy_helper

    graph = model.graph
    place = next(n for n, node in enumerate(graph.node) if graph.output[0].name in node.output)
    last = graph.node[place]
    shift = numpy_helper.from_array(by_deg.astype(np.float32), "shift_of_8_bits_deg")
    graph.initializer.append(shift)
    if last.op_type == "Clip":
        before, after = last.input[0], "shifted_deg"
        last.input[0] = after
    else:
        before, after, place = "unshifted_deg", last.output[0], place + 1
        last.output[0] = before
    graph.node.insert(place, helper.make_node("Add", [before, shift.name], [after], "shift"))
