"""A two-headed ResNet in ONNX → the weights of its PyTorch twin, found by walking the edges.

From the outputs back to the image: neither the order of the nodes nor the names of the weights
says which convolution is which. In layer1's first block of a ResNet-50, for one, conv3 and the
downsample have one shape and one stride; what tells them apart is that only conv3 has ReLUs on its
way from the block's input. Names lie where an exporter folded BatchNorm into `conv1.weight` and
left it its name.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from custom_gaze.common.errors import InputError
from custom_gaze.models.network import trunk_spec
from custom_gaze.models.onnx_check import label
from custom_gaze.weights.base import checked_state
from custom_gaze.weights.onnx_reader import OnnxGraph, attribute

# Number of blocks and of convolutions on a block's main path → trunk.
TRUNK_OF = {(8, 2): "resnet18", (16, 2): "resnet34", (16, 3): "resnet50"}
TORCH_EPS = 1e-5  # nn.BatchNorm2d's


@dataclass(frozen=True)
class Unit:
    """A convolution and the BatchNorm behind it, None where that was folded away."""

    convolution: Any
    batchnorm: Any | None
    source: str  # the tensor that goes in
    output: str  # the tensor that comes out of both


@dataclass(frozen=True)
class Block:
    """A residual block: ReLU(main path + shortcut)."""

    main: tuple[Unit, ...]
    downsample: Unit | None
    source: str


@dataclass(frozen=True)
class Head:
    """One output of the file: float32 weight (bins, features), bias (bins,)."""

    output: str
    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Walked:
    """What a file holds.

    `tensors`: name of each trunk module's output → the tensor in the graph that equals it, in the
    order of the forward pass; the modules are the BatchNorms.
    """

    trunk: str  # 'resnet18', 'resnet34' or 'resnet50'
    state: dict[str, Tensor]  # as in BaseNetwork.trunk_state
    heads: tuple[Head, Head]  # in the order of the file's outputs
    tensors: dict[str, str]
    folded: bool  # at least one BatchNorm was folded into its convolution


def walk(graph: OnnxGraph) -> Walked:
    """Turn the graph into the weights of a PyTorch network.

    Raises:
        InputError: it is no ResNet-18, -34 or -50 with two heads; a layer has another shape,
            stride or padding; BatchNorm is in training mode.
    """
    if len(graph.outputs) != 2:
        names = ", ".join(graph.outputs)
        raise InputError(
            f"{graph.where}: has {len(graph.outputs)} outputs ({names}), but a base network has "
            "two, the bins of yaw and of pitch"
        )
    pooled = [_head(graph, output) for output in graph.outputs]
    ends = {_pool(graph, tensor) for _, tensor in pooled}
    if len(ends) != 1:
        raise InputError(f"{graph.where}: its two outputs do not come from one trunk")
    stem, blocks = _trunk(graph, ends.pop())
    trunk = _trunk_name(graph, blocks)
    units = _named_units(graph, trunk, stem, blocks)
    state: dict[str, Tensor] = {}
    for (name, norm), unit in units.items():
        state |= _unit_state(graph, name, norm, unit)
    return Walked(
        trunk,
        checked_state(trunk, state, graph.where),
        (pooled[0][0], pooled[1][0]),
        {norm: unit.output for (_, norm), unit in units.items()},
        any(unit.batchnorm is None for unit in units.values()),
    )


def _head(graph: OnnxGraph, output: str) -> tuple[Head, str]:
    """The linear layer behind an output and the tensor it reads."""
    node = graph.producer(output, "Gemm", "MatMul", "Add")
    if node.op_type == "Gemm":
        source, weight, bias = _gemm(graph, node)
    else:
        source, weight, bias = _matmul(graph, node)
    if weight.ndim != 2:
        raise InputError(f"{graph.where}: {label(node)} has weights of shape {weight.shape}")
    if bias is None:
        bias = np.zeros(len(weight), np.float32)
    return Head(output, torch.from_numpy(weight.copy()), torch.from_numpy(bias.copy())), source


def _gemm(
    graph: OnnxGraph, node: Any
) -> tuple[str, NDArray[np.float32], NDArray[np.float32] | None]:
    weight, bias = graph.constant(node, 1), graph.constant(node, 2)
    plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
    if weight is None or not plain or attribute(node, "transA", 0):
        raise InputError(f"{graph.where}: {label(node)} is no plain linear layer")
    return node.input[0], weight if attribute(node, "transB", 0) else weight.T, bias


def _matmul(
    graph: OnnxGraph, node: Any
) -> tuple[str, NDArray[np.float32], NDArray[np.float32] | None]:
    """A linear layer in two steps: MatMul, then Add with the bias on either side."""
    bias = None
    if node.op_type == "Add":
        side = 0 if node.input[0] in graph.constants else 1
        bias = graph.constant(node, side)
        node = graph.producer(node.input[1 - side], "MatMul")
    weight = graph.constant(node, 1)
    if weight is None:
        raise InputError(f"{graph.where}: {label(node)} is no plain linear layer")
    return node.input[0], weight.T, bias


def _pool(graph: OnnxGraph, tensor: str) -> str:
    """Back through flattening and global average pooling to the trunk's last tensor."""
    while graph.operation(tensor) in ("Flatten", "Reshape", "Squeeze"):
        tensor = graph.producer(tensor, "Flatten", "Reshape", "Squeeze").input[0]
    node = graph.producer(tensor, "GlobalAveragePool", "ReduceMean")
    if node.op_type == "ReduceMean":
        listed = graph.constants.get(node.input[1]) if len(node.input) > 1 else None
        axes = attribute(node, "axes", []) if listed is None else listed.tolist()
        if sorted(axis % 4 for axis in axes) != [2, 3]:
            raise InputError(f"{graph.where}: {label(node)} does not average over the image")
    return graph.resolve(node.input[0])


def _trunk(graph: OnnxGraph, tensor: str) -> tuple[Unit, list[Block]]:
    """From the trunk's last tensor back to the image: the stem and the blocks, first to last."""
    blocks: list[Block] = []
    while graph.operation(tensor) != "MaxPool":
        relu = graph.producer(tensor, "Relu")
        blocks.insert(0, _block(graph, relu.input[0]))
        tensor = blocks[0].source
    pool = graph.producer(tensor, "MaxPool")
    wanted = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    _check_attributes(graph, pool, "maxpool", wanted)
    stem = _unit(graph, graph.producer(pool.input[0], "Relu").input[0])
    if stem.source != graph.input:
        raise InputError(
            f"{graph.where}: {label(stem.convolution)}, the first convolution, reads "
            f"{stem.source!r} and not the image {graph.input!r}"
        )
    return stem, blocks


def _block(graph: OnnxGraph, tensor: str) -> Block:
    """The block whose sum is `tensor`. The shortcut is the path with no ReLU on it."""
    add = graph.producer(tensor, "Add")
    paths = sorted((_path(graph, name) for name in add.input), key=lambda path: len(path[0]))
    (shortcut, source), (main, main_source) = paths
    if source != main_source or len(shortcut) > 1 or len(main) not in (2, 3):
        raise InputError(
            f"{graph.where}: {label(add)} does not join the two paths of a residual block "
            f"({len(main)} and {len(shortcut)} convolutions)"
        )
    return Block(tuple(main), shortcut[0] if shortcut else None, source)


def _path(graph: OnnxGraph, tensor: str) -> tuple[list[Unit], str]:
    """The units on the way from the block's input to `tensor`, and that input."""
    units: list[Unit] = []
    tensor = graph.resolve(tensor)
    while not _is_block_input(graph, tensor):
        if units:
            tensor = graph.producer(tensor, "Relu").input[0]
        units.insert(0, _unit(graph, tensor))
        tensor = units[0].source
    return units, tensor


def _is_block_input(graph: OnnxGraph, tensor: str) -> bool:
    if graph.operation(tensor) == "Relu":
        return graph.operation(graph.producer(tensor, "Relu").input[0]) == "Add"
    return graph.operation(tensor) == "MaxPool"


def _unit(graph: OnnxGraph, tensor: str) -> Unit:
    output = graph.resolve(tensor)
    norm = None
    if graph.operation(tensor) == "BatchNormalization":
        norm = graph.producer(tensor, "BatchNormalization")
        # Up to opset 13 training mode shows only in that the new statistics are outputs too.
        if attribute(norm, "training_mode", 0) or sum(map(bool, norm.output)) > 1:
            raise InputError(
                f"{graph.where}: {label(norm)} is in training mode, so the network's output "
                "depends on the other images of a batch; export it in eval mode"
            )
        tensor = norm.input[0]
    node = graph.producer(tensor, "Conv")
    return Unit(node, norm, graph.resolve(node.input[0]), output)


def _trunk_name(graph: OnnxGraph, blocks: list[Block]) -> str:
    widths = {len(block.main) for block in blocks}
    name = TRUNK_OF.get((len(blocks), widths.pop())) if len(widths) == 1 else None
    if name is None:
        shapes = ", ".join(str(len(block.main)) for block in blocks)
        raise InputError(
            f"{graph.where}: has {len(blocks)} residual blocks of {shapes} convolutions; known "
            "are ResNet-18 (8 of 2), ResNet-34 (16 of 2) and ResNet-50 (16 of 3)"
        )
    return name


def _named_units(
    graph: OnnxGraph, trunk: str, stem: Unit, blocks: list[Block]
) -> dict[tuple[str, str], Unit]:
    """(name of the convolution, name of its BatchNorm) in the trunk → unit, in forward order.

    Raises:
        InputError: a layer's shape, stride or padding is not the trunk's.
    """
    with torch.device("meta"):
        network = trunk_spec(trunk).build()
    units = {("conv1", "bn1"): stem}
    places = [
        f"layer{layer}.{number}"
        for layer in range(1, 5)
        for number in range(len(list(network.get_submodule(f"layer{layer}").children())))
    ]
    for place, block in zip(places, blocks, strict=True):
        for number, unit in enumerate(block.main, start=1):
            units[f"{place}.conv{number}", f"{place}.bn{number}"] = unit
        wanted = network.get_submodule(place).downsample is not None
        if wanted != (block.downsample is not None):
            has, needs = ("lacks", "has") if wanted else ("has", "lacks")
            raise InputError(f"{graph.where}: {place} {has} the downsample a {trunk} {needs} there")
        if block.downsample is not None:
            units[f"{place}.downsample.0", f"{place}.downsample.1"] = block.downsample
    for (name, _), unit in units.items():
        _check_convolution(graph, unit.convolution, name, network.get_submodule(name))
    return units


def _check_convolution(graph: OnnxGraph, node: Any, name: str, module: nn.Module) -> None:
    assert isinstance(module, nn.Conv2d)
    weight = graph.constant(node, 1)
    shape = None if weight is None else weight.shape
    if shape != tuple(module.weight.shape):
        raise InputError(
            f"{graph.where}: {label(node)} has weights of shape {shape}, but {name} of this "
            f"network has {tuple(module.weight.shape)}"
        )
    padding = [int(pad) for pad in module.padding]
    wanted = {
        "strides": list(module.stride),
        "pads": [*padding, *padding],
        "dilations": [1, 1],
        "group": 1,
    }
    _check_attributes(graph, node, name, wanted)


def _check_attributes(graph: OnnxGraph, node: Any, name: str, wanted: dict[str, Any]) -> None:
    defaults = {"strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1], "group": 1}
    fixed = {"auto_pad": "NOTSET", "ceil_mode": 0}  # a MaxPool's, and older convolutions'
    for key, value in {**wanted, **fixed}.items():
        found = attribute(node, key, defaults.get(key, fixed.get(key)))
        if found != value:
            raise InputError(
                f"{graph.where}: {label(node)} has {key} {found}, but {name} of this network has "
                f"{value}"
            )


def _unit_state(graph: OnnxGraph, name: str, norm: str, unit: Unit) -> dict[str, Tensor]:
    """Weights of a convolution and its BatchNorm.

    A BatchNorm that was folded away becomes an identity with the folded bias: its weight is
    √(1 + eps), for the layer divides by √(variance + eps).
    """
    weight = graph.constant(unit.convolution, 1)
    bias = graph.constant(unit.convolution, 2)
    assert weight is not None  # _check_convolution has seen it
    channels = len(weight)
    if bias is None:
        bias = np.zeros(channels, np.float32)
    if unit.batchnorm is None:
        scale = np.full(channels, np.sqrt(1 + TORCH_EPS), np.float32)
        values = [scale, bias, np.zeros(channels, np.float32), np.ones(channels, np.float32)]
    else:
        values = _batchnorm(graph, unit.batchnorm)
        if bias.shape != values[2].shape:
            raise InputError(
                f"{graph.where}: {label(unit.convolution)} has biases of shape {bias.shape}"
            )
        values[2] = values[2] - bias  # a bias before BatchNorm only shifts the mean
    names = ("weight", "bias", "running_mean", "running_var")
    state = {f"{norm}.{key}": value for key, value in zip(names, values, strict=True)}
    arrays = {f"{name}.weight": weight, **state}
    return {key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}


def _batchnorm(graph: OnnxGraph, node: Any) -> list[NDArray[np.float32]]:
    """[weight, bias, mean, variance]"""
    if abs(attribute(node, "epsilon", TORCH_EPS) - TORCH_EPS) > 1e-9:
        raise InputError(
            f"{graph.where}: {label(node)} has epsilon {attribute(node, 'epsilon', None):g}, but "
            f"PyTorch's ResNets have {TORCH_EPS:g}"
        )
    values = [graph.constant(node, index) for index in range(1, 5)]
    if any(value is None for value in values):
        raise InputError(f"{graph.where}: {label(node)} lacks one of its four weights")
    return [value for value in values if value is not None]
