"""ONNX operators that give the same numbers in another arrangement, as operations of ours.

Every image of a batch stays by itself: what would mix them is refused.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from custom_gaze.models.graph import Setting
from custom_gaze.weights.onnx_fold import attribute
from custom_gaze.weights.onnx_graph import Reading

Handler = Callable[[Reading, Any], int | None]


def _arranged(reading: Reading, node: Any) -> int:
    """Flatten, Reshape, Squeeze and Unsqueeze."""
    x = reading.value(node)
    shape = reading.graph.shape(x)
    sizes = list(shape)
    if node.op_type == "Flatten":
        axis = attribute(node, "axis", 1) % (len(shape) + 1)
        sizes = [int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))]
    elif node.op_type == "Reshape":
        wanted = reading.numbers(node, "shape", 1) or []
        if not attribute(node, "allowzero", 0) and len(wanted) <= len(shape):
            wanted = [shape[i] if size == 0 else size for i, size in enumerate(wanted)]
        rest = int(np.prod([size for size in wanted if size != -1]))
        total = int(np.prod(shape))
        sizes = [total // max(rest, 1) if size == -1 else size for size in wanted]
    else:
        axes = reading.numbers(node, "axes", 1)
        rank = len(shape) + (len(axes or []) if node.op_type == "Unsqueeze" else 0)
        places = {axis % rank for axis in axes or []}
        if node.op_type == "Squeeze":
            if axes is None:
                places = {axis for axis in range(rank) if axis and shape[axis] == 1}
            sizes = [size for axis, size in enumerate(shape) if axis not in places]
        else:
            left = iter(shape)
            sizes = [1 if axis in places else next(left) for axis in range(rank)]
    if not sizes or sizes[0] != shape[0]:
        raise reading.refusal(node, "does not keep the images of a batch apart")
    if tuple(sizes) == shape:
        return x
    return reading.add(node, "reshape", (x,), {"sizes": tuple(sizes[1:])})


def _transpose(reading: Reading, node: Any) -> int:
    x = reading.value(node)
    order = attribute(node, "perm", None) or [*reversed(range(len(reading.graph.shape(x))))]
    if order[0] != 0:
        raise reading.refusal(node, "does not keep the images of a batch apart")
    return reading.add(node, "transpose", (x,), {"axes": tuple(order[1:])})


def _axis(reading: Reading, node: Any, x: int, axis: int) -> int:
    axis %= len(reading.graph.shape(x))
    if axis == 0:
        raise reading.refusal(node, "does not keep the images of a batch apart")
    return axis


def _concatenate(reading: Reading, node: Any) -> int:
    inputs = tuple(reading.value(node, index) for index in range(len(node.input)))
    axis = _axis(reading, node, inputs[0], attribute(node, "axis", 1))
    return reading.add(node, "concatenate", inputs, {"axis": axis})


def _softmax(reading: Reading, node: Any) -> int:
    x = reading.value(node)
    axis = _axis(reading, node, x, attribute(node, "axis", -1))
    return reading.add(node, "softmax", (x,), {"axis": axis})


def _slice(reading: Reading, node: Any) -> int:
    x = reading.value(node)
    starts = reading.numbers(node, "starts", 1) or []
    stops = reading.numbers(node, "ends", 2) or []
    axes = reading.numbers(node, "axes", 3) or [*range(len(starts))]
    steps = reading.numbers(node, "steps", 4) or [1] * len(starts)
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        axis = _axis(reading, node, x, axis)
        if step < 1:
            raise reading.refusal(node, "goes backwards")
        size = reading.graph.shape(x)[axis]
        first, last, _ = slice(start, stop).indices(size)
        settings: dict[str, Setting] = {"axis": axis, "start": first, "stop": last, "step": step}
        x = reading.add(node, "slice", (x,), settings)
    return x


def _split(reading: Reading, node: Any) -> None:
    x = reading.value(node)
    axis = _axis(reading, node, x, attribute(node, "axis", 0))
    size, count = reading.graph.shape(x)[axis], len(node.output)
    sizes = reading.numbers(node, "split", 1) or [-(-size // count)] * count
    start = 0
    for name, wide in zip(node.output, sizes, strict=True):
        settings: dict[str, Setting] = {"axis": axis, "start": start, "stop": start + wide}
        reading.name(name, reading.add(node, "slice", (x,), settings))
        start += wide


def _gather(reading: Reading, node: Any) -> int:
    x, places = reading.value(node), reading.given(node, 1)
    axis = _axis(reading, node, x, attribute(node, "axis", 0))
    if places is None or places.size != 1:
        raise reading.refusal(node, "takes more than one place")
    shape = reading.graph.shape(x)
    place = int(places.item()) % shape[axis]
    x = reading.add(node, "slice", (x,), {"axis": axis, "start": place, "stop": place + 1})
    sizes = (*shape[1:axis], *places.shape, *shape[axis + 1 :])
    return reading.add(node, "reshape", (x,), {"sizes": sizes})


def _pad(reading: Reading, node: Any) -> int:
    x, pads = reading.value(node), reading.numbers(node, "pads", 1) or []
    filled = reading.given(node, 2)
    rank = len(reading.graph.shape(x))
    plain = attribute(node, "mode", "constant") == "constant" and len(pads) == 2 * rank
    if not plain or pads[0] or pads[rank] or len(node.input) > 3:
        raise reading.refusal(node, "pads in another way than with a constant around each image")
    sizes = [pads[axis + end] for axis in reversed(range(1, rank)) for end in (0, rank)]
    fill = attribute(node, "value", 0.0) if filled is None else filled.item()
    return reading.add(node, "pad", (x,), {"sizes": tuple(sizes), "value": float(fill)})


def _resize(reading: Reading, node: Any) -> int:
    x = reading.value(node)
    shape = reading.graph.shape(x)
    sizes, scales = reading.given(node, 3), reading.given(node, 2)
    wanted = [float(size) for size in sizes.tolist()] if sizes is not None else None
    if wanted is None and scales is not None:
        wanted = [np.floor(a * b) for a, b in zip(shape, scales.tolist(), strict=True)]
    mode = attribute(node, "mode", "nearest")
    how = attribute(node, "coordinate_transformation_mode", "half_pixel")
    nearest = attribute(node, "nearest_mode", "round_prefer_floor")
    known = {
        ("linear", "half_pixel"): ("resize_linear", 0),
        ("linear", "pytorch_half_pixel"): ("resize_linear", 0),
        ("linear", "align_corners"): ("resize_linear", 1),
        ("nearest", "asymmetric"): ("resize_nearest", 0),
    }.get((mode, how))
    plain = mode == "linear" or nearest == "floor"
    if wanted is None or len(wanted) != 4 or known is None or not plain:
        raise reading.refusal(node, f"resizes in a way that PyTorch does not ({mode}, {how})")
    if attribute(node, "antialias", 0) or tuple(wanted[:2]) != tuple(map(float, shape[:2])):
        raise reading.refusal(node, "resizes more than an image's height and width")
    operation, corners = known
    settings: dict[str, Setting] = {"sizes": (int(wanted[2]), int(wanted[3])), "corners": corners}
    return reading.add(node, operation, (x,), settings)


ARRANGING: dict[str, Handler] = {
    "Softmax": _softmax,
    "Flatten": _arranged,
    "Reshape": _arranged,
    "Squeeze": _arranged,
    "Unsqueeze": _arranged,
    "Transpose": _transpose,
    "Concat": _concatenate,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "Resize": _resize,
}
