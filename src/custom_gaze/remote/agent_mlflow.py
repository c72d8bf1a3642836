"""The agent: MLflow's server, one for all who look at it; it ends with the last of them.

Whoever looks holds a shared lock of the file `mlflow.users`. `mlflow.port` says where the server
listens, and is locked as long as it runs.
"""

import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from custom_gaze.remote.agent import Place, Refused, Replies
from custom_gaze.remote.agent_runs import python_of
from custom_gaze.remote.engine import is_held

# Looks after the server: no connection does, for another may still be looking.
_KEEPER = """
import fcntl, os, signal, subprocess, sys, threading, time
server = subprocess.Popen(sys.argv[2:])
def end_with_the_last():
    fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX)
    server.terminate()
    time.sleep(5)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end_with_the_last, daemon=True).start()
server.wait()
os.killpg(0, signal.SIGKILL)
"""


def serve(place: Place) -> Replies:
    """The port of the server on the loopback, which is started where none runs yet.

    It runs for as long as this connection lasts, or another one that has asked for it.
    """
    users = os.open(place.path("mlflow.users"), os.O_CREAT | os.O_RDWR)
    fcntl.flock(users, fcntl.LOCK_SH)  # while one ends, this waits; then it is ours until we go
    path = place.path("mlflow.port")
    with open(path, "a+", encoding="ascii") as known, open(place.path("lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # nobody else starts one meanwhile
        if not is_held(path):
            fcntl.flock(known, fcntl.LOCK_EX)
            known.truncate(0)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = str(probe.getsockname()[1])
            _start(place, known.fileno(), port)
            known.write(port)
        known.seek(0)
        yield {"port": int(known.read())}
    while is_held(path):
        time.sleep(0.5)
    said = Path(place.path("mlflow.log")).read_text(encoding="utf-8", errors="replace")
    *_, last = ["no word of it", *said.strip().splitlines()]
    raise Refused(f"MLflow stopped there: {last}")


def _start(place: Place, lock: int, port: str) -> None:
    """Start a server and what looks after it, which holds the lock with us."""
    command = [python_of(place), "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", port, "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{place.project}/mlflow.db"]
    command += ["--artifacts-destination", Path(place.project, "mlartifacts").as_uri()]
    how = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # With MLflow's own 15 two thirds of 50 runs that end at once are lost (docs/scaling.md).
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "60",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes that nobody uses
    }
    with open(place.path("mlflow.log"), "wb") as log:
        subprocess.Popen(
            [sys.executable, "-I", "-c", _KEEPER, place.path("mlflow.users"), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            cwd=place.project,
            env={**os.environ, **how},
            start_new_session=True,
        )
