"""The agent: MLflow's server, one for all who look at it; it ends with the last of them.

Three files say so. `mlflow.users`: whoever looks holds a shared lock of it. `mlflow.lock`: held as
long as the server runs. `mlflow.port`: where it listens; who holds its lock may start one.
"""

import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from custom_gaze.remote.agent import Header, Link, Refused, project_of
from custom_gaze.remote.engine import python_of

# Looks after the server: no connection does, for another may still be looking.
_KEEPER = """
import fcntl, os, signal, subprocess, sys, time
users, lock, log = (int(word) for word in sys.argv[1:4])
server = subprocess.Popen(sys.argv[4:], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
while server.poll() is None:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(0.5)
        continue
    server.terminate()
    try:
        server.wait(5)
    except subprocess.TimeoutExpired:
        pass
    break
os.killpg(0, signal.SIGKILL)
"""


def serve(link: Link, header: Header) -> Header:
    """The port of the server on the loopback, which is started where none runs yet.

    It runs for as long as this connection lasts, or another one that has asked for it.
    """
    users = _opened(header, "users")
    fcntl.flock(users, fcntl.LOCK_SH)  # while one ends, this waits; then it is ours until we go
    with os.fdopen(_opened(header, "port"), "r+") as known:
        fcntl.flock(known, fcntl.LOCK_EX)
        lock = _opened(header, "lock")
        if _is_free(lock):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            known.truncate()
            known.write(str(port))
            _start(header, lock, port)
        else:
            port = int(known.read())
        os.close(lock)
    return {"port": port}


def watch(link: Link, header: Header) -> Header:
    """Wait until the server has ended.

    Raises:
        Refused: it has, with the last that it said.
    """
    while _runs(header):
        time.sleep(0.5)
    said = Path(header["dir"], "mlflow.log").read_text(encoding="utf-8", errors="replace")
    lines = said.strip().splitlines() or ["no word of it"]
    raise Refused(f"MLflow stopped there: {lines[-1]}")


def _opened(header: Header, what: str) -> int:
    return os.open(os.path.join(header["dir"], f"mlflow.{what}"), os.O_CREAT | os.O_RDWR, 0o600)


def _is_free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _runs(header: Header) -> bool:
    known, lock = _opened(header, "port"), _opened(header, "lock")
    fcntl.flock(known, fcntl.LOCK_EX)  # so that nobody takes this look for a server
    free = _is_free(lock)
    for file in (lock, known):
        os.close(file)
    return not free


def _start(header: Header, lock: int, port: int) -> None:
    """Start a server and what looks after it, which takes the lock over."""
    project = project_of(header)
    command = [python_of(header["dir"]), "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{project}/mlflow.db"]
    command += ["--artifacts-destination", Path(project, "mlartifacts").as_uri()]
    how = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # With MLflow's own 15 two thirds of 50 runs that end at once are lost (docs/scaling.md).
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "60",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes that nobody uses
    }
    users = _opened(header, "users")  # opened again: our own lock must not be its lock
    log = _opened(header, "log")
    os.truncate(log, 0)
    kept = (users, lock, log)
    subprocess.Popen(
        [sys.executable, "-I", "-c", _KEEPER, *map(str, kept), *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=kept,
        cwd=project,
        env={**os.environ, **how},
        start_new_session=True,
    )
    os.close(users)
    os.close(log)
