"""data/specification.json: what the labels and crops of all sessions in an index share.

`prepare` writes into each session's manifest.json the screen that its labels are for and the rule
that its crops were cut by. The index checks that the sessions of a run agree, and writes it down
once; train, evaluate and the exported file have it from there. params.yaml only says what the next
`prepare` would do, and a value there that changes no crop changes nothing that comes after.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import write_json
from custom_gaze.common.untrusted import read_text
from custom_gaze.config.specification import Specification, specification_of


def agreed(specifications: Sequence[tuple[str, Specification]]) -> Specification:
    """What some sessions, (id, specification), have in common.

    Raises:
        InputError: two of them differ; the message names both and the first difference.
    """
    first, wanted = specifications[0]
    for session, other in specifications[1:]:
        if other != wanted:
            one, another = _flat(wanted), _flat(other)
            key = next(key for key in one if one[key] != another[key])
            raise InputError(
                f"sessions {first} and {session} were prepared differently: {key} is "
                f"{one[key]!r} in the one and {another[key]!r} in the other; prepare both again: "
                f"custom-gaze prepare {first} and custom-gaze prepare {session}"
            )
    return wanted


def _flat(specification: Specification) -> dict[str, object]:
    parts = {"geometry": asdict(specification.geometry)}
    parts["preprocessing"] = specification.preprocessing.as_dict()
    flat = {f"{part}.{key}": parts[part][key] for part in parts for key in parts[part]}
    return {**flat, "crop_from": specification.crop_from}


def write_specification(specification: Specification, path: Path) -> None:
    """Write data/specification.json, whole or not at all."""
    write_json(path, specification.as_dict())


def read_specification(path: Path) -> Specification:
    """Read data/specification.json.

    Raises:
        InputError: it is missing or not what `custom-gaze index` wrote.
    """
    remedy = "run `custom-gaze index` again"
    text = read_text(path, advice=remedy)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{path}: no JSON; {remedy}") from None
    return specification_of(content, path, remedy)
