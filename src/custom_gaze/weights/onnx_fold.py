"""What of an ONNX graph depends on no image: weights, their rearrangements, sizes computed."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.models.onnx_check import label

MAX_FOLDED = 2**24  # values; the largest weight of a ResNet-50 has 2.4 million
Array = NDArray[Any]


def to_array(tensor: Any, where: str) -> Array:
    """A TensorProto's values.

    Raises:
        InputError: their number does not fit the shape.
    """
    try:
        values: Array = numpy_helper.to_array(tensor)
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


def _axes(node: Any, x: list[Array]) -> tuple[int, ...]:
    listed = x[1].tolist() if len(x) > 1 else attribute(node, "axes", [])
    return tuple(int(axis) for axis in listed)


def _sliced(node: Any, x: list[Array]) -> Array:
    starts, ends = (attribute(node, name, None) for name in ("starts", "ends"))
    if len(x) > 2:
        starts, ends = x[1].tolist(), x[2].tolist()
    axes = x[3].tolist() if len(x) > 3 else attribute(node, "axes", range(len(starts)))
    steps = x[4].tolist() if len(x) > 4 else [1] * len(starts)
    places = [slice(None)] * x[0].ndim
    for axis, *part in zip(axes, starts, ends, steps, strict=True):
        places[axis] = slice(*part)
    return x[0][tuple(places)]


def _cast(node: Any, x: list[Array]) -> Array:
    return x[0].astype(onnx.helper.tensor_dtype_to_np_dtype(attribute(node, "to", 1)), copy=False)


def _expand(node: Any, x: list[Array]) -> Array:
    return np.broadcast_to(x[0], np.broadcast_shapes(x[0].shape, tuple(int(size) for size in x[1])))


def _filled(node: Any, x: list[Array]) -> Array:
    fill = attribute(node, "value", None)
    value = np.zeros(1, np.float32) if fill is None else numpy_helper.to_array(fill)
    return np.broadcast_to(value.reshape(()), tuple(int(size) for size in x[0]))


def _reshape(node: Any, x: list[Array]) -> Array:
    sizes = [x[0].shape[i] if size == 0 else int(size) for i, size in enumerate(x[1])]
    return x[0].reshape(sizes)


# What exporters put between a stored weight and the node that uses it, and how they compute sizes.
# Nearly all are views or a few numbers; the others are counted together: a file cannot make them
# use much memory.
_FOLDS: dict[str, Callable[[Any, list[Array]], Array]] = {
    "Identity": lambda node, x: x[0],
    "Shape": lambda node, x: np.array(
        x[0].shape[attribute(node, "start", 0) : attribute(node, "end", None)], np.int64
    ),
    "Expand": _expand,
    "CastLike": lambda node, x: x[0].astype(np.float32, copy=False),
    "Cast": _cast,
    "ConstantOfShape": _filled,
    "Reshape": _reshape,
    "Transpose": lambda node, x: x[0].transpose(attribute(node, "perm", None)),
    "Squeeze": lambda node, x: np.squeeze(x[0], _axes(node, x) or None),
    "Unsqueeze": lambda node, x: np.expand_dims(x[0], _axes(node, x)),
    "Gather": lambda node, x: np.take(x[0], x[1], axis=attribute(node, "axis", 0)),
    "Concat": lambda node, x: np.concatenate(x, axis=attribute(node, "axis", 0)),
    "Slice": _sliced,
    "Add": lambda node, x: x[0] + x[1],
    "Sub": lambda node, x: x[0] - x[1],
    "Mul": lambda node, x: x[0] * x[1],
    "Div": lambda node, x: x[0] // x[1] if x[0].dtype.kind == "i" else x[0] / x[1],
    "Neg": lambda node, x: -x[0],
}


def fold(node: Any, constants: Mapping[str, Array], where: str) -> Array | None:
    """The value of a node that needs no image, None where it needs one or is not understood.

    Raises:
        InputError: it makes no sense, or more values than any weight has.
    """
    if node.op_type == "Constant":
        return _constant_value(node, where)
    # CastLike's second input only lends its type, and everything that is computed is float32.
    needed = node.input[:1] if node.op_type == "CastLike" else node.input
    if node.op_type not in _FOLDS or not all(name in constants for name in needed if name):
        return None
    given = [constants[name] for name in needed if name]
    try:
        sizes = np.broadcast_shapes(*(x.shape for x in given)) if node.op_type in _BROADCAST else ()
        if np.prod([float(size) for size in sizes]) > MAX_FOLDED:
            raise ValueError("too many values")
        with np.errstate(all="ignore"):
            values = _FOLDS[node.op_type](node, given)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        said = printable(error, 100)
        raise InputError(f"{where}: {label(node)} makes no sense ({said})") from None
    if values.size > MAX_FOLDED:
        raise InputError(f"{where}: {label(node)} makes more values than any weight has")
    return np.asarray(values)


_BROADCAST = ("Add", "Sub", "Mul", "Div")


def _constant_value(node: Any, where: str) -> Array:
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
