"""ResNets in every form in which exporters write ONNX, read down to their weights."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

import weights_nets as nets
from custom_gaze.common.errors import InputError
from custom_gaze.models.graph import GraphTrunk
from custom_gaze.weights.anatomy import Anatomy, anatomy_of
from custom_gaze.weights.base_heads import BinHeads
from custom_gaze.weights.load import load_base
from custom_gaze.weights.onnx_network import read_network
from custom_gaze.weights.onnx_reader import parse_onnx

# What PyTorch says of its legacy exporter, of opsets it translates, and of training mode.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning",
    "ignore::torch.jit.TracerWarning",
)

Model = Any


def read(path: Path) -> Anatomy:
    """What `load_base` reads before it compares and settles."""
    model, _ = parse_onnx(path.read_bytes(), path)
    return anatomy_of(read_network(model, f"{path}"), (0, 1))


@cache
def exported(tmp: Path, trunk: str, current: bool, folded: bool) -> bytes:
    path = tmp / f"{trunk}{current}{folded}.onnx"
    opset = 18 if current else 17
    return nets.export(
        nets.random_network(trunk), path, current=current, opset=opset, folded=folded
    ).read_bytes()


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Model]:
    """A fresh ModelProto of an exported network."""
    folder = tmp_path_factory.mktemp("exported")

    def make(trunk: str = "resnet18", current: bool = False, folded: bool = True) -> Model:
        return onnx.load_model_from_string(exported(folder, trunk, current, folded))

    return make


def write(model: Model, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def folded_state(network: nn.Module) -> dict[str, Tensor]:
    """What folding makes of a trunk, in double precision, BatchNorm an identity behind it."""
    state = {k: v.double() for k, v in network.state_dict().items() if not k.startswith("fc")}
    result = {}
    for norm in [key.removesuffix(".running_var") for key in state if key.endswith("running_var")]:
        convolution = norm.replace("bn", "conv").replace("downsample.1", "downsample.0")
        gain = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + 1e-5).sqrt()
        bias = state[f"{norm}.bias"] - gain * state[f"{norm}.running_mean"]
        result[f"{convolution}.weight"] = state[f"{convolution}.weight"] * gain[:, None, None, None]
        result[f"{norm}.weight"] = torch.full_like(gain, math.sqrt(1 + 1e-5))
        result[f"{norm}.bias"] = bias
        result[f"{norm}.running_mean"] = torch.zeros_like(gain)
        result[f"{norm}.running_var"] = torch.ones_like(gain)
    return result


def assert_same(found: Anatomy, network: nets.GazeResNet, folded: bool) -> None:
    """The very weights where BatchNorm was kept, the folded ones to rounding where it was not."""
    assert found.folded == folded
    truth = folded_state(network) if folded else network.state_dict()
    wanted = {k: v for k, v in truth.items() if "fc" not in k and "num_batches" not in k}
    assert found.state.keys() == wanted.keys()
    for key, value in wanted.items():
        tolerance = 2e-6 if folded else 0.0
        close = torch.allclose(found.state[key].double(), value.double(), tolerance, tolerance)
        assert close, key
    heads = found.heads
    assert isinstance(heads, BinHeads)
    pairs = (heads.yaw_weight, heads.yaw_bias), (heads.pitch_weight, heads.pitch_bias)
    for (weight, bias), name in zip(pairs, network.returned, strict=True):
        assert torch.equal(weight, network.state_dict()[f"{name}.weight"])
        assert torch.equal(bias, network.state_dict()[f"{name}.bias"])


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("opset", [11, 20])
def test_the_legacy_exporters_files(tmp_path: Path, opset: int, folded: bool) -> None:
    network = nets.random_network("resnet18")
    path = nets.export(network, tmp_path / "net.onnx", opset=opset, folded=folded)
    assert_same(read(path), network, folded)


@pytest.mark.parametrize(("opset", "folded"), [(18, True), (20, False)])
def test_the_current_exporters_files(tmp_path: Path, opset: int, folded: bool) -> None:
    network = nets.random_network("resnet18", bins=28)
    path = nets.export(network, tmp_path / "net.onnx", current=True, opset=opset, folded=folded)
    names = {tensor.name for tensor in onnx.load(path).graph.initializer}
    assert "conv1.weight" in names  # folded or not: the name is no proof
    assert_same(read(path), network, folded)


@pytest.mark.parametrize(("trunk", "folded"), [("resnet34", True), ("resnet50", False)])
def test_the_deeper_trunks(
    make: Callable[..., Model], tmp_path: Path, trunk: str, folded: bool
) -> None:
    found = read(write(make(trunk, folded=folded), tmp_path / "net.onnx"))
    assert found.trunk == trunk
    assert_same(found, nets.random_network(trunk), folded)


def test_dynamic_batch_and_weights_listed_as_inputs(tmp_path: Path) -> None:
    network = nets.random_network("resnet18")
    more = {"dynamic_axes": {"input": {0: "n"}}, "keep_initializers_as_inputs": True}
    path = nets.export(network, tmp_path / "net.onnx", **more)
    assert len(onnx.load(path).graph.input) > 20
    assert_same(read(path), network, folded=True)


def rename_weights(model: Model, names: dict[str, str]) -> None:
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


@pytest.mark.parametrize("current", [True, False])
def test_mangled_names(make: Callable[..., Model], tmp_path: Path, current: bool) -> None:
    model = make(current=current)
    weights = sorted(tensor.name for tensor in model.graph.initializer)
    rename_weights(model, {name: f"w{hash(name) % 10**9}" for name in weights})
    for node in model.graph.node:
        node.name = ""
    assert_same(read(write(model, tmp_path / "net.onnx")), nets.random_network("resnet18"), True)


@pytest.mark.parametrize("folded", [True, False])
def test_downsample_first_with_its_name_and_conv3s_swapped(
    make: Callable[..., Model], tmp_path: Path, folded: bool
) -> None:
    """One shape, one stride: only the edges tell layer1's conv3 from its downsample."""
    model = make("resnet50", folded=folded)
    nodes = list(model.graph.node)
    place = next(i for i, node in enumerate(nodes) if "downsample" in node.name)
    first = next(i for i, node in enumerate(nodes) if node.name.startswith("/layer1/layer1.0/"))
    block = nodes[place : place + (1 if folded else 2)]
    conv3 = next(n for n in nodes if n.name == "/layer1/layer1.0/conv3/Conv")
    assert numpy_helper.to_array(
        next(t for t in model.graph.initializer if t.name == block[0].input[1])
    ).shape == (256, 64, 1, 1)
    a, b = block[0].input[1], conv3.input[1]
    rename_weights(model, {a: b, b: a})
    block[0].name, conv3.name = conv3.name, block[0].name
    rest = [node for node in nodes if node not in block]
    del model.graph.node[:]
    model.graph.node.extend([*rest[:first], *block, *rest[first:]])
    found = read(write(model, tmp_path / "net.onnx"))
    assert_same(found, nets.random_network("resnet50"), folded)
    swapped = found.state["layer1.0.conv3.weight"], found.state["layer1.0.downsample.0.weight"]
    assert swapped[0].shape == swapped[1].shape
    assert not torch.allclose(*swapped)


def test_a_network_whose_weights_are_constant_nodes(
    make: Callable[..., Model], tmp_path: Path
) -> None:
    model = make(folded=False)
    nodes = [
        onnx.helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in model.graph.initializer
    ]
    rest = list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    assert_same(read(write(model, tmp_path / "net.onnx")), nets.random_network("resnet18"), False)


def test_matmul_add_and_transposed_weights(make: Callable[..., Model], tmp_path: Path) -> None:
    """A linear layer as MatMul and Add, its weight stored as PyTorch has it and transposed."""
    model = make()
    for node in [node for node in model.graph.node if node.op_type == "Gemm"]:
        source, weight, bias = node.input
        place = list(model.graph.node).index(node)
        model.graph.node.remove(node)
        new = [
            onnx.helper.make_node("Transpose", [weight], [f"{weight}_t"], perm=[1, 0]),
            onnx.helper.make_node("MatMul", [source, f"{weight}_t"], [f"{weight}_p"]),
            onnx.helper.make_node("Add", [bias, f"{weight}_p"], list(node.output)),
        ]
        for offset, made in enumerate(new):
            model.graph.node.insert(place + offset, made)
    assert_same(read(write(model, tmp_path / "net.onnx")), nets.random_network("resnet18"), True)


def test_a_bias_before_batchnorm_shifts_its_mean(
    make: Callable[..., Model], tmp_path: Path
) -> None:
    model = make(folded=False)
    bias = np.linspace(-1, 1, 64, dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(bias, "bias"))
    node_of(model, "Conv").input.append("bias")
    replace_weight(model, "bn1.running_mean", lambda mean: mean + bias)
    found = read(write(model, tmp_path / "net.onnx"))
    mean = nets.random_network().bn1.running_mean
    assert torch.allclose(found.state["bn1.running_mean"], mean, atol=1e-6)


def test_a_linear_layer_stored_the_other_way_round(
    make: Callable[..., Model], tmp_path: Path
) -> None:
    model = make()
    set_attribute(node_of(model, "Gemm"), "transB", 0)
    replace_weight(model, "fc_yaw.weight", lambda weight: np.ascontiguousarray(weight.T))
    assert_same(read(write(model, tmp_path / "net.onnx")), nets.random_network(), True)


@pytest.mark.parametrize("current", [True, False])
def test_zero_biases_that_were_left_out_or_shared(tmp_path: Path, current: bool) -> None:
    network = nets.random_network("resnet18")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.bias)
            nn.init.zeros_(module.running_mean)
            nn.init.ones_(module.weight)
    for head in network.returned:
        nn.init.zeros_(getattr(network, head).bias)
    path = nets.export(network, tmp_path / "net.onnx", current=current)
    model = onnx.load(path)
    if current:
        layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
        assert all(len(node.input) == 2 for node in layers)
    else:
        assert sum(node.op_type == "Identity" for node in model.graph.node) > 10
    assert_same(read(path), network, folded=True)


@pytest.mark.parametrize(("level", "readable"), [("BASIC", True), ("EXTENDED", False)])
def test_files_that_onnxruntime_optimised(
    make: Callable[..., Model], tmp_path: Path, level: str, readable: bool
) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    content = make(folded=False).SerializeToString()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    if readable:
        assert_same(read(tmp_path / "optimised.onnx"), nets.random_network("resnet18"), True)
    else:
        with pytest.raises(InputError, match=r"onnxruntime's own operators \(com\.microsoft"):
            load_base(tmp_path / "optimised.onnx")


@pytest.mark.parametrize("opset", [13, 17])
def test_training_mode_is_refused(tmp_path: Path, opset: int) -> None:
    network = nets.random_network("resnet18").train()
    more = {"training": torch.onnx.TrainingMode.TRAINING, "do_constant_folding": False}
    path = nets.export(network, tmp_path / "net.onnx", opset=opset, **more)
    with pytest.raises(InputError, match=r"BatchNormalization '/\S+' is in training mode"):
        load_base(path)


def node_of(model: Model, kind: str, number: int = 0) -> Any:
    return [node for node in model.graph.node if node.op_type == kind][number]


def set_attribute(node: Any, name: str, value: Any) -> None:
    kept = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


def replace_weight(model: Model, name: str, change: Callable[[Any], Any]) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))


def with_softmax(model: Model) -> None:
    head = node_of(model, "Gemm")
    head.output[0] = "logits"
    model.graph.node.append(onnx.helper.make_node("Softmax", ["logits"], ["yaw"], axis=1))


def with_subgraph(model: Model) -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["yaw"], ["x"])],
        "g",
        [],
        [onnx.helper.make_tensor_value_info("x", 1, None)],
    )
    model.graph.node.append(
        onnx.helper.make_node("If", ["yes"], ["y"], then_branch=graph, else_branch=graph)
    )


def resize_input(model: Model) -> None:
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 224


def with_two_trunks(model: Model) -> None:
    """The second head reads what one block less makes."""
    relu = node_of(model, "Relu", -3).output[0]
    new = [
        onnx.helper.make_node("GlobalAveragePool", [relu], ["pooled"]),
        onnx.helper.make_node("Flatten", ["pooled"], ["flat"]),
    ]
    head = model.graph.node.pop()
    head.input[0] = "flat"
    model.graph.node.extend([*new, head])


def with_rows_averaged(model: Model) -> None:
    pool = node_of(model, "GlobalAveragePool")
    pool.op_type = "ReduceMean"
    set_attribute(pool, "axes", [2])


def second_conv(model: Model) -> str:
    return str(node_of(model, "Conv", 1).input[1])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: m.graph.output.pop(), r"has 1 output \(yaw\), but a base network has two"),
        (with_softmax, "'yaw' is no head of bins: where a linear .* softmax is there"),
        (with_two_trunks, "its two outputs do not come from one trunk"),
        (with_rows_averaged, "ReduceMean .* does not average over the image"),
        (with_subgraph, "If 'y' holds a graph of its own"),
        (resize_input, r"takes images of 1 × 3 × 224 × 224, but the app feeds 1 × 3 × 448"),
        (
            lambda m: set_attribute(node_of(m, "Conv", 7), "strides", [1, 1]),
            r"Add \S+ cannot take tensors of \(1, 128, 56, 56\) and \(1, 128, 112, 112\)",
        ),
        (
            lambda m: set_attribute(node_of(m, "Gemm"), "alpha", 2.0),
            "is no plain linear layer",
        ),
        (
            lambda m: replace_weight(m, second_conv(m), lambda w: w[:, :32]),
            r"has weights of shape \(64, 32, 3, 3\), but gets 64 channels",
        ),
        (
            lambda m: replace_weight(m, second_conv(m), lambda w: w.astype(np.float16)),
            "is float16, but must be float32",
        ),
        (
            lambda m: replace_weight(m, second_conv(m), lambda w: w * np.float32("nan")),
            "holds NaN or infinity",
        ),
        (
            lambda m: replace_weight(m, "fc_yaw.weight", lambda w: w[:60]),
            r"Gemm \S+ has biases of shape \(90,\)",
        ),
        (
            lambda m: set_attribute(node_of(m, "Conv"), "strides", "two"),
            "is no valid ONNX",
        ),
        (lambda m: m.graph.node.insert(0, m.graph.node.pop()), "is no valid ONNX"),
        (lambda m: setattr(node_of(m, "Relu"), "domain", "my.own"), "unknown domain 'my.own'"),
        (lambda m: m.graph.initializer[0].dims.append(7), "no valid ONNX: .* is too small"),
    ],
)
def test_a_graph_that_does_not_fit_is_refused_with_its_layer(
    make: Callable[..., Model], tmp_path: Path, change: Callable[[Model], Any], match: str
) -> None:
    model = make()
    change(model)
    path = write(model, tmp_path / "net.onnx")
    with pytest.raises(InputError, match=match) as raised:
        load_base(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_an_epsilon_of_another_framework_is_kept(
    make: Callable[..., Model], tmp_path: Path
) -> None:
    """Only variance + epsilon counts."""
    model = make(folded=False)
    set_attribute(node_of(model, "BatchNormalization", 3), "epsilon", 1e-3)
    found = read(write(model, tmp_path / "net.onnx"))
    assert found.trunk == "resnet18"
    wanted = nets.random_network().state_dict()
    changed = [
        key
        for key, value in found.state.items()
        if key.endswith("running_var") and not torch.equal(value, wanted[key])
    ]
    assert len(changed) == 1
    more = found.state[changed[0]] - wanted[changed[0]]
    assert torch.allclose(more, torch.full_like(more, 1e-3 - 1e-5), atol=1e-6)


class OtherDepth(nets.GazeResNet):
    def __init__(self) -> None:
        super().__init__("resnet18", nets.MOBILEGAZE, 90)
        self.layer3 = nn.Sequential(self.layer3[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda m: set_attribute(node_of(m, "Conv", 2), "pads", [0, 0, 2, 2]),
        lambda m: set_attribute(node_of(m, "MaxPool"), "ceil_mode", 1),
        None,
    ],
)
def test_what_is_nearly_a_resnet_has_no_name(
    make: Callable[..., Model], tmp_path: Path, change: Callable[[Model], Any] | None
) -> None:
    """It is read all the same, and cut at its own quarters."""
    path = tmp_path / "net.onnx"
    if change is None:
        nets.export(OtherDepth().eval(), path)
    else:
        model = make()
        change(model)
        write(model, path)
    found = read(path)
    assert isinstance(found.trunk, GraphTrunk)
    assert found.trunk.name == f"network of {18 if change is None else 20} convolutions"


@pytest.mark.parametrize("kept", [0.001, 0.3, 0.999999])
def test_a_file_that_is_cut_short_is_refused(
    make: Callable[..., Model], tmp_path: Path, kept: float
) -> None:
    content = make().SerializeToString()
    path = tmp_path / "net.onnx"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=r"net\.onnx: is no ONNX file, or cut short or damaged"):
        load_base(path)


@pytest.fixture(scope="module")
def beside(make: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose weights lie in `net.onnx.data` beside it, as the current exporter writes it."""
    folder = tmp_path_factory.mktemp("beside")
    network = nets.random_network("resnet18")
    return nets.export(network, folder / "net.onnx", current=True, external_data=True)


def moved(beside: Path, folder: Path, location: str | None = None, **entries: int) -> Path:
    """A copy of the model whose weights say to lie elsewhere."""
    model = onnx.load(beside, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and location is not None:
                entry.value = location
            elif entry.key in entries:
                entry.value = str(entries[entry.key])
    folder.mkdir(exist_ok=True)
    return write(model, folder / "net.onnx")


def test_weights_beside_the_file(beside: Path, tmp_path: Path) -> None:
    weights = beside.parent / "net.onnx.data"
    assert weights.stat().st_size > 40e6 > 1e6 > beside.stat().st_size
    assert_same(read(beside), nets.random_network("resnet18"), folded=True)
    _, source = parse_onnx(beside.read_bytes(), beside)
    assert source.startswith("net.onnx with net.onnx.data (sha256 ")
    path = moved(beside, tmp_path / "a", "sub/w.bin")
    (path.parent / "sub").mkdir()
    (path.parent / "sub" / "w.bin").write_bytes(weights.read_bytes())
    assert_same(read(path), nets.random_network("resnet18"), folded=True)


def test_weights_outside_the_folder_are_never_read(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside.data"
    outside.write_bytes((beside.parent / "net.onnx.data").read_bytes())
    places = ["../outside.data", str(outside), "link.data", "sub/../../outside.data", "..\\x", ""]
    paths = [moved(beside, tmp_path / str(i), place) for i, place in enumerate(places)]
    for path in paths:
        (path.parent / "link.data").symlink_to(outside)
    contents = [path.read_bytes() for path in paths]
    opened: list[Path] = []
    monkeypatch.setattr(Path, "open", lambda self, *_: opened.append(self))
    for path, content in zip(paths, contents, strict=True):
        with pytest.raises(InputError, match=r"net\.onnx: weight .* outside the file's folder"):
            parse_onnx(content, path)
    assert opened == []


def test_weights_that_are_missing_or_cut_short(beside: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lies in 'net\.onnx\.data', which is not there"):
        load_base(moved(beside, tmp_path / "a"))
    content = (beside.parent / "net.onnx.data").read_bytes()
    path = moved(beside, tmp_path / "b")
    (path.parent / "net.onnx.data").write_bytes(content[:-100])
    with pytest.raises(InputError, match="which is cut short: .* bytes, .* needed"):
        load_base(path)
    for entries in ({"offset": -4}, {"length": 10**12}, {"length": -1}):
        path = moved(beside, tmp_path / "c", None, **entries)
        (path.parent / "net.onnx.data").write_bytes(content)
        with pytest.raises(InputError, match="which is cut short"):
            load_base(path)
    path = moved(beside, tmp_path / "d", None, length=40)
    (path.parent / "net.onnx.data").write_bytes(content)
    with pytest.raises(InputError, match="is no valid ONNX: .* is too small"):
        load_base(path)
