"""params.yaml as typed, validated objects."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PlainValidator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from custom_gaze.common.errors import InputError
from custom_gaze.common.stage_files import CHECKED
from custom_gaze.common.untrusted import printable
from custom_gaze.common.yaml_files import read_yaml, shown
from custom_gaze.config.candidate import AUTO, Candidate
from custom_gaze.config.sections import Ids, Seed, Text, section_of
from custom_gaze.config.session_ids import check_session_id
from custom_gaze.geometry import ScreenGeometry

if TYPE_CHECKING:
    Method = str
else:  # which no type checker can read
    Method = Literal[tuple([AUTO, *map(str, Candidate)])]


def _inner_share(value: Any) -> str | float:
    if value == AUTO:
        return AUTO
    if type(value) in (int, float) and 0.25 <= value <= 1:
        return float(value)
    raise PydanticCustomError("text", "be auto or a share of the crop's side, 0.25 … 1")


InnerShare = Annotated[str | float, PlainValidator(_inner_share)]


@dataclass(frozen=True, config=CHECKED)
class FetchParams:
    """Where the face detector, the face mesh and the base network come from."""

    detector: Text = "embedded"
    detector_sha256: Text | None = None
    mesh: Text | None = None
    mesh_sha256: Text | None = None
    base: Text = "embedded"
    base_sha256: Text | None = None


@dataclass(frozen=True, config=CHECKED)
class PrepareParams:
    """Detection and crop."""

    min_score: float = Field(default=0.7, ge=0.0, le=1.0)
    margin: float = Field(default=1.5, ge=1.0, le=4.0)
    size_px: int = Field(default=448, ge=32, le=1024)
    jpeg_quality: int = Field(default=100, ge=50, le=100)
    max_unusable_share: float = Field(default=0.3, ge=0.0, le=1.0)


@dataclass(frozen=True, config=CHECKED)
class SplitParams:
    """Which share of the targets is held out."""

    test_share: float = Field(default=0.2, ge=0.01, le=0.8)
    validation_share: float = Field(default=0.2, ge=0.01, le=0.8)
    same_target_px: float = Field(default=20.0, ge=0.0, le=500.0)
    seed: Seed = 1


@dataclass(frozen=True, config=CHECKED)
class AugmentParams:
    """How many augmented samples a frame has, and how far they differ from it."""

    samples: int = Field(default=50, ge=0, le=1000)
    brightness: float = Field(default=0.2, ge=0.0, le=1.0)
    contrast: float = Field(default=0.2, ge=0.0, le=1.0)
    saturation: float = Field(default=0.2, ge=0.0, le=1.0)
    blur_max_sigma_px: float = Field(default=2.0, ge=0.0, le=20.0)
    iso_noise: float = Field(default=0.15, ge=0.0, le=1.0)
    shift_share: float = Field(default=0.03, ge=0.0, le=0.25)


@dataclass(frozen=True, config=CHECKED)
class TrainParams:
    """Which candidate is made, and the fine-tune."""

    method: Method = AUTO
    recipe: Literal["best", "specification"] = "best"
    inner_share: InnerShare = AUTO
    start: Literal["probe", "base"] = "probe"
    frozen_through: Text = AUTO
    schedule: Literal["cosine", "constant"] = "cosine"
    steps: int = Field(default=120, ge=1, le=1_000_000)
    visits: int = Field(default=40, ge=1, le=1000)
    peak_learning_rate: float = Field(default=1e-3, ge=1e-8, le=1.0)
    epochs: int = Field(default=50, ge=1, le=10_000)
    patience: int = Field(default=8, ge=1, le=10_000)
    batch_size: int = Field(default=8, ge=1, le=4096)
    learning_rate: float = Field(default=1e-4, ge=1e-8, le=1.0)
    feature_memory_gb: float = Field(default=0.0, ge=0.0, le=4096.0)
    seed: Seed = 1
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"


@dataclass(frozen=True, config=CHECKED)
class ExportParams:
    """The ONNX files."""

    opset: int = Field(default=18, ge=18, le=20)
    tolerance_deg: float = Field(default=0.01, ge=0.0, le=1.0)
    int8: bool = False


@dataclass(frozen=True, config=CHECKED)
class EvaluateParams:
    """What is measured, on which sessions besides (cross-session), and what the report shows."""

    sessions: Ids = ()
    seed: Seed = 1
    show_faces: bool = False


@dataclass(frozen=True, config=CHECKED)
class TrackingParams:
    """The MLflow experiment's name."""

    experiment: Text = "custom-gaze"


@dataclass(frozen=True, config=CHECKED)
class Params:
    """All of params.yaml, section by section."""

    sessions: Ids = ()
    geometry: ScreenGeometry = Field(default_factory=ScreenGeometry)
    fetch: FetchParams = Field(default_factory=FetchParams)
    prepare: PrepareParams = Field(default_factory=PrepareParams)
    split: SplitParams = Field(default_factory=SplitParams)
    augment: AugmentParams = Field(default_factory=AugmentParams)
    train: TrainParams = Field(default_factory=TrainParams)
    export: ExportParams = Field(default_factory=ExportParams)
    evaluate: EvaluateParams = Field(default_factory=EvaluateParams)
    tracking: TrackingParams = Field(default_factory=TrackingParams)


def to_the_letter(params: Params) -> Params:
    """The specification's recipe, whatever the parameters say of one."""
    augment = AugmentParams(
        samples=50,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        blur_max_sigma_px=2.0,
        iso_noise=0.15,
        shift_share=0.03,
    )
    train = dataclasses.replace(
        params.train,
        recipe="specification",
        inner_share=1.0,
        start="base",
        frozen_through="layer3",
        schedule="constant",
        epochs=50,
        patience=8,
        batch_size=16,
        learning_rate=1e-4,
    )
    return dataclasses.replace(params, augment=augment, train=train)


def load_params(path: Path) -> Params:
    """Read and check params.yaml.

    Raises:
        InputError: the file is missing or no YAML, or as `params_of`.
    """
    return params_of(read_yaml(path, "run this in the project's folder"), printable(path))


def params_of(content: Any, source: str) -> Params:
    """What params.yaml says, checked; `source` starts the messages.

    With `train.recipe: specification` its `augment` and `train` are that recipe's.

    Raises:
        InputError: a key is unknown or missing; a value has the wrong type or lies out of its
            range; a session is named twice or has no valid id; a path begins with the home folder
            of nobody.
    """
    params = section_of(Params, content, "", source)
    _check_sessions(params, source)
    _check_homes(params.fetch, source)
    return to_the_letter(params) if params.train.recipe == "specification" else params


def _check_sessions(params: Params, source: str) -> None:
    if not params.sessions:
        raise InputError(f"{source}: sessions is empty; name at least one folder of data/sessions")
    others = params.evaluate.sessions
    for key, ids in {"sessions": params.sessions, "evaluate.sessions": others}.items():
        for name in ids:
            check_session_id(name, f"{source}: {key}")
    named = Counter([*params.sessions, *others])
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
