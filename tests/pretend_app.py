"""A pretend RustyEyes: its folder, small models, and its documented reading of a model.

Written from the description of the app's behaviour, apart from the package's own code, so that
tests can hold the one against the other.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])
SCREEN_PX = (1728.0, 1117.0)
DEG_PER_PIXEL = 0.0307
APP_PIXELS_PER_DEGREE = 20.0

CONFIG: dict[str, Any] = {
    "zebra": {"kept": [1, 2.50, 1e-7, -0.0, {}, []], "first": None},
    "defaults": {"mirror": True, "name": 'Zoë "the eye" \u2713 \\ \n'},
    "ui": {"opacity": 0.30000001192092896, "big": 12345678901234567890},
    "models": {
        "head_pose_path": "models/head_pose.onnx",
        "l2cs_path": "models/l2cs_net.onnx",
        "mobile_path": "./models/mobile.onnx",
    },
    "calibration": {
        "dots": 9,
        "models": {
            "mobile": {"yaw_gain": 3.5},
            "l2cs": {
                "yaw_offset": 6.74,
                "pitch_offset": -22.6,
                "note": "unknown to this project",
                "yaw_gain": 6.35,
                "pitch_gain": 0.89,
                "yaw_curve": -0.23,
                "pitch_curve": 0.38,
            },
        },
    },
}


def save_model(
    path: Path,
    weights: NDArray[Any],
    bias: NDArray[Any],
    outputs: int = 1,
    input_name: str = "input",
    shape: tuple[Any, ...] = (1, 3, 448, 448),
    metadata: dict[str, str] | None = None,
) -> Path:
    """A network of the app's shape: the mean of each channel, then `outputs` linear heads."""
    columns = np.asarray(weights).shape[1] // outputs
    nodes = [
        helper.make_node("GlobalAveragePool", [input_name], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    tensors = []
    for index in range(outputs):
        part = slice(index * columns, (index + 1) * columns)
        for name, value in (("w", np.asarray(weights)[:, part]), ("b", np.asarray(bias)[part])):
            tensors.append(numpy_helper.from_array(value.astype(np.float32), f"{name}{index}"))
        nodes.append(
            helper.make_node("Gemm", ["features", f"w{index}", f"b{index}"], [f"y{index}"])
        )
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(f"y{index}", TensorProto.FLOAT, (shape[0], columns))
            for index in range(outputs)
        ],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def color_heads(scale: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (3, 2) and bias (2,) with which red 0 … 255 looks at the screen's left … right edge,
    and green at its top … bottom."""
    weights, bias = np.zeros((3, 2)), np.zeros(2)
    for axis in (0, 1):
        span_deg = SCREEN_PX[axis] * DEG_PER_PIXEL * scale
        weights[axis, axis] = span_deg * STD[axis]
        bias[axis] = span_deg * (MEAN[axis] - 0.5)
    return weights, bias


def color_model(path: Path, scale: float = 1.0, **options: Any) -> Path:
    weights, bias = color_heads(scale)
    return save_model(path, weights, bias, **options)


def make_app(folder: Path, config: dict[str, Any] | None = None, svr: bool = True) -> Path:
    """The app's folder as the app leaves it: two-space JSON, no line feed at the end."""
    (folder / "models").mkdir(parents=True)
    text = json.dumps(CONFIG if config is None else config, indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text, encoding="utf-8")
    weights = np.zeros((3, 180))
    bias = np.zeros(180)
    bias[[45, 90 + 45]] = 30.0  # both angles 0 degrees
    save_model(folder / "models" / "l2cs_net.onnx", weights, bias, outputs=2)
    (folder / "models" / "mobile.onnx").write_bytes(b"some other model")
    (folder / "calibration_data").mkdir()
    (folder / "calibration_data" / "img_1.jpg").write_bytes(b"a frame")
    if svr:
        for axis in "xy":
            (folder / f"svr_l2cs_{axis}.model").write_bytes(f"svr {axis} \x00".encode())
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """What a program that opens files by name finds in the app's folder, backups apart."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "custom_gaze_backups" not in path.parts
    }


def everything(folder: Path) -> dict[str, tuple[str, Any]]:
    """Every entry of a folder, links and backups included."""
    found: dict[str, tuple[str, Any]] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            found[name] = ("folder", None)
        else:
            found[name] = (f"file {path.stat().st_mode:o}", path.read_bytes())
    return found


def app_dot_px(app: Path, crop: NDArray[np.uint8]) -> tuple[float, float]:
    """Where the app's dot lies, pixels right of and below the centre; `crop` is RGB (H, W, 3)."""
    config = json.loads((app / "config.json").read_text(encoding="utf-8"))
    image = Image.fromarray(crop).resize((448, 448), Image.Resampling.BILINEAR)
    pixels = (np.asarray(image).astype(np.float32) / 255 - MEAN) / STD
    tensor = pixels.transpose(2, 0, 1)[None].astype(np.float32)
    session = onnxruntime.InferenceSession(str(app / config["models"]["l2cs_path"]))
    outputs = session.run(None, {"input": tensor})
    if len(outputs) == 1:
        assert outputs[0].size == 2, "the app refuses this model"
        yaw, pitch = (float(value) for value in outputs[0].ravel())
    else:
        yaw, pitch = (_expectation(values.ravel()) for values in outputs)
    if all((app / f"svr_l2cs_{axis}.model").exists() for axis in "xy"):
        yaw, pitch = 1000.0, 1000.0  # whatever a regressor fitted to another network says
    else:
        terms = config["calibration"]["models"]["l2cs"]
        yaw = terms["yaw_curve"] * yaw**2 + terms["yaw_gain"] * yaw + terms["yaw_offset"]
        pitch = (
            terms["pitch_curve"] * pitch**2 + terms["pitch_gain"] * pitch + terms["pitch_offset"]
        )
    pitch = -pitch
    return yaw * APP_PIXELS_PER_DEGREE, -pitch * APP_PIXELS_PER_DEGREE


def _expectation(logits: NDArray[np.float32]) -> float:
    top = max(float(value) for value in logits)
    weights = [math.exp(float(value) - top) for value in logits]
    angles = [-180 + i * 360 / len(logits) for i in range(len(logits))]
    return sum(w * a for w, a in zip(weights, angles, strict=True)) / sum(weights)
