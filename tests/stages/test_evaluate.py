import csv
import dataclasses
import html.parser
import json
import re
from pathlib import Path

import cv2
import mlflow
import numpy as np
import pytest

from conftest import Project
from custom_gaze.calibration.candidates import read_candidates, save_candidates
from custom_gaze.cli import main
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import labels_deg, load_crop, of_split, read_index
from custom_gaze.evaluation import report
from custom_gaze.evaluation.page import content
from custom_gaze.evaluation.results import read_metrics
from custom_gaze.faces.crops import normalise
from custom_gaze.geometry import angular_error_deg
from custom_gaze.models.onnx_runtime import cpu_session, predict_onnx
from custom_gaze.stages import evaluate


def predictions(project: Project, split: str) -> tuple[np.ndarray, np.ndarray]:
    samples = of_split(read_index(project.paths.index), split)
    crops = np.stack([load_crop(sample, project.paths) for sample in samples])
    predicted = predict_onnx(cpu_session(project.paths.model), normalise(crops))
    return predicted, labels_deg(samples)


def test_the_metrics_are_those_of_the_exported_file(evaluated: Project) -> None:
    metrics = json.loads(evaluated.paths.figures.read_text())
    samples = read_index(evaluated.paths.index)
    known = [sample for sample in samples if sample.split in ("train", "validation")]
    constant = labels_deg(known).mean(axis=0)
    assert set(metrics) == {"headline", "choice", "test", "cross_session", "train"}
    # The fine-tune alone was not cross-validated: its headline is the test part, and says so.
    assert metrics["headline"] == {
        **{key: metrics["test"][key] for key in ("error_deg", "low_deg", "high_deg", "error_px")},
        **{"measured": "held-out targets", "frames": 6, "targets": 3},
    }
    assert json.loads(evaluated.paths.metrics.read_text()) == {
        **{key: metrics["test"][key] for key in ("error_deg", "error_px", "frames", "targets")},
        "cross_session_deg": metrics["cross_session"]["error_deg"],
    }
    for split, frames, targets in (("test", 6, 3), ("cross_session", 18, 9)):
        predicted, truth = predictions(evaluated, split)
        errors = angular_error_deg(predicted, truth)
        entry = metrics[split]
        assert entry["error_deg"] == pytest.approx(errors.mean(), abs=1e-3)
        assert entry["median_deg"] == pytest.approx(np.median(errors), abs=1e-3)
        assert entry["error_px"] == pytest.approx(errors.mean() / 0.0307, abs=1e-2)
        assert entry["constant_deg"] == pytest.approx(
            angular_error_deg(constant, truth).mean(), abs=1e-3
        )
        assert (entry["frames"], entry["targets"]) == (frames, targets)
        assert entry["low_deg"] <= entry["error_deg"] <= entry["high_deg"]


def test_it_runs_the_file_that_was_exported_from_this_checkpoint(evaluated: Project) -> None:
    before = evaluated.paths.metrics.read_bytes()
    evaluated.paths.metrics.unlink()
    evaluated.change(geometry={"deg_per_pixel": 0.05})  # of the next `prepare`, not of these crops
    evaluate.run(evaluated.params, evaluated.paths)
    assert evaluated.paths.metrics.read_bytes() == before
    evaluated.paths.checkpoint.write_bytes(evaluated.paths.last_checkpoint.read_bytes() + b"other")
    with pytest.raises(InputError, match=r"onnx: was not exported from .*checkpoint.pt; run"):
        evaluate.run(evaluated.params, evaluated.paths)
    assert evaluated.paths.metrics.read_bytes() == before


def test_sessions_stand_apart(evaluated: Project) -> None:
    sessions = json.loads(evaluated.paths.session_metrics.read_text())
    assert sessions["one"]["tested_as"] == "held-out targets"
    assert sessions["other"]["tested_as"] == "another session"
    assert (sessions["one"]["frames"], sessions["other"]["frames"]) == (6, 18)


def test_predictions_are_on_the_screen_s_scale(evaluated: Project) -> None:
    rows = list(csv.DictReader(evaluated.paths.predictions.open()))
    predicted, _ = predictions(evaluated, "test")
    pixels = evaluated.params.geometry.to_pixels(predicted)
    tested = [row for row in rows if row["tested_as"] == "test"]
    for row, pixel in zip(tested, pixels, strict=True):
        assert (float(row["predicted_x"]), float(row["predicted_y"])) == pytest.approx(
            tuple(pixel), abs=0.01
        )
        distance = np.hypot(
            float(row["predicted_x"]) - float(row["target_x"]),
            float(row["predicted_y"]) - float(row["target_y"]),
        )
        assert float(row["error_deg"]) == pytest.approx(distance * 0.0307, abs=2e-3)


def test_the_pictures_are_pictures(evaluated: Project) -> None:
    paths = evaluated.paths
    for path in (paths.loss_plot, paths.screen_plot, paths.error_plot):
        picture = cv2.imread(str(path))
        assert picture.shape[0] >= 300
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


class _Page(html.parser.HTMLParser):
    """Collects what a browser would load from elsewhere, and the visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text = ""
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_needs_no_network_and_says_what_the_base_is(evaluated: Project) -> None:
    page = _Page()
    html = evaluated.paths.report.read_text()
    page.feed(html)
    assert all(source.startswith("#") for source in page.loaded)  # within the page
    assert not {"script", "link", "img", "iframe"} & page.tags
    assert not re.search(r"url\(|@import", html)
    assert report.UNTRAINED_BASE in page.text
    assert "no <face> in it" in page.text  # escaped, not parsed as a tag
    assert "face" not in page.tags


def test_the_same_model_gives_the_same_reports(
    evaluated: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages alone say of when they are, and of which experiment."""

    def snapshot() -> dict[str, bytes]:
        files = [path for path in evaluated.paths.reports.rglob("*") if path.is_file()]
        return {str(path.relative_to(evaluated.paths.reports)): path.read_bytes() for path in files}

    pages = {"report.html", "shared/report.html"}
    made, results = [snapshot()], []
    monkeypatch.setattr(content, "made_on", lambda: "a day")
    for _ in range(2):
        results.append(evaluate.run(evaluated.params, evaluated.paths))
        made.append(snapshot())
    assert made[1] == made[2]
    assert {name for name in made[0] if made[0][name] != made[1][name]} <= pages
    assert read_metrics(evaluated.paths.figures) == results[0].metrics


def test_the_closing_table(evaluated: Project) -> None:
    table = report.closing_table(evaluated.paths)
    error = json.loads(evaluated.paths.figures.read_text())["test"]["error_deg"]
    lines = {line[:15].strip(): line[15:].split("  ") for line in table.split("\n")}
    assert next(filter(None, lines["exported"])).strip() == f"{error:.2f}°"
    assert max(map(len, table.split("\n\n")[0].split("\n"))) <= 80
    assert "custom_gaze.onnx" in table
    evaluated.paths.figures.unlink()
    with pytest.raises(InputError, match="figures.json: not found; run `dvc repro`"):
        report.closing_table(evaluated.paths)


def test_mlflow_holds_the_whole_run(evaluated_once: Path) -> None:
    evaluated = Project(Paths(evaluated_once))
    client = mlflow.MlflowClient(f"sqlite:///{evaluated.paths.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("custom-gaze")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "brave-owl"
    assert run.data.params["train.learning_rate"] == "0.0001"
    assert run.data.params["sessions"] == "one"
    assert run.data.tags["sessions"] == "one"
    assert run.data.tags["dvc_experiment"] == "brave-owl"
    assert len(run.data.tags["dataset_sha256"]) == 64
    assert run.data.tags["base_kind"] == "random"
    assert run.data.tags["base_batchnorm_folded"] == "False"
    metrics = json.loads(evaluated.paths.figures.read_text())
    assert run.data.metrics["test/error_deg"] == metrics["test"]["error_deg"]
    assert run.data.metrics["session/other/error_deg"] == metrics["cross_session"]["error_deg"]
    losses = client.get_metric_history(run.info.run_id, "validation_loss")
    assert [metric.step for metric in losses] == [0, 1, 2, 3]
    root = Path(experiment.artifact_location.removeprefix("file://"))
    assert root.parent == evaluated.paths.root  # not the working folder of the moment
    [model] = root.rglob("model.onnx")
    assert model.read_bytes() == evaluated.paths.model.read_bytes()
    assert {p.name for p in root.rglob("*.png")} == {"loss.png", "screen.png", "error_map.png"}


def test_a_run_in_a_temporary_copy_lands_in_the_same_store(
    evaluated: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `dvc exp run --temp`: another working folder, DVC_ROOT naming the main one."""
    main = tmp_path / "main"
    main.mkdir()
    monkeypatch.setenv("DVC_ROOT", str(main))
    evaluate.run(evaluated.params, evaluated.paths)
    assert (main / "mlflow.db").exists()
    assert list((main / "mlartifacts").rglob("model.onnx"))
    assert not (evaluated.paths.root / "mlflow.db").exists()


def test_a_server_that_is_not_there_costs_no_report_and_no_run(
    evaluated: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The run waits in the main project, also where a temporary copy of it was evaluated."""
    main_root = tmp_path / "main"
    main_root.mkdir()
    monkeypatch.setenv("DVC_ROOT", str(main_root))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # the discard port
    said = evaluate.run(evaluated.params, evaluated.paths).tracked
    assert "MLflow at http://127.0.0.1:9 did not record this run" in said
    assert "delivers it" in said
    assert evaluated.paths.report.exists()
    [waiting] = main_root.glob("mlpending/*/record.json")
    kept = {path.name for path in waiting.parent.rglob("*.*")}
    pictures = {"screen.png", "error_map.png", "loss.png"}
    assert kept == {"record.json", "report.html", "custom_gaze.onnx", *pictures}  # and no crop
    metrics = json.loads(evaluated.paths.figures.read_text())

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert main(["report"]) == 0
    assert "MLflow: 1 run that had been waiting now in sqlite:" in capsys.readouterr().out
    assert main(["report"]) == 0
    assert "MLflow" not in capsys.readouterr().out
    client = mlflow.MlflowClient(f"sqlite:///{main_root / 'mlflow.db'}")
    [run] = client.search_runs([client.get_experiment_by_name("custom-gaze").experiment_id])
    assert run.data.metrics["test/error_deg"] == metrics["test"]["error_deg"]
    [model] = (main_root / "mlartifacts").rglob("model.onnx")
    assert model.read_bytes() == evaluated.paths.model.read_bytes()


def test_a_model_that_is_none(evaluated: Project) -> None:
    evaluated.paths.model.write_bytes(b"no onnx")
    before = evaluated.paths.metrics.read_bytes()
    with pytest.raises(InputError, match=r"custom_gaze.onnx: is no ONNX, or one that is damaged"):
        evaluate.run(evaluated.params, evaluated.paths)
    assert evaluated.paths.metrics.read_bytes() == before


def test_a_damaged_input_changes_no_report(evaluated: Project) -> None:
    """All that is read is read before anything is written."""
    paths = evaluated.paths
    before = {path: path.read_bytes() for path in paths.reports.rglob("*.*")}
    for path in (paths.training_log, paths.index, paths.index_manifests, paths.candidates):
        content = path.read_bytes()
        path.write_bytes(content[:-5])
        with pytest.raises(InputError, match=re.escape(path.name)):
            evaluate.run(evaluated.params, paths)
        path.write_bytes(content)
        assert {path: path.read_bytes() for path in paths.reports.rglob("*.*")} == before


def test_the_candidates_of_another_training_are_refused(chosen: Project) -> None:
    """They name the checkpoint that they were made with, whatever method was chosen."""
    paths = chosen.paths
    candidates = read_candidates(paths.candidates)
    assert candidates.checkpoint_sha256 == sha256_of(paths.checkpoint)
    save_candidates(dataclasses.replace(candidates, checkpoint_sha256="0" * 64), paths.candidates)
    before = paths.metrics.read_bytes()
    with pytest.raises(InputError, match=r"candidates.pt: is of another training than"):
        evaluate.run(chosen.params, paths)
    assert paths.metrics.read_bytes() == before
