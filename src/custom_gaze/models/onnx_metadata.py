"""What an ONNX file of ours says of itself: its metadata, under keys that begin with PREFIX."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from custom_gaze.common.errors import InputError
from custom_gaze.common.plain_records import from_plain
from custom_gaze.common.untrusted import printable
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.specification import (
    HASHES,
    Preprocessing,
    Specification,
    specification_of,
)
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.models.records import BaseProvenance

PREFIX = "custom_gaze."
CHECKPOINT_KEY = PREFIX + "checkpoint_sha256"
OUTPUT_KEY = PREFIX + "output"
QUANTISATION_KEY = PREFIX + "quantisation"
SPECIFICATION = ("preprocessing", "geometry", "crop_from", *HASHES)
TEXTS = ("code_version", "crop_from", "trunk", "method", "why", "output", "checkpoint_sha256")
OUTPUT = "[yaw, pitch] in degrees, right and down positive"


@dataclass(frozen=True)
class ModelMetadata:
    """What `custom-gaze export` writes into a model: nothing of the code that exports."""

    sessions: list[str]  # those it was trained on
    code_version: str  # of the code that trained it (common/provenance.py)
    prepared_by: list[str]  # versions of the code that made its crops
    trained_on: list[str]  # sides of the split
    validation_error_deg: float
    specification: Specification  # of its labels and its crops
    base: BaseProvenance
    trunk: str
    inner_share: float  # of the crop's side: it cuts out and enlarges the middle itself
    method: Candidate
    why: str  # that one, in a line
    output: str  # what its numbers are, in words
    checkpoint_sha256: str  # of the file that it was exported from

    def to_props(self) -> dict[str, str]:
        """The metadata as an ONNX file keeps it: by full key, what is no text as JSON."""
        plain: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Specification):
                parts = value.as_dict()
                plain |= {name: parts[name] for name in SPECIFICATION}
            else:
                plain[entry.name] = asdict(value) if isinstance(value, BaseProvenance) else value
        return {
            PREFIX + name: str(value) if name in TEXTS else json.dumps(value)
            for name, value in plain.items()
        }

    @classmethod
    def from_props(cls, props: Mapping[str, str], path: Path) -> "ModelMetadata":
        """The metadata in the file `path`.

        Raises:
            InputError: it is none that `to_props` gives.
        """
        try:
            plain = {
                name: value if name in TEXTS else json.loads(value)
                for name, value in _ours(props).items()
            }
            parts = {name: plain.pop(name) for name in SPECIFICATION if name in plain}
            plain["specification"] = specification_of(parts, path, "")
            return from_plain(cls, plain, "metadata")
        except (InputError, LookupError, ValueError, RecursionError):
            raise no_metadata(path) from None


def no_metadata(path: Path) -> InputError:
    """The error for a file without the metadata of this version's models."""
    return InputError(
        f"{path}: does not say what it was trained on, as the models of this version do; "
        "run `custom-gaze export` again"
    )


@dataclass(frozen=True)
class ModelFacts:
    """What a model file of any origin says of itself; None where it says nothing."""

    sha256: str
    sessions: tuple[str, ...] | None
    code_version: str | None
    validation_error_deg: float | None
    geometry: ScreenGeometry | None
    method: Candidate | None
    base: BaseProvenance | None
    specification: Specification | None


def facts_of(model: Any, sha256: str) -> ModelFacts:
    """What the metadata of a ModelProto says, and the SHA-256 of its file."""
    return facts_in(props_of(model), sha256)


def facts_in(props: Mapping[str, str], sha256: str) -> ModelFacts:
    """The same of metadata by full key."""
    said = _ours(props)
    sessions = _said(list[str], said.get("sessions"))
    return ModelFacts(
        sha256=sha256,
        sessions=None if sessions is None else tuple(printable(name, 80) for name in sessions),
        code_version=printable(version, 80) if (version := said.get("code_version")) else None,
        validation_error_deg=_said(FiniteFloat, said.get("validation_error_deg")),
        geometry=_geometry(_said(dict[str, Any], said.get("geometry"))),
        method=_method(said.get("method")),
        base=_base(_said(dict[str, Any], said.get("base"))),
        specification=_specification(said),
    )


def _said(kind: Any, text: str | None) -> Any:
    """The JSON `text` as what it should be; None where there is none, or it is something else."""
    with suppress(ValidationError):
        return None if text is None else TypeAdapter(kind).validate_json(text, strict=True)
    return None


def _geometry(said: Any) -> ScreenGeometry | None:
    with suppress(LookupError, TypeError, ValueError):
        return ScreenGeometry(said["center_x_px"], said["center_y_px"], said["deg_per_pixel"])
    return None


def _method(said: str | None) -> Candidate | None:
    with suppress(ValueError):
        return Candidate(said)
    return None


def _base(said: Any) -> BaseProvenance | None:
    with suppress(ValueError):
        return from_plain(BaseProvenance, said, "base")
    return None


def _specification(said: Mapping[str, str]) -> Specification | None:
    with suppress(InputError, LookupError, ValueError, RecursionError):
        parts = {
            name: said[name] if name in TEXTS else json.loads(said[name])
            for name in SPECIFICATION
            if name in said
        }
        return specification_of(parts, Path(), "")
    return None


def preprocessing_of(model: Any) -> Preprocessing | None:
    """The rule of its crops in the metadata of a ModelProto; None where it says nothing of them.

    Raises:
        ValueError: it is none, or none of this version's.
    """
    said = _ours(props_of(model)).get("preprocessing")
    if said is None:
        return None
    try:
        return Preprocessing.of(json.loads(said))
    except RecursionError:
        raise ValueError("no JSON") from None


def props_of(model: Any) -> dict[str, str]:
    """All metadata of a ModelProto, by full key."""
    return {entry.key: entry.value for entry in model.metadata_props}


def add_props(model: Any, props: Mapping[str, str]) -> None:
    """Write metadata into a ModelProto, over what it says by the same keys."""
    import onnx

    onnx.helper.set_model_props(model, {**props_of(model), **props})


def _ours(props: Mapping[str, str]) -> dict[str, str]:
    return {k.removeprefix(PREFIX): v for k, v in props.items() if k.startswith(PREFIX)}
