"""Experiments that came from DVC's cache, recorded as that: on real git, DVC and MLflow."""

import json
import shutil
from pathlib import Path

import pytest

from conftest import Once, Project, enter
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.files import sha256_of
from custom_gaze.config.paths import Paths
from custom_gaze.evaluation.tracking import pending, store
from custom_gaze.evaluation.tracking.pending import deliver_pending
from custom_gaze.history.restored import record_restored
from history_world import DAYS, make_week


def _fails() -> None:
    raise CustomGazeError("no store")


def test_an_experiment_that_no_stage_ran_for_is_recorded_once_as_from_the_cache(
    tmp_path: Path, once: Once, evaluated_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the week's world the stages are copies of files, so that nobody told MLflow."""
    made = once("week", lambda folder: make_week(folder, evaluated_once))
    shutil.copytree(made / "project", tmp_path / "project", symlinks=True)
    project = Project(Paths(tmp_path / "project"))
    enter(project, monkeypatch)
    tracking = project.params.tracking

    with monkeypatch.context() as away:  # a store that fails now gets them later
        away.setattr(pending, "open_store", _fails)
        said = record_restored(tracking, project.paths)
        assert len(said) == 2
        assert all("did not record this run" in line for line in said)
        assert record_restored(tracking, project.paths) == []  # they wait
    assert deliver_pending().delivered == 2
    assert record_restored(tracking, project.paths) == []

    client = store.open_store()
    number = store.experiment_id(client, tracking.experiment)
    runs = {run.info.run_name: run for run in client.search_runs([number])}
    assert set(runs) == set(DAYS)
    for day, (sessions, _) in list(DAYS.items())[1:]:
        folder = made / "made" / str(list(DAYS).index(day) + 1)
        figures = json.loads((folder / "reports/metrics.json").read_text())
        run = runs[day]
        assert run.info.status == "FINISHED"
        assert run.data.metrics == figures
        assert (run.data.tags["training"], run.data.tags["evaluation"]) == ("cached", "cached")
        assert run.data.tags["sessions"] == ",".join(sessions)
        model = folder / "models/custom_gaze.onnx"
        assert run.data.tags["model_sha256"] == sha256_of(model)
        [version] = client.search_model_versions(f"run_id = '{run.info.run_id}'")
        kept = Path(version.source.removeprefix("file://"), "model.onnx")
        assert kept.is_relative_to(tmp_path / "project/mlartifacts")
        assert kept.read_bytes() == model.read_bytes()
