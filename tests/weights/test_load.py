"""What `load_base` ends with: the comparison with onnxruntime, the mirror test; and `describe`."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import weights_nets as nets
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.saved_tensors import save_tensors
from custom_gaze.faces.crops import normalise
from custom_gaze.models.network import GazeNetwork
from custom_gaze.weights import anatomy
from custom_gaze.weights.axis_test import portrait_crops
from custom_gaze.weights.base import BaseModule, BaseNetwork, save_base
from custom_gaze.weights.base_heads import BinHeads
from custom_gaze.weights.inspect import describe
from custom_gaze.weights.load import load_base
from custom_gaze.weights.onnx_network import read_network
from custom_gaze.weights.onnx_reader import parse_onnx
from custom_gaze.weights.self_check import check_images

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
X = torch.from_numpy(normalise(check_images()[[0, 2]]))
FACE = portrait_crops()[:1]  # enough for the mirror test


def angles_of(base: BaseNetwork) -> np.ndarray:
    with torch.inference_mode():
        return BaseModule(base).angles_deg(X).numpy()


def assert_answers(base: BaseNetwork, network: nets.GazeResNet) -> None:
    wanted = nets.angles_of(network, X).numpy()
    assert np.ptp(wanted, axis=0).min() > 20  # degrees: agreement on one answer would show little
    np.testing.assert_allclose(angles_of(base), wanted, atol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("current", [True, False])
def test_a_folded_resnet50_answers_as_its_pytorch_twin(tmp_path: Path, current: bool) -> None:
    network = nets.gaze_network("resnet50")
    path = nets.export(network, tmp_path / "l2cs_net.onnx", current=current, opset=18)
    base = load_base(path)
    assert (base.trunk, base.kind, base.batchnorm_folded) == ("resnet50", "onnx", True)
    assert (base.source, base.warnings) == ("l2cs_net.onnx", ())
    assert_answers(base, network)


@pytest.mark.long
def test_28_bins_with_weights_beside_the_file(tmp_path: Path) -> None:
    network = nets.gaze_network("resnet18", bins=28)
    more = {"external_data": True, "optimize": False}
    base = load_base(nets.export(network, tmp_path / "n.onnx", current=True, opset=18, **more))
    assert (base.trunk, base.batchnorm_folded) == ("resnet18", False)
    assert base.source.startswith("n.onnx with n.onnx.data (sha256 ")
    assert base.heads is not None
    assert base.heads.bins == 28
    assert_answers(base, network)


def test_a_fixed_batch_of_two(tmp_path: Path) -> None:
    network = nets.gaze_network("resnet18")
    path = tmp_path / "net.onnx"
    torch.onnx.export(network, (torch.zeros(2, 3, 448, 448),), str(path), dynamo=False)
    assert_answers(load_base(path), network)


@pytest.mark.parametrize("layer", ["layer2.0.downsample", "layer1.0.conv2", "head"])
def test_the_layer_where_the_two_part_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    """The file is read with a fault of 0.1 %, as a mistake in the reader might do it."""
    path = nets.export(nets.gaze_network("resnet18"), tmp_path / "net.onnx")
    anatomy_of = anatomy.anatomy_of

    def faulty(*given: Any) -> anatomy.Anatomy:
        found = anatomy_of(*given)
        if layer == "head":
            assert isinstance(found.heads, BinHeads)
            wrong = dataclasses.replace(found.heads, pitch_bias=found.heads.pitch_bias.flip(0))
            return dataclasses.replace(found, heads=wrong)
        key = next(key for key in found.state if key.startswith(layer))
        return dataclasses.replace(found, state=found.state | {key: found.state[key] * 1.001})

    monkeypatch.setattr(anatomy, "anatomy_of", faulty)
    where = {
        "layer2.0.downsample": r"They part at layer2\.0\.downsample\.1 \(tensor '/layer2",
        "layer1.0.conv2": r"They part at layer1\.0\.bn2 \(tensor '/layer1",
        "head": "All layers agree; they part at the heads",
    }
    said = r"net\.onnx: .* does not predict as the file does: .* apart in the logits, .*"
    with pytest.raises(CustomGazeError, match=said + where[layer]) as raised:
        load_base(path)
    assert raised.value.exit_code == 1


def reexported(folder: Path, returned: tuple[str, str], names: tuple[str, str]) -> Path:
    """A MobileGaze file that returns its heads in an order and under names of its own."""
    network = nets.gaze_network("resnet18")
    network.returned = returned
    return nets.export(network, folder / "net.onnx", names=names)


YAW_FIRST = ("fc_yaw", "fc_pitch")
PITCH_FIRST = ("fc_pitch", "fc_yaw")


@pytest.mark.parametrize(
    ("returned", "names", "warned"),
    [
        pytest.param(YAW_FIRST, ("out_1", "out_2"), False, marks=pytest.mark.long),
        (PITCH_FIRST, ("pitch", "yaw"), False),
        (PITCH_FIRST, ("yaw", "pitch"), True),
        pytest.param(PITCH_FIRST, ("out_1", "out_2"), True, marks=pytest.mark.long),
    ],
)
def test_the_mirror_tells_which_output_is_horizontal(
    tmp_path: Path, returned: tuple[str, str], names: tuple[str, str], warned: bool
) -> None:
    base = load_base(reexported(tmp_path, returned, names), FACE)
    network = nets.gaze_network("resnet18")
    assert_answers(base, network)
    assert len(base.warnings) == warned
    if warned:
        assert f"of the outputs {names[0]!r} and {names[1]!r}" in base.warnings[0]
        assert "the second is the horizontal angle" in base.warnings[0]


GREY = np.full((1, 448, 448, 3), 128, np.uint8)  # equal to its mirror image: it tells nothing


@pytest.mark.parametrize(
    ("returned", "names", "right", "by"),
    [
        (PITCH_FIRST, ("pitch", "yaw"), True, "name"),
        (PITCH_FIRST, ("yaw", "pitch"), False, "name"),
        (YAW_FIRST, ("out_1", "out_2"), True, "order"),
    ],
)
def test_where_the_mirror_tells_nothing_names_decide_then_order(
    tmp_path: Path, returned: tuple[str, str], names: tuple[str, str], right: bool, by: str
) -> None:
    base = load_base(reexported(tmp_path, returned, names), GREY)
    network = nets.gaze_network("resnet18")
    wanted = nets.angles_of(network, X).numpy()
    np.testing.assert_allclose(angles_of(base), wanted if right else wanted[:, ::-1], atol=1e-3)
    (warning,) = base.warnings
    assert warning.startswith("a mirrored face does not tell which of '")
    assert warning.endswith(f"the first is taken for it, by its {by}")


def test_a_state_dict_with_its_heads_named_the_wrong_way_round(tmp_path: Path) -> None:
    network = nets.gaze_network("resnet18")
    other = {"fc_yaw": "fc_pitch", "fc_pitch": "fc_yaw"}
    state = {
        ".".join([other.get(key.split(".")[0], key.split(".")[0]), *key.split(".")[1:]]): value
        for key, value in network.state_dict().items()
    }
    torch.save(state, tmp_path / "net.pt")
    base = load_base(tmp_path / "net.pt", FACE)
    assert_answers(base, network)
    assert "of the outputs 'fc_yaw' and 'fc_pitch', in this order, the second" in base.warnings[0]


def test_weights_that_were_never_trained_keep_their_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nets.GazeResNet("resnet18", nets.MOBILEGAZE, 90).eval()
    torch.save(network.state_dict(), tmp_path / "net.pt")
    base = load_base(tmp_path / "net.pt")
    assert base.heads is not None
    assert torch.equal(base.heads.yaw_weight, network.fc_yaw.weight)
    assert "does not tell which of 'fc_yaw' and 'fc_pitch'" in base.warnings[0]


def test_no_crops_are_refused(tmp_path: Path) -> None:
    torch.save(nets.gaze_network("resnet18").state_dict(), tmp_path / "net.pt")
    with pytest.raises(InputError, match="at least one face crop"):
        load_base(tmp_path / "net.pt", GREY[:0])


def test_training_from_folded_weights_works_as_from_unfolded_ones(tmp_path: Path) -> None:
    """The last block and a head learn as much from either."""
    network = nets.gaze_network("resnet18")
    x = nn.functional.interpolate(torch.cat([X, X.flip(3)]), size=128)
    target = torch.tensor([[5.0, 2], [-7, 9], [11, -4], [3, 8]])
    losses = {}
    for folded in (True, False):
        path = nets.export(network, tmp_path / "net.onnx", folded=folded)
        torch.manual_seed(2)
        student = GazeNetwork("resnet18", "layer3").eval()
        model, _ = parse_onnx(path.read_bytes(), path)
        found = anatomy.anatomy_of(read_network(model, "net"), (0, 1))
        student.trunk.load_state_dict(found.state, strict=True)
        losses[folded] = learn(student, x, target)
    assert losses[True][0] == pytest.approx(losses[False][0], rel=1e-4)
    assert losses[False][-1] < 0.02 * losses[False][0]
    assert losses[True][-1] < 0.02 * losses[True][0]


def learn(student: GazeNetwork, x: torch.Tensor, target: torch.Tensor) -> list[float]:
    """The loss before each of 30 steps."""
    with torch.no_grad():
        frozen = student.frozen(x)
    optimiser = torch.optim.Adam(student.trained_parameters(), lr=3e-4)
    losses = []
    for _ in range(30):
        loss = nn.functional.mse_loss(student.trained(frozen), target)
        losses.append(float(loss))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


def test_describe_a_base_network_in_each_form(tmp_path: Path) -> None:
    network = nets.gaze_network("resnet18")
    path = nets.export(network, tmp_path / "net.onnx")
    lines = describe(path).splitlines()
    assert lines[0].startswith(f"{path}: ONNX, opset 17, made by pytorch 2.")
    assert "base network (onnx) from net.onnx" in lines
    assert "resnet18, two heads of 90 bins of 4° from -180°" in lines
    assert "BatchNorm was folded into the convolutions" in lines
    assert "the rebuilt network and onnxruntime agree" in lines
    assert lines[-1].startswith("sha256 ")
    assert len(lines[-1]) == len("sha256 ") + 64
    save_base(load_base(path, FACE), tmp_path / "base.pt")
    own = describe(tmp_path / "base.pt")
    assert "base network (onnx) from net.onnx\nresnet18, two heads" in own
    torch.save({"bn1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    assert "no base network for custom-gaze: holds no network that is known" in describe(
        tmp_path / "other.pth"
    )


def value_info(name: str, *shape: int) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def small_model(folder: Path, outputs: dict[str, tuple[int, ...]], **metadata: str) -> Path:
    zeros = {n: onnx.numpy_helper.from_array(np.zeros(s, np.float32)) for n, s in outputs.items()}
    nodes = [onnx.helper.make_node("Constant", [], [n], value=zeros[n]) for n in outputs]
    shapes = [value_info(name, *shape) for name, shape in outputs.items()]
    graph = onnx.helper.make_graph(nodes, "g", [value_info("input", 1, 3, 448, 448)], shapes)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def test_describe_our_own_model_and_others(tmp_path: Path) -> None:
    own = describe(small_model(tmp_path, {"gaze": (1, 2)}, sessions="monday, tuesday"))
    assert "input 1x3x448x448, output gaze 1x2" in own
    assert "sessions: monday, tuesday" in own
    assert "no base network for custom-gaze: its output 'gaze' does not depend on the image" in own
    other = describe(small_model(tmp_path, {"a": (1, 90), "b": (1, 90)}))
    assert "no base network for custom-gaze: its output 'a' does not depend on the image" in other


def test_describe_a_checkpoint(tmp_path: Path) -> None:
    content = {
        "format": "custom-gaze-checkpoint",
        "trunk": "resnet18",
        "sessions": ["monday"],
        "training": {"epoch": 7},
        "state": {"head.weight": torch.zeros(2, 500_000)},
    }
    save_tensors(content, tmp_path / "checkpoint.pt")
    lines = describe(tmp_path / "checkpoint.pt").splitlines()
    assert lines[0] == f"{tmp_path / 'checkpoint.pt'}: custom-gaze-checkpoint"
    assert lines[1:4] == ["trunk: resnet18", "sessions: ['monday']", "1.0 million weights"]


@pytest.mark.parametrize("content", [b"", b"<html>"])
def test_describe_refuses_what_is_no_weights_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match=r"x: is (empty|a web page)"):
        describe(tmp_path / "x")
