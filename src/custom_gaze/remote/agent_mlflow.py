"""The agent: MLflow's server."""

import os
import socket
import subprocess
from pathlib import Path

from custom_gaze.remote.agent import Header, Link, Refused, project_of
from custom_gaze.remote.engine import python_of


def serve(link: Link, header: Header) -> Header:
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


def free_port(link: Link, header: Header) -> Header:
    """A port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return {"port": probe.getsockname()[1]}
