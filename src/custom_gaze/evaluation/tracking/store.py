"""Where MLflow's runs go: the project's own store, or the one that MLFLOW_TRACKING_URI names.

The project's own is mlflow.db with mlartifacts/ beside it. It is made under another name and moved
into place, opened by one process at a time, and looked over first: SQLite's tables that a killed or
concurrent migration has half made are never mended by opening them again.
"""

import os
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from custom_gaze.common.download import shown
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import lies_inside, printable
from custom_gaze.config.paths import Paths

LOCK_S = 180.0  # longer than MLflow takes to make its tables on a busy machine
METRICS_AT_ONCE = 1000  # MLflow takes no more
HALF_MADE = "_alembic_tmp_"  # Alembic's prefix of a table that is to replace another


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the project's own store in the main repository's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or address_of(Paths().mlflow_database)


def address_of(database: Path) -> str:
    """The address of an SQLite file, whatever characters its path has.

    A path that needs quoting goes through SQLite's own `file:` form, which every version of
    SQLAlchemy hands on as it is. The driver is named there because MLflow makes the parent folder
    of whatever follows a plain `sqlite:///`, unquoted.
    """
    from sqlalchemy import URL

    path = str(database)
    if quote(path) == path:
        url = URL.create("sqlite", database=path)
    else:
        url = URL.create("sqlite+pysqlite", database=f"file:{quote(path)}", query={"uri": "true"})
    return url.render_as_string(hide_password=False)


def sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite address; None for a server and for any other kind of store."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
    except ArgumentError:
        return None
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    if url.database.startswith("file:"):
        return Path(unquote(url.database.removeprefix("file:")))
    return Path(url.database)


def shown_uri(uri: str) -> str:
    """An address for messages; a server's without user, password and query."""
    return printable(shown(uri) if sqlite_file(uri) is None else uri)


def artifact_root(uri: str) -> str | None:
    """Beside the project's own store; a server knows its own place.

    MLflow would take the working folder, which with `dvc exp run --temp` is deleted afterwards.
    """
    return None if sqlite_file(uri) is None else Paths().mlflow_artifacts.as_uri()


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


@dataclass(frozen=True)
class Condition:
    """What an SQLite store holds, and what is wrong with it."""

    runs: int | None  # None: it cannot be told
    problem: str | None = None
    advice: str | None = None


def look_at(database: Path) -> Condition:
    """Read a store's version and number of runs; nothing in it is changed."""
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as opened:
            tables = [row[0] for row in opened.execute("SELECT name FROM sqlite_master")]
            (runs,) = opened.execute("SELECT count(*) FROM runs").fetchone()
            has_version = "alembic_version" in tables
            versions = opened.execute("SELECT * FROM alembic_version") if has_version else ()
            version = next((str(row[0]) for row in versions), None)
    except sqlite3.Error as error:
        problem = f"{database}: cannot be read as MLflow's store ({error})"
        return Condition(None, problem, _move_away(database))
    newest, known = _schema_versions()
    half_made = [name for name in tables if name.startswith(HALF_MADE)]
    if half_made:
        name = half_made[0]
        problem = f"{database}: its tables are half changed ({name}), as by a killed upgrade"
        lost = [name for name in half_made if name.removeprefix(HALF_MADE) not in tables]
        advice = _move_away(database) if lost else _mend(database, runs, half_made)
        return Condition(runs, problem, advice)
    if version == newest:
        return Condition(runs)
    if version is not None and version not in known:
        problem = f"{database}: was written by a newer MLflow (its tables are {version})"
        return Condition(runs, problem, "pip install --upgrade mlflow")
    problem = f"{database}: its tables are of an older MLflow ({version}, here {newest})"
    return Condition(runs, problem, _mend(database, runs, []))


def _move_away(database: Path) -> str:
    path = str(database)
    return f"move it away, the next run makes a new one: {shlex.join(['mv', path, path + '.old'])}"


def _mend(database: Path, runs: int, half_made: list[str]) -> str:
    """A command that brings the tables up to date, and keeps the file as it was beside it."""
    if not runs:
        return _move_away(database)
    path = str(database)
    commands = [["cp", path, f"{path}.old"]]
    if half_made:
        drops = "; ".join(f'DROP TABLE "{name}"' for name in half_made)
        code = f"import sqlite3; sqlite3.connect({path!r}).executescript({drops!r})"
        commands.append(["python", "-c", code])
    commands.append(["mlflow", "db", "upgrade", address_of(database)])
    return " && ".join(shlex.join(command) for command in commands)


@cache
def _schema_versions() -> tuple[str | None, set[str]]:
    """The newest version of the tables that the installed MLflow knows, and all of them."""
    from importlib.util import find_spec

    from alembic.script import ScriptDirectory

    found = find_spec("mlflow")
    assert found is not None
    assert found.origin is not None
    scripts = ScriptDirectory(str(Path(found.origin).parent / "store" / "db_migrations"))
    return scripts.get_current_head(), {script.revision for script in scripts.walk_revisions()}


def point_at_this_folder(database: Path) -> None:
    """Where a store names folders outside of the project, make new runs write into mlartifacts/.

    MLflow keeps absolute addresses, so the store of a project that was moved or copied goes on
    writing into the old folder, and has no call to change them. Runs made before are pointed at
    the files that came along; where they did not, at where they were.
    """
    root = Paths().mlflow_artifacts
    with closing(sqlite3.connect(database, timeout=20)) as opened, opened:
        for number, location in opened.execute(
            "SELECT experiment_id, artifact_location FROM experiments"
        ).fetchall():
            folder = _local(location)
            if folder is None or lies_inside(Paths().main_root, folder):
                continue
            opened.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (root.as_uri(), number),
            )
            for run, address in opened.execute(
                "SELECT run_uuid, artifact_uri FROM runs WHERE experiment_id = ?", (number,)
            ).fetchall():
                files = _local(address)
                if files is not None and files.is_relative_to(folder):
                    here = root / files.relative_to(folder)
                    if lies_inside(root, here) and here.is_dir():
                        opened.execute(
                            "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?",
                            (here.as_uri(), run),
                        )


def _local(address: str | None) -> Path | None:
    """The folder that a `file:` address or an absolute path names; None for anything else."""
    parts = urlsplit(address or "")
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(str(address)) if str(address).startswith("/") else None


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
) -> None:
    """Log parameters, and metrics as (name, value, milliseconds since 1970, step)."""
    from mlflow.entities import Metric, Param

    client.log_batch(run_id, params=[Param(*entry) for entry in params])
    for start in range(0, len(metrics), METRICS_AT_ONCE):
        some = [Metric(*entry) for entry in metrics[start : start + METRICS_AT_ONCE]]
        client.log_batch(run_id, metrics=some)


def attach_files(client: Any, run_id: str, files: list[tuple[Path, str]]) -> None:
    """Attach (file, folder in the run) to a run.

    MLflow's client writes below a file:// root by itself. But where it speaks with a server, that
    root is a folder of the server's machine (a run made there without the server has made the
    experiment): then the files go through the server, as they do where it has chosen the root.

    Raises:
        CustomGazeError: the server keeps its files somewhere else.
    """
    uri = client.tracking_uri
    run = client.get_run(run_id)
    target = run.info.artifact_uri
    if not (uri.startswith("http") and target.startswith("file:")):
        for path, folder in files:
            client.log_artifact(run_id, str(path), folder)
        return
    # MLflow's public functions write where the run says, here on this machine.
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

    reply = http_request(
        get_default_host_creds(uri),
        "/api/2.0/mlflow/artifacts/list",
        "GET",
        params={"run_id": run_id, "path": file.rpartition("/")[0]},
    )
    return file in [entry["path"] for entry in reply.json().get("files", [])]
