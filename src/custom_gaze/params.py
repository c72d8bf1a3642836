"""params.yaml as typed, validated objects."""

import dataclasses
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from custom_gaze.errors import InputError
from custom_gaze.geometry import ScreenGeometry

SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
SESSION_ID_RULE = "1 to 64 letters, digits, '-' or '_', starting with a letter or digit"


def ranged(default: Any, low: float, high: float) -> Any:
    """A number that must lie in [low, high]."""
    return field(default=default, metadata={"low": low, "high": high})


def one_of(default: str, *allowed: str) -> Any:
    """A string that must be one of `allowed`."""
    return field(default=default, metadata={"allowed": (default, *allowed)})


@dataclass(frozen=True)
class FetchParams:
    """Where the face detector, the face mesh and the base network come from."""

    detector: str = "embedded"
    detector_sha256: str | None = None
    mesh: str | None = None
    mesh_sha256: str | None = None
    base: str = "embedded"
    base_sha256: str | None = None


@dataclass(frozen=True)
class PrepareParams:
    """Detection and crop."""

    min_score: float = ranged(0.7, 0.0, 1.0)
    margin: float = ranged(1.5, 1.0, 4.0)
    size_px: int = ranged(448, 32, 1024)
    jpeg_quality: int = ranged(100, 50, 100)
    max_unusable_share: float = ranged(0.3, 0.0, 1.0)


@dataclass(frozen=True)
class SplitParams:
    """Which share of the targets is held out."""

    test_share: float = ranged(0.2, 0.01, 0.8)
    validation_share: float = ranged(0.2, 0.01, 0.8)
    same_target_px: float = ranged(20.0, 0.0, 500.0)
    seed: int = ranged(1, 0, 2**31 - 1)


@dataclass(frozen=True)
class AugmentParams:
    """How far augmented copies differ from their frame."""

    copies: int = ranged(50, 0, 1000)
    brightness: float = ranged(0.2, 0.0, 1.0)
    contrast: float = ranged(0.2, 0.0, 1.0)
    saturation: float = ranged(0.2, 0.0, 1.0)
    blur_max_sigma_px: float = ranged(2.0, 0.0, 20.0)
    iso_noise: float = ranged(0.15, 0.0, 1.0)
    shift_share: float = ranged(0.03, 0.0, 0.25)


@dataclass(frozen=True)
class TrainParams:
    """Which candidate is made, and the fine-tune."""

    method: str = one_of("auto", "base", "probe", "finetune")
    start: str = one_of("probe", "base")
    frozen_through: str = "layer3"
    schedule: str = one_of("cosine", "constant")
    steps: int = ranged(120, 1, 1_000_000)
    peak_learning_rate: float = ranged(1e-3, 1e-8, 1.0)
    epochs: int = ranged(50, 1, 10_000)
    patience: int = ranged(8, 1, 10_000)
    batch_size: int = ranged(8, 1, 4096)
    learning_rate: float = ranged(1e-4, 1e-8, 1.0)
    feature_memory_gb: float = ranged(0.0, 0.0, 4096.0)
    seed: int = ranged(1, 0, 2**31 - 1)
    device: str = one_of("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class ExportParams:
    """The ONNX files."""

    opset: int = ranged(18, 18, 20)
    tolerance_deg: float = ranged(0.01, 0.0, 1.0)
    int8: bool = False


@dataclass(frozen=True)
class EvaluateParams:
    """What is measured, on which further sessions."""

    sessions: tuple[str, ...] = ()
    bootstrap: int = ranged(2000, 100, 1_000_000)
    seed: int = ranged(1, 0, 2**31 - 1)


@dataclass(frozen=True)
class TrackingParams:
    """The MLflow experiment's name."""

    experiment: str = "custom-gaze"


@dataclass(frozen=True)
class Params:
    """All of params.yaml, section by section."""

    sessions: tuple[str, ...] = ()
    geometry: ScreenGeometry = field(default_factory=ScreenGeometry)
    fetch: FetchParams = field(default_factory=FetchParams)
    prepare: PrepareParams = field(default_factory=PrepareParams)
    split: SplitParams = field(default_factory=SplitParams)
    augment: AugmentParams = field(default_factory=AugmentParams)
    train: TrainParams = field(default_factory=TrainParams)
    export: ExportParams = field(default_factory=ExportParams)
    evaluate: EvaluateParams = field(default_factory=EvaluateParams)
    tracking: TrackingParams = field(default_factory=TrackingParams)


def load_params(path: Path) -> Params:
    """Read and check params.yaml.

    Raises:
        InputError: the file is missing or no YAML; a key is unknown or missing; a value has the
            wrong type or lies out of its range; a session is named twice or has no valid id.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run this in the project's folder") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: no valid YAML: {reason}") from None
    params: Params = build_section(Params, content, "", str(path))
    _check_sessions(params, str(path))
    return params


def build_section(kind: type, content: Any, where: str, source: str) -> Any:
    """Build the dataclass `kind` from the mapping `content`; `where` is its key so far."""
    label = f"{source}: {where.rstrip('.') or 'the file'}"
    if not isinstance(content, dict):
        raise InputError(f"{label} must be a mapping of keys to values, not {content!r}")
    names = [entry.name for entry in dataclasses.fields(kind)]
    unknown = [str(key) for key in content if key not in names]
    if unknown:
        raise InputError(f"{label} has the unknown key {unknown[0]!r}; allowed are {_list(names)}")
    missing = [name for name in names if name not in content]
    if missing:
        raise InputError(f"{label} lacks the key {missing[0]!r}; all of {_list(names)} are needed")
    hints = typing.get_type_hints(kind)
    values = {
        entry.name: _value(
            hints[entry.name], entry, content[entry.name], f"{where}{entry.name}", source
        )
        for entry in dataclasses.fields(kind)
    }
    return kind(**values)


def _value(hint: Any, entry: Any, value: Any, key: str, source: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return build_section(typing.cast(type, hint), value, f"{key}.", source)
    if typing.get_origin(hint) is tuple:
        return _ids(value, key, source)
    optional = isinstance(hint, types.UnionType)
    if optional and value is None:
        return None
    plain = typing.get_args(hint)[0] if optional else hint
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
        raise InputError(f"{source}: {key} is {value!r}, but must be {_kind_name(plain)}")
    allowed = entry.metadata.get("allowed")
    if allowed and value not in allowed:
        raise InputError(f"{source}: {key} is {value!r}, but must be one of {_list(allowed)}")
    if "low" in entry.metadata:
        low, high = entry.metadata["low"], entry.metadata["high"]
        if not low <= value <= high:  # NaN fails this too
            raise InputError(f"{source}: {key} is {value!r}, but must lie in {low} … {high}")
    return value


def _ids(value: Any, key: str, source: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InputError(
            f"{source}: {key} is {value!r}, but must be a list of session ids; "
            f"on the command line: -S '{key}=[{value}]'"
        )
    for name in value:
        check_session_id(str(name), f"{source}: {key}")
        if not isinstance(name, str):
            raise InputError(f"{source}: {key} holds {name!r}; put the id in quotes")
    return tuple(value)


def check_session_id(name: str, where: str) -> str:
    """Return `name` if it can name a session's folder.

    Raises:
        InputError: it has a slash, a dot, a space or anything else that is not allowed.
    """
    if not SESSION_ID.fullmatch(name):
        raise InputError(f"{where}: {name!r} is no session id; allowed are {SESSION_ID_RULE}")
    return name


def _check_sessions(params: Params, source: str) -> None:
    if not params.sessions:
        raise InputError(f"{source}: sessions is empty; name at least one folder of data/sessions")
    named = [*params.sessions, *params.evaluate.sessions]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise InputError(
            f"{source}: session {twice[0]!r} is named twice in sessions and evaluate.sessions; "
            "a session is either trained on or only tested on"
        )
    if params.split.test_share + params.split.validation_share > 0.8:
        raise InputError(
            f"{source}: split.test_share + split.validation_share is "
            f"{params.split.test_share + params.split.validation_share:g}, but must be at most 0.8"
        )


def _kind_name(kind: type) -> str:
    return {float: "a number", int: "a whole number", str: "a string", bool: "true or false"}[kind]


def _list(names: Any) -> str:
    return ", ".join(str(name) for name in names)
