"""MLflow: one run for each evaluated pipeline, with everything needed to compare sessions."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from custom_gaze.download import shown
from custom_gaze.errors import CustomGazeError
from custom_gaze.params import Params
from custom_gaze.paths import Paths, project_root
from custom_gaze.tables import read_columns


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the embedded store mlflow.db in the main repository's root."""
    default = f"sqlite:///{project_root() / 'mlflow.db'}"
    return os.environ.get("MLFLOW_TRACKING_URI") or default


def record(
    params: Params,
    paths: Paths,
    metrics: dict[str, Any],
    sessions: dict[str, Any],
    facts: dict[str, Any],
) -> str:
    """Record a run; return one line that says where, or why it could not be recorded.

    A store that cannot be reached does not undo an evaluation that is done: its reports stay.
    """
    uri = tracking_uri()
    try:
        with quiet():
            run_id = _record(uri, params, paths, metrics, sessions, facts)
    except Exception as error:  # whatever a server, a database or a proxy may answer
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        again = "record it later with `dvc repro -s -f evaluate`"
        return f"MLflow at {uri} did not record this run ({reason}); {again}"
    return f"MLflow run {run_id} in {uri}"


def _record(
    uri: str,
    params: Params,
    paths: Paths,
    metrics: dict[str, Any],
    sessions: dict[str, Any],
    facts: dict[str, Any],
) -> str:
    import mlflow

    client = mlflow.MlflowClient(uri)
    name = params.tracking.experiment
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        experiment_id = client.create_experiment(name, artifact_location=artifact_root(uri))
    else:
        experiment_id = experiment.experiment_id
    run = client.create_run(experiment_id, tags=_tags(params, facts), run_name=_run_name(params))
    run_id: str = run.info.run_id
    try:
        _log_params(client, run_id, params)
        _log_losses(client, run_id, paths)
        _log_metrics(client, run_id, metrics, sessions)
        reports = (paths.screen_plot, paths.error_plot, paths.loss_plot, paths.report)
        files = [*((path, "reports") for path in reports), (paths.model, "model")]
        attach_files(client, uri, run_id, files)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
    return run_id


def artifact_root(uri: str) -> str | None:
    """Beside the embedded store; a server knows its own place.

    MLflow would take the working folder, which with `dvc exp run --temp` is deleted afterwards.
    """
    return (project_root() / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None


def attach_files(client: Any, uri: str, run_id: str, files: list[tuple[Path, str]]) -> None:
    """Attach (file, folder in the run) to a run.

    MLflow's client writes below a file:// root by itself. But where it speaks with a server, that
    root is a folder of the server's machine (a run made there without the server has made the
    experiment): then the files go through the server, as they do where it has chosen the root.

    Raises:
        CustomGazeError: the server keeps its files somewhere else.
    """
    run = client.get_run(run_id)
    target = run.info.artifact_uri
    if not (uri.startswith("http") and target.startswith("file:")):
        for path, folder in files:
            client.log_artifact(run_id, str(path), folder)
        return
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    root = client.get_experiment(run.info.experiment_id).artifact_location
    relative = target.removeprefix(root).strip("/")
    through = get_artifact_repository(f"mlflow-artifacts:/{relative}", tracking_uri=uri)
    for path, folder in files:
        through.log_artifact(str(path), folder)
    if not all(_server_has(uri, run_id, f"{folder}/{path.name}") for path, folder in files):
        raise CustomGazeError(f"its server does not reach {root}; name another tracking.experiment")


def _server_has(uri: str, run_id: str, file: str) -> bool:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    answer = http_request(
        get_default_host_creds(uri),
        "/api/2.0/mlflow/artifacts/list",
        "GET",
        params={"run_id": run_id, "path": file.rpartition("/")[0]},
    )
    return file in [entry["path"] for entry in answer.json().get("files", [])]


def _run_name(params: Params) -> str:
    experiment = os.environ.get("DVC_EXP_NAME")
    return experiment or "+".join(params.sessions)


def _tags(params: Params, facts: dict[str, Any]) -> dict[str, str]:
    tags = {
        "sessions": ",".join(params.sessions),
        "evaluate_sessions": ",".join(params.evaluate.sessions),
        "git_commit": _git_commit(),
        "dvc_experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dataset_sha256": facts["dataset_sha256"],
        "model_sha256": facts["model_sha256"],
        "trunk": facts["trunk"],
        "method": facts["method"],
        **{f"base_{key}": str(value) for key, value in facts["base"].items()},
        "code_version": facts["code_version"],
    }
    return {key: value for key, value in tags.items() if value}


def _git_commit() -> str:
    """The commit that the run started from."""
    if baseline := os.environ.get("DVC_EXP_BASELINE_REV"):
        return baseline
    command = ["git", "-C", str(project_root()), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answer.stdout.strip()


def _log_params(client: Any, run_id: str, params: Params) -> None:
    from mlflow.entities import Param

    flat = {"sessions": ",".join(params.sessions)}
    for section, values in dataclasses.asdict(params).items():
        if isinstance(values, dict):
            # Addresses without their user, password and query: a record is no place for secrets.
            flat.update({f"{section}.{key}": shown(str(value)) for key, value in values.items()})
    client.log_batch(run_id, params=[Param(key, value) for key, value in flat.items()])


def _log_losses(client: Any, run_id: str, paths: Paths) -> None:
    from mlflow.entities import Metric

    log = read_columns(paths.training_log)
    now = _now_ms()
    batch = [
        Metric(name, float(value), now, int(epoch))
        for name in ("train_loss", "validation_loss", "validation_error_deg")
        for epoch, value in zip(log["epoch"], log[name], strict=True)
    ]
    for start in range(0, len(batch), 1000):  # MLflow takes no more at once
        client.log_batch(run_id, metrics=batch[start : start + 1000])


def _log_metrics(
    client: Any, run_id: str, metrics: dict[str, Any], sessions: dict[str, Any]
) -> None:
    from mlflow.entities import Metric

    now = _now_ms()
    named = {**metrics, **{f"session/{name}": entry for name, entry in sessions.items()}}
    batch = [
        Metric(f"{name}/{key}", float(value), now, 0)
        for name, entry in named.items()
        for key, value in entry.items()
        if not isinstance(value, str)
    ]
    client.log_batch(run_id, metrics=batch)


def _now_ms() -> int:
    import time

    return int(time.time() * 1000)


@contextmanager
def quiet() -> Iterator[None]:
    """No waiting for minutes on a server that is not there, no chatter."""
    settings = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "ALEMBIC_LOGGING_LEVEL": "WARNING",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update({name: os.environ.get(name, value) for name, value in settings.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def serve(port: int) -> None:
    """Run MLflow's page on the loopback until it is interrupted.

    Raises:
        CustomGazeError: it could not start or stopped by itself.
    """
    address = f"http://127.0.0.1:{port}"
    print(f"MLflow: {address} (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", tracking_uri()]
    command += ["--artifacts-destination", (project_root() / "mlartifacts").as_uri()]
    done = subprocess.run(command, check=False)
    if done.returncode > 0:
        raise CustomGazeError(f"MLflow's page at {address} stopped with code {done.returncode}")
