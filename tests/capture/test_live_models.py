"""The models side by side: the base's own angles out of the exported graph, and by the base."""

from pathlib import Path

import numpy as np
import pytest

from conftest import Project
from custom_gaze.calibration.candidates import read_candidates
from custom_gaze.capture.live_models import BASE, CORRECTED, PERSONAL, load_side_by_side
from custom_gaze.common.errors import InputError
from custom_gaze.config.candidate import Candidate
from custom_gaze.data.index import load_crop, read_index
from custom_gaze.faces.crops import normalise
from custom_gaze.inference.predictor import load_gaze_model
from custom_gaze.stages import export, train
from custom_gaze.weights.base import BaseModule, read_base


def expected(project: Project, crop: np.ndarray) -> dict[str, np.ndarray]:
    """The same by the files themselves: the exported network, the base in PyTorch, the polynomial
    of candidates.pt."""
    import torch

    model = load_gaze_model(project.paths.model, project.params)
    x = torch.from_numpy(normalise(crop[None], model.spec))
    base_deg = BaseModule(read_base(project.paths.base)).angles_deg(x).numpy().astype(float)
    form = read_candidates(project.paths.candidates).closed[Candidate.BASE]
    corrected = form.correction.predict(base_deg)[0]
    return {PERSONAL: model.angles_deg(crop), CORRECTED: corrected, BASE: base_deg[0]}


@pytest.mark.parametrize(
    ("method", "share"), [("probe", 1.0), ("probe", 0.7), ("base", 1.0), ("finetune", 1.0)]
)
def test_all_three_are_what_the_files_say(headed: Project, method: str, share: float) -> None:
    headed.change(train={"method": method, "epochs": 1, "steps": 5, "inner_share": share})
    train.run(headed.params, headed.paths)
    export.run(headed.params, headed.paths)
    models = load_side_by_side(headed.params, headed.paths)
    assert models.alone == ""
    assert (models.base is not None) == (method == "finetune" or share < 1)  # else in the graph
    crop = load_crop(read_index(headed.paths.index)[0], headed.paths)
    found, wanted = models.angles_deg(crop), expected(headed, crop)
    for name, angles_deg in wanted.items():
        assert found[name] == pytest.approx(angles_deg, abs=0.01), name
    assert np.abs(found[BASE] - found[CORRECTED]).max() > 0.1  # else they could not be told apart
    if method == "base":
        assert found[PERSONAL] == pytest.approx(found[CORRECTED], abs=0.01)
    assert set(models.angles_deg(crop, beside=False)) == {PERSONAL}


def test_a_model_of_another_training_stands_alone(chosen: Project, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(chosen.paths.model.read_bytes())
    assert load_side_by_side(chosen.params, chosen.paths, other).alone == ""
    chosen.change(train={"method": "base"})
    train.run(chosen.params, chosen.paths)
    models = load_side_by_side(chosen.params, chosen.paths, other)
    assert "is of another training than" in models.alone
    crop = load_crop(read_index(chosen.paths.index)[0], chosen.paths)
    assert set(models.angles_deg(crop)) == {PERSONAL}
    chosen.paths.candidates.unlink()
    assert "candidates.pt: not found" in load_side_by_side(chosen.params, chosen.paths).alone


def test_no_model_is_an_error(project: Project) -> None:
    with pytest.raises(InputError, match="run `dvc repro` first"):
        load_side_by_side(project.params, project.paths)
