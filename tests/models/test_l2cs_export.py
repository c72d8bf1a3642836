from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from conftest import Project
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.data.index import load_crop, of_split, read_index
from custom_gaze.faces.crops import normalise
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.models import l2cs_export
from custom_gaze.models.onnx_files import inputs_of, outputs_of
from custom_gaze.models.onnx_runtime import cpu_session
from custom_gaze.rustyeyes.contract import model_facts
from custom_gaze.stages import export, index
from gaze_files import expected_deg, write_network


@pytest.fixture
def ready(project: Project, prepare_synthetic: Callable) -> Project:
    """A project with crops, an index and an exported network that predicts large angles too."""
    prepare_synthetic("one", 4, 4, 1)
    index.run(project.params, project.paths)
    write_network(
        project.paths.model, sessions=["one"], margin=1.5, geometry=ScreenGeometry(), scale=4.0
    )
    return project


def stock_reading(logits: np.ndarray) -> float:
    """How programs made for a stock L2CS-Net read it, in float32 throughout."""
    weights = np.exp(logits.astype(np.float32) - logits.max())
    share = weights / weights.sum(dtype=np.float32)
    return float((share * np.arange(90, dtype=np.float32)).sum(dtype=np.float32) * 4 - 180)


def test_the_two_forms_agree_on_the_validation_crops(ready: Project) -> None:
    result = export.run_l2cs(ready.paths)
    assert result.path == ready.paths.root / "models" / "custom_gaze_l2cs.onnx"
    model = onnx.load(result.path)
    assert inputs_of(model) == [("input", (1, 3, 64, 64))]
    assert outputs_of(model) == [("yaw", (1, 90)), ("pitch", (1, 90))]
    session = cpu_session(result.path)
    validation = of_split(read_index(ready.paths.index), "validation")
    assert result.crops == len(validation) > 2
    worst = 0.0
    for sample in validation:
        crop = load_crop(sample, ready.paths)
        yaw, pitch = session.run(["yaw", "pitch"], {"input": normalise(crop[None])})
        read = np.array([stock_reading(yaw[0]), stock_reading(pitch[0])])
        worst = max(worst, float(np.abs(read - 4 * expected_deg(crop)).max()))
    assert worst < 0.001
    assert 0 <= result.difference_deg < 0.001
    assert result.size_mb == pytest.approx(result.path.stat().st_size / 1e6)


@pytest.mark.parametrize("row", [0, 1])
def test_every_angle_up_to_150_degrees_in_float32(row: int) -> None:
    weight, bias = l2cs_export.layer(row)
    assert not weight[1 - row].any()
    for angle in np.arange(-150, 150.01, 0.37):
        pair = np.array([3.0, -7.0], np.float32)
        pair[row] = angle
        assert stock_reading(pair @ weight + bias) == pytest.approx(angle, abs=0.001)


def test_the_layers_own_check() -> None:
    assert l2cs_export.layer_error_deg(40.0, 0.5) < 1e-5
    assert 0.05 < l2cs_export.layer_error_deg(170.0, 5.0) < 0.5  # the bins end at 176


def test_the_metadata_stays_and_names_the_bins(ready: Project) -> None:
    export.run_l2cs(ready.paths)
    made = ready.paths.root / "models" / "custom_gaze_l2cs.onnx"
    before, after = model_facts(ready.paths.model), model_facts(made)
    assert (after.sessions, after.geometry) == (("one",), before.geometry)
    said = {entry.key: entry.value for entry in onnx.load(made).metadata_props}
    assert said["custom_gaze.output"].startswith("yaw, pitch: 90 logits each, bins 4 degrees apart")
    assert "from -180 to 176" in said["custom_gaze.output"]


def test_the_same_bytes_twice_and_the_original_untouched(ready: Project) -> None:
    original = ready.paths.model.read_bytes()
    one = export.run_l2cs(ready.paths, ready.paths.root / "a.onnx").path
    two = export.run_l2cs(ready.paths, ready.paths.root / "b.onnx").path
    assert one.read_bytes() == two.read_bytes()
    assert ready.paths.model.read_bytes() == original


def test_a_form_that_differs_is_not_written(
    ready: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(l2cs_export, "SIGMA_DEG", 1.0)  # narrower than the bins
    with pytest.raises(CustomGazeError, match=r"not written; its angles .* 0.05 are allowed"):
        export.run_l2cs(ready.paths)
    assert not (ready.paths.root / "models" / "custom_gaze_l2cs.onnx").exists()


def test_a_network_that_answers_nan_is_not_written(ready: Project) -> None:
    model = onnx.load(ready.paths.model)
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node("Log", ["before"], ["output"]))  # of negative angles
    ready.paths.model.write_bytes(model.SerializeToString())
    with pytest.raises(CustomGazeError, match="the network predicts NaN or infinity"):
        export.run_l2cs(ready.paths)


@pytest.mark.parametrize("outputs", [(90, 90), (3,)])
def test_only_the_one_output_form(ready: Project, outputs: tuple[int, ...]) -> None:
    write_network(ready.paths.model, outputs=outputs)
    with pytest.raises(InputError, match=r"\.onnx: has .* run `custom-gaze export` first"):
        export.run_l2cs(ready.paths)


def test_nothing_to_export_and_nowhere_to(ready: Project) -> None:
    with pytest.raises(InputError, match="is the model itself"):
        export.run_l2cs(ready.paths, Path("models/custom_gaze.onnx"))
    ready.paths.model.unlink()
    with pytest.raises(InputError, match="not found; run `custom-gaze export` first"):
        export.run_l2cs(ready.paths)
