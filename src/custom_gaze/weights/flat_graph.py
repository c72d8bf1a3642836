"""A network read from a file, as one list of operations with their weights, sizes and labels.

What readers fill (ONNX, state dicts) and what is looked at to find a trunk's places: everything
here works on the numbers of values, as in models/graph.py; value 0 is the image.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from custom_gaze.common.errors import InputError
from custom_gaze.models.graph import (
    MOST_MULTIPLICATIONS,
    MOST_NODES,
    Node,
    NodeList,
    Setting,
    Value,
    module_of,
    value_of,
)

BATCHNORM = "batchnorm"  # of a file alone: simplify.py makes something else of it


class FlatGraph:
    """Operations in the order in which they run.

    Attributes:
        nodes, tensors: the operations and their weights; node k gives value k + 1.
        values: the values' shapes and what they cost, the image first.
        labels: what the file calls them.
    """

    def __init__(self, where: str, shape: tuple[int, ...], label: str = "image") -> None:
        """`where` begins every message; `shape` is the image's, (batch, 3, height, width)."""
        self.where = where
        self.nodes: list[Node] = []
        self.tensors: list[dict[str, Tensor]] = []
        self.values = [Value(shape, 0.0)]
        self.labels = [label]
        self._known: dict[object, int] = {}
        self._work = 0.0

    def add(
        self,
        operation: str,
        inputs: Iterable[int],
        settings: Mapping[str, Setting] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
        label: str = "",
        said: str = "",
    ) -> int:
        """Append an operation, or find an equal one without weights; returns its value's number.

        `label` is what the file calls the value, `said` what a message calls the operation.

        Raises:
            InputError: it does not take such inputs; the network is too large for any use.
        """
        node = Node(operation, tuple(inputs), dict(settings or {}))
        key = (operation, node.inputs, tuple(sorted(node.settings.items())))
        if not tensors and key in self._known:
            return self._known[key]
        shapes = [self.values[value].shape for value in node.inputs]
        try:
            if operation == BATCHNORM:
                value = Value(shapes[0], 0.0)
            else:
                with torch.device("meta"):
                    module = module_of(node)
                value = value_of(node, module, shapes)
        except ValueError as error:
            raise InputError(f"{self.where}: {said or label or operation} {error}") from None
        self._work += value.multiplications
        if len(self.nodes) >= MOST_NODES or self._work > MOST_MULTIPLICATIONS:
            raise InputError(f"{self.where}: is larger than any network of use here")
        self.nodes.append(node)
        self.tensors.append(dict(tensors or {}))
        self.values.append(value)
        self.labels.append(label)
        number = len(self.nodes)
        if not tensors:
            self._known[key] = number
        return number

    def node(self, value: int) -> Node | None:
        """The operation that gives a value; None for the image."""
        return self.nodes[value - 1] if value else None

    def shape(self, value: int) -> tuple[int, ...]:
        """A value's shape, the batch first."""
        return self.values[value].shape

    def ancestors(self, targets: Iterable[int], source: int = 0) -> list[int]:
        """The values that `targets` need, themselves included, down to `source`, which is not.

        Raises:
            InputError: they need another value from before `source`.
        """
        waiting, seen = list(targets), set[int]()
        while waiting:
            value = waiting.pop()
            if value in seen or value == source:
                continue
            if value == 0:
                raise InputError(f"{self.where}: its parts are joined by more than one tensor")
            seen.add(value)
            waiting.extend(self.nodes[value - 1].inputs)
        return sorted(seen)

    def uses(self, targets: Iterable[int]) -> Counter[int]:
        """How often each value is read on the way to `targets`; they count as read once each."""
        targets = list(targets)
        counts = Counter(targets)
        for value in self.ancestors(targets):
            counts.update(self.nodes[value - 1].inputs)
        return counts

    def passages(self, targets: Iterable[int]) -> list[int]:
        """The values, from the image on, through each of which all of `targets` come: where one is
        made, nothing made before it is read later."""
        targets = list(targets)
        needed = self.ancestors(targets)
        last_use = dict.fromkeys(targets, len(self.values))
        for value in needed:
            for read in self.nodes[value - 1].inputs:
                last_use[read] = max(last_use.get(read, 0), value)
        found, open_until = [], 0
        for value in (0, *needed):
            if open_until <= value:
                found.append(value)
            open_until = max(open_until, last_use[value])
        return found

    def part(self, source: int, target: int) -> tuple[NodeList, dict[str, Tensor], list[str]]:
        """The operations between two values: a list that can be stored, its weights by the names of
        its module, and the labels of its values.

        Raises:
            InputError: more than `source` goes into it.
        """
        needed = self.ancestors([target], source)
        place = {source: 0, **{value: number for number, value in enumerate(needed, start=1)}}
        nodes: list[Node] = []
        state: dict[str, Tensor] = {}
        for value in needed:
            node = self.nodes[value - 1]
            read = tuple(place[number] for number in node.inputs)
            for name, tensor in self.tensors[value - 1].items():
                state[f"{len(nodes)}.{name}"] = tensor
            nodes.append(Node(node.operation, read, node.settings))
        return NodeList(tuple(nodes)), state, [self.labels[value] for value in needed]

    def multiplications(self, targets: Iterable[int]) -> dict[int, float]:
        """For each value that `targets` need, those done up to it in the order of the list."""
        done, counts = 0.0, {0: 0.0}
        for value in self.ancestors(targets):
            done += self.values[value].multiplications
            counts[value] = done
        return counts


Rule = Callable[[FlatGraph, Node, Mapping[str, Tensor], str, int], int | None]


def rebuilt(graph: FlatGraph, targets: list[int], rule: Rule) -> tuple[FlatGraph, list[int]]:
    """The graph node by node anew, and its targets there.

    `rule` gets the new graph, a node that reads its values, the node's weights and label, and its
    number in the old graph; where it returns a value's number, that value takes the node's place.
    """
    new = FlatGraph(graph.where, graph.values[0].shape, graph.labels[0])
    place = {0: 0}
    for value in graph.ancestors(targets):
        old = graph.nodes[value - 1]
        read = tuple(place[number] for number in old.inputs)
        node = Node(old.operation, read, old.settings)
        tensors, label = graph.tensors[value - 1], graph.labels[value]
        found = rule(new, node, tensors, label, value)
        if found is None:
            found = new.add(node.operation, node.inputs, node.settings, tensors, label)
        place[value] = found
    return new, [place[target] for target in targets]
