"""What MLflow keeps of one calibration, and how it is put there."""

import contextlib
import dataclasses
import json
import os
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.config.specification import Specification
from custom_gaze.evaluation.results import Evaluation, Provenance, TrainingLog
from custom_gaze.evaluation.tracking import journal, registry
from custom_gaze.evaluation.tracking.store import experiment_id, log_figures
from custom_gaze.evaluation.tracking.upload import attach_files

RECORD_TAG = "custom_gaze_record"  # a record's id: it is in a store once, however often it is sent
PROGRESS_TAG, EVALUATED = "progress", "evaluated"
MODEL = "model"  # the folder of the file that is logged as a model


@dataclass(frozen=True)
class DatasetRecord:
    """The index that was trained and tested on."""

    sha256: str
    sessions: list[str]
    frames: int


@dataclass(frozen=True)
class Record:
    """One run, complete but for its files. Times in milliseconds since 1970."""

    id: str  # 32 hexadecimal digits, like no other's
    experiment: str
    run_name: str
    start_ms: int
    params: dict[str, str]
    tags: dict[str, str]
    metrics: list[tuple[str, float, int]]  # name, finite value, step
    live: list[tuple[str, float, int, int]] = field(default_factory=list)  # …, when
    status: str = "FINISHED"
    end_ms: int | None = None
    dataset: DatasetRecord | None = None


def record_of(params: Params, evaluation: Evaluation) -> Record:
    """The record of an evaluation: no frame, no crop, no path, no secret.

    It completes the run that the training of its checkpoint has opened. Where there is none, DVC
    has taken the training from its cache, or it was evaluated before: it is a run of its own.
    """
    model = evaluation.provenance.model
    opened = journal.awaiting(model.checkpoint_sha256, params)
    metrics = [*_losses(evaluation.log), *_metrics(evaluation)]
    live = [] if opened is None else opened.metrics
    known = {(name, step) for name, _, step, _ in live}
    now = journal.now_ms()
    return Record(
        id=uuid.uuid4().hex if opened is None else opened.opening.id,
        experiment=params.tracking.experiment,
        run_name=journal.run_name(params),
        start_ms=now if opened is None else opened.opening.start_ms,
        params=journal.params_of(params),
        tags={
            **first_tags(params, model.specification),
            **_tags(evaluation.provenance),
            "training": "cached" if opened is None else "run",
            PROGRESS_TAG: EVALUATED,
        },
        metrics=[entry for entry in metrics if (entry[0], entry[2]) not in known],
        live=live,
        end_ms=now,
        dataset=_dataset(evaluation.provenance),
    )


def record_of_unfinished(told: journal.Told, status: str, progress: str) -> Record:
    """The record of a training that came to nothing, or was not evaluated yet."""
    opening = told.opening
    ended = {"ended_in": told.end_in} if told.end_in else {}
    return Record(
        id=opening.id,
        experiment=opening.experiment,
        run_name=opening.run_name,
        start_ms=opening.start_ms,
        params=opening.params,
        tags={**opening.tags, **told.tags, **ended, PROGRESS_TAG: progress},
        metrics=[],
        live=told.metrics,
        status=status,
        end_ms=told.end_ms or None,
    )


def files_of(paths: Paths) -> list[tuple[Path, str]]:
    """(file, folder in the run) of what a run keeps beside its figures."""
    reports = (paths.screen_plot, paths.error_plot, paths.loss_plot, paths.shared_report)
    return [*((path, "reports") for path in reports), (paths.model, MODEL)]


def begin(client: Any, record: Record) -> str:
    """The id of a record's run, made where there is none."""
    for run in _runs_of(client, record):
        return str(run.info.run_id)
    run = client.create_run(
        experiment_id(client, record.experiment),
        start_time=record.start_ms,
        tags={**record.tags, RECORD_TAG: record.id},
        run_name=record.run_name,
    )
    return str(run.info.run_id)


def deliver(client: Any, record: Record, files: list[tuple[Path, str]]) -> str:
    """Bring a record's run to its end and return its id; on failure it is marked as failed.

    Done again, it adds only what is missing.

    Raises:
        Exception: whatever a server, a database or a proxy may answer.
    """
    run_id = begin(client, record)
    try:
        metrics = [(name, value, when, step) for name, value, step, when in record.live]
        ended = record.start_ms if record.end_ms is None else record.end_ms
        metrics += [(name, value, ended, step) for name, value, step in record.metrics]
        log_figures(client, run_id, list(record.params.items()), metrics, record.tags)
        if record.dataset is not None:
            client.log_inputs(run_id, [_dataset_input(record.dataset)])
        attach_files(client, run_id, [entry for entry in files if entry[1] != MODEL])
        for path, folder in files:
            if folder == MODEL:
                registry.log_model(client, run_id, path)
    except BaseException:
        with contextlib.suppress(Exception):  # the store may be gone, what happened first counts
            client.set_tag(run_id, PROGRESS_TAG, "not recorded whole")
            client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, record.status, record.end_ms)
    return run_id


def is_there(client: Any, record: Record) -> bool:
    """Whether a record has a whole run already."""
    return any(
        run.info.status == "FINISHED" and run.data.tags.get(PROGRESS_TAG, EVALUATED) == EVALUATED
        for run in _runs_of(client, record)
    )


def _runs_of(client: Any, record: Record) -> list[Any]:
    mine = f"tags.{RECORD_TAG} = '{record.id}'"
    return list(client.search_runs([experiment_id(client, record.experiment)], mine))


def first_tags(params: Params, specification: Specification) -> dict[str, str]:
    """The tags that are known before a training starts."""
    geometry = specification.geometry
    width, height = 2 * geometry.center_x_px, 2 * geometry.center_y_px
    tags = {
        "sessions": ",".join(params.sessions),
        "evaluate_sessions": ",".join(params.evaluate.sessions),
        "screen": f"{width:g}x{height:g} at {geometry.deg_per_pixel:g}°/px",
        "crop_from": specification.crop_from,
        "detector_sha256": specification.detector_sha256 or "",
        "mesh_sha256": specification.mesh_sha256 or "",
        "git_commit": _git_commit(),
        "dvc_experiment": os.environ.get("DVC_EXP_NAME", ""),
        "training": "run",
    }
    return {key: value for key, value in tags.items() if value}


def _tags(provenance: Provenance) -> dict[str, str]:
    model = provenance.model
    tags = {
        "dataset_sha256": provenance.dataset_sha256,
        "model_sha256": provenance.model_sha256,
        "base": model.base.source,
        "trunk": model.trunk,
        "method": model.method.value,
        "inner_share": f"{model.inner_share:.3g}",
        **{f"base_{key}": str(value) for key, value in dataclasses.asdict(model.base).items()},
        "code_version": model.code_version,
    }
    return {key: value for key, value in tags.items() if value}


def _git_commit() -> str:
    """The commit that the run started from."""
    if baseline := os.environ.get("DVC_EXP_BASELINE_REV"):
        return baseline
    command = ["git", "-C", str(Paths().main_root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="surrogateescape", check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _dataset(provenance: Provenance) -> DatasetRecord:
    manifests = provenance.manifests
    names = [manifest.session for manifest in manifests]
    frames = sum(manifest.counts.used for manifest in manifests)
    return DatasetRecord(provenance.dataset_sha256, names, frames)


def _dataset_input(dataset: DatasetRecord) -> Any:
    """As MLflow's dataset input: what it was, no pixel and no path."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    sessions = ",".join(dataset.sessions)
    made = Dataset(
        name="+".join(dataset.sessions)[:500],
        digest=dataset.sha256[:36],  # MLflow's longest
        source_type="code",
        source=json.dumps({"tags": {"sessions": sessions}}),
        profile=json.dumps({"sessions": len(dataset.sessions), "frames": dataset.frames}),
    )
    return DatasetInput(made, [InputTag("mlflow.data.context", "training")])


def _losses(log: TrainingLog) -> list[tuple[str, float, int]]:
    return [
        (name, float(value), int(epoch))
        for name in ("train_loss", "validation_loss", "validation_error_deg")
        for epoch, value in zip(log.epoch, getattr(log, name), strict=True)
    ]


def _metrics(evaluation: Evaluation) -> list[tuple[str, float, int]]:
    metrics = evaluation.metrics
    named: dict[str, Mapping[str, object]] = {
        name: figures.as_dict() for name, figures in metrics.groups().items()
    }
    named["choice"] = metrics.choice.model_dump(exclude_none=True)
    named |= {f"session/{each.session}": each.figures.as_dict() for each in evaluation.sessions}
    compared = [(name, float(value), 0) for name, value in metrics.compared().items()]
    return compared + [
        (f"{name}/{key}", float(value), 0)
        for name, entry in named.items()
        for key, value in entry.items()
        if isinstance(value, (int, float))
    ]
