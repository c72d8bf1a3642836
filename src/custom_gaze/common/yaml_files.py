"""YAML as data, read the same way by us and by DVC.

DVC takes params.yaml as YAML 1.2, where `on`, `off`, `yes` and `no` are words; so do we. Aliases,
which let 300 bytes unfold to gigabytes, deep nesting and a key that stands there twice are refused.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable, read_text

MOST_YAML_BYTES = 128 << 10  # params.yaml has 4 kB
MOST_DEPTH = 20  # params.yaml has 3
_BOOL = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases; whatever a value fails with names its line."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if event.anchor is not None:  # of a node or of an alias to one
            raise _refusal("anchors and aliases (& and *) are not allowed", event.start_mark)
        if self.depth == MOST_DEPTH:
            raise _refusal(f"it is nested more than {MOST_DEPTH} levels deep", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.MappingNode):
            _refuse_repeated(node)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        # No such date, a number of thousands of digits, `!!bool maybe`: PyYAML lets these through.
        except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError):
            kind = str(node.tag).rpartition(":")[2]
            raise _refusal(f"{shown(node.value)} is no {kind}", node.start_mark) from None


_Loader.yaml_implicit_resolvers = {
    letter: [entry for entry in entries if entry[0] != _BOOL]
    for letter, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("true|True|TRUE|false|False|FALSE"), list("tTfF"))


def parse_yaml(text: str, where: str) -> Any:
    """What the YAML document `text` says, as plain dicts, lists, strings, numbers and dates.

    Raises:
        InputError: it is no YAML, or not the harmless kind; `where` starts the message.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise InputError(f"{where}: no valid YAML: {_reason(error)}") from None
    except RecursionError:
        raise InputError(f"{where}: no valid YAML: it is nested too deeply") from None


def read_yaml(path: Path, advice: str = "") -> Any:
    """The same for a file, which has to be a regular one of a sensible size.

    Raises:
        InputError: it cannot be read, or as `parse_yaml`.
    """
    return parse_yaml(read_text(path, MOST_YAML_BYTES, advice), printable(path))


def shown(value: object, most: int = 80) -> str:
    """`value` as Python writes it, short and printable, for messages."""
    try:
        return printable(repr(value), most)
    except ValueError:  # Python refuses to write numbers of more than 4,300 digits
        return "a number of thousands of digits"


def _refuse_repeated(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise _refusal(f"the key {shown(key.value)} stands there twice", key.start_mark)
            seen.add(key.value)


def _refusal(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _reason(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f" (line {mark.line + 1})" if mark is not None else ""
    return printable(getattr(error, "problem", None) or error) + place
