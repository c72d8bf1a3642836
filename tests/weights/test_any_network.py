"""Networks that are no ResNet: every family by its published names, from both exporters, and any
row of common operations; where they are cut; that they train."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gaze_families as families
import weights_nets as nets
from custom_gaze.common.errors import InputError
from custom_gaze.models.graph import GraphTrunk
from custom_gaze.models.network import TRUNKS
from custom_gaze.weights import costs
from custom_gaze.weights.anatomy import Anatomy, anatomy_of
from custom_gaze.weights.base import BaseModule, BaseNetwork, read_base, save_base
from custom_gaze.weights.families import named_graph
from custom_gaze.weights.inspect import describe
from custom_gaze.weights.load import load_base
from custom_gaze.weights.onnx_network import read_network
from custom_gaze.weights.onnx_reader import parse_onnx
from custom_gaze.weights.recognise import CANDIDATES
from custom_gaze.weights.torch_reader import base_from_torch

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning",
    "ignore::torch.jit.TracerWarning",
)
X = torch.from_numpy(np.random.default_rng(2).normal(0, 1, (2, 3, 96, 96)).astype(np.float32))


def from_state(state: dict[str, Tensor]) -> BaseNetwork:
    return base_from_torch(dict(state), "net.pt", "net.pt", "")


def from_onnx(path: Path) -> BaseNetwork:
    """What `load_base` reads, without its comparison at full size."""
    model, _ = parse_onnx(path.read_bytes(), path)
    found: Anatomy = anatomy_of(read_network(model, f"{path}"), (0, 1))
    return BaseNetwork(found.trunk, found.state, found.heads, "net", "", "onnx", found.folded)


def assert_predicts_as(base: BaseNetwork, network: nn.Module) -> None:
    with torch.inference_mode():
        wanted, given = network(X), BaseModule(base)(X)
    for ours, theirs in zip(given, wanted, strict=True):
        assert float(theirs.std()) > 0.5  # else agreement would show little
        np.testing.assert_allclose(ours, theirs, atol=2e-4 * float(theirs.abs().max()))


# ------------------------------------------------------------------------- the published names

PUBLISHED = {
    "mobilenet_v2": (
        "features.0.1.running_var",
        "features.1.conv.1.weight",
        "features.2.conv.3.running_mean",
        "features.18.0.weight",
    ),
    "mobileone_s0": (
        "stage0.rbr_conv.0.conv.weight",
        "stage1.1.rbr_conv.3.bn.running_var",
        "stage2.3.rbr_skip.weight",
        "stage3.2.rbr_scale.conv.weight",
        "stage4.1.rbr_conv.0.conv.weight",
    ),
    "mobileone_s1": ("stage1.2.rbr_skip.bias",),
    "mobileone_s2": ("stage3.19.rbr_conv.0.bn.weight",),
    "mobileone_s3": ("stage2.15.rbr_conv.0.conv.weight",),
    "mobileone_s4": ("stage3.10.se.reduce.weight", "stage4.1.se.expand.bias"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_state_dict_by_its_published_names(name: str) -> None:
    network = families.family_network(name)
    state = network.state_dict()
    assert set(PUBLISHED[name]) <= state.keys()
    base = from_state({f"module.{key}": value for key, value in state.items()})
    assert (base.spec.name, base.kind) == (name, "mobilegaze-state-dict")
    assert_predicts_as(base, network)


@pytest.mark.parametrize("name", ["mobileone_s0", "mobileone_s4"])
def test_merged_branches_give_the_same_network(name: str) -> None:
    network = families.family_network(name)
    merged, unmerged = from_state(families.merged_state(network)), from_state(network.state_dict())
    assert merged.trunk == unmerged.trunk
    assert merged.trunk_state.keys() == unmerged.trunk_state.keys()
    for key, value in merged.trunk_state.items():
        assert torch.allclose(value, unmerged.trunk_state[key], atol=1e-5), key
    assert_predicts_as(merged, network)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s.pop("features.3.conv.1.1.bias"), r"lacks features\.3\.conv\.1\.1\.bias"),
        (lambda s: s.update({"features.19.0.weight": torch.ones(1)}), "holds features.19.0.weight"),
        (
            lambda s: s.update({"features.18.0.weight": torch.ones(64, 320, 1, 1)}),
            r"features\.18\.1\.weight has the shape \(1280,\), not \(64,\)",
        ),
        (lambda s: s["features.0.0.weight"].fill_(np.nan), "features.0.0.weight holds NaN"),
        (lambda s: s["features.0.1.running_var"].neg_(), "running_var holds negative variances"),
    ],
)
def test_a_state_dict_that_is_not_whole_is_refused(change: Any, match: str) -> None:
    state = families.family_network("mobilenet_v2").state_dict()
    change(state)
    with pytest.raises(InputError, match=f"^net.pt: .*{match}"):
        from_state(state)


@pytest.mark.parametrize(
    ("trunk", "blocks"), [("resnet101", (3, 4, 23)), ("resnet152", (3, 8, 36))]
)
def test_l2cs_nets_deep_resnets(trunk: str, blocks: tuple[int, ...]) -> None:
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in TRUNKS[trunk].build().state_dict().items()}
    for layer, count in enumerate(blocks, start=1):
        assert f"layer{layer}.{count - 1}.conv3.weight" in shapes
        assert f"layer{layer}.{count}.conv3.weight" not in shapes
    state = {name: torch.ones(shape) for name, shape in shapes.items()}
    heads = {
        f"fc_{a}_gaze.{k}": torch.ones(90, *s)
        for a in ("yaw", "pitch")
        for k, s in (("weight", (2048,)), ("bias", ()))
    }
    base = from_state({**state, **heads, "fc_finetune.bias": torch.ones(3)})
    assert (base.trunk, base.kind) == (trunk, "l2cs-state-dict")


def test_every_named_trunk_can_be_recognised() -> None:
    assert {name for names in CANDIDATES.values() for name in names} == set(TRUNKS)
    for count, names in CANDIDATES.items():
        for name in names:
            graph, features = named_graph(name)
            assert sum(node.operation == "convolution" for node in graph.nodes) == count
            assert graph.shape(features) == (1, TRUNKS[name].features)


# --------------------------------------------------------------------------- from both exporters


@pytest.mark.parametrize(
    ("name", "current", "folded"),
    [
        ("mobilenet_v2", False, True),
        pytest.param("mobilenet_v2", True, False, marks=pytest.mark.long),
        ("mobileone_s0", False, False),
        ("mobileone_s4", False, True),
        pytest.param("mobileone_s0", True, True, marks=pytest.mark.long),
    ],
)
def test_onnx_of_both_exporters(tmp_path: Path, name: str, current: bool, folded: bool) -> None:
    """The same trunk, cut at the same places, as from the state dict; branches merged."""
    network = families.family_network(name)
    opset = 18 if current else 17
    path = nets.export(network, tmp_path / "n.onnx", current=current, opset=opset, folded=folded)
    base = from_onnx(path)
    assert (base.spec.name, base.batchnorm_folded) == (name, folded and "one" not in name)
    assert_predicts_as(base, network)
    known = from_state(network.state_dict())
    assert isinstance(base.trunk, GraphTrunk)
    assert isinstance(known.trunk, GraphTrunk)
    assert costs.costs_of(base) == costs.costs_of(known)
    assert [len(layer.nodes) for layer in base.trunk.layers] == [
        len(layer.nodes) for layer in known.trunk.layers
    ]


@pytest.mark.long
def test_mobilenet_loads_with_all_its_checks_and_is_described(tmp_path: Path) -> None:
    network = families.family_network("mobilenet_v2", bins=28)
    path = nets.export(network, tmp_path / "mobilenetv2_gaze.onnx")
    base = load_base(path)
    save_base(base, tmp_path / "base.pt")
    back = read_base(tmp_path / "base.pt")
    assert back.trunk == base.trunk
    assert_predicts_as(back, network)
    said = describe(path)
    assert "\nmobilenet_v2, two heads of 28 bins of 3° from -42°\n" in said
    # 2.22 million of the trunk (Sandler et al. 2018: 3.4 with the 1.28 of ImageNet's classifier),
    # its 300 million multiplications at 224 × 224 four times.
    assert "\n2.3 million parameters, 1.20 billion multiplications an image, " in said
    assert "\ncut behind layer3: 7" in said
    assert "% of the multiplications are frozen, 160 × 14 × 14 numbers are kept" in said
    assert "ms an image here (onnxruntime)\n" in said
