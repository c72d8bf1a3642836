"""The agent: MLflow's server, and what it has recorded."""

import contextlib
import glob
import hashlib
import os
import shutil
import socket
import sqlite3
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from custom_gaze.remote.agent import Link, Refused, project_of
from custom_gaze.remote.agent_launch import python_of
from custom_gaze.remote.agent_store import PROTECTED, is_whole, object_path
from custom_gaze.remote.frames import Header


def serve(link: Link, header: Header) -> None:
    """Run MLflow's server on the loopback for as long as this connection lasts."""
    project = project_of(header)
    command = [python_of(header["dir"]), "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(header["port"]), "--workers", "1"]  # one user
    command += ["--backend-store-uri", f"sqlite:///{project}/mlflow.db"]
    command += ["--artifacts-destination", Path(project, "mlartifacts").as_uri()]
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes that nobody uses
    }
    process = link.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=project,
        env={**os.environ, **quiet},
    )
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        last = line.decode(errors="replace").strip() or last
    raise Refused(f"MLflow stopped there with code {process.wait()}: {last}")


def free_port(link: Link, header: Header) -> None:
    """A port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        link.send({"port": probe.getsockname()[1]})


def tracked(link: Link, header: Header) -> None:
    """The MLflow runs of an experiment: parameters, figures, and files with their MD5.

    Read from the database itself, since MLflow takes seconds to load; these four tables have been
    the same in every version that has an SQLite store.
    """
    path = os.path.join(project_of(header), "mlflow.db")
    if not os.path.exists(path):
        link.send({"runs": []})
        return
    address = f"{Path(path).as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=10)) as connection:
        try:
            runs = [_tracked_run(connection, row) for row in _runs_of(connection, header["name"])]
        except sqlite3.Error as error:
            raise Refused(f"{path}: cannot be read ({error})") from None
    link.send({"runs": runs})


def _runs_of(connection: sqlite3.Connection, name: str) -> list[Any]:
    return connection.execute(
        "SELECT r.run_uuid, r.name, r.status, r.start_time, r.end_time, r.artifact_uri, e.name "
        "FROM runs r JOIN experiments e USING (experiment_id) "
        "JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'dvc_experiment' "
        "WHERE t.value = ? AND r.lifecycle_stage = 'active' ORDER BY r.start_time",
        (name,),
    ).fetchall()


def _tracked_run(connection: sqlite3.Connection, row: Any) -> Header:
    run_id, name, status, start_ms, end_ms, artifacts, experiment = row

    def all_of(columns: str, table: str) -> list[Any]:
        query = f"SELECT {columns} FROM {table} WHERE run_uuid = ?"
        return connection.execute(query, (run_id,)).fetchall()

    return {
        "id": run_id,
        "name": name,
        "status": status,
        "start_ms": start_ms,
        "end_ms": end_ms,
        "experiment": experiment,
        "params": all_of("key, value", "params"),
        "tags": all_of("key, value", "tags"),
        "metrics": all_of("key, value, timestamp, step", "metrics"),
        "files": [*_files(_path(artifacts)), *_model_files(connection, run_id)],
    }


def _path(address: str) -> str:
    return url2pathname(urlsplit(address).path)


def _model_files(connection: sqlite3.Connection, run_id: str) -> list[list[str]]:
    """Those of the models that a run has logged, as if they were in its folder model/."""
    try:
        found = connection.execute(
            "SELECT artifact_location FROM logged_models WHERE source_run_id = ?", (run_id,)
        ).fetchall()
    except sqlite3.OperationalError:  # an MLflow before 3: there the run has the model itself
        return []
    files = [entry for (location,) in found for entry in _files(_path(location))]
    return [[f"model/{name}", path, digest] for name, path, digest in files]


def _files(folder: str) -> list[list[str]]:
    """[path in the folder, absolute path, MD5] of each file."""
    found = []
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "**"), recursive=True)):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                digest = hashlib.md5(file.read()).hexdigest()
            found.append([os.path.relpath(path, folder), path, digest])
    return found


def offer(link: Link, header: Header) -> None:
    """Put files into the store, so that they can be fetched as objects.

    They are linked, not copied: a run's model, which the store has anyway, is kept once.

    Raises:
        Refused: a path lies outside MLflow's folder.
    """
    root = os.path.realpath(os.path.join(project_of(header), "mlartifacts"))
    for path, name in header["files"]:
        if not os.path.realpath(path).startswith(root + os.sep):
            raise Refused(f"{path} is no file of MLflow's")
        store = os.path.join(header["dir"], "store")
        final = object_path(store, name)
        if not is_whole(store, name):
            os.makedirs(os.path.dirname(final), exist_ok=True)
            shutil.copyfile(path, final + ".part")
            os.chmod(final + ".part", PROTECTED)
            os.replace(final + ".part", final)
        if os.path.samefile(path, final):
            continue
        with contextlib.suppress(OSError):  # a file system without hard links keeps both
            os.link(final, path + ".part")
            os.replace(path + ".part", path)
    link.send({"offered": 1})
