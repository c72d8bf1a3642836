"""What MLflow keeps of one evaluation."""

import contextlib
import dataclasses
import os
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_gaze.common.download import shown
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.evaluation.results import Evaluation, Provenance, TrainingLog
from custom_gaze.evaluation.tracking.store import attach_files, experiment_id, log_figures

RECORD_TAG = "custom_gaze_record"  # a record's id: it is in a store once, however often it is sent


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


def record_of(params: Params, evaluation: Evaluation) -> Record:
    """The record of an evaluation: no frame, no crop, no path, no secret."""
    return Record(
        id=uuid.uuid4().hex,
        experiment=params.tracking.experiment,
        run_name=os.environ.get("DVC_EXP_NAME") or "+".join(params.sessions),
        start_ms=int(time.time() * 1000),
        params=_params(params),
        tags=_tags(params, evaluation.provenance),
        metrics=[*_losses(evaluation.log), *_metrics(evaluation)],
    )


def files_of(paths: Paths) -> list[tuple[Path, str]]:
    """(file, folder in the run) of what a run keeps beside its figures."""
    reports = (paths.screen_plot, paths.error_plot, paths.loss_plot, paths.report)
    return [*((path, "reports") for path in reports), (paths.model, "model")]


def deliver(client: Any, record: Record, files: list[tuple[Path, str]]) -> str:
    """Make a run of a record and return its id; one that is left unfinished is marked as failed.

    Raises:
        Exception: whatever a server, a database or a proxy may answer.
    """
    run = client.create_run(
        experiment_id(client, record.experiment),
        start_time=record.start_ms,
        tags={**record.tags, RECORD_TAG: record.id},
        run_name=record.run_name,
    )
    run_id: str = run.info.run_id
    try:
        metrics = [(name, value, record.start_ms, step) for name, value, step in record.metrics]
        log_figures(client, run_id, list(record.params.items()), metrics)
        attach_files(client, run_id, files)
    except BaseException:
        with contextlib.suppress(Exception):  # the store may be gone, what happened first counts
            client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
    return run_id


def is_there(client: Any, record: Record) -> bool:
    """Whether a record has a whole run already; what an interrupted delivery left is deleted."""
    mine = f"tags.{RECORD_TAG} = '{record.id}'"
    for run in client.search_runs([experiment_id(client, record.experiment)], mine):
        if run.info.status == "FINISHED":
            return True
        client.delete_run(run.info.run_id)
    return False


def _params(params: Params) -> dict[str, str]:
    flat = {"sessions": ",".join(params.sessions)}
    for section, values in dataclasses.asdict(params).items():
        if isinstance(values, dict):
            # Addresses without their user, password and query: a record is no place for secrets.
            flat.update({f"{section}.{key}": shown(str(value)) for key, value in values.items()})
    return flat


def _tags(params: Params, provenance: Provenance) -> dict[str, str]:
    model = provenance.model
    tags = {
        "sessions": ",".join(params.sessions),
        "evaluate_sessions": ",".join(params.evaluate.sessions),
        "git_commit": _git_commit(),
        "dvc_experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dataset_sha256": provenance.dataset_sha256,
        "model_sha256": provenance.model_sha256,
        "trunk": model.trunk,
        "method": model.method.value,
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


def _losses(log: TrainingLog) -> list[tuple[str, float, int]]:
    return [
        (name, float(value), int(epoch))
        for name in ("train_loss", "validation_loss", "validation_error_deg")
        for epoch, value in zip(log.epoch, getattr(log, name), strict=True)
    ]


def _metrics(evaluation: Evaluation) -> list[tuple[str, float, int]]:
    metrics = evaluation.metrics
    named = {name: figures.as_dict() for name, figures in metrics.groups().items()}
    named["choice"] = metrics.choice.model_dump(exclude_none=True)
    named |= {f"session/{each.session}": each.figures.as_dict() for each in evaluation.sessions}
    compared = [(name, float(value), 0) for name, value in metrics.compared().items()]
    return compared + [
        (f"{name}/{key}", float(value), 0)
        for name, entry in named.items()
        for key, value in entry.items()
        if isinstance(value, (int, float))
    ]
