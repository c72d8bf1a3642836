"""Mappings out of files as frozen dataclasses: pydantic checks, one function words its refusals."""

import typing
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic_core import PydanticCustomError

from custom_gaze.common.errors import InputError
from custom_gaze.common.yaml_files import shown
from custom_gaze.config.session_ids import sessions_option

_KINDS = {
    "float_type": "a number",
    "int_type": "a whole number",
    "string_type": "a string",
    "string_unicode": "a string",
    "bool_type": "true or false",
}


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise PydanticCustomError("text", "be one line of printable characters")
    return value


Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Text = Annotated[str, AfterValidator(_one_line)]
Ids = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
]
Section = TypeVar("Section")
NEWER = ("show_faces", "recipe", "visits", "inner_share")


def section_of(kind: type[Section], content: Any, where: str, source: str) -> Section:
    """The pydantic dataclass `kind` from the mapping `content`; `where` is its key so far.

    Every key has to be there, those with a default too: a file says all that a run does. Only
    what came with a later version (`NEWER`) may be missing in a project that was there before.

    Raises:
        InputError: it is no mapping, a key is unknown or missing, or a value has the wrong type or
            lies out of its range; `source` starts the message.
    """
    label = f"{source}: {where.rstrip('.') or 'the file'}"
    if not isinstance(content, dict):
        raise InputError(f"{label} must be a mapping of keys to values, not {shown(content)}")
    hints = typing.get_type_hints(kind)
    unknown = [shown(key) for key in content if key not in hints]
    if unknown:
        raise InputError(
            f"{label} has the unknown key {unknown[0]}; allowed are {', '.join(hints)}"
        )
    missing = [name for name in hints if name not in content and name not in NEWER]
    if missing:
        raise InputError(
            f"{label} lacks the key {missing[0]!r}; all of {', '.join(hints)} are needed"
        )
    values = {
        name: section_of(hint, content[name], f"{where}{name}.", source)
        if is_pydantic_dataclass(hint)
        else content[name]
        for name, hint in hints.items()
        if name in content
    }
    try:
        return kind(**values)
    except ValidationError as error:
        raise InputError(f"{source}: {_refusal(kind, error, values, where)}") from None


def _refusal(kind: Any, error: ValidationError, values: dict[str, Any], where: str) -> str:
    """What the first of pydantic's errors says about one of the values, in our words."""
    first = error.errors(include_url=False)[0]
    name, *element = map(str, first["loc"])
    key, value, field = f"{where}{name}", values[name], kind.__pydantic_fields__[name]
    if element:
        one = shown(first["input"])
        example = f", as in {sessions_option([one], key)}" if one.isdigit() else ""
        return f"{key} holds {one}; put the id in quotes{example}"
    said = f"{key} is {shown(value)}, but must"
    if first["type"] == "tuple_type":
        example = sessions_option([value] if isinstance(value, str) else [], key)
        return f"{said} be a list of session ids; on the command line: {example}"
    if first["type"] == "literal_error":
        return f"{said} be one of {', '.join(typing.get_args(field.annotation))}"
    # A whole number too large for a float is out of range, not of the wrong type.
    huge = first["type"] == "float_type" and type(value) is int
    if first["type"] in _KINDS and not huge:
        return f"{said} be {_KINDS[first['type']]}"
    if first["type"] == "text":
        return f"{said} {first['msg']}"
    limits = {type(limit).__name__: limit for limit in field.metadata}
    return f"{said} lie in {limits['Ge'].ge} … {limits['Le'].le}"
