"""The app's config.json, edited so that nothing changes but what has to.

The app rewrites the file as two-space JSON at every start, and where it cannot parse it, it
starts from its defaults and the user's settings are gone. So a file that the app would not parse
is never taken as a start, and numbers keep the very digits they were written with.
"""

import dataclasses
import json
import math
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.rustyeyes.contract import Correction

CONFIG_FILE = "config.json"
MODEL_FILE = "models/custom_gaze.onnx"
CORRECTION_AT = ("calibration", "models", "l2cs")  # the keys that lead to it
FACE_KEYS = ("face_detection_path", "face_mesh_path")
MOST_LEVELS = 127  # of objects and lists within each other, as in serde_json


class _Literal(str):
    """A number as it stands in the file."""


@dataclass(frozen=True)
class Edit:
    """One value that changes; `old` is None where the key was not there."""

    key: str
    old: str | None
    new: str


class AppConfig:
    """The settings in a config.json of the app's, its numbers as they are written there."""

    def __init__(self, content: bytes, app: Path) -> None:
        """Parse the config.json of the folder `app`.

        Raises:
            InputError: the app could not parse the file either, or it is not the app's.
        """
        self._where = app / CONFIG_FILE
        self._ending = content[len(content.rstrip()) :]
        self._content = _parsed(content, self._where)
        self._models = _models(self._content, self._where)
        for key, value in self._models.items():
            if key.endswith("_path") and _is_text(value) and _leaves(value, app):
                raise InputError(
                    f"{self._where}: models.{printable(key, 80)} is {printable(repr(value))}, "
                    "which leaves the app's folder; copy that file into the folder and name it "
                    "relative to it"
                )

    @property
    def model_path(self) -> str:
        """The gaze network that the app loads, relative to its folder."""
        return str(self._models["l2cs_path"])

    def face_files(self) -> tuple[str, str] | None:
        """Detector and mesh that the app loads, relative to its folder; None where the file does
        not name both."""
        detector, mesh = (self._models.get(key) for key in FACE_KEYS)
        return (str(detector), str(mesh)) if _is_text(detector) and _is_text(mesh) else None

    def correction(self) -> Correction | None:
        """The correction that the app applies, None where it is not whole."""
        place: Any = self._content
        for name in CORRECTION_AT:
            place = place.get(name) if isinstance(place, dict) else None
        names = [field.name for field in dataclasses.fields(Correction)]
        values = [_float(place.get(name)) if isinstance(place, dict) else None for name in names]
        found = [value for value in values if value is not None]
        whole = len(found) == len(names)
        return Correction(**dict(zip(names, found, strict=True))) if whole else None

    def point_to_model(self, wanted: Correction) -> list[Edit]:
        """Change, in place, to the personal network with the correction `wanted`.

        Numbers that already agree to six digits stay as written: the app keeps them as float32.

        Raises:
            InputError: the place of the correction holds something else.
        """
        edits = []
        if self._models["l2cs_path"] != MODEL_FILE:
            edits.append(_set(self._models, "l2cs_path", MODEL_FILE, "models.l2cs_path"))
        place, key = self._content, ""
        for name in CORRECTION_AT:
            key += f"{name}."
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise InputError(
                    f"{self._where}: {key[:-1]} is no object of keys and values; "
                    "the app would throw the file away: repair it first"
                )
        for name, value in dataclasses.asdict(wanted).items():
            old = _float(place.get(name))
            if old is None or not math.isclose(old, value, rel_tol=1e-6, abs_tol=1e-9):
                edits.append(_set(place, name, _Literal(repr(float(value))), f"{key}{name}"))
        return edits

    def dump(self) -> bytes:
        """The settings as two-space JSON, ending as the file ended."""
        return _dump(self._content, "").encode() + self._ending


def _parsed(content: bytes, where: Path) -> Any:
    try:
        config = json.loads(
            content.decode(),
            parse_float=_number,
            parse_int=_number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique,
        )
        _dump(config, "").encode()  # fails on halves of surrogate pairs, as the app's parser does
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{where}: no valid JSON ({printable(error, 200)}); at its next start the app "
            "would throw it away, with all settings in it: repair it first"
        ) from None
    return config


def _models(config: Any, where: Path) -> dict[str, Any]:
    models = config.get("models") if isinstance(config, dict) else None
    if not isinstance(models, dict) or not _is_text(models.get("l2cs_path")):
        raise InputError(
            f"{where}: holds no models.l2cs_path, so this is not the app's config.json"
        )
    return models


def _dump(value: Any, indent: str) -> str:
    if isinstance(value, _Literal):
        return str(value)
    inner = indent + "  "
    if len(inner) > 2 * MOST_LEVELS and isinstance(value, dict | list):
        raise ValueError(f"nested beyond the {MOST_LEVELS} levels of the app's recursion limit")
    if isinstance(value, dict) and value:
        lines = [
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {_dump(item, inner)}"
            for key, item in value.items()
        ]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        lines = [inner + _dump(item, inner) for item in value]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


def _number(text: str) -> _Literal:
    if not math.isfinite(float(text)):
        raise ValueError(f"the number {text[:12]}… is too large")
    return _Literal(text)


def _set(place: dict[str, Any], name: str, value: str, key: str) -> Edit:
    old = _dump(place[name], "") if name in place else None
    place[name] = value
    return Edit(key, old, _dump(value, ""))


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, _Literal) else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, _Literal)


def _leaves(path: str, app: Path) -> bool:
    folder = app.resolve()
    return not Path(os.path.normpath(folder / path)).is_relative_to(folder)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} stands there twice")
    return found
