"""Whether a graph is one of the trunks that have names, and then its weights by these names.

Two graphs compute alike where each value has the same signature: a digest of its operation and of
the signatures that go in. So neither the order of a file's nodes nor the names of its weights
matters. In layer1's first block of a ResNet-50, for one, conv3 and the downsample have one shape
and one stride; what tells them apart is what they read. Names lie where an exporter folded
BatchNorm into `conv1.weight` and left it its name.
"""

import hashlib
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from custom_gaze.models.graph import Node
from custom_gaze.weights.base import checked_state
from custom_gaze.weights.families import EPSILON, named_graph
from custom_gaze.weights.flat_graph import BATCHNORM, FlatGraph

# Number of convolutions → the trunks that have so many.
CANDIDATES = {
    20: ("resnet18", "slim18"),
    36: ("resnet34",),
    53: ("resnet50",),
    104: ("resnet101",),
    155: ("resnet152",),
}
COMMUTATIVE = ("add", "multiply", "maximum", "minimum")


@dataclass(frozen=True)
class Named:
    """What was recognised.

    `tensors`: name of each module whose output is compared → the tensor in the file that equals it,
    in the order of the forward pass; the modules are the BatchNorms.
    """

    trunk: str  # a name from TRUNKS
    state: dict[str, Tensor]  # as in BaseNetwork.trunk_state
    folded: bool  # at least one BatchNorm was folded into its convolution
    tensors: dict[str, str]


@dataclass(frozen=True)
class _Unit:
    """The values of a convolution and of the BatchNorm behind it, None where that was folded."""

    convolution: int
    norm: int | None


def recognised(graph: FlatGraph, features: int) -> Named | None:
    """The named trunk that gives the value `features` of a file's graph, where it is one.

    A BatchNorm that was folded away becomes an identity with the folded bias: mean 0, variance 1,
    weight √(1 + ε), for the layer divides by √(variance + ε).

    Raises:
        InputError: it is one, but its numbers are damaged.
    """
    ours = _signatures(graph, features)
    units = _units(graph, ours)
    for trunk in CANDIDATES.get(len(units), ()):
        names, wanted = _twin(trunk)
        if wanted != ours[features] or units.keys() != names.keys():
            continue
        state: dict[str, Tensor] = {}
        tensors = {}
        for signature, (convolution, norm) in names.items():
            unit = units[signature]
            numbers = _unit_state(graph, unit)
            if numbers is None:
                return None
            state[f"{convolution}.weight"] = graph.tensors[unit.convolution - 1]["weight"]
            state |= {f"{norm}.{key}": value for key, value in numbers.items()}
            tensors[norm] = graph.labels[unit.norm or unit.convolution]
        folded = any(unit.norm is None for unit in units.values())
        return Named(trunk, checked_state(trunk, state, graph.where), folded, tensors)
    return None


@cache
def _twin(trunk: str) -> tuple[dict[str, tuple[str, str]], str]:
    """Signature of each convolution → its name and its BatchNorm's; the features' signature."""
    graph, features = named_graph(trunk)
    signatures = _signatures(graph, features)
    names = {
        signature: (graph.labels[unit.convolution], graph.labels[unit.norm or 0])
        for signature, unit in _units(graph, signatures).items()
    }
    return names, signatures[features]


def _signatures(graph: FlatGraph, features: int) -> dict[int, str]:
    """By value. A BatchNorm has that of what it reads, for it may have been folded away."""
    found = {0: "image"}
    for value in graph.ancestors([features]):
        node = graph.nodes[value - 1]
        read = [found[number] for number in node.inputs]
        if node.operation == BATCHNORM:
            found[value] = read[0]
            continue
        if node.operation in COMMUTATIVE:
            read.sort()
        settings = sorted((k, v) for k, v in node.settings.items() if k != "bias")
        said = repr((node.operation, settings, read))
        found[value] = hashlib.sha256(said.encode()).hexdigest()
    return found


def _units(graph: FlatGraph, signatures: dict[int, str]) -> dict[str, _Unit]:
    units: dict[str, _Unit] = {}
    for value, signature in signatures.items():
        node: Node | None = graph.node(value)
        if node is None:
            continue
        if node.operation == "convolution":
            units[signature] = _Unit(value, None)
        elif node.operation == BATCHNORM and signature in units:
            units[signature] = _Unit(units[signature].convolution, value)
    return units


def _unit_state(graph: FlatGraph, unit: _Unit) -> dict[str, Tensor] | None:
    """The BatchNorm's four; None where a variance would be negative."""
    bias = graph.tensors[unit.convolution - 1].get("bias")
    channels = len(graph.tensors[unit.convolution - 1]["weight"])
    if unit.norm is None:
        ones, zeros = torch.ones(channels), torch.zeros(channels)
        weight = torch.full((channels,), (1 + EPSILON) ** 0.5)
        shift = zeros if bias is None else bias
        return {"weight": weight, "bias": shift, "running_mean": zeros, "running_var": ones}
    state = dict(graph.tensors[unit.norm - 1])
    more = float(graph.nodes[unit.norm - 1].settings["epsilon"]) - EPSILON  # type: ignore[arg-type]
    if abs(more) > 1e-9:  # of another framework: the sum is what counts
        state["running_var"] = state["running_var"] + more
        if (state["running_var"] < 0).any():
            return None
    if bias is not None:
        state["running_mean"] = state["running_mean"] - bias  # it only shifts the mean
    return state
