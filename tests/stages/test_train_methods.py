"""The train stage's methods, from a base network with heads to the exported file."""

import csv
import dataclasses
import hashlib
import io
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from conftest import Project
from custom_gaze.calibration import corrections, policy
from custom_gaze.calibration.base_features import BaseFeatures, base_features_of
from custom_gaze.calibration.candidates import closed_forms, read_candidates, save_candidates
from custom_gaze.calibration.optimizer import BoundedAdam
from custom_gaze.calibration.recipe import Epoch
from custom_gaze.cli import main
from custom_gaze.common.errors import InputError
from custom_gaze.config.candidate import Candidate
from custom_gaze.data.index import Sample, load_crop, of_split, read_index, targets_of
from custom_gaze.evaluation import comparisons, report
from custom_gaze.evaluation.metrics import mean_interval
from custom_gaze.evaluation.results import read_training_log
from custom_gaze.faces.crops import normalise
from custom_gaze.geometry import angular_error_deg
from custom_gaze.inference.predictor import load_gaze_model
from custom_gaze.models.checkpoint import load_checkpoint
from custom_gaze.models.heads import CorrectedHead
from custom_gaze.models.network import GazeNetwork
from custom_gaze.models.onnx_metadata import CHECKPOINT_KEY
from custom_gaze.models.onnx_runtime import cpu_session, predict_onnx
from custom_gaze.models.records import ChoiceRecord
from custom_gaze.stages import evaluate, export, index, train
from custom_gaze.weights.base import read_base

BASE, PROBE, FINETUNE = Candidate


def known(project: Project) -> tuple[list[Sample], BaseFeatures]:
    """The frames that may be calibrated on, as the base network sees them."""
    samples = read_index(project.paths.index)
    base = read_base(project.paths.base)
    network = GazeNetwork(base.trunk, "layer3")
    network.load_trunk(base.trunk_state)
    mine = [*of_split(samples, "train"), *of_split(samples, "validation")]
    return mine, base_features_of(network.eval(), base.heads, mine, project.paths)


def outputs(project: Project) -> list[str]:
    paths = project.paths
    files = (paths.checkpoint, paths.last_checkpoint, paths.candidates, paths.training_log)
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


@pytest.mark.parametrize("method", list(Candidate))
def test_each_method_is_exported_as_it_was_fitted(headed: Project, method: Candidate) -> None:
    headed.change(train={"method": str(method)})
    result = train.run(headed.params, headed.paths)
    assert (result.method, result.reason) == (method, "train.method asks for it")
    kept = load_checkpoint(headed.paths.checkpoint)
    assert kept.choice.method == method
    assert isinstance(kept.network().head, CorrectedHead)
    done = export.run(headed.params, headed.paths)
    assert done.difference_deg < 1e-3
    model = onnx.load(headed.paths.model)
    [answer] = model.graph.output
    assert [d.dim_value for d in answer.type.tensor_type.shape.dim] == [1, 2]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["custom_gaze.method"] == method

    samples, seen = known(headed)
    crops = np.stack([load_crop(sample, headed.paths) for sample in samples])
    answers = predict_onnx(cpu_session(headed.paths.model), normalise(crops))
    log = read_training_log(headed.paths.training_log)
    # The exported epoch, the same one everywhere: a cosine schedule's last, whatever was better.
    assert log.exported.tolist() == ([0, 0, 1] if method == FINETUNE else [1])
    assert kept.training.epoch == result.exported.epoch == len(log.epoch) - 1
    assert kept.training.validation_loss == pytest.approx(log.validation_loss[-1])
    if method == FINETUNE:
        with torch.inference_mode():
            expected = kept.network()(torch.from_numpy(normalise(crops))).numpy()
    else:
        # The probe's fit has augmented samples too (test_linear_probe.py).
        fitted = read_candidates(headed.paths.candidates).closed
        if method == BASE:
            fitted = closed_forms(seen, headed.params.train.seed)
        expected = fitted[method].predict(seen.features, seen.base_deg)
        assert log.epoch.tolist() == [0]
        assert log.train_loss[0] == pytest.approx(((expected - seen.true_deg) ** 2).mean())
    assert np.ptp(expected, axis=0).min() > 3
    np.testing.assert_allclose(answers, expected, atol=1e-3)
    # The app's other form, and the app's own way to read it.
    other = export.run_l2cs(headed.paths)
    assert other.difference_deg < 1e-3
    for path in (headed.paths.model, other.path):
        read = load_gaze_model(path, headed.params).angles_deg(crops[0])
        np.testing.assert_allclose(read, expected[0], atol=2e-3)


def test_auto_keeps_what_the_choice_was_made_by(chosen: Project) -> None:
    candidates = read_candidates(chosen.paths.candidates)
    kept = load_checkpoint(chosen.paths.checkpoint)
    assert set(candidates.held_out_deg) == set(Candidate)
    assert kept.choice == ChoiceRecord(
        candidates.method, candidates.reason, candidates.held_out_deg
    )
    error = candidates.held_out_deg[candidates.method]
    assert kept.training.validation_error_deg == pytest.approx(error)
    assert f"{error:.2f}°" in candidates.reason
    log = read_training_log(chosen.paths.training_log)
    assert log.epoch.tolist() == [0, 1]
    assert log.exported.tolist() == [0, int(candidates.method == FINETUNE)]
    last = load_checkpoint(chosen.paths.last_checkpoint)
    assert last.choice.method == FINETUNE
    assert candidates.fine_tuned is not None
    network = last.network()
    assert isinstance(network, GazeNetwork)
    for name, tensor in network.trained_state().items():
        assert torch.equal(tensor, candidates.fine_tuned[name]), name


def test_of_nine_targets_the_headline_is_cross_validated(chosen: Project) -> None:
    """Two to test on are too few: what cross-validation measured is said, as what it is."""
    candidates = read_candidates(chosen.paths.candidates)
    errors = np.array(candidates.cross_validated_deg)
    assert len(errors) == 14
    assert errors.mean() == pytest.approx(candidates.held_out_deg[candidates.method])
    samples = read_index(chosen.paths.index)
    known = [*of_split(samples, "train"), *of_split(samples, "validation")]
    low, high = mean_interval(errors, targets_of(known).tolist()) or (0.0, 0.0)
    figures = json.loads(chosen.paths.figures.read_text())
    headline = figures["headline"]
    assert headline.pop("correction_deg") > 0
    assert headline == {
        **{"measured": "cross-validated", "frames": 14, "targets": 7},
        **{"error_deg": round(errors.mean(), 3), "error_px": round(errors.mean() / 0.0307, 3)},
        **{"low_deg": round(low, 3), "high_deg": round(high, 3)},
    }
    compared = json.loads(chosen.paths.metrics.read_text())
    assert list(compared) == [
        *("error_deg", "error_px", "cross_session_deg", "correction_deg", "frames", "targets")
    ]
    assert compared["error_deg"] == headline["error_deg"]
    assert compared["cross_session_deg"] == figures["cross_session"]["error_deg"]
    assert "cross-validated over 14 frames of 7 calibration targets" in report.closing_table(
        chosen.paths
    )
    short = dataclasses.replace(candidates, cross_validated_deg=candidates.cross_validated_deg[1:])
    save_candidates(short, chosen.paths.candidates)
    with pytest.raises(InputError, match=r"candidates.pt: is of 13 frames, and .* has 14"):
        evaluate.run(chosen.params, chosen.paths)


def test_evaluate_measures_all_three_beside_the_exported_file(chosen: Project) -> None:
    metrics = json.loads(chosen.paths.figures.read_text())
    candidates = read_candidates(chosen.paths.candidates)
    choice = metrics["choice"]
    assert (choice["exported"], choice["reason"]) == (candidates.method, candidates.reason)
    for name, error in candidates.held_out_deg.items():
        assert choice[f"held_out_{name}_deg"] == pytest.approx(error, abs=1e-3)
    keys = {BASE: "corrected_deg", PROBE: "probe_deg", FINETUNE: "finetuned_deg"}
    base = read_base(chosen.paths.base)
    samples = read_index(chosen.paths.index)
    last = load_checkpoint(chosen.paths.last_checkpoint).network()
    for split in ("test", "cross_session"):
        some = of_split(samples, split)
        network = GazeNetwork(base.trunk, "layer3")
        network.load_trunk(base.trunk_state)
        seen = base_features_of(network.eval(), base.heads, some, chosen.paths)
        crops = np.stack([load_crop(sample, chosen.paths) for sample in some])
        with torch.inference_mode():
            tuned = last(torch.from_numpy(normalise(crops))).numpy()
        answers = {
            name: form.predict(seen.features, seen.base_deg)
            for name, form in candidates.closed.items()
        }
        answers[FINETUNE] = tuned
        for name, key in keys.items():
            error = angular_error_deg(answers[name], seen.true_deg).mean()
            assert metrics[split][key] == pytest.approx(error, abs=2e-3)
        assert metrics[split]["error_deg"] == metrics[split][keys[candidates.method]]
        plain = angular_error_deg(seen.base_deg, seen.true_deg).mean()
        assert metrics[split]["base_deg"] == pytest.approx(plain, abs=1e-3)
    assert metrics["test"]["probe_deg"] != metrics["test"]["corrected_deg"] or (
        candidates.closed[PROBE].alpha == float("inf")
    )
    page = chosen.paths.report.read_text()
    assert f"Exported: {candidates.method.label}: {candidates.reason}." in page
    for name in Candidate:
        assert f"<td>{choice[f'held_out_{name}_deg']:.2f}°</td>" in page
    sessions = json.loads(chosen.paths.session_metrics.read_text())
    assert sessions["other"]["finetuned_deg"] == metrics["cross_session"]["finetuned_deg"]


def test_what_auto_trained_on_is_said_to_be_trained_on(chosen: Project) -> None:
    """All but the test targets: the validation's frames are fitted to like the others."""
    samples = read_index(chosen.paths.index)
    known = [sample for sample in samples if sample.split in ("train", "validation")]
    assert len(known) == 14
    assert json.loads(chosen.paths.figures.read_text())["train"]["frames"] == 14
    assert "<dt>frames trained on</dt><dd>14</dd>" in chosen.paths.report.read_text()
    assert load_checkpoint(chosen.paths.checkpoint).training.trained_on == [
        "train",
        "validation",
    ]


def test_the_best_correction_is_one_of_all_the_app_has(
    chosen: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its support vector regressor too, though no exported file can hold one."""
    asked = []

    def svr(*known: np.ndarray, among: tuple[str, ...]) -> tuple[object, np.ndarray]:
        asked.append((len(known[0]), among))
        return corrections.CORRECTIONS["svr"].fit(*known[:3]), np.full(len(known[0]), 3.0)

    monkeypatch.setattr(comparisons, "best_held_out", svr)
    metrics = evaluate.run(chosen.params, chosen.paths).metrics
    test = metrics.test
    assert metrics.headline.correction_deg == 3.0  # on the headline's frames, not the test part's
    assert asked == [(14, ("constant", "gain_offset", "quadratic", "svr"))]
    assert test.best_correction_deg != test.corrected_deg
    assert "<dt>best correction</dt><dd>svr</dd>" in chosen.paths.report.read_text()
    shown = f"{test.best_correction_deg:.2f}°"
    [line] = [
        line
        for line in report.closing_table(chosen.paths).splitlines()
        if line.startswith("best correction")
    ]
    assert shown == line.split()[2]


def test_a_model_of_another_choice_is_not_measured(chosen: Project) -> None:
    model = onnx.load(chosen.paths.model)
    before = chosen.paths.metrics.read_bytes()
    [method] = [entry for entry in model.metadata_props if entry.key == "custom_gaze.method"]
    method.value = next(str(name) for name in Candidate if name != method.value)
    onnx.save(model, chosen.paths.model)
    with pytest.raises(InputError, match=r"custom_gaze.onnx: is the .* run `custom-gaze export`"):
        evaluate.run(chosen.params, chosen.paths)
    [made_from] = [entry for entry in model.metadata_props if entry.key == CHECKPOINT_KEY]
    for metadata, said in (
        ({made_from.key: made_from.value}, "does not say what it was trained on"),
        ({}, r"was not exported from .*checkpoint.pt"),
    ):
        onnx.helper.set_model_props(model, metadata)
        onnx.save(model, chosen.paths.model)
        with pytest.raises(InputError, match=said):
            evaluate.run(chosen.params, chosen.paths)
    assert chosen.paths.metrics.read_bytes() == before


def test_candidates_of_another_base_are_named(chosen: Project) -> None:
    content = torch.load(chosen.paths.candidates, weights_only=True)
    content["closed"]["base"]["weight"] = torch.zeros(2, 7)
    torch.save(content, chosen.paths.candidates)
    with pytest.raises(InputError, match=r"candidates.pt: not made from .*base.pt; run"):
        evaluate.run(chosen.params, chosen.paths)
    chosen.paths.candidates.unlink()
    with pytest.raises(InputError, match=r"candidates.pt: not found; run `custom-gaze train`"):
        evaluate.run(chosen.params, chosen.paths)


def test_auto_is_the_same_twice_and_never_sees_a_test_frame(chosen: Project) -> None:
    """Other labels of the test frames, and no crops of theirs: the same bytes."""
    expected = outputs(chosen)
    rows = list(csv.reader(io.StringIO(chosen.paths.index.read_text())))
    hidden = 0
    for row in rows[1:]:
        if row[7] in ("test", "cross_session"):
            hidden += 1
            (chosen.paths.dataset / row[0] / row[1]).unlink()
            row[2], row[3] = "100.0", "-100.0"
    assert hidden == 12
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    chosen.paths.index.write_text(out.getvalue())
    manifests = json.loads(chosen.paths.index_manifests.read_text())
    manifests["index_sha256"] = hashlib.sha256(out.getvalue().encode()).hexdigest()
    chosen.paths.index_manifests.write_text(json.dumps(manifests))
    train.run(chosen.params, chosen.paths)
    assert outputs(chosen) == expected


def _train_in_a_process(project: Project) -> None:
    policy.KEEP_EVERY_S = 0.0
    train.run(project.params, project.paths)


@pytest.mark.long
def test_a_killed_choice_ends_with_the_same_weights(chosen: Project) -> None:
    expected = outputs(chosen)
    for path in (chosen.paths.checkpoint, chosen.paths.candidates):
        path.unlink()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_train_in_a_process, args=(chosen,))
    process.start()
    scratch = chosen.paths.root / ".dvc" / "tmp" / "custom-gaze"
    deadline = time.monotonic() + 300
    while process.is_alive() and time.monotonic() < deadline:
        if list(scratch.glob("train-*/fold-4.pt")):
            break
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not chosen.paths.checkpoint.exists()
    left = _mtimes(scratch)
    assert {"fold-0.pt", "fold-4.pt"} <= left.keys()
    train.run(chosen.params, chosen.paths)
    assert outputs(chosen) == expected
    assert not [path for path in scratch.iterdir() if path.is_dir()]


def _mtimes(scratch: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in scratch.glob("train-*/*.pt")}


def test_the_specification_s_start_is_a_parameter_away(headed: Project) -> None:
    logs = {}
    for start, kind in (("probe", "corrected"), ("base", "linear")):
        headed.change(train={"method": "finetune", "start": start, "steps": 10})
        train.run(headed.params, headed.paths)
        assert load_checkpoint(headed.paths.checkpoint).head == kind
        logs[start] = read_training_log(headed.paths.training_log).train_loss[0]
    # The base's angles are mirrored and compressed; the probe's are those of the frames.
    assert logs["probe"] < 0.3 * logs["base"]


def test_a_trunk_alone_is_fine_tuned_and_can_be_probed(ready: Project) -> None:
    ready.change(train={"schedule": "cosine", "steps": 4})
    result = train.run(ready.params, ready.paths)
    assert result.method == FINETUNE
    assert result.reason == "the base network is a trunk without heads: it has no angles to correct"
    assert read_candidates(ready.paths.candidates).closed == {}
    ready.change(train={"method": "probe"})
    assert train.run(ready.params, ready.paths).method == PROBE
    assert isinstance(load_checkpoint(ready.paths.checkpoint).network(), GazeNetwork)
    export.run(ready.params, ready.paths)
    metrics = evaluate.run(ready.params, ready.paths).metrics.model_dump(exclude_none=True)
    assert metrics["choice"]["exported"] == "probe"
    assert metrics["test"]["probe_deg"] == metrics["test"]["error_deg"]
    assert set(metrics["test"]) & {"base_deg", "corrected_deg", "finetuned_deg"} == set()
    ready.change(train={"method": "base"})
    with pytest.raises(InputError, match=r"train.method is 'base', but random weights, seed 5 is"):
        train.run(ready.params, ready.paths)


def test_what_train_says_of_the_frames(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    epoch = Epoch(2, 1.0, 2.0, 3.0)
    for held_out, said in (
        (0, "3.00° on held-out targets; 14 frames trained on, each held out in turn"),
        (4, "3.00° on held-out targets; 10 frames trained on, 4 held out to measure it"),
    ):
        result = train.TrainResult(FINETUNE, "asked for", 1.0, 2, epoch, 14 - held_out, held_out)
        monkeypatch.setattr(train, "run", lambda *_, result=result: result)
        assert main(["train"]) == 0
        printed = capsys.readouterr()
        assert said in printed.out
        assert "warning" not in printed.err


@pytest.mark.parametrize(("drawn", "base"), [(False, "embedded"), (True, "embedded"), (False, "x")])
def test_train_says_that_the_embedded_base_knows_drawings_alone(
    project: Project,
    prepare_synthetic: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    drawn: bool,
    base: str,
) -> None:
    prepare_synthetic("one")
    manifest = project.paths.dataset / "one" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "drawn": drawn}))
    index.run(project.params, project.paths)
    project.paths.specification.unlink()  # nothing is recorded without it
    project.change(fetch={"base": base})
    result = train.TrainResult(FINETUNE, "asked for", 1.0, 2, Epoch(2, 1.0, 2.0, 3.0), 14, 0)
    monkeypatch.setattr(train, "run", lambda *_: result)
    assert main(["train"]) == 0
    said = "warning: the embedded base network has seen drawings of one face only, and these frames"
    assert capsys.readouterr().err.startswith(said) == (base == "embedded" and not drawn)


def test_a_dead_fine_tune_leaves_the_other_candidates_or_its_start(
    headed: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = BoundedAdam.step

    def thrown(self: BoundedAdam, loss: torch.Tensor, rate: float) -> None:
        step(self, loss, rate)
        with torch.no_grad():
            self._parameters[-1].add_(1e3)  # the head's bias, in degrees

    monkeypatch.setattr(BoundedAdam, "step", thrown)
    stopped = "; the fine-tune was stopped after 1 of {} epochs, its loss "
    headed.change(train={"method": "auto"})
    result = train.run(headed.params, headed.paths)
    assert result.method in (BASE, PROBE)
    assert stopped.format(1) in result.reason  # a fold's
    candidates = read_candidates(headed.paths.candidates)
    assert candidates.fine_tuned is None
    assert set(candidates.held_out_deg) == set(candidates.closed) == {BASE, PROBE}
    for path in (headed.paths.checkpoint, headed.paths.last_checkpoint):
        assert load_checkpoint(path).choice.method == result.method
    headed.change(train={"method": "finetune"})
    result = train.run(headed.params, headed.paths)
    assert result.method == FINETUNE
    assert stopped.format(2) in result.reason
    assert result.reason.endswith(": its start is exported")
    kept = load_checkpoint(headed.paths.checkpoint)
    assert kept.training.epoch == result.exported.epoch == 0
    assert read_training_log(headed.paths.training_log).exported.tolist() == [1]
    error = kept.training.validation_error_deg
    assert error < 90  # the start's, and the network is the start
    assert np.abs(kept.network().head.residual.bias.detach().numpy()).max() < 500
