"""Small gaze networks as ONNX files, whose answer a test can compute by itself."""

import json
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from custom_gaze.config.specification import Preprocessing
from custom_gaze.faces.crops import normalise
from custom_gaze.geometry import ScreenGeometry

# The mean red of the left half, of the right half, green …, blue … → yaw, pitch.
WEIGHT = np.array(
    [[9.0, -1.0], [-7.0, 4.5], [3.0, 0.5], [-5.0, 2.0], [1.0, 2.5], [2.0, -3.0]], np.float32
)
BIAS = np.array([4.0, -6.0], np.float32)


def expected_deg(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the network of `write_network` answers to a crop (s, s, 3): (2,) degrees."""
    values = normalise(crop[None])[0]  # (3, s, s)
    halves = values.reshape(3, values.shape[1], 2, -1).mean(axis=(1, 3))  # (3, 2)
    return halves.ravel() @ WEIGHT + BIAS


def write_network(
    path: Path,
    size_px: int = 64,
    outputs: tuple[int, ...] = (2,),
    sessions: list[str] | None = None,
    margin: float | None = None,
    geometry: ScreenGeometry | None = None,
    scale: float = 1.0,
    crop_from: str | None = None,
) -> Path:
    """Write a network that answers a linear function of the mean colours of the crop's halves.

    One output of 2 values is `scale` times that; others get zeros and only have the shape.
    """
    half = [size_px, size_px // 2]
    nodes = [
        helper.make_node("AveragePool", ["input"], ["mean"], kernel_shape=half, strides=half),
        helper.make_node("Flatten", ["mean"], ["colour"]),
    ]
    constants = []
    names = ["output"] if len(outputs) == 1 else ["yaw", "pitch", "third"][: len(outputs)]
    for name, width in zip(names, outputs, strict=True):
        weight = WEIGHT * scale if width == 2 else np.zeros((6, width), np.float32)
        bias = BIAS * scale if width == 2 else np.zeros(width, np.float32)
        constants += [
            numpy_helper.from_array(weight.astype(np.float32), f"{name}_w"),
            numpy_helper.from_array(bias.astype(np.float32), f"{name}_b"),
        ]
        nodes.append(helper.make_node("Gemm", ["colour", f"{name}_w", f"{name}_b"], [name]))
    shape = [1, 3, size_px, size_px]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width])
            for name, width in zip(names, outputs, strict=True)
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    said: dict[str, str] = {}
    if sessions is not None:
        said["custom_gaze.sessions"] = json.dumps(sessions)
    if margin is not None:
        spec = Preprocessing(margin=margin, size_px=size_px)
        said["custom_gaze.preprocessing"] = json.dumps(spec.as_dict())
    if geometry is not None:
        said["custom_gaze.geometry"] = json.dumps(vars(geometry))
    if crop_from is not None:
        said["custom_gaze.crop_from"] = crop_from
    helper.set_model_props(model, said)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path
