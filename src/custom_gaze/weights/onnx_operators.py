"""Each ONNX operator as operations of ours, or why it cannot be one."""

from math import inf
from typing import Any

import torch

from custom_gaze.models.graph import Setting
from custom_gaze.weights.flat_graph import BATCHNORM
from custom_gaze.weights.onnx_arranging import ARRANGING, Handler
from custom_gaze.weights.onnx_fold import attribute
from custom_gaze.weights.onnx_graph import Reading


def _same(reading: Reading, node: Any) -> int:
    return reading.value(node)


def _cast(reading: Reading, node: Any) -> int:
    if attribute(node, "to", 1) != 1:
        raise reading.refusal(node, "computes in another type than float32")
    return reading.value(node)


def _plain(operation: str) -> Handler:
    return lambda reading, node: reading.add(node, operation, (reading.value(node),))


def _with(operation: str, **numbers: tuple[str, float]) -> Handler:
    """An activation with settings: ours → the attribute's name and default."""

    def read(reading: Reading, node: Any) -> int:
        settings: dict[str, Setting] = {
            ours: float(attribute(node, theirs, default))
            for ours, (theirs, default) in numbers.items()
        }
        return reading.add(node, operation, (reading.value(node),), settings)

    return read


def _clip(reading: Reading, node: Any) -> int:
    bounds = []
    for index, (name, default) in enumerate((("min", -inf), ("max", inf)), start=1):
        values = reading.given(node, index)
        bounds.append(float(attribute(node, name, default) if values is None else values.item()))
    settings: dict[str, Setting] = {"lowest": bounds[0], "highest": bounds[1]}
    return reading.add(node, "clip", (reading.value(node),), settings)


def _gelu(reading: Reading, node: Any) -> int:
    if attribute(node, "approximate", "none") != "none":
        raise reading.refusal(node, "approximates by a tangent, which is not known here")
    return reading.add(node, "gelu", (reading.value(node),))


def _prelu(reading: Reading, node: Any) -> int:
    slopes = reading.weight(node, 1)
    x = reading.value(node)
    if slopes is None or slopes.numel() not in (1, reading.graph.shape(x)[1]):
        raise reading.refusal(node, "has slopes that are not one a channel")
    tensors = {"weight": slopes.reshape(-1)}
    return reading.add(node, "prelu", (x,), {"channels": slopes.numel()}, tensors)


def _window(reading: Reading, node: Any, kernel: list[int], x: int) -> tuple[list[int], list[int]]:
    """Strides and pads [top, left, bottom, right] of a convolution or a pool."""
    strides = list(attribute(node, "strides", [1, 1]))
    dilations = list(attribute(node, "dilations", [1, 1]))
    automatic = attribute(node, "auto_pad", "NOTSET")
    if len(kernel) != 2 or len(reading.graph.shape(x)) != 4:
        raise reading.refusal(node, "does not work on images")
    if automatic in ("NOTSET", ""):
        return strides, list(attribute(node, "pads", [0, 0, 0, 0]))
    if automatic == "VALID":
        return strides, [0, 0, 0, 0]
    missing = []
    for size, k, stride, dilation in zip(
        reading.graph.shape(x)[2:], kernel, strides, dilations, strict=True
    ):
        reach = (k - 1) * dilation + 1
        missing.append(max((-(-size // stride) - 1) * stride + reach - size, 0))
    less, more = [size // 2 for size in missing], [size - size // 2 for size in missing]
    return strides, less + more if automatic == "SAME_UPPER" else more + less


def _padded(
    reading: Reading, node: Any, x: int, pads: list[int], value: float
) -> tuple[int, tuple[int, int]]:
    """x and what is left to pad evenly: uneven pads become an operation of their own."""
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return x, (top, left)
    sizes: dict[str, Setting] = {"sizes": (left, right, top, bottom), "value": value}
    return reading.add(node, "pad", (x,), sizes), (0, 0)


def _convolution(reading: Reading, node: Any) -> int:
    weight, bias = reading.weight(node, 1), reading.weight(node, 2)
    if weight is None or weight.ndim != 4:
        shape = None if weight is None else tuple(weight.shape)
        raise reading.refusal(node, f"has weights of shape {shape}, not those of images")
    x, kernel = reading.value(node), list(weight.shape[2:])
    groups = int(attribute(node, "group", 1))
    strides, pads = _window(reading, node, kernel, x)
    channels = reading.graph.shape(x)[1]
    if weight.shape[1] * groups != channels or len(weight) % groups:
        raise reading.refusal(
            node, f"has weights of shape {tuple(weight.shape)}, but gets {channels} channels"
        )
    if bias is not None and tuple(bias.shape) != (len(weight),):
        raise reading.refusal(node, f"has biases of shape {tuple(bias.shape)}")
    x, padding = _padded(reading, node, x, pads, 0.0)
    settings: dict[str, Setting] = {
        "inputs": channels,
        "outputs": len(weight),
        "kernel": tuple(kernel),
        "stride": tuple(strides),
        "padding": padding,
        "dilation": tuple(attribute(node, "dilations", [1, 1])),
        "groups": groups,
        "bias": int(bias is not None),
    }
    tensors = {"weight": weight} | ({} if bias is None else {"bias": bias})
    return reading.add(node, "convolution", (x,), settings, tensors)


def _batchnorm(reading: Reading, node: Any) -> int:
    # Up to opset 13 training mode shows only in that the new statistics are outputs too.
    if attribute(node, "training_mode", 0) or sum(map(bool, node.output)) > 1:
        raise reading.refusal(
            node,
            "is in training mode, so the network's output depends on the other images of a "
            "batch; export it in eval mode",
        )
    x, tensors = reading.value(node), {}
    for index, name in enumerate(("weight", "bias", "running_mean", "running_var"), start=1):
        tensor = reading.weight(node, index)
        if tensor is None or tuple(tensor.shape) != (reading.graph.shape(x)[1],):
            raise reading.refusal(node, "lacks one of its four weights, or it has another shape")
        tensors[name] = tensor
    if (tensors["running_var"] < 0).any():
        raise reading.refusal(node, "holds negative variances; the file is damaged")
    settings: dict[str, Setting] = {"epsilon": float(attribute(node, "epsilon", 1e-5))}
    return reading.add(node, BATCHNORM, (x,), settings, tensors)


def _gemm(reading: Reading, node: Any) -> int:
    weight, bias = reading.weight(node, 1), reading.weight(node, 2)
    plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
    if weight is None or not plain or attribute(node, "transA", 0) or weight.ndim != 2:
        raise reading.refusal(node, "is no plain linear layer")
    weight = weight if attribute(node, "transB", 0) else weight.T.contiguous()
    if bias is not None:
        try:
            bias = torch.broadcast_to(bias, (1, len(weight))).reshape(-1).clone()
        except RuntimeError:
            raise reading.refusal(node, f"has biases of shape {tuple(bias.shape)}") from None
    return _linear(reading, node, reading.value(node), weight, bias)


def _linear(
    reading: Reading, node: Any, x: int, weight: torch.Tensor, bias: torch.Tensor | None
) -> int:
    shape = reading.graph.shape(x)
    if len(shape) != 2 or shape[1] != weight.shape[1]:
        raise reading.refusal(
            node, f"has weights of shape {tuple(weight.shape)}, but gets a tensor of {shape}"
        )
    settings: dict[str, Setting] = {"inputs": weight.shape[1], "outputs": len(weight)}
    tensors = {"weight": weight} | ({} if bias is None else {"bias": bias})
    return reading.add(node, "linear", (x,), {**settings, "bias": len(tensors) - 1}, tensors)


def _matmul(reading: Reading, node: Any) -> int:
    if all(name in reading.values for name in node.input):
        raise reading.refusal(
            node, "multiplies two computed tensors, as attention does; base networks have none"
        )
    weight = reading.weight(node, 1)
    if weight is None or weight.ndim not in (1, 2):
        raise reading.refusal(node, "is no plain linear layer")
    x = reading.value(node)
    if weight.ndim == 2:
        return _linear(reading, node, x, weight.T.contiguous(), None)
    value = _linear(reading, node, x, weight[None], None)
    return reading.add(node, "reshape", (value,), {"sizes": ()})


def _binary(operation: str) -> Handler:
    def read(reading: Reading, node: Any) -> int:
        if len(node.input) != 2:
            raise reading.refusal(node, f"reads {len(node.input)} tensors, where two are needed")
        if all(name in reading.values for name in node.input):
            inputs = (reading.value(node, 0), reading.value(node, 1))
            return reading.add(node, operation, inputs)
        before = node.input[0] not in reading.values
        x, other = reading.value(node, int(before)), reading.weight(node, 1 - int(before))
        assert other is not None
        return _with_constant(reading, node, operation, x, other, before)

    return read


def _with_constant(
    reading: Reading, node: Any, operation: str, x: int, other: torch.Tensor, before: bool
) -> int:
    """The simplest that it is: nothing, a linear layer's bias, or an operation with a constant."""
    graph, neutral = reading.graph, {"add": 0.0, "multiply": 1.0}.get(operation)
    fits = other.ndim <= 1 and other.numel() in (1, graph.shape(x)[-1])
    if fits and neutral is not None and bool((other == neutral).all()):
        return x
    last = graph.node(x)
    is_linear = last is not None and last.operation == "linear" and not last.settings["bias"]
    if (
        operation == "add"
        and is_linear
        and tuple(other.shape) in (graph.shape(x)[1:], (1, *graph.shape(x)[1:]))
    ):
        assert last is not None
        tensors = {**graph.tensors[x - 1], "bias": other.reshape(-1)}
        return reading.add(node, "linear", last.inputs, {**last.settings, "bias": 1}, tensors)
    settings: dict[str, Setting] = {"sizes": tuple(other.shape), "before": int(before)}
    return reading.add(node, operation, (x,), settings, {"other": other})


def _sum(reading: Reading, node: Any) -> int:
    value = reading.value(node)
    for index in range(1, len(node.input)):
        value = reading.add(node, "add", (value, reading.value(node, index)))
    return value


def _pool(operation: str) -> Handler:
    def read(reading: Reading, node: Any) -> int:
        x, kernel = reading.value(node), list(attribute(node, "kernel_shape", []))
        strides, pads = _window(reading, node, kernel, x)
        if any(size != 1 for size in attribute(node, "dilations", [1, 1])):
            raise reading.refusal(node, "is a pool with holes")
        ceil = int(attribute(node, "ceil_mode", 0))
        settings: dict[str, Setting] = {
            "kernel": tuple(kernel),
            "stride": tuple(strides),
            "ceil": ceil,
        }
        if operation == "average_pool":
            if tuple(kernel) == reading.graph.shape(x)[2:] and not any(pads):
                return reading.add(node, "average", (x,))
            counted = int(attribute(node, "count_include_pad", 0) or not any(pads))
            settings["count_padding"] = counted
            if pads[:2] != pads[2:] and not counted:
                raise reading.refusal(node, "pads unevenly and does not count that")
        x, padding = _padded(reading, node, x, pads, 0.0 if operation == "average_pool" else -inf)
        return reading.add(node, operation, (x,), {**settings, "padding": padding})

    return read


def _reduced(operation: str) -> Handler:
    """An average or a maximum over the image."""

    def read(reading: Reading, node: Any) -> int:
        x = reading.value(node)
        shape = reading.graph.shape(x)
        axes = reading.numbers(node, "axes", 1) or []
        if len(shape) < 3 or sorted(axis % len(shape) for axis in axes) != [*range(2, len(shape))]:
            kind = "average" if operation == "average" else "take the largest"
            raise reading.refusal(node, f"does not {kind} over the image")
        value = reading.add(node, operation, (x,))
        if attribute(node, "keepdims", 1):
            return value
        return reading.add(node, "reshape", (value,), {"sizes": shape[1:2]})

    return read


def _whole(operation: str) -> Handler:
    return lambda reading, node: reading.add(node, operation, (reading.value(node),))


OPERATORS: dict[str, Handler] = {
    "Identity": _same,
    "Dropout": _same,
    "CastLike": _same,
    "Cast": _cast,
    "Conv": _convolution,
    "BatchNormalization": _batchnorm,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Relu": _plain("relu"),
    "LeakyRelu": _with("leaky_relu", slope=("alpha", 0.01)),
    "Elu": _with("elu", alpha=("alpha", 1.0)),
    "Clip": _clip,
    "PRelu": _prelu,
    "Sigmoid": _plain("sigmoid"),
    "HardSigmoid": _with("hard_sigmoid", slope=("alpha", 0.2), offset=("beta", 0.5)),
    "HardSwish": _plain("hard_swish"),
    "Swish": _plain("silu"),
    "Mish": _plain("mish"),
    "Softplus": _plain("softplus"),
    "Gelu": _gelu,
    "Tanh": _plain("tanh"),
    "Erf": _plain("erf"),
    "Exp": _plain("exp"),
    "Sqrt": _plain("sqrt"),
    "Add": _binary("add"),
    "Sub": _binary("subtract"),
    "Mul": _binary("multiply"),
    "Div": _binary("divide"),
    "Pow": _binary("power"),
    "Max": _binary("maximum"),
    "Min": _binary("minimum"),
    "Sum": _sum,
    "MaxPool": _pool("max_pool"),
    "AveragePool": _pool("average_pool"),
    "GlobalAveragePool": _whole("average"),
    "GlobalMaxPool": _whole("largest"),
    "ReduceMean": _reduced("average"),
    "ReduceMax": _reduced("largest"),
    **ARRANGING,
}
