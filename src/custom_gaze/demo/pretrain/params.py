"""pretrain/params.yaml as typed, validated objects."""

from pathlib import Path
from typing import Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from custom_gaze.common.errors import InputError
from custom_gaze.common.stage_files import CHECKED
from custom_gaze.common.untrusted import printable
from custom_gaze.common.yaml_files import read_yaml
from custom_gaze.config.sections import Seed, section_of
from custom_gaze.demo.seeds import check_person_seed

WIDE: Final = "wide"
SCREEN: Final = "screen"


@dataclass(frozen=True, config=CHECKED)
class DomainParams:
    """What the crops show. `wide` follows the numbers below, `screen` the demo's own sessions.

    Faces are the longer side of a face's box in pixels. Head and eyes are normally distributed,
    given by their standard deviations; the gaze is their sum, as with people who look around. The
    label is the head's direction plus `eye_share` of the eyes' own turn: 1 is the true gaze.
    """

    kind: Literal["wide", "screen"] = WIDE
    persons: int = Field(default=5000, ge=1, le=100_000)
    crops_per_person: int = Field(default=16, ge=1, le=1000)
    first_person: int = Field(default=10_000, ge=1, le=10_000_000)
    face_smallest_px: float = Field(default=40.0, ge=20.0, le=400.0)
    face_largest_px: float = Field(default=120.0, ge=20.0, le=400.0)
    head_yaw_deg: float = Field(default=20.0, ge=0.0, le=40.0)
    head_pitch_deg: float = Field(default=13.0, ge=0.0, le=30.0)
    eye_yaw_deg: float = Field(default=14.0, ge=0.0, le=35.0)
    eye_pitch_deg: float = Field(default=10.0, ge=0.0, le=35.0)
    eye_share: float = Field(default=1.0, ge=0.0, le=1.0)
    blur_sigma_px: float = Field(default=1.2, ge=0.0, le=5.0)
    noise_sigma: float = Field(default=8.0, ge=0.0, le=40.0)


@dataclass(frozen=True, config=CHECKED)
class LearnParams:
    """How the network is trained on them.

    `schedule_steps` is when the learning rate would reach zero: not before `steps`.
    """

    steps: int = Field(default=1200, ge=1, le=1_000_000)
    schedule_steps: int = Field(default=2200, ge=1, le=1_000_000)
    batch_size: int = Field(default=48, ge=2, le=4096)
    learning_rate: float = Field(default=2e-3, ge=1e-6, le=1.0)
    weight_decay: float = Field(default=0.02, ge=0.0, le=1.0)
    regression_weight: float = Field(default=0.1, ge=0.0, le=100.0)
    average_decay: float = Field(default=0.998, ge=0.0, le=0.9999)
    seed: Seed = 1
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"


@dataclass(frozen=True, config=CHECKED)
class HeadsParams:
    """How the heads are trained anew on the trunk; 0 steps leave them as trained with it."""

    steps: int = Field(default=1500, ge=0, le=1_000_000)
    batch_size: int = Field(default=256, ge=2, le=65_536)
    learning_rate: float = Field(default=5e-3, ge=1e-6, le=1.0)
    seed: Seed = 1


@dataclass(frozen=True, config=CHECKED)
class PretrainParams:
    """All of the file."""

    domain: DomainParams
    learn: LearnParams
    heads_domain: DomainParams
    heads: HeadsParams


def load_pretrain_params(path: Path) -> PretrainParams:
    """Read and check a pretraining's parameters.

    Raises:
        InputError: the file is missing or no YAML, a key is unknown or missing, a value is out of
            range, or a person's seed is not one for pretraining.
    """
    content = read_yaml(path)
    params = section_of(PretrainParams, content, "", printable(path))
    if params.learn.steps > params.learn.schedule_steps:
        raise InputError(f"{printable(path)}: learn.steps is above learn.schedule_steps")
    for name, domain in (("domain", params.domain), ("heads_domain", params.heads_domain)):
        _check_domain(domain, f"{printable(path)}: {name}")
    return params


def _check_domain(domain: DomainParams, where: str) -> None:
    if domain.face_smallest_px > domain.face_largest_px:
        raise InputError(f"{where}.face_smallest_px is above {where}.face_largest_px")
    for seed in (domain.first_person, domain.first_person + domain.persons - 1):
        try:
            check_person_seed(seed, "pretrain")
        except InputError as error:
            raise InputError(f"{where}.first_person, {where}.persons: {error}") from None
