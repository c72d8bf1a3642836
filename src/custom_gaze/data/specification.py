"""data/specification.json: what the labels and crops of all sessions in an index share.

`prepare` writes into each session's manifest.json the screen that its labels are for and the rule
that its crops were cut by. The index checks that the sessions of a run agree, and writes it down
once; train, evaluate and the exported file have it from there. params.yaml only says what the next
`prepare` would do, and a value there that changes no crop changes nothing that comes after.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic.dataclasses import dataclass

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import write_json
from custom_gaze.common.stage_files import CHECKED
from custom_gaze.common.untrusted import printable, read_text
from custom_gaze.config.sections import section_of
from custom_gaze.faces.crops import Preprocessing
from custom_gaze.geometry import ScreenGeometry

CropFrom = Literal["mesh", "detector box"]


@dataclass(frozen=True, config=CHECKED)
class Specification:
    """The screen of the labels, and how the crops were cut."""

    geometry: ScreenGeometry
    preprocessing: Preprocessing
    crop_from: CropFrom

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; manifest.json and data/specification.json have them by these keys."""
        return {
            "geometry": asdict(self.geometry),
            "preprocessing": self.preprocessing.as_dict(),
            "crop_from": self.crop_from,
        }


def specification_of(content: Any, source: Path, remedy: str) -> Specification:
    """The specification among the keys of a manifest.json or of data/specification.json.

    Raises:
        InputError: a key is missing, or holds no value that `prepare` writes.
    """
    names = [entry.name for entry in fields(Specification)]
    missing = [name for name in names if not isinstance(content, dict) or name not in content]
    if missing:
        raise InputError(
            f"{source}: does not say by which {missing[0]} it was made, as files of an earlier "
            f"version do not; {remedy}"
        )
    try:
        geometry = section_of(ScreenGeometry, content["geometry"], "geometry.", str(source))
        preprocessing = Preprocessing.of(content["preprocessing"])
        if content["crop_from"] not in get_args(CropFrom):
            raise ValueError(f"crop_from is {printable(content['crop_from'], 40)!r}")
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from None
    except ValueError as error:
        raise InputError(f"{source}: {error}; {remedy}") from None
    return Specification(geometry, preprocessing, content["crop_from"])


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
