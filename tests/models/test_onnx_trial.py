"""Networks that never end or ask for everything: checked, and tried in a process of their own."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from conftest import Project
from custom_gaze.common.errors import InputError
from custom_gaze.inference.predictor import load_gaze_model
from custom_gaze.models import onnx_trial
from custom_gaze.models.onnx_check import check_graph
from custom_gaze.models.onnx_files import read_onnx
from custom_gaze.weights.inspect import describe
from custom_gaze.weights.onnx_network import read_network
from gaze_files import write_network

APART = onnx_trial._apart  # before a fixture puts another in its place
SHAPE = (1, 3, 64, 64)


@pytest.fixture(autouse=True)
def _really_apart(_networks_are_tried_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_trial, "_apart", APART)


def network(*nodes: Any, **weights: np.ndarray) -> Any:
    """input (1, 3, 64, 64) → output, through `nodes`."""
    graph = helper.make_graph(
        list(nodes),
        "odd",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def node(kind: str, *inputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, list(inputs), ["output"], **attributes)


def loop() -> Any:
    """One that counts for ever."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, [])],
    )
    return network(node("Loop", "", "yes", body=body), yes=np.array(True))


def with_function() -> Any:
    model = network(node("Relu", "input"))
    inner = [helper.make_node("Relu", ["a"], ["b"])]
    opset = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("own", "Twice", ["a"], ["b"], inner, opset))
    return model


def promising() -> Any:
    model = network(node("Add", "input", "much"), much=np.zeros(4, np.float32))
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([1 << 20, 1 << 20])
    return model


def old() -> Any:
    model = network(node("Relu", "input"))
    model.opset_import[0].version = 3
    return model


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (loop(), "Loop 'output' holds a graph of its own"),
        (network(node("RandomNormal", shape=[1 << 40])), "RandomNormal 'output' is no operator"),
        (network(node("Evil\x1b[2J\n", "input")), r"Evil\\x1b\[2J 'output' is no operator"),
        (network(node("Relu", "input", domain="mine")), "of the unknown domain 'mine'"),
        (with_function(), "holds functions"),
        (promising(), "'much' is damaged: its values do not fill its shape"),
        (old(), "is of ONNX opset 3, but 7 to"),
        (network(*[node("Relu", "input")] * 6000), "has 6000 nodes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_graph_of_other_things_is_refused(model: Any, said: str) -> None:
    with pytest.raises(InputError, match=rf"^net\.onnx: .*{said}") as caught:
        check_graph(model, "net.onnx")
    assert str(caught.value).isprintable()


def grown(kind: str, sizes: list[int]) -> Any:
    if kind == "ConstantOfShape":
        return network(node(kind, "sizes"), sizes=np.array(sizes))
    return network(node(kind, "input", "sizes"), sizes=np.array(sizes))


def computed() -> Any:
    """A shape that the pixels decide."""
    return network(
        helper.make_node("ReduceMax", ["input"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "one"], ["size"]),
        node("ConstantOfShape", "size"),
        one=np.array([1]),
    )


def outer() -> Any:
    """Two vectors of 40,000 values, multiplied each with each: 6 GB."""
    return network(
        node("Mul", "column", "row"),
        column=np.ones((40_000, 1), np.float32),
        row=np.ones((1, 40_000), np.float32),
    )


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            grown("ConstantOfShape", [1 << 20, 1 << 12]),
            "ConstantOfShape 'output' makes more values",
        ),
        (grown("Expand", [1 << 20, 3, 64, 64]), "Expand 'output' makes more values"),
        (grown("Tile", [1 << 20, 1, 1, 1]), "Tile 'output' makes more values"),
        (outer(), "Mul 'output' makes more values"),
        (computed(), "size of ConstantOfShape 'output' is not known beforehand"),
        (network(node("Conv", "input", "w"), w=np.ones((1, 7, 3, 3), np.float32)), "cannot run it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_are_known_before_anything_is_made(model: Any, said: str) -> None:
    check_graph(model, "net.onnx")
    assert said in onnx_trial.tried(model.SerializeToString(), SHAPE)


def test_weights_that_a_graph_computes_from_a_few_bytes_are_bounded() -> None:
    nodes = [helper.make_node("Expand", ["one", "sizes"], ["many"])]
    nodes += [helper.make_node("CastLike", ["many", "input"], [f"x{i}"]) for i in range(200)]
    one, sizes = np.ones(1, np.float16), np.array([4000, 4000])
    together = node("Sum", "input", *(f"x{i}" for i in range(200)))
    model = network(*nodes, together, one=one, sizes=sizes)
    for size in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        size.dim_value = 448
    check_graph(model, "net.onnx")
    with pytest.raises(InputError, match="^net.onnx: computes more weights than a network has"):
        read_network(model, "net.onnx")


def slow() -> Any:
    """A thousand convolutions of 256 channels: nothing in it is large."""
    first = helper.make_node("Conv", ["input", "w"], ["x0"], pads=[1, 1, 1, 1])
    more = [
        helper.make_node("Conv", [f"x{i}", "v"], [f"x{i + 1}"], pads=[1, 1, 1, 1])
        for i in range(1000)
    ]
    more.append(helper.make_node("Identity", ["x1000"], ["output"]))
    return network(
        first,
        *more,
        w=np.ones((256, 3, 3, 3), np.float32),
        v=np.zeros((256, 256, 3, 3), np.float32),
    )


def test_one_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    model, start = slow(), time.monotonic()
    check_graph(model, "net.onnx")
    with pytest.raises(InputError, match=r"net\.onnx: does not end within 2 s on one image"):
        onnx_trial.try_apart(model, "0" * 64, tmp_path / "net.onnx", SHAPE, seconds=2)
    assert time.monotonic() - start < 20


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="macOS bounds no process's memory")
def test_one_that_wants_all_memory_breaks_its_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_trial, "MEMORY_BYTES", 100 << 20)
    model = network(
        helper.make_node("ConstantOfShape", ["sizes"], ["a"]),
        helper.make_node("ConstantOfShape", ["sizes"], ["b"]),
        node("Sum", "a", "b", "input"),
        sizes=np.array([5000, 3, 64, 64]),
    )
    assert "of memory" in onnx_trial._apart(model.SerializeToString(), SHAPE, 30)


def test_a_network_is_tried_once_in_a_project(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_network(project.paths.root / "net.onnx")
    (project.paths.root / ".dvc").mkdir()
    calls: list[float] = []

    def counted(*arguments: Any) -> str:
        calls.append(time.monotonic())
        return APART(*arguments)

    monkeypatch.setattr(onnx_trial, "_apart", counted)
    for _ in range(2):
        load_gaze_model(path, project.params)
    assert len(calls) == 1
    write_network(path, scale=2.0)
    load_gaze_model(path, project.params)
    assert len(calls) == 2
    shutil.rmtree(project.paths.root / ".dvc")
    load_gaze_model(path, project.params)
    assert len(calls) == 3
    assert not (project.paths.root / ".dvc").exists()


SMALL: list[bytes] = []


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kept=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=4),
)
def test_damage_of_any_kind_is_one_line(
    tmp_path: Path, kept: float, flips: list[tuple[float, int]]
) -> None:
    path = tmp_path / "net.onnx"
    if not SMALL:
        SMALL.append(write_network(path, sessions=["a"]).read_bytes())
    content = bytearray(SMALL[0])
    if kept < 0.5:
        del content[int(2 * kept * len(content)) :]
    for place, change in flips:
        if content:
            content[min(int(place * len(content)), len(content) - 1)] ^= change
    path.write_bytes(content)
    said = f"{path}: "
    try:
        read_onnx(path)
        describe(path)
    except InputError as error:
        said = str(error)
    assert said.startswith(f"{path}: ")
    assert said.isprintable()
