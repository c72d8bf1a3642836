"""Small ONNX files with the interfaces of RFB-320 and MediaPipe Face Mesh, for the tests.

The detector sees red in a dark frame: its score at a prior is the red of the 16-pixel cell
around it, and only the second size of the stride-16 map can score at all. The mesh
spreads its points over the frame's red, so its bounding box is the red rectangle's.
"""

import math
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

COLUMNS, ROWS, SIZE_PX = 20, 15, 48  # of the stride-16 map's second prior
FIRST = 40 * 30 * 3  # priors of the map before it


def prior(index: int) -> tuple[float, float, float, float]:
    """Center x, center y, width, height of one RFB-320 prior in 0 … 1, counted out by hand."""
    for columns, rows, sizes in (
        (40, 30, (10, 16, 24)),
        (20, 15, (32, 48)),
        (10, 8, (64, 96)),
        (5, 4, (128, 192, 256)),
    ):
        count = columns * rows * len(sizes)
        if index < count:
            cell, size = divmod(index, len(sizes))
            row, column = divmod(cell, columns)
            width, height = sizes[size] / 320, sizes[size] / 240
            center = ((column + 0.5) / columns, (row + 0.5) / rows)
            return (*center, min(width, 1.0), min(height, 1.0))
        index -= count
    raise IndexError(index)


def offsets() -> NDArray[np.float32]:
    """The raw offsets (4420, 4) that the synthetic detector answers with."""
    return np.random.default_rng(4).normal(0.0, 0.7, (4420, 4)).astype(np.float32)


def expected_box(column: int, row: int) -> tuple[float, float, float, float]:
    """The box in 0 … 1 of the prior that the cell (column, row) of the 20 × 15 grid lights up."""
    index = FIRST + (row * COLUMNS + column) * 2 + 1
    center_x, center_y, width, height = prior(index)
    along, down, wider, taller = (float(value) for value in offsets()[index])
    center_x += along * 0.1 * width
    center_y += down * 0.1 * height
    width *= math.exp(wider * 0.2)
    height *= math.exp(taller * 0.2)
    return (
        center_x - width / 2,
        center_y - height / 2,
        center_x + width / 2,
        center_y + height / 2,
    )


def write_detector(
    path: Path,
    decoded: bool,
    softmax: bool = True,
    size_unit: float = 1.0,
    center_unit: float = 1.0,
) -> Path:
    """Write an RFB-320 look-alike; other units than 1 decode the boxes to something else."""
    priors = np.array([prior(index) for index in range(4420)], dtype=np.float32)
    priors *= np.array([center_unit] * 2 + [size_unit] * 2, dtype=np.float32)
    cells = np.zeros(4420, dtype=np.int64)
    bias = np.full(4420, -30.0, dtype=np.float32)
    for cell in range(COLUMNS * ROWS):
        cells[FIRST + cell * 2 + 1] = cell
        bias[FIRST + cell * 2 + 1] = 0.0
    constants = {
        "cells": cells,
        "bias": bias,
        "gain": np.float32(6.0),
        "flat": np.array([1, COLUMNS * ROWS], dtype=np.int64),
        "pair": np.array([1, 4420, 1], dtype=np.int64),
        "raw": offsets()[None],
        "first": np.array(0, dtype=np.int64),
        "weight": np.array([1, 0, 0], dtype=np.float32).reshape(1, 3, 1, 1),  # red only
    }
    nodes = [
        helper.make_node("Conv", ["input", "weight"], ["red"]),
        helper.make_node("AveragePool", ["red"], ["p"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Reshape", ["p", "flat"], ["cellwise"]),
        helper.make_node("Gather", ["cellwise", "cells"], ["bright"], axis=1),
        helper.make_node("Mul", ["bright", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logit"]),
        helper.make_node("Neg", ["logit"], ["opposite"]),
        helper.make_node("Reshape", ["logit", "pair"], ["face"]),
        helper.make_node("Reshape", ["opposite", "pair"], ["background"]),
        helper.make_node("Concat", ["background", "face"], ["logits"], axis=2),
        helper.make_node("Softmax" if softmax else "Identity", ["logits"], ["scores"]),
    ]
    if softmax:
        nodes[-1].attribute.append(helper.make_attribute("axis", 2))
    if decoded:
        nodes += _decoding(constants, priors)
    else:
        nodes.append(helper.make_node("Identity", ["raw"], ["boxes"]))
    shapes = {"scores": [1, 4420, 2], "boxes": [1, 4420, 4]}
    return _save(path, nodes, constants, ("input", [1, 3, 240, 320]), shapes)


def _decoding(constants: dict, priors: NDArray[np.float32]) -> list:
    constants |= {
        "centers": priors[None, :, :2],
        "sizes": priors[None, :, 2:],
        "tenth": np.float32(0.1),
        "fifth": np.float32(0.2),
        "half": np.float32(0.5),
        "split": np.array([2, 2], dtype=np.int64),
    }
    steps = [
        ("Split", ["raw", "split"], ["shift", "growth"]),
        ("Mul", ["shift", "tenth"], ["a"]),
        ("Mul", ["a", "sizes"], ["b"]),
        ("Add", ["b", "centers"], ["center"]),
        ("Mul", ["growth", "fifth"], ["c"]),
        ("Exp", ["c"], ["d"]),
        ("Mul", ["d", "sizes"], ["size"]),
        ("Mul", ["size", "half"], ["radius"]),
        ("Sub", ["center", "radius"], ["low"]),
        ("Add", ["center", "radius"], ["high"]),
        ("Concat", ["low", "high"], ["boxes"]),
    ]
    axes = {"Split": {"axis": 2}, "Concat": {"axis": 2}}
    return [helper.make_node(kind, ins, outs, **axes.get(kind, {})) for kind, ins, outs in steps]


def write_centerface(path: Path, size: tuple[float, float], offset: tuple[float, float]) -> Path:
    """Write a CenterFace look-alike with the published file's fixed shapes and output order.

    Its heat is the red of each 4-pixel cell over 255; every box has `size` (width, height) and
    `offset` (x, y), in cells.
    """
    log_size = np.log(np.array([size[1], size[0]], dtype=np.float32))
    constants = {
        "red": np.array([1 / 255, 0, 0], dtype=np.float32).reshape(1, 3, 1, 1),
        "none2": np.zeros((2, 1, 1, 1), dtype=np.float32),
        "none10": np.zeros((10, 1, 1, 1), dtype=np.float32),
        "log_size": log_size,
        "offset": np.array([offset[1], offset[0]], dtype=np.float32),
    }
    pooling = {"kernel_shape": [4, 4], "strides": [4, 4]}
    nodes = [
        helper.make_node("Conv", ["input.1", "red"], ["full"]),
        helper.make_node("AveragePool", ["full"], ["537"], **pooling),
        helper.make_node("Conv", ["537", "none2", "log_size"], ["538"]),
        helper.make_node("Conv", ["537", "none2", "offset"], ["539"]),
        helper.make_node("Conv", ["537", "none10"], ["540"]),
    ]
    planes = {"537": 1, "538": 2, "539": 2, "540": 10}
    shapes = {name: [10, count, 8, 8] for name, count in planes.items()}
    return _save(path, nodes, constants, ("input.1", [10, 3, 32, 32]), shapes)


def write_mesh(path: Path, points: int = 468) -> Path:
    """Write a face-mesh look-alike: the points cover the image's red, z is 0.

    Their centre is the red's centre of mass and their extent √3 standard deviations to each side,
    which for one even rectangle is the rectangle itself. Pixel i covers i … i + 1.
    """
    rng = np.random.default_rng(5)
    pattern = rng.uniform(-1, 1, (points, 3)).astype(np.float32)
    pattern[:4] = [[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0]]
    pattern[:, 2] = 0.0
    middle = np.arange(192, dtype=np.float32) + 0.5
    constants = {
        "red": np.array(0, dtype=np.int64),
        "half": np.float32(0.5),
        "tiny": np.float32(1e-6),
        "root3": np.float32(math.sqrt(3)),
        "grid": np.stack(np.meshgrid(middle, middle), axis=-1)[None],  # (1, 192, 192, 2) [x, y]
        "last": np.array([3], dtype=np.int64),
        "area": np.array([1, 2], dtype=np.int64),
        "flat": np.array([1, 1, 2], dtype=np.int64),
        "xy": pattern[None, :, :2],
        "z": pattern[None, :, 2:],
        "shape": np.array([1, 1, 1, points * 3], dtype=np.int64),
        "flag": np.ones((1, 1, 1, 1), dtype=np.float32),
    }
    steps = [
        ("Gather", ["input_1", "red"], ["r"], {"axis": 3}),
        ("Mul", ["r", "half"], ["r2"], {}),
        ("Add", ["r2", "half"], ["r3"], {}),
        ("Add", ["r3", "tiny"], ["weight"], {}),
        ("Unsqueeze", ["weight", "last"], ["w"], {}),
        ("ReduceSum", ["w", "area"], ["mass"], {"keepdims": 1}),
        ("Mul", ["w", "grid"], ["wx"], {}),
        ("ReduceSum", ["wx", "area"], ["sum"], {"keepdims": 1}),
        ("Div", ["sum", "mass"], ["mean"], {}),
        ("Sub", ["grid", "mean"], ["away"], {}),
        ("Mul", ["away", "away"], ["square"], {}),
        ("Mul", ["w", "square"], ["wsquare"], {}),
        ("ReduceSum", ["wsquare", "area"], ["sumsquare"], {"keepdims": 1}),
        ("Div", ["sumsquare", "mass"], ["variance"], {}),
        ("Sqrt", ["variance"], ["deviation"], {}),
        ("Mul", ["deviation", "root3"], ["reach"], {}),
        ("Reshape", ["reach", "flat"], ["reach3"], {}),
        ("Reshape", ["mean", "flat"], ["mean3"], {}),
        ("Mul", ["xy", "reach3"], ["spread"], {}),
        ("Add", ["spread", "mean3"], ["placed"], {}),
        ("Concat", ["placed", "z"], ["xyz"], {"axis": 2}),
        ("Reshape", ["xyz", "shape"], ["points"], {}),
        ("Identity", ["flag"], ["presence"], {}),
    ]
    nodes = [helper.make_node(kind, ins, outs, **extra) for kind, ins, outs, extra in steps]
    shapes = {"points": [1, 1, 1, points * 3], "presence": [1, 1, 1, 1]}
    return _save(path, nodes, constants, ("input_1", [1, 192, 192, 3]), shapes)


def write_gaze_network(path: Path) -> Path:
    """Write what a user may give by mistake: L2CS-Net's interface, two outputs of 90 bins."""
    constants = {"weight": np.zeros((90, 3, 1, 1), dtype=np.float32)}
    nodes = [helper.make_node("Conv", ["input", "weight"], ["planes"])]
    for name in ("yaw", "pitch"):
        nodes.append(helper.make_node("GlobalAveragePool", ["planes"], [f"{name}4"]))
        nodes.append(helper.make_node("Flatten", [f"{name}4"], [name]))
    shapes = {"yaw": [1, 90], "pitch": [1, 90]}
    return _save(path, nodes, constants, ("input", [1, 3, 448, 448]), shapes)


def _save(
    path: Path,
    nodes: list,
    constants: dict,
    source: tuple[str, list[int]],
    shapes: dict[str, list[int]],
) -> Path:
    graph = helper.make_graph(
        nodes,
        "synthetic",
        [helper.make_tensor_value_info(source[0], TensorProto.FLOAT, source[1])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path
