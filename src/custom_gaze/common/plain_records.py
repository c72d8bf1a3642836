"""Dataclasses from the plain values that a file holds of them, every key and type checked."""

from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from custom_gaze.common.untrusted import printable

Record = TypeVar("Record")


def from_plain(kind: type[Record], content: Any, what: str) -> Record:
    """The dataclass `kind` whose fields are the keys of `content`, and what its fields hold.

    A field's value is either of its type already or the plain form of it: a dict for a dataclass,
    its value for an enum's member, a list for a tuple of any length.

    Raises:
        ValueError: a key is missing or left over, or a value is of another type; the message is
            for the end of a line.
    """
    if not isinstance(content, dict):
        raise ValueError(f"its {what} is {type(content).__name__}")
    wanted = {entry.name: entry.type for entry in fields(kind)}  # type: ignore[arg-type]
    if content.keys() != wanted.keys():
        names = sorted(printable(name, 40) for name in content.keys() ^ wanted.keys())
        raise ValueError(f"no complete {what} ({', '.join(names[:3])})")
    return kind(**{name: _value(of, content[name], name) for name, of in wanted.items()})


def _value(kind: Any, value: Any, name: str) -> Any:
    parts = get_args(kind)
    if isinstance(kind, type) and not parts:
        if isinstance(value, kind):
            return value
        if is_dataclass(kind) and isinstance(value, dict):
            return from_plain(kind, value, name)
        if issubclass(kind, Enum):
            with suppress(ValueError):
                return kind(value)
            raise ValueError(f"{printable(repr(value), 40)} is no known {kind.__name__.lower()}")
    if isinstance(kind, UnionType):
        for part in parts:
            with suppress(ValueError):
                return _value(part, value, name)
    if get_origin(kind) in (list, tuple) and isinstance(value, list):
        return get_origin(kind)(_value(parts[0], entry, name) for entry in value)
    if get_origin(kind) is dict and isinstance(value, dict):
        return {_value(parts[0], k, name): _value(parts[1], v, name) for k, v in value.items()}
    said = kind if parts else kind.__name__
    raise ValueError(f"{name} is {type(value).__name__}, no {said}")
