"""Small networks of every kind: each operation against onnxruntime, one output of two angles, the
cut and the training of what has no name, and what is refused."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from conftest import frozen_state
from custom_gaze.calibration.candidates import closed_network
from custom_gaze.calibration.corrections import Polynomial
from custom_gaze.calibration.frozen_blocks import features_of
from custom_gaze.calibration.linear_probe import LinearProbe
from custom_gaze.calibration.starting_head import linear_start
from custom_gaze.common.errors import InputError
from custom_gaze.faces.crops import normalise
from custom_gaze.models.graph import GraphTrunk, Node, NodeList
from custom_gaze.models.heads import CorrectedAngles
from custom_gaze.models.network import GazeNetwork
from custom_gaze.models.onnx_export import to_onnx
from custom_gaze.weights.axis_test import portrait_crops
from custom_gaze.weights.base import BaseModule, BaseNetwork, read_base, save_base
from custom_gaze.weights.base_heads import AngleHead, BinHeads
from custom_gaze.weights.embedded import load_embedded
from custom_gaze.weights.load import load_base
from custom_gaze.weights.self_check import check_images

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning",
    "ignore::torch.jit.TracerWarning",
)
FACE = portrait_crops()[:1]
X = torch.from_numpy(normalise(check_images()[:2]))
CPU = torch.device("cpu")


class Small(nn.Module):
    """A trunk of a few layers, and two heads of bins or one of two angles."""

    def __init__(self, *layers: nn.Module, outputs: int = 90, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 5, 4, 2)
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(8, width, 3, 8, 1)
        self.yaw, self.pitch = nn.Linear(width, outputs), nn.Linear(width, outputs)
        self.outputs = outputs

    def features(self, x: Tensor) -> Tensor:
        x = torch.relu(self.last(self.layers(torch.relu(self.stem(x)))))
        return torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1)

    def forward(self, x: Tensor) -> Any:
        f = self.features(x)
        return self.yaw(f) if self.outputs == 2 else (self.yaw(f), self.pitch(f))


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(4)
    network = make().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network


def export(network: nn.Module, path: Path, opset: int = 17, **more: Any) -> Path:
    example = torch.zeros(1, 3, 448, 448)
    torch.onnx.export(network, (example,), str(path), dynamo=False, opset_version=opset, **more)
    return path


class Does(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Joined(nn.Module):
    """Two branches and what joins them."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor], *branches: nn.Module) -> None:
        super().__init__()
        self.join, self.branches = join, nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        one, two = (branch(x) for branch in self.branches)
        return self.join(one, two)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.relu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * nn.functional.hardsigmoid(self.expand(gate))


def shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
    one, two = x.chunk(2, dim=1)
    return torch.cat([two, one[:, :, :, :]], dim=1)


def inner(x: Tensor) -> Tensor:
    """The middle of the maps, as large as before."""
    part = x[:, :, 16:96, 16:96]
    return nn.functional.interpolate(part, (112, 112), mode="bilinear", align_corners=False)


def conv(kernel: int = 3, groups: int = 1, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(8, 8, kernel, padding=kernel // 2, groups=groups, **more)


LAYERS: dict[str, Callable[[], list[nn.Module]]] = {
    "activations": lambda: [
        nn.LeakyReLU(0.2), nn.PReLU(8), nn.ELU(0.5), conv(), nn.SiLU(), nn.Hardswish(), nn.ReLU6(),
        conv(groups=8), nn.Sigmoid(), conv(), nn.Tanh(), nn.Softplus(), nn.Mish(), nn.GELU(),
    ],
    "norm before and after": lambda: [
        nn.BatchNorm2d(8), nn.ReLU(), conv(bias=False), nn.BatchNorm2d(8, eps=1e-3), nn.ReLU(),
    ],
    "branches": lambda: [
        Joined(torch.add, nn.Sequential(conv(), nn.BatchNorm2d(8)), conv(1)), nn.ReLU(),
        Joined(torch.add, nn.BatchNorm2d(8), conv(groups=4)), nn.ReLU(),
        Joined(torch.add, conv(), nn.MaxPool2d(3, 1, 1)),
        Joined(torch.sub, conv(), conv(1)),
        Joined(torch.maximum, conv(), conv(1)),
    ],
    "dense": lambda: [
        Joined(lambda a, b: torch.cat([a, b], 1), nn.Identity(), conv()), nn.Conv2d(16, 8, 1),
    ],
    "squeezed": lambda: [conv(), nn.ReLU(), Gated(), nn.ReLU()],
    "shuffled": lambda: [conv(), Does(shuffled), conv(groups=2)],
    "pools": lambda: [
        nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        nn.AvgPool2d(2, 2, ceil_mode=True), nn.MaxPool2d(2, 2, ceil_mode=True),
    ],
    "arithmetic": lambda: [Does(lambda x: (1.5 - x) * 2 / 3 + x**2 - 0.25), conv(dilation=1)],
    "inner part": lambda: [conv(), Does(inner)],
    "nearest": lambda: [nn.MaxPool2d(2), nn.Upsample(scale_factor=2), nn.Conv2d(8, 8, 5, 1, 4, 2)],
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYERS)
def test_the_operations_of_common_networks(tmp_path: Path, kind: str) -> None:
    """`load_base` compares with onnxruntime; here the module itself is asked too."""
    network = seeded(lambda: Small(*LAYERS[kind]()))
    for opset in (13, 17) if kind in ("pools", "activations") else (17,):
        base = load_base(export(network, tmp_path / "net.onnx", opset), FACE)
    assert isinstance(base.trunk, GraphTrunk)
    with torch.inference_mode():
        for ours, theirs in zip(BaseModule(base)(X), network(X), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
    save_base(base, tmp_path / "base.pt")
    assert read_base(tmp_path / "base.pt").trunk == base.trunk


@pytest.mark.parametrize(("pads", "automatic"), [([1, 0, 1, 2], None), (None, "SAME_LOWER")])
def test_uneven_padding(tmp_path: Path, pads: list[int] | None, automatic: str | None) -> None:
    path = export(seeded(lambda: Small(nn.Conv2d(8, 8, 3, 2, 1))), tmp_path / "net.onnx")
    model = onnx.load(path)
    second = [node for node in model.graph.node if node.op_type == "Conv"][1]
    kept = [entry for entry in second.attribute if entry.name != "pads"]
    del second.attribute[:]
    said = {"auto_pad": automatic} if pads is None else {"pads": pads}
    second.attribute.extend([*kept, *(onnx.helper.make_attribute(*pair) for pair in said.items())])
    onnx.save(model, path)
    assert isinstance(load_base(path, FACE).trunk, GraphTrunk)  # onnxruntime agrees


def test_branches_are_merged_and_norms_folded(tmp_path: Path) -> None:
    network = seeded(lambda: Small(*LAYERS["branches"]()))
    base = load_base(export(network, tmp_path / "net.onnx"), FACE)
    assert isinstance(base.trunk, GraphTrunk)
    kinds = [node.operation for layer in base.trunk.layers for node in layer.nodes]
    # Stem, two merged sums, one beside a pool, two twice that cannot be merged, the last.
    assert kinds.count("convolution") == 1 + 2 + 1 + 2 + 2 + 1
    assert "scale" not in kinds


def test_a_dynamic_batch_and_computed_sizes(tmp_path: Path) -> None:
    network = seeded(lambda: Small(Does(shuffled)))
    axes = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
    path = export(network, tmp_path / "net.onnx", **axes)
    assert {"Shape", "Gather"} <= {node.op_type for node in onnx.load(path).graph.node}
    base = load_base(path, FACE)
    with torch.inference_mode():
        np.testing.assert_allclose(BaseModule(base)(X)[0], network(X)[0], atol=1e-4)


# ------------------------------------------------------------------------------------- the cut


def chain(kinds: list[int]) -> Callable[[], nn.Module]:
    """Convolutions of equal cost, each followed by a ReLU."""
    return lambda: Small(*[m for _ in kinds for m in (conv(), nn.ReLU())])


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> BaseNetwork:
    path = tmp_path_factory.mktemp("chain") / "net.onnx"
    return load_base(export(seeded(chain([8] * 12)), path), FACE)


def test_the_quarters_are_cut_behind_an_activation(chained: BaseNetwork) -> None:
    """12 convolutions of 7.2 million multiplications, a stem as large, and a small last one."""
    assert isinstance(chained.trunk, GraphTrunk)
    for layer in chained.trunk.layers[:3]:
        assert layer.nodes[-1].operation == "relu"
        assert sum(node.operation == "convolution" for node in layer.nodes) in (3, 4)


def test_no_cut_where_more_than_one_tensor_passes(tmp_path: Path) -> None:
    """Everything but the stem lies inside one residual block."""
    inside = nn.Sequential(*[conv() for _ in range(4)])
    network = seeded(lambda: Small(Joined(torch.add, nn.Identity(), inside)))
    base = load_base(export(network, tmp_path / "net.onnx"), FACE)
    assert isinstance(base.trunk, GraphTrunk)
    ends = [layer.nodes[-1].operation for layer in base.trunk.layers if layer.nodes]
    assert len(base.trunk.layers[0].nodes) == 2  # the stem and its ReLU
    assert "add" in ends


@pytest.mark.parametrize("through", ["layer1", "layer2", "layer3"])
def test_frozen_and_trained_parts_of_any_cut(chained: BaseNetwork, through: str) -> None:
    network = chained.network(through)
    with torch.inference_mode():
        whole = network(X)
        assert torch.equal(network.trained(network.frozen(X)), whole)
    cached = features_of(network, list(check_images()[:2]), CPU)
    with torch.inference_mode():
        apart = network.trained(torch.from_numpy(cached).float()) - whole
    assert 0 < cached.nbytes < X.numel() * 4
    assert float(apart.abs().max()) < 5e-3
    before = frozen_state(network)
    optimiser = torch.optim.Adam(network.trained_parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = nn.functional.mse_loss(
            network.trained(torch.from_numpy(cached).float()), X.new_ones(2, 2)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    after = frozen_state(network)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    changed = network.trunk_state()
    assert not all(torch.equal(changed[n], t) for n, t in chained.trunk_state.items())


def test_another_cut_is_refused(chained: BaseNetwork) -> None:
    with pytest.raises(InputError, match=r"frozen_through is 'layer4', .* allowed are layer1, lay"):
        chained.network("layer4")


# ------------------------------------------------------------------------------ stored as data


def rewritten(base: BaseNetwork, change: Callable[[Node], Node]) -> BaseNetwork:
    assert isinstance(base.trunk, GraphTrunk)
    first, *rest = base.trunk.layers
    changed = NodeList((change(first.nodes[0]), *first.nodes[1:]))
    return dataclasses.replace(base, trunk=dataclasses.replace(base.trunk, layers=(changed, *rest)))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda n: dataclasses.replace(n, operation="system"), "a node 'system' that makes no"),
        (lambda n: dataclasses.replace(n, inputs=(7,)), "reads what comes later"),
        (lambda n: dataclasses.replace(n, inputs=()), "reads what comes later, or nothing"),
        (
            lambda n: dataclasses.replace(n, settings={**n.settings, "padding": (10**6, 10**6)}),
            "more than any network",
        ),
        (lambda n: dataclasses.replace(n, settings={**n.settings, "x": 1}), "makes no sense"),
        (
            lambda n: dataclasses.replace(n, settings={**n.settings, "outputs": 9}),
            "cannot take tensors",
        ),
    ],
)
def test_a_stored_trunk_that_is_none_is_refused(
    chained: BaseNetwork, tmp_path: Path, change: Callable[[Node], Node], match: str
) -> None:
    save_base(rewritten(chained, change), tmp_path / "base.pt")
    with pytest.raises(
        InputError, match=rf"^\S+: no valid base network \(.*{match}.*custom-gaze f"
    ):
        read_base(tmp_path / "base.pt")


# ------------------------------------------------------------------- one output of two angles


def test_one_output_of_two_angles(tmp_path: Path) -> None:
    network = seeded(lambda: Small(conv(), nn.ReLU(), outputs=2))
    base = load_base(export(network, tmp_path / "net.onnx"), FACE)
    assert isinstance(base.heads, AngleHead)
    assert (base.heads.features, base.provenance.bins) == (16, 0)
    with torch.inference_mode():
        np.testing.assert_allclose(BaseModule(base).angles_deg(X), network(X), atol=1e-4)


@pytest.fixture(scope="module")
def personal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GazeNetwork]:
    """A personal model as `custom-gaze export` writes it, corrected and with a linear map."""
    base = load_embedded()
    assert isinstance(base.heads, BinHeads)
    map_deg = np.random.default_rng(1).normal(0, 0.05, (2, base.heads.features))
    polynomial = Polynomial("quadratic", (0.01, -0.01), (1.2, 0.8), (2.0, -1.0))
    form = LinearProbe(polynomial, map_deg, np.array([0.5, -0.5]))
    network = closed_network(base.network("layer3"), base.heads, form)
    path = tmp_path_factory.mktemp("personal") / "custom_gaze.onnx"
    path.write_bytes(to_onnx(network, 448, 18).SerializeToString())
    return path, network


def test_a_personal_model_is_a_base_of_the_same_trunk(
    personal: tuple[Path, GazeNetwork], tmp_path: Path
) -> None:
    path, network = personal
    base = load_base(path)
    assert (base.trunk, base.kind, base.batchnorm_folded) == ("slim18", "onnx", True)
    assert isinstance(base.heads, AngleHead)
    with torch.inference_mode():
        wanted = network(X)
        np.testing.assert_allclose(BaseModule(base).angles_deg(X), wanted, atol=1e-3)
        # A correction of it that changes nothing predicts the same.
        nothing = Polynomial("gain_offset", (0.0, 0.0), (1.0, 1.0), (0.0, 0.0))
        form = LinearProbe.corrected(nothing, base.spec.features)
        again = closed_network(base.network("layer3"), base.heads, form)
        assert isinstance(again.head, CorrectedAngles)
        np.testing.assert_allclose(again(X), wanted, atol=1e-3)
        swapped = dataclasses.replace(base, heads=base.heads.swapped())
        np.testing.assert_allclose(BaseModule(swapped).angles_deg(X), wanted.flip(1), atol=1e-3)
    save_base(swapped, tmp_path / "base.pt")
    assert read_base(tmp_path / "base.pt").heads is not None
    # Only the linear map and the last block are open to training.
    named = {n for n, p in again.named_parameters() if p.requires_grad and n.startswith("head")}
    assert named == {"head.residual.weight", "head.residual.bias"}


def test_a_linear_start_touches_the_curve_of_a_personal_model(
    personal: tuple[Path, GazeNetwork],
) -> None:
    base = load_base(personal[0])
    assert base.heads is not None
    network = base.network("layer3")
    with torch.inference_mode():
        features = network.features(network.frozen(X)).double().numpy()
    weight, bias = linear_start(features, base.heads)
    with torch.inference_mode():
        wanted = base.heads.angles_deg(torch.from_numpy(features).float()).numpy()
    np.testing.assert_allclose(features @ weight.T + bias, wanted, atol=1e-2)


# --------------------------------------------------------------------------------- the refused


class Attending(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        tokens = nn.functional.avg_pool2d(x, 16).flatten(2)
        share = torch.softmax(tokens.transpose(1, 2) @ tokens, dim=-1)
        return (tokens @ share).view(1, 8, 7, 7)


class ThreeOutputs(Small):
    def forward(self, x: Tensor) -> Any:
        return (*super().forward(x), self.features(x))


def small_onnx(folder: Path, *nodes: onnx.NodeProto, weights: dict[str, Any]) -> Path:
    """image → pooled (1, 3) → `nodes` → yaw and pitch."""
    first = [
        onnx.helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        onnx.helper.make_node("Flatten", ["mean"], ["pooled"]),
    ]
    graph = onnx.helper.make_graph(
        [*first, *nodes],
        "g",
        [onnx.helper.make_tensor_value_info("image", 1, [1, 3, 448, 448])],
        [onnx.helper.make_tensor_value_info(name, 1, [1, 90]) for name in ("yaw", "pitch")],
        [onnx.numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in weights.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("my.own", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), folder / "net.onnx")
    return folder / "net.onnx"


HEADS = [
    onnx.helper.make_node("Gemm", ["seen", "w"], ["yaw"]),
    onnx.helper.make_node("Gemm", ["seen", "w"], ["pitch"]),
]
W = {"w": np.ones((3, 90))}


def node(kind: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(kind, list(inputs), ["seen"], kind, **attributes)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Small(outputs=60), r"the yaw head has 60 bins, but known are 90 .* and 28 \(3°"),
        (lambda: ThreeOutputs(), r"has 3 outputs \(.*\), but a base network has two, the bins"),
        (lambda: Small(outputs=2, width=2).features, None),
        (lambda: Small(Attending()), "MatMul .* multiplies two computed tensors, as attention"),
        (lambda: Small(nn.LayerNorm([8, 112, 112])), "LayerNormalization .* is no operation of a"),
    ],
)
def test_other_networks_are_refused_in_one_line(
    tmp_path: Path, make: Callable[[], nn.Module], match: str | None
) -> None:
    if match is None:
        return
    path = export(seeded(make), tmp_path / "net.onnx")
    with pytest.raises(InputError, match=match) as raised:
        load_base(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("nodes", "weights", "match"),
    [
        ([node("LSTM", "pooled", "w", "w", hidden_size=3)], W, "LSTM 'LSTM' is no operator that"),
        ([node("Looks", "pooled", domain="my.own")], W, "Looks 'Looks' is of the unknown domain"),
        ([node("Softmax", "pooled", axis=0)], W, "Softmax 'Softmax' does not keep the images of"),
        ([node("Cast", "pooled", to=10)], W, "Cast 'Cast' computes in another type than float32"),
        ([node("Gemm", "pooled", "pooled")], W, "Gemm 'Gemm' has a weight 'pooled' that is comp"),
        ([node("Transpose", "pooled")], W, "Transpose 'Transpose' does not keep the images"),
        ([node("Gather", "pooled", "i", axis=1)], {**W, "i": [0, 1]}, "Gather 'Gather' takes more"),
        ([node("Add", "pooled", "a")], {**W, "a": np.ones((5, 3))}, "Add 'Add' does not keep the"),
        ([node("Add", "pooled", "a")], {**W, "a": np.ones(7)}, r"Add 'Add' cannot take tensors of"),
        (
            [node("QuantizeLinear", "pooled", "a")],
            {**W, "a": np.float32(1)},
            "QuantizeLinear 'QuantizeLinear' is no operation of a base network: those are conv",
        ),
    ],
)
def test_operations_are_refused_by_their_name(
    tmp_path: Path, nodes: list[onnx.NodeProto], weights: dict[str, Any], match: str
) -> None:
    path = small_onnx(tmp_path, *nodes, *HEADS, weights=weights)
    with pytest.raises(InputError, match=match) as raised:
        load_base(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_probabilities_are_no_logits(tmp_path: Path) -> None:
    last = [
        onnx.helper.make_node("Gemm", ["pooled", "w"], ["l"]),
        onnx.helper.make_node("Softmax", ["l"], ["yaw"], axis=1),
        onnx.helper.make_node("Gemm", ["pooled", "w"], ["pitch"]),
    ]
    with pytest.raises(
        InputError, match="'yaw' is no head of bins: where a linear layer .* softmax"
    ):
        load_base(small_onnx(tmp_path, *last, weights=W))
