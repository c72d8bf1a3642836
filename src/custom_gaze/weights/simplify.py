"""A network in its plainest form: BatchNorm folded, parallel convolutions as the one they are.

With its statistics fixed, BatchNorm is a scale and a shift for each channel, and convolutions of
one input that are added are one convolution (Ding et al. 2021, "RepVGG"; MobileOne's branches).
The network computes the same, faster, and the same whether a file came with or without them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from custom_gaze.models.graph import Node
from custom_gaze.weights.flat_graph import BATCHNORM, FlatGraph, rebuilt


def simplified(graph: FlatGraph, targets: list[int]) -> tuple[FlatGraph, list[int]]:
    """The same network without BatchNorm and with parallel convolutions merged, and its targets."""
    uses = graph.uses(targets)

    def fold(
        new: FlatGraph, node: Node, tensors: Mapping[str, Tensor], label: str, number: int
    ) -> int | None:
        if node.operation == BATCHNORM:
            before = new.node(node.inputs[0])
            once = uses[graph.nodes[number - 1].inputs[0]] == 1
            if once and before is not None and before.operation == "convolution":
                weight, bias = _weights(new, node.inputs[0])
                scale, shift = affine(tensors, float(node.settings["epsilon"]))  # type: ignore[arg-type]
                weight, bias = weight * scale[:, None, None, None], bias * scale + shift
                return _convolution(new, before, weight, bias, label)
        return _merged(new, node, label) if node.operation == "add" else None

    def scale(
        new: FlatGraph, node: Node, tensors: Mapping[str, Tensor], label: str, number: int
    ) -> int | None:
        if node.operation != BATCHNORM:
            return None
        weight, bias = affine(tensors, float(node.settings["epsilon"]))  # type: ignore[arg-type]
        weights = {"weight": weight.float(), "bias": bias.float()}
        return new.add("scale", node.inputs, {"channels": len(weight)}, weights, label)

    return rebuilt(*rebuilt(graph, targets, fold), scale)


def affine(tensors: Mapping[str, Tensor], epsilon: float) -> tuple[Tensor, Tensor]:
    """A BatchNorm with fixed statistics as scale and shift for each channel, float64."""
    mean, variance = tensors["running_mean"].double(), tensors["running_var"].double()
    scale = tensors["weight"].double() / torch.sqrt(variance + epsilon)
    return scale, tensors["bias"].double() - mean * scale


def _weights(graph: FlatGraph, value: int) -> tuple[Tensor, Tensor]:
    """A convolution's weight and bias in float64; zeros where it has none."""
    tensors = graph.tensors[value - 1]
    weight = tensors["weight"].double()
    bias = tensors.get("bias")
    return weight, torch.zeros(len(weight), dtype=torch.float64) if bias is None else bias.double()


def _convolution(graph: FlatGraph, like: Node, weight: Tensor, bias: Tensor, label: str) -> int:
    """Add a convolution as `like` with other weights, float64."""
    kernel = tuple(weight.shape[2:])
    padding: Any = like.settings["padding"]
    if kernel != like.settings["kernel"]:
        padding = tuple(size // 2 for size in kernel)
    settings = {**like.settings, "kernel": kernel, "padding": padding, "bias": 1}
    tensors = {"weight": weight.float(), "bias": bias.float()}
    return graph.add("convolution", like.inputs, settings, tensors, label)


def _merged(graph: FlatGraph, node: Node, label: str) -> int | None:
    """The one convolution that a sum of two branches is, or None."""
    if len(node.inputs) != 2:
        return None
    found = [graph.node(value) for value in node.inputs]
    likes = [n for n in found if n is not None and n.operation == "convolution"]
    if not likes or any(n is None for n in found) or not all(map(_centred, likes)):
        return None
    like = max(likes, key=lambda n: n.settings["kernel"])
    branches = []
    for value, branch in zip(node.inputs, found, strict=True):
        assert branch is not None
        weights = _as_convolution(graph, value, branch, like)
        if weights is None:
            return None
        branches.append(weights)
    (weight, bias), (more, shift) = branches
    return _convolution(graph, like, weight + more, bias + shift, label)


def _centred(node: Node) -> bool:
    """Whether a convolution looks as far to each side."""
    kernel: Any = node.settings["kernel"]
    halves = tuple(size // 2 for size in kernel)
    odd = all(size % 2 for size in kernel)
    return odd and node.settings["padding"] == halves and node.settings["dilation"] == (1, 1)


def _as_convolution(
    graph: FlatGraph, value: int, node: Node, like: Node
) -> tuple[Tensor, Tensor] | None:
    """A branch's weight and bias (float64) as a convolution with the kernel of `like`, or None."""
    same = ("inputs", "outputs", "stride", "groups")
    kernel: Any = like.settings["kernel"]
    if node.inputs != like.inputs:
        return None
    if node.operation == "convolution":
        if any(node.settings[name] != like.settings[name] for name in same):
            return None
        weight, bias = _weights(graph, value)
        high, wide = ((k - s) // 2 for k, s in zip(kernel, weight.shape[2:], strict=True))
        if high < 0 or wide < 0:
            return None
        return torch.nn.functional.pad(weight, (wide, wide, high, high)), bias
    inputs: Any = like.settings["inputs"]
    plain = inputs == like.settings["outputs"] and like.settings["stride"] == (1, 1)
    if node.operation != BATCHNORM or not plain:
        return None
    scale, shift = affine(graph.tensors[value - 1], float(node.settings["epsilon"]))  # type: ignore[arg-type]
    of_group = inputs // like.settings["groups"]
    weight = torch.zeros(inputs, of_group, *kernel, dtype=torch.float64)
    channel = torch.arange(inputs)
    weight[channel, channel % of_group, kernel[0] // 2, kernel[1] // 2] = scale
    return weight, shift
