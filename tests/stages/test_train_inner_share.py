"""A base that looks at the middle of its crops: in training, in the file, in the comparison."""

import json

import numpy as np
import onnx
import pytest
import torch

from conftest import Project
from custom_gaze.calibration.candidates import read_candidates
from custom_gaze.config.candidate import Candidate
from custom_gaze.data.index import load_crop, read_index
from custom_gaze.faces.crops import normalise
from custom_gaze.models.checkpoint import load_checkpoint
from custom_gaze.models.network import inner_part
from custom_gaze.models.onnx_runtime import cpu_session, predict_onnx
from custom_gaze.stages import evaluate, export, train
from custom_gaze.weights.base import BaseModule, read_base

BASE, PROBE, FINETUNE = Candidate
SHARE = 0.5


@pytest.mark.parametrize("method", list(Candidate))
def test_each_candidate_carries_its_own_share(headed: Project, method: Candidate) -> None:
    share = 1.0 if method == BASE else SHARE
    headed.change(train={"method": str(method), "inner_share": SHARE})
    assert train.run(headed.params, headed.paths).inner_share == share
    assert export.run(headed.params, headed.paths).difference_deg < 1e-3
    kept = load_checkpoint(headed.paths.checkpoint)
    candidates = read_candidates(headed.paths.candidates)
    assert (kept.inner_share, candidates.inner_share) == (share, SHARE)
    model = onnx.load(headed.paths.model)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(said["custom_gaze.inner_share"]) == share
    assert [node.op_type == "Resize" for node in model.graph.node].count(True) == (share < 1)

    samples = read_index(headed.paths.index)
    x = normalise(np.stack([load_crop(sample, headed.paths) for sample in samples]))
    given = predict_onnx(cpu_session(headed.paths.model), x)
    inner = inner_part(torch.from_numpy(x), share)
    network = kept.network()
    network.inner_share = 1.0
    with torch.inference_mode():
        expected = network(inner).numpy()
        own = BaseModule(read_base(headed.paths.base)).angles_deg(inner).numpy()
    np.testing.assert_allclose(given, expected, atol=1e-3)
    if method != FINETUNE:
        form = candidates.closed[method]
        features = network.features(network.frozen(inner)).detach().numpy()
        np.testing.assert_allclose(given, form.predict(features, own), atol=1e-3)


def test_what_a_user_had_keeps_the_whole_crop_in_the_comparison(chosen: Project) -> None:
    assert read_candidates(chosen.paths.candidates).inner_share == 1
    whole = evaluate.run(chosen.params, chosen.paths).metrics.test
    chosen.change(train={"inner_share": SHARE})
    train.run(chosen.params, chosen.paths)
    export.run(chosen.params, chosen.paths)
    inner = evaluate.run(chosen.params, chosen.paths).metrics.test
    for had in ("base_deg", "best_correction_deg", "corrected_deg"):
        assert getattr(inner, had) == getattr(whole, had), had
    for ours in ("probe_deg", "finetuned_deg"):
        assert getattr(inner, ours) != getattr(whole, ours), ours
