"""Where MLflow's runs go: the project's own store, or the one that MLFLOW_TRACKING_URI names."""

import os
from pathlib import Path
from urllib.parse import quote, unquote

from custom_gaze.common.download import shown
from custom_gaze.common.untrusted import printable
from custom_gaze.config.paths import Paths


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
