"""pretrain/params.yaml as typed, validated objects."""

from dataclasses import dataclass
from pathlib import Path

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.common.yaml_files import read_yaml
from custom_gaze.config.params import build_section, one_of, ranged
from custom_gaze.demo.seeds import check_person_seed

WIDE, SCREEN = "wide", "screen"


@dataclass(frozen=True)
class DomainParams:
    """What the crops show. `wide` follows the numbers below, `screen` the demo's own sessions.

    Faces are the longer side of a face's box in pixels. Head and eyes are normally distributed,
    given by their standard deviations; the gaze is their sum, as with people who look around. The
    label is the head's direction plus `eye_share` of the eyes' own turn: 1 is the true gaze.
    """

    kind: str = one_of(WIDE, SCREEN)
    persons: int = ranged(5000, 1, 100_000)
    crops_per_person: int = ranged(16, 1, 1000)
    first_person: int = ranged(10_000, 1, 10_000_000)
    face_smallest_px: float = ranged(40.0, 20.0, 400.0)
    face_largest_px: float = ranged(120.0, 20.0, 400.0)
    head_yaw_deg: float = ranged(20.0, 0.0, 40.0)
    head_pitch_deg: float = ranged(13.0, 0.0, 30.0)
    eye_yaw_deg: float = ranged(14.0, 0.0, 35.0)
    eye_pitch_deg: float = ranged(10.0, 0.0, 35.0)
    eye_share: float = ranged(1.0, 0.0, 1.0)
    blur_sigma_px: float = ranged(1.2, 0.0, 5.0)
    noise_sigma: float = ranged(8.0, 0.0, 40.0)


@dataclass(frozen=True)
class LearnParams:
    """How the network is trained on them.

    `schedule_steps` is when the learning rate would reach zero: not before `steps`.
    """

    steps: int = ranged(1200, 1, 1_000_000)
    schedule_steps: int = ranged(2200, 1, 1_000_000)
    batch_size: int = ranged(48, 2, 4096)
    learning_rate: float = ranged(2e-3, 1e-6, 1.0)
    weight_decay: float = ranged(0.02, 0.0, 1.0)
    regression_weight: float = ranged(0.1, 0.0, 100.0)
    average_decay: float = ranged(0.998, 0.0, 0.9999)
    seed: int = ranged(1, 0, 2**31 - 1)
    device: str = one_of("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class HeadsParams:
    """How the heads are trained anew on the trunk; 0 steps leave them as trained with it."""

    steps: int = ranged(1500, 0, 1_000_000)
    batch_size: int = ranged(256, 2, 65_536)
    learning_rate: float = ranged(5e-3, 1e-6, 1.0)
    seed: int = ranged(1, 0, 2**31 - 1)


@dataclass(frozen=True)
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
    params: PretrainParams = build_section(PretrainParams, content, "", printable(path))
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
