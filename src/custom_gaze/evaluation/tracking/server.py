"""MLflow's page over the project's own store, for as long as the command runs."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.evaluation.tracking.store import (
    artifact_root,
    open_store,
    quiet,
    sqlite_file,
    tracking_uri,
)

HOST = "127.0.0.1"
STARTS_S = 180.0  # MLflow takes seconds to load, on a busy machine a minute
ENDS_S = 5.0
# The server ends with the command that started it, however that ended: then its input is closed.
_WATCH = """
import os, signal, subprocess, sys, threading
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def end():
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGTERM)
threading.Thread(target=end, daemon=True).start()
sys.exit(server.wait())
"""


def serve(port: int) -> None:
    """Run MLflow's page on the loopback until this command ends, and end with all its processes.

    Raises:
        InputError: MLFLOW_TRACKING_URI names a server, which has a page of its own.
        CustomGazeError: the port is taken, the store cannot be opened, or the page ended by itself.
    """
    uri = tracking_uri()
    if sqlite_file(uri) is None:
        raise InputError(
            "MLFLOW_TRACKING_URI names a server: open its own page, or unset MLFLOW_TRACKING_URI "
            "to see the runs that were recorded here"
        )
    _check_free(port)
    with quiet():
        open_store()
    root = artifact_root(uri)
    assert root is not None
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", uri, "--artifacts-destination", root]
    # Without jobs there are eight processes less, that nobody uses.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", _WATCH, *command],
        env=environment,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _wait_until_it_answers(process, port)
        print(f"MLflow: http://{HOST}:{port} (Ctrl-C ends it)", flush=True)
        code = process.wait()
    finally:
        _end(process)
    raise CustomGazeError(f"MLflow's page at http://{HOST}:{port} stopped with code {code}")


def _check_free(port: int) -> None:
    with socket.socket() as trial:
        # As the server will: a port that a page of a minute ago used is free.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or "no port"
            raise CustomGazeError(
                f"{HOST}:{port} cannot be used ({reason}); name another port: "
                "custom-gaze mlflow --port N"
            ) from None


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", port: int) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + STARTS_S
    while process.poll() is None and time.monotonic() < deadline:
        with (
            suppress(OSError),
            opener.open(f"http://{HOST}:{port}/health", timeout=2) as reply,
        ):
            if reply.read(16) == b"OK":
                return
        time.sleep(0.2)
    if process.poll() is None:
        raise CustomGazeError(f"MLflow did not answer within {STARTS_S:g} seconds")
    raise CustomGazeError(f"MLflow's page could not start (code {process.returncode})")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the server and the processes that it started, which are a group of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + ENDS_S
        while time.monotonic() < deadline and _lives(process):
            time.sleep(0.05)


def _lives(process: "subprocess.Popen[bytes]") -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
