"""An ONNX file as a graph to be walked: refused where it is no plain one, constants resolved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of
from custom_gaze.common.untrusted import MOST_MODEL_BYTES, printable
from custom_gaze.models.onnx_check import check_graph, label, tensors_of
from custom_gaze.models.onnx_files import first_line

MAX_FOLDED = 2**24  # values; the largest weight of a ResNet-50 has 2.4 million


class OnnxGraph:
    """The main graph of a model, its weights in memory, Identity nodes seen through.

    Attributes:
        where: the file's name, for messages.
        model: the ModelProto, with external weights loaded into it.
        input: name of the only input that is no weight.
        outputs: names of the outputs, in order.
        constants: every tensor that does not depend on the input and can be had without computing.
    """

    def __init__(self, model: Any, where: str) -> None:
        self.where = where
        self.model = model
        self.constants: dict[str, NDArray[Any]] = {}
        self._aliases: dict[str, str] = {}
        self._folded = 0  # values of weights that are no views of stored ones
        self._producers: dict[str, Any] = {}
        for tensor in model.graph.initializer:
            self.constants[tensor.name] = to_array(tensor, where)
        inputs = [value.name for value in model.graph.input if value.name not in self.constants]
        if len(inputs) != 1:
            raise InputError(
                f"{where}: has {len(inputs)} inputs; a base network has one, the image"
            )
        self.input = inputs[0]
        self.outputs = [value.name for value in model.graph.output]
        for node in model.graph.node:
            self._add(node)

    def _add(self, node: Any) -> None:
        values = _fold(node, self.constants, self.where)
        if values is not None:
            stored = self.constants.get(next(iter(node.input), ""))
            if stored is None or not np.may_share_memory(values, stored):
                self._folded += values.size
            if self._folded > MAX_FOLDED:
                raise InputError(f"{self.where}: computes more weights than a network has")
            self.constants[node.output[0]] = values
        elif node.op_type == "Identity":
            self._aliases[node.output[0]] = self.resolve(node.input[0])
        self._producers.update({name: node for name in node.output if name})

    def resolve(self, tensor: str) -> str:
        """The tensor's name before all Identity nodes."""
        return self._aliases.get(tensor, tensor)

    def producer(self, tensor: str, *expected: str) -> Any:
        """The node that makes `tensor`, Identity nodes skipped; it has to be of an expected kind.

        Raises:
            InputError: it is of another kind, or there is none.
        """
        node = self._producers.get(self.resolve(tensor))
        if node is None or node.op_type not in expected:
            found = f"{label(node)} is there" if node is not None else f"it is {tensor!r}"
            raise InputError(
                f"{self.where}: is no ResNet with two gaze heads: where {' or '.join(expected)} "
                f"should give {tensor!r}, {found}"
            )
        return node

    def operation(self, tensor: str) -> str:
        """The kind of node that makes `tensor`, Identity skipped; '' for the graph's input."""
        node = self._producers.get(self.resolve(tensor))
        return "" if node is None else str(node.op_type)

    def constant(self, node: Any, index: int) -> NDArray[np.float32] | None:
        """The weight that is a node's input number `index`; None where it is left out.

        Raises:
            InputError: it is computed in the graph, no float32, or not finite.
        """
        name = node.input[index] if index < len(node.input) else ""
        if not name:
            return None
        values = self.constants.get(name)
        if values is None:
            raise InputError(f"{self.where}: {label(node)} has a weight {name!r} that is computed")
        if values.dtype != np.float32:
            raise InputError(
                f"{self.where}: weight {name!r} is {values.dtype}, but must be float32; export "
                "the network without quantisation or half precision"
            )
        if not np.isfinite(values).all():
            raise InputError(f"{self.where}: weight {name!r} holds NaN or infinity")
        return values


def parse_onnx(content: bytes, path: Path) -> tuple[OnnxGraph, str]:
    """Parse an ONNX file with one graph of standard operators; external weights are read too.

    Returns:
        The graph, and its source in words: the file's name, and name and SHA-256 of every file
        beside it that holds weights.

    Raises:
        InputError: it is damaged, has operators of its own, subgraphs or functions; its external
            weights are missing, cut short or lie outside the file's folder.
    """
    model = parse_model(content, f"{path}")
    check_graph(model, f"{path}")
    files = _load_external_weights(model, path)
    try:  # attributes of the right kind, each node behind those that feed it
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise InputError(f"{path}: is no valid ONNX: {first_line(error)}") from None
    source = [path.name, *(f"{file.name} (sha256 {sha256_of(file)})" for file in sorted(files))]
    return OnnxGraph(model, f"{path}"), " with ".join(source)


def parse_model(content: bytes, where: str) -> Any:
    """The ModelProto in `content`; nothing else is read.

    Raises:
        InputError: it is cut short, damaged or no ONNX.
    """
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf's DecodeError; protobuf is onnx's dependency and not ours
        raise InputError(f"{where}: is no ONNX file, or cut short or damaged") from None
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{where}: is no ONNX file, or one without a graph")
    return model


def _load_external_weights(model: Any, path: Path) -> set[Path]:
    """Read every weight beside the ONNX file `path` into the model, once all have been checked.

    Returns:
        The files that hold them.

    Raises:
        InputError: a file's name leads out of the folder, through a link too; it is missing or
            shorter than said; the weights are implausibly large.
    """
    external = [t for t in tensors_of(model) if t.data_location == onnx.TensorProto.EXTERNAL]
    places = [_place(tensor, path) for tensor in external]
    if sum(length for _, _, length in places) > MOST_MODEL_BYTES:
        raise InputError(f"{path}: declares more weights than any base network has")
    for tensor, (file, offset, length) in zip(external, places, strict=True):
        with file.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return {file for file, _, _ in places}


def _place(tensor: Any, path: Path) -> tuple[Path, int, int]:
    """Where a weight beside an ONNX file lies: the file, offset and length in bytes."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    where = f"{path}: weight {printable(tensor.name, 60)!r} lies in {printable(location, 100)!r}"
    folder = path.parent.resolve()
    file = folder / location.replace("\\", "/")
    try:
        inside = bool(location) and file.resolve().is_relative_to(folder)
        size = file.stat().st_size if inside and file.is_file() else None
    except (OSError, RuntimeError, ValueError):  # too long, a ring of links, a zero byte
        inside = False
    if not inside:
        raise InputError(f"{where}, which is outside the file's folder; that is never read")
    if size is None:
        raise InputError(f"{where}, which is not there; both files belong in one folder")
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries["length"]) if "length" in entries else size - offset
    except ValueError:
        raise InputError(f"{where}, but its offset or length is no number") from None
    if offset < 0 or length < 0 or offset + length > size:
        raise InputError(f"{where}, which is cut short: {size} bytes, {offset + length} needed")
    return file, offset, length


def to_array(tensor: Any, where: str) -> NDArray[Any]:
    """A TensorProto's values.

    Raises:
        InputError: their number does not fit the shape.
    """
    try:
        values: NDArray[Any] = numpy_helper.to_array(tensor)
    except Exception:  # whatever numpy or onnx says of a malformed tensor
        shape = tuple(tensor.dims)
        raise InputError(
            f"{where}: weight {printable(tensor.name, 60)!r} is damaged: its values do not fill "
            f"its shape {shape}"
        ) from None
    return values


def attribute(node: Any, name: str, default: Any) -> Any:
    """An attribute's value, lists as lists, text as str; `default` where it is left out."""
    for entry in node.attribute:
        if entry.name == name:
            value = onnx.helper.get_attribute_value(entry)
            return value.decode(errors="replace") if isinstance(value, bytes) else value
    return default


# What exporters put between a stored weight and the node that uses it. Nearly all are views; the
# others are counted together: a file cannot make them use much memory.
_FOLDS: dict[str, Callable[[Any, list[NDArray[Any]]], NDArray[Any]]] = {
    "Identity": lambda node, x: x[0],
    "Shape": lambda node, x: np.array(
        x[0].shape[attribute(node, "start", 0) : attribute(node, "end", None)], np.int64
    ),
    "Expand": lambda node, x: np.broadcast_to(
        x[0], np.broadcast_shapes(x[0].shape, tuple(int(size) for size in x[1]))
    ),
    "CastLike": lambda node, x: x[0].astype(np.float32, copy=False),
    "Reshape": lambda node, x: x[0].reshape([int(size) for size in x[1]]),
    "Transpose": lambda node, x: x[0].transpose(attribute(node, "perm", None)),
}


def _fold(node: Any, constants: dict[str, NDArray[Any]], where: str) -> NDArray[Any] | None:
    """The value of a node that needs no image, None where it needs one or is not understood."""
    if node.op_type == "Constant":
        return _constant_value(node, where)
    # CastLike's second input only lends its type, and everything that is computed is float32.
    needed = node.input[:1] if node.op_type == "CastLike" else node.input
    if node.op_type not in _FOLDS or not all(name in constants for name in needed):
        return None
    try:
        values = _FOLDS[node.op_type](node, [constants[name] for name in needed])
    except (ValueError, TypeError, IndexError) as error:
        raise InputError(f"{where}: {label(node)} makes no sense ({error})") from None
    if values.size > MAX_FOLDED:
        raise InputError(f"{where}: {label(node)} makes more values than any weight has")
    return values


def _constant_value(node: Any, where: str) -> NDArray[Any]:
    kinds: dict[str, type[np.generic]] = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    for entry in node.attribute:
        if entry.name == "value":
            return to_array(entry.t, where)
        if entry.name in kinds:
            return np.array(onnx.helper.get_attribute_value(entry), kinds[entry.name])
    raise InputError(f"{where}: {label(node)} holds no numbers")
