"""An ONNX graph → the operations that a network of ours is made of (flat_graph.py)."""

from dataclasses import dataclass
from typing import Any

from custom_gaze.common.errors import InputError
from custom_gaze.weights.flat_graph import FlatGraph
from custom_gaze.weights.onnx_graph import Reading
from custom_gaze.weights.onnx_operators import OPERATORS


@dataclass(frozen=True)
class OnnxNetwork:
    """An ONNX file as operations.

    Attributes:
        model: the ModelProto, with external weights loaded into it.
        graph: its operations, from its only input on.
        names: of its outputs.
        outputs: their values' numbers.
        images: the batch size that the file asks for, 1 where it is left open.
    """

    model: Any
    graph: FlatGraph
    names: tuple[str, ...]
    outputs: tuple[int, ...]
    images: int


def read_network(model: Any, where: str) -> OnnxNetwork:
    """Read a ModelProto that onnx_reader.py has parsed.

    Raises:
        InputError: an operation is none that a base network has, its weights are computed, damaged
            or no float32; the network takes something else than one image of 448 × 448. The
            message begins with `where` and names the node.
    """
    reading = Reading(model, where)
    needed = _needed(model)
    for node in model.graph.node:
        if needed.isdisjoint(node.output) or reading.fold(node):
            continue
        if node.op_type not in OPERATORS:
            raise reading.refusal(
                node,
                "is no operation of a base network: those are convolutions, BatchNorm, "
                "activations, sums, products, pools, slices and linear layers",
            )
        value = OPERATORS[node.op_type](reading, node)
        if value is not None:  # a Split has named its own
            reading.name(node.output[0], value)
    names = tuple(value.name for value in model.graph.output)
    for name in names:
        if name not in reading.values:
            raise InputError(f"{where}: its output {name!r} does not depend on the image")
    outputs = tuple(reading.values[name] for name in names)
    return OnnxNetwork(model, reading.graph, names, outputs, reading.graph.shape(0)[0])


def _needed(model: Any) -> set[str]:
    """The tensors on which the outputs depend."""
    needed = {value.name for value in model.graph.output}
    for node in reversed(model.graph.node):
        if not needed.isdisjoint(node.output):
            needed.update(node.input)
    return needed
