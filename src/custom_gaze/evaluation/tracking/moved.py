"""A project that was moved or copied: MLflow keeps absolute addresses, and nothing to change them.

Paths are compared as the store has written them, so that nothing in it is believed: only folders
that came along, below mlartifacts/, are pointed at.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from custom_gaze.common.untrusted import lies_inside
from custom_gaze.config.paths import Paths

# Whose addresses are of files: runs, the models that they made, registered versions of these.
_FILES = (
    ("runs", "run_uuid", "artifact_uri"),
    ("logged_models", "model_id", "artifact_location"),
    ("model_versions", "rowid", "source"),
    ("model_versions", "rowid", "storage_location"),
)


def point_at_this_folder(database: Path) -> None:
    """Where a store names folders outside of the project, point it at those that came along.

    New runs then write into mlartifacts/ here, and runs, logged models and registered versions made
    before find their files. Of those that did not come along the address stays as it was.
    """
    root = Paths().mlflow_artifacts
    with closing(sqlite3.connect(database, timeout=20)) as opened, opened:
        left = []
        for number, location in opened.execute(
            "SELECT experiment_id, artifact_location FROM experiments"
        ).fetchall():
            folder = _local(location)
            if folder is None or lies_inside(Paths().main_root, folder):
                continue
            left.append(folder)
            opened.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                (root.as_uri(), number),
            )
        if left:
            for table, key, column in _FILES:
                rows = opened.execute(f"SELECT {key}, {column} FROM {table}").fetchall()
                for number, address in rows:
                    here = _came_along(address, left, root)
                    if here is not None:
                        opened.execute(
                            f"UPDATE {table} SET {column} = ? WHERE {key} = ?",
                            (here.as_uri(), number),
                        )


def _came_along(address: str | None, left: list[Path], root: Path) -> Path | None:
    """The folder below `root` that an address below a folder left behind now is; None: none is."""
    files = _local(address)
    for folder in left if files is not None else ():
        if files is not None and files.is_relative_to(folder):
            here = root / files.relative_to(folder)
            if lies_inside(root, here) and here.is_dir():
                return here
    return None


def _local(address: str | None) -> Path | None:
    """The folder that a `file:` address or an absolute path names; None for anything else."""
    parts = urlsplit(address or "")
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(str(address)) if str(address).startswith("/") else None
