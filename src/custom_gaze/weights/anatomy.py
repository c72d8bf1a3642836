"""Where a network's parts are: the pooled features, the trunk's quarters, the heads."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.models.graph import GraphTrunk, Node, NodeList, chained, cut
from custom_gaze.models.heads import BIN_LAYOUTS, bin_angles_deg
from custom_gaze.models.network import Trunk
from custom_gaze.weights.base_heads import AngleHead, Heads, bad_bins, bin_heads, checked_tensor
from custom_gaze.weights.families import family_of
from custom_gaze.weights.flat_graph import BATCHNORM, FlatGraph
from custom_gaze.weights.onnx_network import OnnxNetwork
from custom_gaze.weights.recognise import recognised
from custom_gaze.weights.simplify import simplified

QUARTERS = (0.25, 0.5, 0.75)
NEAR = 0.05  # of all multiplications: so far from its quarter a cut may be where it is cheaper


@dataclass(frozen=True)
class Anatomy:
    """What a file holds.

    Attributes:
        trunk, state, heads, folded: as in BaseNetwork.
        order: which of the file's outputs are yaw and pitch; (0,) where both are one output.
        tensors: name of each of the trunk's modules whose output is compared → the tensor in the
            file that equals it, in the order of the forward pass.
    """

    trunk: Trunk
    state: dict[str, Tensor]
    heads: Heads
    folded: bool
    order: tuple[int, ...]
    tensors: dict[str, str]


def anatomy_of(network: OnnxNetwork, order: tuple[int, ...]) -> Anatomy:
    """A file's trunk and heads. Of two outputs `order` says which are yaw and pitch.

    Raises:
        InputError: its outputs are neither two linear heads of bins nor two angles in one, or come
            from more than one pooled tensor.
    """
    raw = network.graph
    _check_outputs(network)
    features = pooled(raw, list(network.outputs))
    named = recognised(raw, features)
    graph, outputs = simplified(raw, list(network.outputs))
    features = pooled(graph, outputs)
    heads = _heads(graph, features, [outputs[place] for place in order])
    folded = not any(node.operation == BATCHNORM for node in raw.nodes)
    if named is not None:
        return Anatomy(named.trunk, named.state, heads, named.folded, order, named.tensors)
    trunk, state, tensors = graph_trunk(graph, features)
    return Anatomy(trunk, state, heads, folded, order, tensors)


def _check_outputs(network: OnnxNetwork) -> None:
    graph, where = network.graph, network.graph.where
    shapes = [graph.shape(value)[1:] for value in network.outputs]
    names = ", ".join(printable(name, 40) for name in network.names[:6])
    if len(shapes) == 1 and shapes[0] == (2,):
        return
    if len(shapes) != 2:
        count = f"{len(shapes)} output" + ("s" if len(shapes) != 1 else "")
        raise InputError(
            f"{where}: has {count} ({names}), but a base network has two, the bins of yaw and of "
            "pitch, or one of two angles"
        )
    for name, value in zip(network.names, network.outputs, strict=True):
        node = graph.node(value)
        if node is None or node.operation != "linear":
            found = "nothing" if node is None else f"{node.operation}"
            raise InputError(
                f"{where}: {printable(name, 40)!r} is no head of bins: where a linear layer should "
                f"give the bins' logits, {found} is there"
            )


def pooled(graph: FlatGraph, outputs: list[int]) -> int:
    """The pooled features: the first tensor without height and width that everything comes through.

    Raises:
        InputError: there is none.
    """
    flat = [v for v in graph.passages(outputs) if v and all(n == 1 for n in graph.shape(v)[2:])]
    if not flat:
        raise InputError(f"{graph.where}: its two outputs do not come from one trunk")
    found = flat[0]
    for value in flat[1:]:
        node = graph.nodes[value - 1]
        if node.operation != "reshape" or node.inputs != (found,):
            break
        found = value
    return found


def _heads(graph: FlatGraph, features: int, outputs: list[int]) -> Heads:
    """Two linear layers on the features as they are; whatever else as operations that end in two
    angles."""
    count = int(torch.Size(graph.shape(features)[1:]).numel())
    nodes = [graph.nodes[value - 1] for value in outputs]
    if len(outputs) == 2 and all(node.inputs == (features,) for node in nodes):
        pairs = [_linear(graph, value) for value in outputs]
        return bin_heads(pairs[0], pairs[1], count, graph.where)
    target = outputs[0]
    if len(outputs) == 2:
        angles = [_expected(graph, value) for value in outputs]
        target = graph.add("concatenate", angles, {"axis": 1})
    listed, state, _ = graph.part(features, target)
    if len(graph.shape(features)) > 2:  # the network gets the features flat
        flat = Node("reshape", (0,), {"sizes": graph.shape(features)[1:]})
        listed = chained(NodeList((flat,)), listed)
        state = {_moved(name): tensor for name, tensor in state.items()}
    where = graph.where
    return AngleHead(listed, {n: checked_tensor(t, n, where) for n, t in state.items()}, count)


def _moved(name: str) -> str:
    """A weight's name one node further."""
    place, _, rest = name.partition(".")
    return f"{int(place) + 1}.{rest}"


def _linear(graph: FlatGraph, value: int) -> tuple[Tensor, Tensor]:
    tensors = graph.tensors[value - 1]
    weight = tensors["weight"]
    return weight, tensors.get("bias", torch.zeros(len(weight)))


def _expected(graph: FlatGraph, logits: int) -> int:
    """The expectation of the bins' angles (N, 1) behind logits that are no head of their own."""
    bins = graph.shape(logits)[1]
    if bins not in BIN_LAYOUTS:
        raise InputError(f"{graph.where}: {bad_bins('a', bins)}")
    angles: Any = bin_angles_deg(bins, *BIN_LAYOUTS[bins])
    x = graph.add("softmax", (logits,), {"axis": 1})
    settings = {"inputs": bins, "outputs": 1, "bias": 0}
    return graph.add("linear", (x,), settings, {"weight": angles.float()[None]})


def graph_trunk(
    graph: FlatGraph, features: int
) -> tuple[GraphTrunk, dict[str, Tensor], dict[str, str]]:
    """A simplified graph's trunk, its weights, and its modules' names → labels.

    Raises:
        InputError: a weight is damaged.
    """
    nodes, state, labels = graph.part(0, features)
    places = _places(graph, features)
    convolutions = sum(node.operation == "convolution" for node in nodes.nodes)
    name = family_of(graph, features) or f"network of {convolutions} convolutions"
    count = int(torch.Size(graph.shape(features)[1:]).numel())
    trunk = GraphTrunk(name, cut(nodes, places), count)
    # Module k of the list is one of a layer's; the layers begin behind the places.
    module = {}
    for number in range(len(nodes.nodes)):
        layer = sum(number >= start for start in places)
        module[number] = f"layer{layer + 1}.{number - (0, *places)[layer]}"
    renamed = {}
    for key, tensor in state.items():
        place, _, rest = key.partition(".")
        name = f"{module[int(place)]}.{rest}"
        renamed[name] = checked_tensor(tensor, name, graph.where)
    tensors = {module[number]: label for number, label in enumerate(labels) if label}
    return trunk, renamed, tensors


def _places(graph: FlatGraph, features: int) -> tuple[int, int, int]:
    """Where the trunk's list is cut in quarters of its multiplications: at tensors that everything
    passes through, behind whatever follows a convolution and multiplies nothing. Near a quarter the
    smallest is best, for it is what is kept of every sample."""
    needed = graph.ancestors([features])
    done = graph.multiplications([features])
    total = done[features]
    passages = [v for v in graph.passages([features]) if done[v] < total] or [0]
    last = list({done[value]: value for value in passages}.values())
    places = []
    for quarter in QUARTERS:
        apart = {value: abs(done[value] - quarter * total) for value in last}
        near = [value for value in last if apart[value] <= NEAR * total]
        size = {value: torch.Size(graph.shape(value)[1:]).numel() for value in near}
        chosen = (
            min(near, key=lambda value: (size[value], apart[value]))
            if near
            else min(last, key=lambda value: apart[value])
        )
        places.append(needed.index(chosen) + 1 if chosen else 0)
    first, second, third = sorted(places)
    return first, second, third
