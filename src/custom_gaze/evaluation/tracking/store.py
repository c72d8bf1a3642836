"""The store opened: the project's own, or a server; experiments and figures in it.

The project's own is mlflow.db with mlartifacts/ beside it. It is made under another name and moved
into place, opened by one process at a time, and looked over first: SQLite's tables that a killed or
concurrent migration has half made are never mended by opening them again.
"""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.config.paths import Paths
from custom_gaze.evaluation.tracking.addresses import (
    address_of,
    artifact_root,
    sqlite_file,
    tracking_uri,
)
from custom_gaze.evaluation.tracking.moved import point_at_this_folder
from custom_gaze.evaluation.tracking.schema import look_at

LOCK_S = 180.0  # longer than MLflow takes to make its tables on a busy machine
METRICS_AT_ONCE = 1000  # MLflow takes no more


def open_store() -> Any:
    """An MlflowClient of `tracking_uri()`; a new store is made, a moved project's is set right.

    Raises:
        CustomGazeError: the store's tables are of another version or half made, or another process
            has had it open for minutes. Of a server that is not there nothing is noticed yet.
    """
    import mlflow

    uri = tracking_uri()
    database = sqlite_file(uri)
    if database is None:
        return mlflow.MlflowClient(uri)
    with _alone(database):
        if not database.exists():
            _make(database)
        found = look_at(database)
        if found.problem:
            raise CustomGazeError(f"{found.problem}; {found.advice}")
        if database == Paths().mlflow_database:
            point_at_this_folder(database)
        return mlflow.MlflowClient(uri)


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    import filelock

    lock = database.with_name(f"{database.name}.lock")
    try:
        with filelock.FileLock(lock, timeout=LOCK_S):
            yield
    except filelock.Timeout:
        raise CustomGazeError(
            f"{database}: another process has been opening it for {LOCK_S:g} seconds; see which: "
            f"fuser {shlex.quote(str(lock))}"
        ) from None


def _make(database: Path) -> None:
    """Let MLflow make its tables in a file that is in nobody's way, and move it into place."""
    import mlflow

    new = database.with_name(f"{database.name}.new")
    for left_behind in (new, new.with_name(f"{new.name}-journal")):
        left_behind.unlink(missing_ok=True)
    mlflow.MlflowClient(address_of(new)).search_experiments(max_results=1)
    os.replace(new, database)


def experiment_id(client: Any, name: str) -> str:
    """The id of an experiment: made where there is none, restored where it was deleted.

    (MLflow keeps a deleted one's name, so that no other can have it.)
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_root(client.tracking_uri)))
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


@contextmanager
def quiet() -> Iterator[None]:
    """No waiting for minutes on a server that is not there, no chatter."""
    settings = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "ALEMBIC_LOGGING_LEVEL": "WARNING",
    }
    ours = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def log_figures(
    client: Any,
    run_id: str,
    params: Sequence[tuple[str, str]],
    metrics: Sequence[tuple[str, float, int, int]],
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log parameters, tags, and metrics as (name, value, milliseconds since 1970, step)."""
    from mlflow.entities import Metric, Param, RunTag

    said = [RunTag(name, value) for name, value in (tags or {}).items()]
    client.log_batch(run_id, params=[Param(*entry) for entry in params], tags=said)
    for start in range(0, len(metrics), METRICS_AT_ONCE):
        some = [Metric(*entry) for entry in metrics[start : start + METRICS_AT_ONCE]]
        client.log_batch(run_id, metrics=some)
