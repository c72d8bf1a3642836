"""MLflow's runs through a real server on loopback, as `custom-gaze remote mlflow` starts one."""

import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import mlflow
import pytest

from conftest import Project
from custom_gaze.stages import evaluate

Serve = Callable[[Path], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server over a folder's mlflow.db and mlartifacts; return its address."""
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", (folder / "mlartifacts").as_uri()]
        quiet = subprocess.DEVNULL
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        started.append(subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment))
        address = f"http://127.0.0.1:{port}"
        wait_for(address, started[-1])
        return address

    yield start
    for process in started:
        process.terminate()
        process.wait()


def wait_for(address: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 180  # for a machine that is busy with other things
    while True:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=10) as answer:
                assert answer.read() == b"OK"
                return
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_a_run_reaches_a_server_whatever_made_the_experiment_or_says_why_not(
    evaluated: Project, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made by the server, or on the server's machine without it: then its root is a file:// one."""
    there = tmp_path / "there"
    there.mkdir()
    with monkeypatch.context() as far:  # a run on the server's machine, without a server
        far.setenv("DVC_ROOT", str(there))
        evaluate.run(evaluated.params, evaluated.paths)
    address = serve(there)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)

    def on_this_machine(*_: object) -> None:
        raise AssertionError("written here, below a root of another machine")

    with monkeypatch.context() as near:
        near.setattr(
            "mlflow.store.artifact.local_artifact_repo.LocalArtifactRepository.log_artifact",
            on_this_machine,
        )
        said = [evaluate.run(evaluated.params, evaluated.paths).tracked]
        evaluated.change(tracking={"experiment": "made-by-the-server"})
        said.append(evaluate.run(evaluated.params, evaluated.paths).tracked)
    for line in said:
        assert line.startswith("MLflow run ")
        assert line.endswith(f" in {address}")
    assert not (evaluated.paths.root / "mlflow.db").exists()

    client = mlflow.MlflowClient(address)
    for name, count in (("custom-gaze", 2), ("made-by-the-server", 1)):
        experiment = client.get_experiment_by_name(name)
        runs = client.search_runs([experiment.experiment_id], order_by=["start_time"])
        assert len(runs) == count
        assert runs[-1].info.status == "FINISHED"
        assert runs[-1].info.run_id in "".join(said)
        mine = f"source_run_id = '{runs[-1].info.run_id}'"
        [model] = client.search_logged_models([experiment.experiment_id], mine)
        [sent] = there.rglob(f"models/{model.model_id}/artifacts/model.onnx")
        assert sent.read_bytes() == evaluated.paths.model.read_bytes()

    # A server that keeps its files where it cannot reach them.
    with closing(sqlite3.connect(there / "mlflow.db")) as database:
        where = "file:///srv/elsewhere"
        database.execute("UPDATE experiments SET artifact_location = ?", (where,))
        database.commit()
    evaluated.change(tracking={"experiment": "custom-gaze"})
    lost = evaluate.run(evaluated.params, evaluated.paths).tracked
    assert "did not record this run (its server does not reach file:///srv/elsewhere" in lost
    assert "name another tracking.experiment" in lost
    assert not Path("/srv/elsewhere").exists()
