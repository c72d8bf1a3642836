import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from conftest import REPOSITORY, Once, Project, filled, made_once, make_headed
from custom_gaze.common.errors import InputError
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample, load_crop, of_split, read_index
from custom_gaze.faces import crops
from custom_gaze.geometry import angular_error_deg
from custom_gaze.models.onnx_runtime import cpu_session, predict_onnx
from custom_gaze.models.quantisation import quantised
from custom_gaze.stages import export, quantise, train


@pytest.fixture
def exported(project: Project, once: Once) -> Callable[[str], Project]:
    """A project with an exported model of the method asked for."""

    def make(method: str) -> Project:
        def export_it(project: Project) -> None:
            filled(project, made_once("headed", once, make_headed))
            project.change(train={"method": method}, export={"int8": True})
            train.run(project.params, project.paths)
            export.run(project.params, project.paths)

        return filled(project, made_once(f"exported-{method}", once, export_it))

    return make


def metadata_of(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}


def crops_of(project: Project, split: str) -> np.ndarray:
    samples = of_split(read_index(project.paths.index), split)
    images = np.stack([load_crop(sample, project.paths) for sample in samples])
    return crops.normalise(images)


@pytest.mark.parametrize("method", ["base", "finetune"])
def test_the_8_bit_model_predicts_as_the_float_one(
    method: str, exported: Callable[[str], Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = exported(method)
    # Faces of 64 pixels, few of them: how far apart both are depends on the processor.
    monkeypatch.setattr(quantise, "TOLERANCE_DEG", 1000.0)
    monkeypatch.setattr(quantise, "CHOSEN_DEG", 1000.0)
    result = quantise.run(project.params, project.paths)
    assert result.written, result.reason
    report = json.loads(project.paths.int8_report.read_text())
    small, plain = project.paths.int8_model, project.paths.model
    x = np.concatenate([crops_of(project, split) for split in ("test", "cross_session")])
    ours, theirs = (predict_onnx(cpu_session(path), x) for path in (small, plain))
    apart = angular_error_deg(ours, theirs)
    assert report["predictions_apart_deg"]["mean"] == pytest.approx(apart.mean(), abs=1e-3)
    assert report["predictions_apart_deg"]["largest"] == pytest.approx(apart.max(), abs=1e-3)
    assert f"its predictions are {apart.mean():.3f}° from the float model's" in result.reason
    assert (report["compared_crops"], report["choosing_crops"]) == (len(x), 4)
    # Rounded to 8 bits it predicts something else, and still tells left from right, up from down.
    assert apart.min() > 0
    assert all(np.corrcoef(ours[:, axis], theirs[:, axis])[0, 1] > 0.5 for axis in (0, 1))
    assert report["calibration_crops"] == 3 * 10
    assert min(report["latency_ms"].values()) > 0

    model = onnx.load(str(small))
    assert small.stat().st_size < 0.4 * plain.stat().st_size
    for side in ("input", "output"):
        [ours], [theirs] = getattr(model.graph, side), getattr(onnx.load(str(plain)).graph, side)
        assert (ours.name, ours.type) == (theirs.name, theirs.type)
    said = metadata_of(small)
    assert "8 bits" in said.pop("custom_gaze.quantisation")
    assert said == metadata_of(plain)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    operations = {node.output[0]: node for node in model.graph.node}
    for node in model.graph.node:
        inputs = [operations.get(name) for name in node.input]
        behind = [op is not None and op.op_type == "DequantizeLinear" for op in inputs]
        if node.op_type == "Conv":
            assert behind[:2] == [True, True]
            scales = weights[operations[node.input[1]].input[1]]
            assert list(scales.dims) == [weights[operations[node.input[1]].input[0]].dims[0]]
            stored = weights[operations[node.input[1]].input[0]].data_type
            assert stored == onnx.TensorProto.INT8
        if node.op_type in ("Gemm", "MatMul", "Clip", "Softmax"):
            assert not any(behind)  # the head computes in float32
    zero_points = {
        weights[node.input[2]].data_type
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    }
    assert zero_points == {onnx.TensorProto.UINT8}


def test_each_frame_serves_one_purpose_and_twice_gives_the_same_bytes(
    exported: Callable[[str], Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = exported("base")
    monkeypatch.setattr(quantise, "TOLERANCE_DEG", 1000.0)
    monkeypatch.setattr(quantise, "CHOSEN_DEG", 1000.0)
    seen: list[str] = []
    load = quantise.load_crop

    def noted(sample: Sample, paths: Paths) -> np.ndarray:
        seen.append(sample.split)
        return load(sample, paths)

    monkeypatch.setattr(quantise, "load_crop", noted)
    quantise.run(project.params, project.paths)
    first = project.paths.int8_model.read_bytes()
    # The validation's crops choose before and after the training's have set ranges and biases; only
    # then come those that judge.
    in_turn = [split for split, _ in itertools.groupby(seen)]
    assert in_turn[:3] == ["validation", "train", "validation"]
    assert set(in_turn[3:]) == {"test", "cross_session"}
    assert seen.count("train") == len(crops_of(project, "train"))
    monkeypatch.setattr(quantise, "TIMED_RUNS", 1)
    quantise.run(project.params, project.paths)
    assert project.paths.int8_model.read_bytes() == first


def test_ranges_are_of_frames_and_of_samples_of_each(
    exported: Callable[[str], Project],
) -> None:
    project = exported("base")
    frames = of_split(read_index(project.paths.index), "train")
    made = quantise.calibration_crops(frames, project.params, project.paths)
    each = 1 + quantise.SAMPLES
    assert len(made) == each * len(frames)
    for plain, frame in zip(made[::each], frames, strict=True):
        np.testing.assert_array_equal(plain, load_crop(frame, project.paths))
    # Now and then a sample is left as it was by all that may happen to it.
    assert len({image.tobytes() for image in made}) > 2 * len(frames)
    many = [*frames] * 5
    most = quantise.calibration_crops(many, project.params, project.paths)
    assert len(most) == each * quantise.CALIBRATION_FRAMES < each * len(many)


def test_what_is_left_in_float_begins_at_the_end(exported: Callable[[str], Project]) -> None:
    project = exported("base")
    images = np.zeros((2, 1, 3, 64, 64), np.float32)
    kinds = []
    for in_float in (0, 1, 5):
        model = onnx.load_from_string(quantised(project.paths.model, lambda: images, in_float))
        behind = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
        convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
        kinds.append([node.input[1] in behind for node in convolutions])
    assert len(kinds[0]) == 20
    for in_float, kind in zip((0, 1, 5), kinds, strict=True):
        assert kind == [True] * (20 - in_float) + [False] * in_float


def test_a_worse_model_is_not_written_and_an_earlier_one_goes(
    exported: Callable[[str], Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = exported("base")
    project.paths.int8_model.parent.mkdir()
    project.paths.int8_model.write_bytes(b"an earlier model")
    monkeypatch.setattr(quantise, "TOLERANCE_DEG", 0.0)
    monkeypatch.setattr(quantise, "CHOSEN_DEG", 0.0)
    result = quantise.run(project.params, project.paths)
    assert not result.written
    assert not project.paths.int8_model.exists()
    report = json.loads(project.paths.int8_report.read_text())
    apart_deg = report["predictions_apart_deg"]["mean"]
    assert result.reason == report["reason"]
    assert f"not written: its predictions are {apart_deg:.3f}° from" in result.reason
    assert result.reason.endswith("neither trained nor calibrated it, more than 0°")
    # Each try leaves more convolutions in float32: none, one, a quarter of them.
    assert list(report["chosen_by_predictions_apart_deg"]) == ["0", "1", "5"]
    assert report["convolutions_left_in_float"] == 5
    said = json.loads((project.paths.int8_model.parent / "int8.json").read_text())
    assert said == {"written": False, "reason": result.reason}


def test_within_half_a_degree() -> None:
    for apart_deg, written in ((0.1, True), (0.5, True), (0.51, False), (float("nan"), False)):
        assert quantise.accepted(apart_deg, 8)[0] is written


def test_not_asked_for_nothing_is_computed(project: Project) -> None:
    """Neither model nor index is needed, and the bytes are always the same."""
    result = quantise.run(project.params, project.paths)
    assert (result.written, result.reason) == (False, "export.int8 is false")
    first = project.paths.int8_report.read_bytes()
    assert json.loads(first) == {"written": False, "reason": "export.int8 is false"}
    assert [path.name for path in project.paths.int8_model.parent.iterdir()] == ["int8.json"]
    quantise.run(project.params, project.paths)
    assert project.paths.int8_report.read_bytes() == first


def test_a_model_that_is_not_there_is_named(ready: Project) -> None:
    ready.change(export={"int8": True})
    with pytest.raises(InputError, match=r"custom_gaze.onnx: not found; run `custom-gaze export`"):
        quantise.run(ready.params, ready.paths)


def test_the_calibration_is_bounded_and_spread() -> None:
    some = list(range(1000))
    picked = quantise.spread(some, 200)  # type: ignore[arg-type]
    assert len(set(picked)) == 200
    assert (picked[0], picked[-1]) == (0, 999)
    assert np.diff(picked).max() <= 6
    assert quantise.spread(some[:7], 200) == some[:7]  # type: ignore[arg-type]


def test_the_link_leads_to_where_the_model_is_written() -> None:
    link = REPOSITORY / "models" / "custom_gaze.int8.onnx"
    assert os.readlink(link) == "int8/custom_gaze.int8.onnx"
    assert Paths(Path()).int8_model == Path("models") / os.readlink(link)
