"""Monday's personal model is Tuesday's base; and a network without a name goes the same way."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import Project, write_synthetic
from custom_gaze.data.index import load_crop, read_index
from custom_gaze.faces.crops import normalise
from custom_gaze.models.checkpoint import load_checkpoint
from custom_gaze.models.graph import GraphTrunk
from custom_gaze.models.heads import CorrectedAngles
from custom_gaze.models.onnx_runtime import cpu_session, predict_onnx
from custom_gaze.stages import evaluate, export, index, train
from custom_gaze.weights.base import BaseModule, read_base, save_base
from custom_gaze.weights.embedded import load_embedded
from custom_gaze.weights.load import load_base

REAL = next(
    (
        path
        for folder in Path(__file__).parents
        if (path := folder / "shared" / "models" / "mobileone_s0_gaze.onnx").exists()
    ),
    None,
)


@pytest.fixture
def large(project: Project) -> Project:
    """A project of nine frames as large as the app's, that only lacks a base network."""
    project.change(prepare={"size_px": 448}, augment={"samples": 1}, evaluate={"sessions": []})
    project.change(train={"schedule": "cosine", "steps": 6, "method": "finetune"})
    write_synthetic(project, "one", 3, 3, 1)
    index.run(project.params, project.paths)
    return project


@pytest.mark.long
def test_mondays_model_is_tuesdays_base(large: Project) -> None:
    params, paths = large.params, large.paths
    save_base(load_embedded(), paths.base)
    train.run(params, paths)
    export.run(params, paths)
    monday = dataclasses.replace(load_base(paths.model), source="monday's model")
    assert (monday.trunk, monday.warnings) == ("slim18", ())  # the file says which angle is which
    save_base(monday, paths.base)
    crops = normalise(np.stack([load_crop(sample, paths) for sample in read_index(paths.index)]))
    was = predict_onnx(cpu_session(paths.model), crops)
    with torch.inference_mode():
        again = BaseModule(read_base(paths.base)).angles_deg(torch.from_numpy(crops)).numpy()
    np.testing.assert_allclose(again, was, atol=1e-3)

    train.run(params, paths)
    kept = load_checkpoint(paths.checkpoint)
    assert isinstance(kept.network().head, CorrectedAngles)
    assert (kept.base.source, kept.base.trunk, kept.base.bins) == ("monday's model", "slim18", 0)
    for name, tensor in kept.state.items():
        frozen = name.removeprefix("trunk.")
        if frozen in monday.trunk_state and "layer4" not in name:
            assert torch.equal(tensor, monday.trunk_state[frozen]), name
    assert not torch.equal(
        kept.state["trunk.layer4.1.conv2.weight"], monday.trunk_state["layer4.1.conv2.weight"]
    )
    assert export.run(params, paths).difference_deg < 1e-3
    metrics = evaluate.run(params, paths).metrics
    assert metrics.choice.exported == "finetune"


@pytest.mark.skipif(REAL is None, reason="the real MobileOne-S0 is not at hand")
def test_the_real_mobileone_trains(large: Project) -> None:
    assert REAL is not None
    base = load_base(REAL)  # agrees with onnxruntime, or this would raise
    assert isinstance(base.trunk, GraphTrunk)
    assert base.trunk.name == "mobileone_s0"
    save_base(base, large.paths.base)
    large.change(train={"schedule": "cosine", "steps": 20, "method": "finetune"})
    train.run(large.params, large.paths)
    log = np.genfromtxt(large.paths.training_log, delimiter=",", names=True)
    assert log["train_loss"][-1] < log["train_loss"][1]
    kept = load_checkpoint(large.paths.checkpoint)
    assert kept.trunk == base.trunk
    for name, tensor in base.trunk_state.items():
        same = torch.equal(kept.state[f"trunk.{name}"], tensor)
        assert same == (not name.startswith("layer4")), name
    assert export.run(large.params, large.paths).difference_deg < 1e-3
