"""A model run and read as the app does it, and the models the app could not use."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from custom_gaze.common.errors import InputError
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.models.onnx_runtime import app_angles_deg
from custom_gaze.rustyeyes.contract import (
    Correction,
    check_model,
    model_facts,
)
from pretend_app import APP_PIXELS_PER_DEGREE, color_heads, color_model, save_model

METADATA = {
    "custom_gaze.sessions": '["monday", "tuesday"]',
    "custom_gaze.code_version": "0.1.0+abc",
    "custom_gaze.validation_error_deg": "1.25",
    "custom_gaze.geometry": '{"center_x_px": 100, "center_y_px": 50.5, "deg_per_pixel": 0.05}',
    "someone.else": "kept",
}


def test_one_output_is_taken_as_it_is() -> None:
    values = [np.array([[1.5, -2.25]], dtype=np.float32)]
    assert app_angles_deg(values, "model").tolist() == [1.5, -2.25]


def test_two_outputs_are_an_expectation_over_bins() -> None:
    yaw, pitch = np.full((1, 90), -1000.0), np.full((1, 90), -1000.0)
    yaw[0, 47] = 1000.0  # would overflow without care
    pitch[0, [40, 41]] = np.log([1.0, 3.0])
    angles = app_angles_deg([yaw, pitch], "model")
    assert angles == pytest.approx([8.0, -20.0 + 0.75 * 4], abs=1e-9)
    spread = app_angles_deg([np.zeros((1, 360)), np.zeros((1, 360))], "model")
    assert spread == pytest.approx([-0.5, -0.5], abs=1e-9)


@pytest.mark.parametrize(
    "shapes", [[(1, 3)], [(1, 90)], [(1, 90), (1, 66)], [(1, 2)] * 3, [(1,)] * 2]
)
def test_other_outputs_are_refused(shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(InputError, match=r"net: has outputs of shape .* reads one output of two"):
        app_angles_deg([np.zeros(shape) for shape in shapes], "net")


def test_dot_follows_the_polynomial_and_both_signs() -> None:
    plain = Correction()
    assert plain.dot_offset_px(10.0, 4.0, APP_PIXELS_PER_DEGREE) == (200.0, 80.0)  # right, down
    bent = Correction(2.0, 1.0, 0.5, 3.0, -1.0, 0.25)
    x_px, y_px = bent.dot_offset_px(-2.0, 4.0, 10.0)
    assert x_px == pytest.approx(10 * (0.5 * 4 - 4 + 1))
    assert y_px == pytest.approx(10 * (0.25 * 16 + 12 - 1))


@pytest.mark.parametrize("shape", [(1, 3, 448, 448), ("batch", 3, 448, 448)])
def test_good_models_pass(tmp_path: Path, shape: tuple[Any, ...]) -> None:
    path = color_model(tmp_path / "a.onnx", shape=shape, metadata=METADATA)
    facts = check_model(path)
    assert facts.sessions == ("monday", "tuesday")
    assert facts.code_version == "0.1.0+abc"
    assert facts.validation_error_deg == 1.25
    assert facts.geometry == ScreenGeometry(100.0, 50.5, 0.05)
    assert facts == model_facts(path)


def test_stock_form_passes(tmp_path: Path) -> None:
    path = save_model(tmp_path / "a.onnx", np.ones((3, 180)), np.zeros(180), outputs=2)
    facts = check_model(path)
    assert (facts.sessions, facts.code_version, facts.validation_error_deg) == (None, None, None)
    assert facts.geometry is None


@pytest.mark.parametrize(
    "metadata",
    [
        {"sessions": "[", "validation_error_deg": "x", "geometry": "{}"},
        {"sessions": "[1]", "validation_error_deg": "NaN", "geometry": "[]"},
        {"sessions": '"a"', "validation_error_deg": "true", "geometry": '{"center_x_px": 1}'},
        {
            "sessions": "{}",
            "validation_error_deg": "[" * 100_000,
            "geometry": '{"center_x_px": 1, "center_y_px": 1, "deg_per_pixel": 0}',
        },
    ],
)
def test_odd_metadata_is_no_fact(tmp_path: Path, metadata: dict[str, str]) -> None:
    named = {f"custom_gaze.{key}": value for key, value in metadata.items()}
    facts = model_facts(color_model(tmp_path / "a.onnx", metadata=named))
    assert (facts.sessions, facts.validation_error_deg, facts.geometry) == (None, None, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (1, 3, 224, 224)}, "input input 1x3x224x224.*; the app feeds one input named"),
        ({"shape": (2, 3, 448, 448)}, "the app feeds one input named 'input' of 1x3x448x448"),
        ({"input_name": "image"}, "input image 1x3x448x448.*; the app feeds one input named"),
    ],
)
def test_wrong_inputs_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_model(color_model(tmp_path / "a.onnx", **options))


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        ([float("nan"), 0.0], "yaw nan, pitch 0 to a black image, which are no angles in degrees"),
        ([0.0, float("inf")], "pitch inf to a black image"),
        ([0.0, 181.0], "pitch 181 to a black image"),
    ],
)
def test_impossible_angles_are_refused(tmp_path: Path, bias: list[float], message: str) -> None:
    path = save_model(tmp_path / "a.onnx", np.zeros((3, 2)), np.array(bias))
    with pytest.raises(InputError, match=message):
        check_model(path)


def test_a_network_that_fails_on_some_images_only_is_refused(tmp_path: Path) -> None:
    weights, bias = color_heads(scale=10.0)  # black is far left, grey is straight ahead
    with pytest.raises(InputError, match="to a black image"):
        check_model(save_model(tmp_path / "a.onnx", weights, bias))
    with pytest.raises(InputError, match="to a noisy image"):
        check_model(_overflows_on_noise(tmp_path / "b.onnx"))


def _overflows_on_noise(path: Path) -> Path:
    """Answers the largest difference within the image, times 100: 0 for plain images."""
    nodes = [
        helper.make_node("ReduceMin", ["input"], ["low"], axes=[2, 3], keepdims=0),
        helper.make_node("GlobalMaxPool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["high"]),
        helper.make_node("Sub", ["high", "low"], ["span"]),
        helper.make_node("Gemm", ["span", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, (1, 3, 448, 448))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2))],
        [helper.make_tensor("w", TensorProto.FLOAT, (3, 2), [100.0] * 6)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def test_float64_input_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Slice", ["means", "from", "to", "axis"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("input", TensorProto.DOUBLE, (1, 3, 448, 448))],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, (1, 2))],
        [
            helper.make_tensor(name, TensorProto.INT64, (1,), [value])
            for name, value in (("from", 0), ("to", 2), ("axis", 1))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="its input is not float32"):
        check_model(tmp_path / "a.onnx")


def test_wrong_outputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has outputs of shape 1x3; the app reads"):
        check_model(save_model(tmp_path / "a.onnx", np.ones((3, 3)), np.zeros(3)))
    with pytest.raises(InputError, match="28 bins of an MPIIGaze model"):
        check_model(save_model(tmp_path / "b.onnx", np.ones((3, 56)), np.zeros(56), outputs=2))


def test_no_model_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.onnx: not found"):
        check_model(tmp_path / "none.onnx")
    (tmp_path / "a.onnx").write_bytes(b"<html>sign in</html>")
    with pytest.raises(InputError, match=r"a\.onnx: is a web page"):
        check_model(tmp_path / "a.onnx")
    whole = color_model(tmp_path / "b.onnx").read_bytes()
    (tmp_path / "b.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"b\.onnx: "):
        check_model(tmp_path / "b.onnx")
