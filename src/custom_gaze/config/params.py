"""params.yaml as typed, validated objects."""

import dataclasses
import types
import typing
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.common.yaml_files import read_yaml, shown
from custom_gaze.config.session_ids import check_session_id, sessions_option
from custom_gaze.geometry import ScreenGeometry


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
    """What is measured, on which sessions besides (cross-session)."""

    sessions: tuple[str, ...] = ()
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
        InputError: the file is missing or no YAML, or as `params_of`.
    """
    return params_of(read_yaml(path, "run this in the project's folder"), printable(path))


def params_of(content: Any, source: str) -> Params:
    """What params.yaml says, checked; `source` starts the messages.

    Raises:
        InputError: a key is unknown or missing; a value has the wrong type or lies out of its
            range; a session is named twice or has no valid id; a path begins with the home folder
            of nobody.
    """
    params: Params = build_section(Params, content, "", source)
    _check_sessions(params, source)
    _check_homes(params.fetch, source)
    return params


def build_section(kind: type, content: Any, where: str, source: str) -> Any:
    """Build the dataclass `kind` from the mapping `content`; `where` is its key so far."""
    label = f"{source}: {where.rstrip('.') or 'the file'}"
    if not isinstance(content, dict):
        raise InputError(f"{label} must be a mapping of keys to values, not {shown(content)}")
    names = [entry.name for entry in dataclasses.fields(kind)]
    unknown = [shown(key) for key in content if key not in names]
    if unknown:
        raise InputError(f"{label} has the unknown key {unknown[0]}; allowed are {_list(names)}")
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
    said = f"{source}: {key} is {shown(value)}, but must"
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        value = _as_float(value)
    if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
        raise InputError(f"{said} be {_kind_name(plain)}")
    if isinstance(value, str) and not value.isprintable():
        raise InputError(f"{said} be one line of printable characters")
    allowed = entry.metadata.get("allowed")
    if allowed and value not in allowed:
        raise InputError(f"{said} be one of {_list(allowed)}")
    if "low" in entry.metadata:
        low, high = entry.metadata["low"], entry.metadata["high"]
        if not low <= value <= high:  # NaN fails this too
            raise InputError(f"{said} lie in {low} … {high}")
    return value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _ids(value: Any, key: str, source: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        example = sessions_option([value] if isinstance(value, str) else [], key)
        raise InputError(
            f"{source}: {key} is {shown(value)}, but must be a list of session ids; "
            f"on the command line: {example}"
        )
    for name in value:
        if not isinstance(name, str):
            said = shown(name)
            example = f", as in {sessions_option([said], key)}" if said.isdigit() else ""
            raise InputError(f"{source}: {key} holds {said}; put the id in quotes{example}")
        check_session_id(name, f"{source}: {key}")
    return tuple(value)


def _check_sessions(params: Params, source: str) -> None:
    if not params.sessions:
        raise InputError(f"{source}: sessions is empty; name at least one folder of data/sessions")
    named = Counter([*params.sessions, *params.evaluate.sessions])
    twice = sorted(name for name, count in named.items() if count > 1)
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


def _check_homes(fetch: FetchParams, source: str) -> None:
    """`~` and `~name` are home folders; not every name has one."""
    for name, value in dataclasses.asdict(fetch).items():
        try:
            Path(value or "").expanduser()
        except RuntimeError:
            raise InputError(
                f"{source}: fetch.{name} is {shown(value)}, but its first part is nobody's home "
                "folder; write the whole path"
            ) from None


def _kind_name(kind: type) -> str:
    return {float: "a number", int: "a whole number", str: "a string", bool: "true or false"}[kind]


def _list(names: Any) -> str:
    return ", ".join(str(name) for name in names)
