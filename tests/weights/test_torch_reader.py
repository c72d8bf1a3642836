import io
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

import weights_nets as nets
from custom_gaze.common.errors import InputError
from custom_gaze.faces.crops import normalise
from custom_gaze.weights.base import BaseModule, BaseNetwork
from custom_gaze.weights.base_heads import expected_angles
from custom_gaze.weights.load import load_base
from custom_gaze.weights.self_check import check_images
from custom_gaze.weights.torch_reader import base_from_torch, read_torch

State = dict[str, Any]


def saved(content: Any, path: Path, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def read(path: Path) -> BaseNetwork:
    """What the file holds, without the mirror test that `load_base` ends with."""
    return base_from_torch(read_torch(path.read_bytes(), "net"), "net", "net", "")


def assert_same(base: BaseNetwork, state: dict[str, Tensor], heads: tuple[str, str]) -> None:
    trunk = {
        key: value
        for key, value in state.items()
        if not key.startswith("fc") and not key.endswith("num_batches_tracked")
    }
    assert base.trunk_state.keys() == trunk.keys()
    assert all(torch.equal(base.trunk_state[key], value) for key, value in trunk.items())
    assert base.heads is not None
    yaw, pitch = heads
    assert torch.equal(base.heads.yaw_weight, state[f"{yaw}.weight"])
    assert torch.equal(base.heads.yaw_bias, state[f"{yaw}.bias"])
    assert torch.equal(base.heads.pitch_weight, state[f"{pitch}.weight"])
    assert torch.equal(base.heads.pitch_bias, state[f"{pitch}.bias"])


@pytest.mark.parametrize("legacy", [pytest.param(False, marks=pytest.mark.long), True])
def test_the_official_file_gives_its_own_angles(tmp_path: Path, legacy: bool) -> None:
    network = nets.gaze_network("resnet50", nets.L2CS)
    state = network.state_dict()
    assert tuple(state["fc_finetune.weight"].shape) == (3, 2051)
    base = load_base(saved(state, tmp_path / "L2CSNet_gaze360.pkl", legacy))
    assert (base.trunk, base.kind, base.source) == (
        "resnet50",
        "l2cs-state-dict",
        "L2CSNet_gaze360.pkl",
    )
    assert (base.batchnorm_folded, base.warnings) == (False, ())
    assert_same(base, state, nets.L2CS)
    assert base.heads is not None
    assert (base.heads.bins, base.heads.bin_width_deg, base.heads.first_bin_deg) == (90, 4, -180)
    if not legacy:
        x = torch.from_numpy(normalise(check_images()[[0, 2]]))
        with torch.inference_mode():
            angles = expected_angles(*BaseModule(base)(x), base.heads)
        wanted = nets.angles_of(network, x)
        assert float((wanted[0] - wanted[1]).abs().max()) > 5  # the images differ, or so would all
        np.testing.assert_allclose(angles, wanted, atol=1e-4)


@pytest.mark.parametrize("trunk", ["resnet18", "resnet34", "resnet50"])
def test_mobilegaze_files_are_told_apart(tmp_path: Path, trunk: str) -> None:
    state = nets.random_network(trunk).state_dict()
    base = read(saved(state, tmp_path / "net.pt"))
    assert (base.trunk, base.kind) == (trunk, "mobilegaze-state-dict")
    assert_same(base, state, nets.MOBILEGAZE)


def test_28_bins_prefix_wrapper_and_half_precision(tmp_path: Path) -> None:
    state = nets.random_network("resnet18", nets.L2CS, 28).state_dict()
    prefixed = {f"module.{key}": value for key, value in state.items()}
    compiled = {f"module._orig_mod.model.{key}": value for key, value in state.items()}
    wrapped = {"epoch": 3, "model_state_dict": state}
    for content in (prefixed, {"state_dict": prefixed}, wrapped, compiled):
        base = read(saved(content, tmp_path / "net.pkl"))
        assert_same(base, state, nets.L2CS)
        assert base.heads is not None
        assert (base.heads.bins, base.heads.bin_width_deg, base.heads.first_bin_deg) == (28, 3, -42)
    halves = {key: v.half() if v.is_floating_point() else v for key, v in state.items()}
    base = read(saved(halves, tmp_path / "net.pkl"))
    assert base.trunk_state["conv1.weight"].dtype == torch.float32
    assert torch.equal(base.trunk_state["conv1.weight"], state["conv1.weight"].half().float())


@pytest.mark.parametrize("counters", [True, False])
def test_torchvision_weights_are_a_trunk_only(tmp_path: Path, counters: bool) -> None:
    state = torchvision.models.resnet34().state_dict()
    kept = {k: v for k, v in state.items() if counters or "num_batches" not in k}
    base = load_base(saved(kept, tmp_path / "resnet34-b627a593.pth", legacy=not counters))
    assert (base.trunk, base.kind, base.heads) == ("resnet34", "torchvision", None)
    assert torch.equal(
        base.trunk_state["layer4.2.bn2.running_var"], state["layer4.2.bn2.running_var"]
    )
    assert not any(key.startswith("fc") for key in base.trunk_state)


def changed(key: str, change: Callable[[Tensor], Any]) -> Callable[[State], State]:
    return lambda state: state | {key: change(state[key])}


def without(*keys: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if key not in keys}


def tiny_but_huge(like: Tensor) -> Tensor:
    """Claims 4 · 10¹⁵ bytes over four."""
    return torch.zeros(1).expand(10**15)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (without("layer3.1.bn2.bias"), r"lacks layer3\.1\.bn2\.bias of a resnet18"),
        (lambda s: s | {"layer5.0.w": s["fc_yaw.bias"]}, r"holds layer5\.0\.w, which a resnet18"),
        (changed("conv1.weight", lambda w: w[:, :1]), r"conv1\.weight has the shape \(64, 1, 7"),
        (changed("layer2.0.bn1.weight", lambda w: w * float("nan")), "bn1.weight holds NaN"),
        (changed("bn1.running_var", lambda v: -v), "bn1.running_var holds negative variances"),
        (changed("bn1.bias", lambda b: b.long()), "bn1.bias is torch.int64, but must be"),
        (changed("bn1.bias", lambda b: "b"), "bn1.bias is str, but must be a tensor"),
        (changed("fc_yaw.bias", tiny_but_huge), "fc_yaw.bias is no plain tensor"),
        (changed("bn1.bias", lambda b: b.to_sparse()), "bn1.bias is no plain tensor"),
        (changed("fc_yaw.bias", lambda b: b[:60]), r"has 60 bins, but known are 90 \(4° from"),
        (changed("fc_pitch.bias", lambda b: b[:28]), r"pitch head holds .* \(28,\) where \(90,\)"),
        (changed("fc_yaw.weight", lambda w: w[:, :9]), r"shape \(90, 9\) where \(90, 512\)"),
        (without("fc_pitch.weight", "fc_pitch.bias"), "lacks fc_pitch.weight, one of the two"),
        (
            lambda s: s | {"fc_yaw_gaze.weight": s["fc_yaw.weight"]},
            "lacks fc_yaw_gaze.bias|lacks fc_pitch_gaze|holds fc_yaw",
        ),
        (lambda s: {"blocks.0.weight": s["conv1.weight"]}, "holds no network that is known by its"),
        (lambda s: {"features.0.0.weight": s["conv1.weight"]}, r"lacks features\.0\.1\.weight"),
        (lambda s: {}, "holds no state dict"),
        (lambda s: {1: s["conv1.weight"]}, "holds no state dict"),
        (
            lambda s: {f"net.{k}": v for k, v in s.items()} | {"loss\x1b": s["bn1.bias"]},
            r"lies under the prefix 'net\.', and beside it 'loss\\\\x1b'",
        ),
        (lambda s: {"format": "custom-gaze-checkpoint"}, "'custom-gaze-checkpoint' file and not"),
        (lambda s: list(s.values()), "holds list and not a state dict"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_key(
    tmp_path: Path, change: Callable[[State], Any], match: str
) -> None:
    state = dict(nets.random_network("resnet18").state_dict())
    path = saved(change(state), tmp_path / "net.pt")
    with pytest.raises(InputError, match=match) as raised:
        load_base(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_wider_resnets_are_refused(tmp_path: Path) -> None:
    state = dict(nets.random_network("resnet50").state_dict())
    state["layer1.0.conv1.weight"] = torch.zeros(128, 64, 1, 1)
    with pytest.raises(InputError, match=r"layer1\.0\.conv1\.weight has the shape \(128, 64, 1, 1"):
        load_base(saved(state, tmp_path / "wide_resnet50_2.pth"))


class Payload:
    """Unpickled by a careless reader, it makes a folder."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle2", "pickle5"])
def test_a_pickle_with_code_runs_nothing(tmp_path: Path, form: str) -> None:
    path, made = tmp_path / "net.pkl", tmp_path / "made"
    content = {"conv1.weight": torch.zeros(2), "bad": Payload(made)}
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps({"bad": Payload(made)}, protocol=int(form[-1])))
    else:
        saved(content, path, legacy=form == "legacy")
    with pytest.raises(InputError) as raised:
        load_base(path)
    assert not made.exists()
    assert list(tmp_path.iterdir()) == [path]
    message = str(raised.value)
    assert "\n" not in message
    assert f"{path}: holds code or objects ({os.mkdir.__module__}.mkdir)" in message
    with path.open("rb") as file:  # the payload is real
        torch.load(file, weights_only=False) if form in ("zip", "legacy") else pickle.load(file)
    assert made.is_dir()


def test_a_whole_pickled_network_is_refused_by_name(tmp_path: Path) -> None:
    path = saved(nets.random_network("resnet18"), tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"objects \(weights_nets\.GazeResNet\).* state_dict\(\)"):
        load_base(path)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="is a TorchScript program"):
            load_base(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [0.00001, 0.1, 0.5, 0.999999])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, legacy: bool, kept: float) -> None:
    buffer = io.BytesIO()
    torch.save(
        nets.random_network("resnet18").state_dict(),
        buffer,
        _use_new_zipfile_serialization=not legacy,
    )
    path = tmp_path / "net.pkl"
    path.write_bytes(buffer.getvalue()[: int(kept * len(buffer.getvalue()))])
    with pytest.raises(InputError, match=r"net\.pkl: is (cut short or )?damaged"):
        load_base(path)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer"),
        (b"\x1f\x8b\x08", "is packed with gzip"),
        (b"hello", "is no ONNX file, or cut short or damaged"),
        (b"\0" * 1000, "is no ONNX file"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "net.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=match):
        load_base(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pkl: not found"):
        load_base(tmp_path / "none.pkl")
    with pytest.raises(InputError, match="is a folder, not a file"):
        load_base(tmp_path)
