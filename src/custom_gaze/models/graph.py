"""A network as a list of nodes: plain data that a file can hold, and a module that can be trained.

What a base network of any architecture is turned into (weights/), and what base.pt and a checkpoint
keep of it. A node is one operation with its settings; its weights lie in a state dict under its
number. Nothing in it is code: what an operation does stands in operations.py.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from custom_gaze.models.operations import OPERATIONS

Setting = int | float | tuple[int, ...]

MOST_NODES = 5000
MOST_VALUES = 1 << 26  # of one tensor, 256 MB; the largest of a ResNet-50 at 448 has 3 million
MOST_MULTIPLICATIONS = 5e11  # of one image; a ResNet-152 at 448 has 5e10
LAYERS = ("layer1", "layer2", "layer3", "layer4")  # a quarter of the multiplications each


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        operation: a key of OPERATIONS.
        inputs: numbers of the values that it reads; value 0 is what goes into the list of nodes,
            value k what its k-th node gives.
        settings: the operation's, by name.
    """

    operation: str
    inputs: tuple[int, ...]
    settings: dict[str, int | float | tuple[int, ...]]


@dataclass(frozen=True)
class NodeList:
    """Nodes in the order in which they run; the last one's value comes out, or what went in where
    there are none."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class GraphTrunk:
    """A trunk of any architecture: images (N, 3, 448, 448) → features (N, `features`).

    `layers` are its four quarters by multiplications, as near as the network has a place to be cut:
    between two of them nothing but one tensor passes.
    """

    name: str  # of the architecture where it is known, else a few words
    layers: tuple[NodeList, ...]
    features: int

    def build(self) -> nn.Module:
        """The module with random weights: a row of LAYERS.

        Raises:
            ValueError: its nodes are no network.
        """
        if len(self.layers) != len(LAYERS):
            raise ValueError(f"a trunk of {len(self.layers)} layers")
        rows = [(name, NodeModule(nodes)) for name, nodes in zip(LAYERS, self.layers, strict=True)]
        return nn.Sequential(OrderedDict([*rows, ("flatten", nn.Flatten(1))]))

    def check(self, size_px: int) -> None:
        """Check that the nodes are a network for images of `size_px`; nothing is computed.

        Raises:
            ValueError: they are none, are no trunk, or would take more than any network does.
        """
        shape: tuple[int, ...] = (1, 3, size_px, size_px)
        work = 0.0
        for nodes in self.layers:
            for value in sizes_of(nodes, shape):
                shape, work = value.shape, work + value.multiplications
        if math.prod(shape[1:]) != self.features or work > MOST_MULTIPLICATIONS:
            raise ValueError("its trunk has other features than it says, or is too large")


class NodeModule(nn.ModuleList):
    """The nodes of a list as a module; its weights are named by the nodes' places, from 0 on."""

    def __init__(self, nodes: NodeList) -> None:
        """Build with random weights.

        Raises:
            ValueError: an operation is unknown, its settings are not its own, or it reads a value
                that comes later.
        """
        if len(nodes.nodes) > MOST_NODES:
            raise ValueError(f"a network of {len(nodes.nodes)} nodes")
        super().__init__([module_of(node) for node in nodes.nodes])
        self._inputs = [node.inputs for node in nodes.nodes]
        last_use: dict[int, int] = {}
        for number, inputs in enumerate(self._inputs, start=1):
            if not inputs or not all(0 <= value < number for value in inputs):
                raise ValueError("a node reads what comes later, or nothing")
            last_use |= dict.fromkeys(inputs, number)
        self._done: list[list[int]] = [[] for _ in range(len(self) + 1)]
        for value, number in last_use.items():
            self._done[number].append(value)

    def forward(self, x: Tensor) -> Tensor:
        """What the last node gives; each value is let go of after its last use."""
        values = {0: x}
        for number, (module, inputs) in enumerate(zip(self, self._inputs, strict=True), start=1):
            values[number] = module(*(values[value] for value in inputs))
            for value in self._done[number]:
                del values[value]
        return values[len(self)]


@dataclass(frozen=True)
class Value:
    """What a node gives for one image."""

    shape: tuple[int, ...]
    multiplications: float


def sizes_of(nodes: NodeList, shape: tuple[int, ...]) -> Iterator[Value]:
    """The value of each node for an input of `shape`; nothing is computed.

    Raises:
        ValueError: the nodes are no network for such an input, or make huge tensors.
    """
    shapes = [shape]
    with torch.device("meta"):
        module = NodeModule(nodes)
    for node, part in zip(nodes.nodes, module, strict=True):
        value = value_of(node, part, [shapes[number] for number in node.inputs])
        shapes.append(value.shape)
        yield value


def value_of(node: Node, module: nn.Module, shapes: list[tuple[int, ...]]) -> Value:
    """What a node gives for inputs of these shapes, by its module on the device "meta".

    Raises:
        ValueError: it does not take such inputs, mixes images of a batch, or gives a huge tensor.
    """
    try:
        with torch.no_grad():
            out = module(*(torch.empty(shape, device="meta") for shape in shapes))
    except (RuntimeError, ValueError, TypeError, IndexError, OverflowError) as error:
        given = " and ".join(str(shape) for shape in shapes)
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"cannot take tensors of {given} ({reason})") from None
    shape = tuple(out.shape)
    if not shape or shape[0] != shapes[0][0]:
        raise ValueError(f"does not keep the images of a batch apart ({shapes[0]} to {shape})")
    if math.prod(shape) > MOST_VALUES:
        raise ValueError(f"makes {math.prod(shape)} values, more than any network")
    return Value(shape, multiplications(module, shape))


def multiplications(module: nn.Module, shape: tuple[int, ...]) -> float:
    """Of a module that gives `shape`, for one image; those of element-wise operations are not worth
    counting."""
    if isinstance(module, nn.Conv2d):
        return float(math.prod(shape[1:]) * math.prod(module.weight.shape[1:]))
    if isinstance(module, nn.Linear):
        return float(math.prod(shape[1:]) * module.in_features)
    return 0.0


def module_of(node: Node) -> nn.Module:
    """A node's operation with random weights.

    Raises:
        ValueError: it is unknown, or its settings are not its own.
    """
    try:
        return OPERATIONS[node.operation](**node.settings)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"a node {node.operation[:40]!r} that makes no sense ({reason})") from None


def chained(first: NodeList, second: NodeList) -> NodeList:
    """Both lists as one, the second behind the first."""
    behind = len(first.nodes)
    moved = [
        Node(node.operation, tuple(value + behind for value in node.inputs), node.settings)
        for node in second.nodes
    ]
    return NodeList((*first.nodes, *moved))


def cut(nodes: NodeList, places: tuple[int, ...]) -> tuple[NodeList, ...]:
    """A list in parts that end with these values; between two parts only that one value passes."""
    ends = (0, *places, len(nodes.nodes))
    parts = []
    for start, stop in pairwise(ends):
        moved = [
            Node(node.operation, tuple(value - start for value in node.inputs), node.settings)
            for node in nodes.nodes[start:stop]
        ]
        parts.append(NodeList(tuple(moved)))
    return tuple(parts)
