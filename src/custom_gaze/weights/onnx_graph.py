"""An ONNX graph while it is read: what is known of its tensors, and what was made of it."""

from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from custom_gaze.common.errors import InputError
from custom_gaze.models.graph import Setting
from custom_gaze.models.onnx_check import label
from custom_gaze.weights.flat_graph import FlatGraph
from custom_gaze.weights.onnx_fold import MAX_FOLDED, attribute, fold, to_array

SIZE_PX = 448
MOST_IMAGES = 64  # of a fixed batch


def image_shape(value: Any, where: str) -> tuple[int, int, int, int]:
    """What the ValueInfo of a network's input asks for, a batch that is left open being 1.

    Raises:
        InputError: it is no float32 image of 448 × 448.
    """
    sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]
    if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise InputError(f"{where}: its input {value.name!r} is not float32")
    if len(sizes) != 4 or any(
        size not in (0, wanted)
        for size, wanted in zip(sizes[1:], (3, SIZE_PX, SIZE_PX), strict=True)
    ):
        shape = " × ".join(str(size or "?") for size in sizes)
        raise InputError(
            f"{where}: takes images of {shape}, but the app feeds 1 × 3 × {SIZE_PX} × {SIZE_PX}"
        )
    if not 0 <= sizes[0] <= MOST_IMAGES:
        raise InputError(f"{where}: takes {sizes[0]} images at once; export it for one")
    return sizes[0] or 1, 3, SIZE_PX, SIZE_PX


class Reading:
    """A graph while it is read.

    Attributes:
        graph: what was made of it so far.
        values: the tensors that depend on the image, by name → their value's number.
        constants: the others.
    """

    def __init__(self, model: Any, where: str) -> None:
        self.where = where
        weights = model.graph.initializer
        self.constants = {tensor.name: to_array(tensor, where) for tensor in weights}
        inputs = [value for value in model.graph.input if value.name not in self.constants]
        if len(inputs) != 1:
            raise InputError(
                f"{where}: has {len(inputs)} inputs; a base network has one, the image"
            )
        self.graph = FlatGraph(where, image_shape(inputs[0], where), inputs[0].name)
        self.values = {inputs[0].name: 0}
        self._folded = 0  # values of weights that are no views of stored ones

    def fold(self, node: Any) -> bool:
        """Whether a node needed no image; its value is a constant then."""
        if node.op_type in ("Shape", "Size") and node.input[0] in self.values:
            sizes = np.array(self.graph.shape(self.values[node.input[0]]), np.int64)
            kept = sizes[attribute(node, "start", 0) : attribute(node, "end", None)]
            self.constants[node.output[0]] = (
                kept if node.op_type == "Shape" else np.array(np.prod(sizes), np.int64)
            )
            return True
        found = fold(node, self.constants, self.where)
        if found is None:
            return False
        stored = self.constants.get(next(iter(node.input), ""))
        if stored is None or not np.may_share_memory(found, stored):
            self._folded += found.size
        if self._folded > MAX_FOLDED:
            raise InputError(f"{self.where}: computes more weights than a network has")
        self.constants[node.output[0]] = found
        return True

    def name(self, tensor: str, value: int) -> None:
        """Let a tensor of the file be a value; comparisons are made where both are the same."""
        self.values[tensor] = value
        self.graph.labels[value] = tensor

    def refusal(self, node: Any, reason: str) -> InputError:
        """The error for a node, in one line."""
        return InputError(f"{self.where}: {label(node)} {reason}")

    def value(self, node: Any, index: int = 0) -> int:
        """The number of the value that a node reads as its input `index`.

        Raises:
            InputError: it is a constant, or left out.
        """
        name = node.input[index] if index < len(node.input) else ""
        if name not in self.values:
            raise self.refusal(node, f"reads {name!r}, which does not depend on the image")
        return self.values[name]

    def given(self, node: Any, index: int) -> NDArray[Any] | None:
        """The constant that a node reads as its input `index`; None where it is left out.

        Raises:
            InputError: it is computed from the image.
        """
        name = node.input[index] if index < len(node.input) else ""
        if not name:
            return None
        if name not in self.constants:
            raise self.refusal(node, f"has a weight {name!r} that is computed")
        return self.constants[name]

    def weight(self, node: Any, index: int) -> Tensor | None:
        """The same as a weight of its own memory.

        Raises:
            InputError: it is computed, no float32, or not finite.
        """
        values = self.given(node, index)
        if values is None:
            return None
        name = node.input[index]
        if values.dtype != np.float32:
            raise InputError(
                f"{self.where}: weight {name!r} is {values.dtype}, but must be float32; export "
                "the network without quantisation or half precision"
            )
        if not np.isfinite(values).all():
            raise InputError(f"{self.where}: weight {name!r} holds NaN or infinity")
        return torch.from_numpy(np.array(values))

    def numbers(self, node: Any, name: str, index: int) -> list[int] | None:
        """Whole numbers that are an attribute in older opsets and an input in newer ones."""
        values = self.given(node, index)
        listed = attribute(node, name, None) if values is None else values.ravel().tolist()
        return None if listed is None else [int(number) for number in listed]

    def add(
        self,
        node: Any,
        operation: str,
        inputs: tuple[int, ...],
        settings: dict[str, Setting] | None = None,
        tensors: dict[str, Tensor] | None = None,
    ) -> int:
        """Append an operation; a message calls it as the file calls the node."""
        return self.graph.add(operation, inputs, settings, tensors, said=label(node))
