import dataclasses
import hashlib
import warnings
from pathlib import Path

import pytest
import torch

import weights_nets as nets
from custom_gaze.common.errors import InputError
from custom_gaze.weights.base import BaseModule, BaseNetwork
from custom_gaze.weights.base import read_base as read
from custom_gaze.weights.base import save_base as save
from custom_gaze.weights.base_heads import bin_heads, expected_angles
from custom_gaze.weights.load import load_base
from custom_gaze.weights.torch_reader import base_from_torch


@pytest.fixture(scope="module")
def base() -> BaseNetwork:
    state = nets.random_network("resnet18").state_dict()
    loaded = base_from_torch(dict(state), "net.pt", "net.pt", "ab" * 32)
    return dataclasses.replace(loaded, warnings=("a remark",), batchnorm_folded=True)


def damaged(base: BaseNetwork, path: Path, **changes: object) -> Path:
    """The stored base with entries changed; None takes an entry out."""
    save(base, path)
    content = torch.load(path, weights_only=True) | changes
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    return path


def test_a_stored_base_comes_back_as_it_was(base: BaseNetwork, tmp_path: Path) -> None:
    save(base, tmp_path / "base.pt")
    for back in (read(tmp_path / "base.pt"), load_base(tmp_path / "base.pt")):
        assert back.trunk_state.keys() == base.trunk_state.keys()
        assert all(torch.equal(back.trunk_state[k], v) for k, v in base.trunk_state.items())
        assert back.heads is not None
        assert base.heads is not None
        assert torch.equal(back.heads.yaw_weight, base.heads.yaw_weight)
        assert torch.equal(back.heads.pitch_bias, base.heads.pitch_bias)
        plain = {"trunk_state": {}, "heads": None}
        assert dataclasses.replace(back, **plain) == dataclasses.replace(base, **plain)


def test_equal_bases_give_equal_bytes(base: BaseNetwork, tmp_path: Path) -> None:
    ones = {key: torch.ones_like(value) for key, value in base.trunk_state.items()}
    kept: dict[tuple[int, ...], torch.Tensor] = {}
    shared = {key: kept.setdefault(tuple(v.shape), v) for key, v in ones.items()}
    save(dataclasses.replace(base, trunk_state=ones), tmp_path / "one.pt")
    save(dataclasses.replace(base, trunk_state=shared), tmp_path / "a_longer_name.pt")
    sums = [hashlib.sha256(file.read_bytes()).hexdigest() for file in tmp_path.iterdir()]
    assert len(sums) == 2
    assert sums[0] == sums[1]


def test_a_trunk_alone_is_stored_too_but_gives_no_angles(base: BaseNetwork, tmp_path: Path) -> None:
    save(dataclasses.replace(base, heads=None), tmp_path / "base.pt")
    back = read(tmp_path / "base.pt")
    assert back.heads is None
    with pytest.raises(InputError, match="trunk without heads"):
        BaseModule(back)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"version": 3}, "no base network of this version; run `custom-gaze fetch`"),
        ({"format": "custom-gaze-checkpoint"}, "no base network of this version"),
        ({"sha256": None}, r"no complete base network \(sha256\)"),
        ({"extra": 1}, r"no complete base network \(extra\)"),
        ({"trunk": "resnet34"}, "lacks .* of a resnet34"),
        ({"trunk": "resnet7"}, "unknown trunk 'resnet7'"),
        ({"trunk_state": 3}, "no valid base network"),
        ({"heads": {"yaw_weight": torch.zeros(90, 512)}}, "no valid base network"),
        ({"warnings": 3}, "no valid base network"),
    ],
)
def test_a_base_that_is_not_whole_is_refused(
    base: BaseNetwork, tmp_path: Path, changes: dict[str, object], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        read(damaged(base, tmp_path / "base.pt", **changes))


def test_heads_whose_bins_contradict_each_other_are_refused(
    base: BaseNetwork, tmp_path: Path
) -> None:
    heads = vars(base.heads) | {"bin_width_deg": 3.0}
    with pytest.raises(InputError, match="bins contradict their layout"):
        read(damaged(base, tmp_path / "base.pt", heads=heads))


def test_a_missing_base_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="base.pt: not found; run `custom-gaze fetch`"):
        read(tmp_path / "base.pt")


def test_the_module_stays_in_eval_mode(base: BaseNetwork) -> None:
    module = BaseModule(base)
    x = torch.rand(2, 3, 448, 448)
    with torch.no_grad():
        before = module(x)
        module.train()
        module(x)
        after = module(x)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize(
    ("bins", "bin_of_yaw", "yaw_deg", "bin_of_pitch", "pitch_deg"),
    [(90, 45, 0.0, 89, 176.0), (90, 0, -180.0, 40, -20.0), (28, 14, 0.0, 27, 39.0)],
)
def test_expected_angles_stand_where_the_bins_are(
    bins: int, bin_of_yaw: int, yaw_deg: float, bin_of_pitch: int, pitch_deg: float
) -> None:
    pair = (torch.zeros(bins, 8), torch.zeros(bins))
    heads = bin_heads(pair, pair, 8, "test")
    logits = 50 * torch.eye(bins)
    angles = expected_angles(logits[[bin_of_yaw]], logits[[bin_of_pitch]], heads)
    assert angles.dtype == torch.float32
    assert angles.tolist() == [[pytest.approx(yaw_deg), pytest.approx(pitch_deg)]]
    # Two equal bins: the middle between them. All equal: the middle of all.
    two = logits[[3]] + logits[[4]]
    width, first = nets.BINS[bins]
    assert expected_angles(two, 0 * two, heads).tolist() == [
        [pytest.approx(first + 3.5 * width), pytest.approx(first + (bins - 1) / 2 * width)]
    ]


def test_reading_warns_of_nothing(base: BaseNetwork, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(base, tmp_path / "base.pt")
        read(tmp_path / "base.pt")
