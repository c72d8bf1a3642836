"""The networks that are known by name: their layers from a state dict's own keys.

ResNets of torchvision and L2CS-Net, MobileGaze's MobileNetV2 and MobileOne, by the names under
which the projects publish them. Sizes are read from the weights; what a state dict does not hold
(strides, order, epsilon) stands here.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.models.graph import Setting
from custom_gaze.models.network import trunk_spec
from custom_gaze.weights.flat_graph import BATCHNORM, FlatGraph

SIZE_PX = 448
EPSILON = 1e-5  # PyTorch's own
# MobileGaze's MobileNetV2: that of the BatchNorms in front of a ReLU6. No state dict says so.
MOBILENET_EPSILON = 1e-3
# (expansion, blocks, stride of the first)
MOBILENET_STAGES = ((1, 1, 1), (6, 2, 2), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1))
MOBILEONE_BLOCKS = (2, 8, 10, 1)
# Channels after the stem and after each stage.
MOBILEONES = {
    (48, 48, 128, 256, 1024): "mobileone_s0",
    (64, 96, 192, 512, 1280): "mobileone_s1",
    (64, 96, 256, 640, 2048): "mobileone_s2",
    (64, 128, 320, 768, 2048): "mobileone_s3",
    (64, 192, 448, 896, 2048): "mobileone_s4",
}


class Builder:
    """A graph made of a state dict's entries, which are all to be used."""

    def __init__(self, state: Mapping[str, Tensor], where: str) -> None:
        self.graph = FlatGraph(where, (1, 3, SIZE_PX, SIZE_PX))
        self._state, self._used = state, set[str]()

    def has(self, name: str) -> bool:
        """Whether there is an entry."""
        return name in self._state

    def tensor(self, name: str) -> Tensor:
        """An entry.

        Raises:
            InputError: there is none.
        """
        if name not in self._state:
            raise InputError(f"{self.graph.where}: lacks {printable(name, 80)}")
        self._used.add(name)
        return self._state[name]

    def left_over(self) -> list[str]:
        """The entries that were not used."""
        return [name for name in self._state if name not in self._used]

    def convolution(self, x: int, name: str, stride: int = 1) -> int:
        """A convolution that looks as far to each side; its groups follow from its weights."""
        weight = self.tensor(f"{name}.weight")
        channels = self.graph.shape(x)[1]
        if weight.ndim != 4 or weight.shape[1] == 0 or channels % weight.shape[1]:
            raise InputError(
                f"{self.graph.where}: {name}.weight has the shape {tuple(weight.shape)}, which "
                f"does not fit {channels} channels"
            )
        tensors = {"weight": weight}
        if self.has(f"{name}.bias"):
            tensors["bias"] = self.tensor(f"{name}.bias")
        kernel = tuple(weight.shape[2:])
        settings: dict[str, Setting] = {
            "inputs": channels,
            "outputs": len(weight),
            "kernel": kernel,
            "stride": (stride, stride),
            "padding": tuple(size // 2 for size in kernel),
            "dilation": (1, 1),
            "groups": channels // weight.shape[1],
            "bias": int("bias" in tensors),
        }
        return self.graph.add("convolution", (x,), settings, tensors, name)

    def norm(self, x: int, name: str, epsilon: float = EPSILON) -> int:
        """A BatchNorm."""
        names = ("weight", "bias", "running_mean", "running_var")
        tensors = {key: self.tensor(f"{name}.{key}") for key in names}
        channels = self.graph.shape(x)[1]
        for key, tensor in tensors.items():
            if tuple(tensor.shape) != (channels,):
                raise InputError(
                    f"{self.graph.where}: {name}.{key} has the shape {tuple(tensor.shape)}, not "
                    f"{(channels,)}"
                )
        variance = tensors["running_var"]
        if not variance.is_meta and (variance < 0).any():
            raise InputError(
                f"{self.graph.where}: {name}.running_var holds negative variances; the file is "
                "damaged"
            )
        return self.graph.add(BATCHNORM, (x,), {"epsilon": epsilon}, tensors, name)

    def pooled(self, x: int) -> int:
        """The average over the image, flat."""
        x = self.graph.add("average", (x,))
        return self.graph.add("reshape", (x,), {"sizes": self.graph.shape(x)[1:2]})


def resnet(builder: Builder) -> int:
    """A ResNet of any depth, or our own slim one, by torchvision's names; returns its features."""
    graph = builder.graph
    x = 0
    if builder.tensor("conv1.weight").shape[0] < 64:  # models/network.py: slim18
        halves = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
        x = graph.add("average_pool", (0,), {**halves, "ceil": 0, "count_padding": 1})
    x = builder.norm(builder.convolution(x, "conv1", 2), "bn1")
    x = graph.add("relu", (x,))
    window = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}
    x = graph.add("max_pool", (x,), {**window, "ceil": 0})
    for layer in range(1, 5):
        block = 0
        while builder.has(f"layer{layer}.{block}.conv1.weight"):
            x = _resnet_block(builder, x, f"layer{layer}.{block}", 1 if block or layer == 1 else 2)
            block += 1
    return builder.pooled(x)


def _resnet_block(builder: Builder, x: int, name: str, stride: int) -> int:
    deep = builder.has(f"{name}.conv3.weight")  # the one of 3 × 3 has the stride
    way = x
    for number in range(1, 4 if deep else 3):
        here = stride if number == (2 if deep else 1) else 1
        way = builder.norm(
            builder.convolution(way, f"{name}.conv{number}", here), f"{name}.bn{number}"
        )
        if number < (3 if deep else 2):
            way = builder.graph.add("relu", (way,))
    if builder.has(f"{name}.downsample.0.weight"):
        x = builder.convolution(x, f"{name}.downsample.0", stride)
        x = builder.norm(x, f"{name}.downsample.1")
    return builder.graph.add("relu", (builder.graph.add("add", (way, x)),))


def named_graph(trunk: str) -> tuple[FlatGraph, int]:
    """A trunk of models/network.py as a graph whose labels are its modules' names, without numbers
    in its tensors; and its features."""
    with torch.device("meta"):
        state = trunk_spec(trunk).build().state_dict()
    builder = Builder(state, trunk)
    features = resnet(builder)
    return builder.graph, features


def mobilenet(builder: Builder) -> int:
    """MobileGaze's MobileNetV2; returns its features."""
    x = _convolution6(builder, 0, "features.0", 2)
    number = 1
    for expansion, blocks, first in MOBILENET_STAGES:
        for block in range(blocks):
            name, stride, way = f"features.{number}.conv", 1 if block else first, x
            place = 0
            if expansion > 1:
                way, place = _convolution6(builder, way, f"{name}.0", 1), 1
            way = _convolution6(builder, way, f"{name}.{place}", stride)
            way = builder.convolution(way, f"{name}.{place + 1}")
            way = builder.norm(way, f"{name}.{place + 2}")
            same = builder.graph.shape(way) == builder.graph.shape(x)
            x = builder.graph.add("add", (x, way)) if same else way
            number += 1
    return builder.pooled(_convolution6(builder, x, f"features.{number}", 1))


def _convolution6(builder: Builder, x: int, name: str, stride: int) -> int:
    x = builder.norm(builder.convolution(x, f"{name}.0", stride), f"{name}.1", MOBILENET_EPSILON)
    return builder.graph.add("clip", (x,), {"lowest": 0.0, "highest": 6.0})


def mobileone(builder: Builder) -> int:
    """A MobileOne of MobileGaze, its branches merged or not; returns its features."""
    x = _mobileone_block(builder, 0, "stage0", 2)
    for stage, blocks in enumerate(MOBILEONE_BLOCKS, start=1):
        for block in range(2 * blocks):
            x = _mobileone_block(builder, x, f"stage{stage}.{block}", 1 if block else 2)
    return builder.pooled(x)


def _mobileone_block(builder: Builder, x: int, name: str, stride: int) -> int:
    """The sum of its branches, or what it was merged into; squeeze and excitation; ReLU."""
    graph = builder.graph
    if builder.has(f"{name}.reparam_conv.weight"):
        out = builder.convolution(x, f"{name}.reparam_conv", stride)
    else:
        names, number = [f"{name}.rbr_conv.0"], 1  # one there has to be
        while builder.has(f"{name}.rbr_conv.{number}.conv.weight"):
            names.append(f"{name}.rbr_conv.{number}")
            number += 1
        if builder.has(f"{name}.rbr_scale.conv.weight"):
            names.append(f"{name}.rbr_scale")
        branches = [
            builder.norm(builder.convolution(x, f"{branch}.conv", stride), f"{branch}.bn")
            for branch in names
        ]
        if builder.has(f"{name}.rbr_skip.weight"):
            branches.append(builder.norm(x, f"{name}.rbr_skip"))
        out = branches[0]
        for branch in branches[1:]:
            out = graph.add("add", (out, branch))
    if builder.has(f"{name}.se.reduce.weight"):
        gate = builder.convolution(graph.add("average", (out,)), f"{name}.se.reduce")
        gate = builder.convolution(graph.add("relu", (gate,)), f"{name}.se.expand")
        out = graph.add("multiply", (out, graph.add("sigmoid", (gate,))))
    return graph.add("relu", (out,))


def family_of(graph: FlatGraph, features: int) -> str | None:
    """The name of a MobileOne or MobileNetV2 by its convolutions' channels, branches merged."""
    widths = [
        int(graph.nodes[value - 1].settings["outputs"])  # type: ignore[arg-type]
        for value in graph.ancestors([features])
        if graph.nodes[value - 1].operation == "convolution" and graph.shape(value)[2] > 1
    ]
    known = {tuple(_mobileone_widths(sizes)): name for sizes, name in MOBILEONES.items()}
    return {**known, tuple(_mobilenet_widths()): "mobilenet_v2"}.get(tuple(widths))


def _mobileone_widths(sizes: tuple[int, ...]) -> list[int]:
    widths, channels = [sizes[0]], sizes[0]
    for blocks, wider in zip(MOBILEONE_BLOCKS, sizes[1:], strict=True):
        for _ in range(blocks):
            widths += [channels, wider]
            channels = wider
    return widths


def _mobilenet_widths() -> list[int]:
    widths, channels = [32], 32
    for (expansion, blocks, _), wider in zip(
        MOBILENET_STAGES, (16, 24, 32, 64, 96, 160, 320), strict=True
    ):
        for _block in range(blocks):
            hidden = channels * expansion
            widths += [hidden] * (2 if expansion > 1 else 1) + [wider]
            channels = wider
    return [*widths, 1280]
