"""MLflow's server on the far machine, one for all who look at it, seen through a tunnel."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.replies import Done, Served
from custom_gaze.remote.settings import Settings
from custom_gaze.remote.ssh import OPTIONS, VERIFY, explain

# A tunnel ends with the command that opened it, however that ended: then its input is closed.
_WATCH = """
import subprocess, sys, threading
ssh = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def end():
    sys.stdin.buffer.read()
    ssh.terminate()
threading.Thread(target=end, daemon=True).start()
sys.exit(ssh.wait())
"""
_SERVER_S = 180.0  # MLflow takes seconds to load, on a busy machine a minute; then its database
_RUNNING_S = 10.0  # of a server that somebody else runs


def serve(settings: Settings, port: int) -> None:
    """Lead to the far machine's server, which runs at least as long as this command.

    Where remote.yaml names the server of several people, to that one; none is started then.

    Raises:
        CustomGazeError: the port is taken here, or the server or the tunnel ended.
    """
    with Connection(settings.host) as connection:
        far, patience_s = settings.engine.mlflow.removeprefix("http://"), _RUNNING_S
        if not far:
            far = f"127.0.0.1:{connection.ask('serve', Served, **settings.place).port}"
            patience_s = _SERVER_S
            connection.send({"do": "watch", **settings.place})
        with _tunnel(settings.host, port, far) as tunnel:
            _wait_for_answer(connection, tunnel, settings.host, port, patience_s)
            print(
                f"MLflow of {settings.host}: http://127.0.0.1:{port} (Ctrl-C ends it)\n"
                f"runs made here go there too with: export "
                f"MLFLOW_TRACKING_URI=http://127.0.0.1:{port}",
                flush=True,
            )
            while tunnel.poll() is None:
                if connection.waiting():
                    connection.receive(Done)
                time.sleep(0.5)
            raise _tunnel_ended(settings.host, tunnel)


@contextlib.contextmanager
def _tunnel(host: str, port: int, far: str) -> Iterator["subprocess.Popen[str]"]:
    forward = f"127.0.0.1:{port}:{far}"
    strict = ["-o", "ExitOnForwardFailure=yes"]
    command = ["ssh", *OPTIONS, *VERIFY, *strict, "-N", "-L", forward, host]
    tunnel = subprocess.Popen(
        [sys.executable, "-I", "-c", _WATCH, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="surrogateescape",
        start_new_session=True,
    )
    try:
        yield tunnel
    finally:
        assert tunnel.stdin is not None
        tunnel.stdin.close()
        tunnel.wait()


def _wait_for_answer(
    connection: Connection, tunnel: "subprocess.Popen[str]", host: str, port: int, patience_s: float
) -> None:
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    health, deadline = f"http://127.0.0.1:{port}/health", time.monotonic() + patience_s
    while True:
        if tunnel.poll() is not None:
            raise _tunnel_ended(host, tunnel)
        if connection.waiting():
            connection.receive(Done)
        with contextlib.suppress(OSError), opener.open(health, timeout=2) as answer:
            if answer.read() == b"OK":
                return
        if time.monotonic() > deadline:
            raise CustomGazeError(f"{host}: MLflow did not answer within {patience_s:g} seconds")
        time.sleep(0.2)


def _tunnel_ended(host: str, tunnel: "subprocess.Popen[str]") -> CustomGazeError:
    assert tunnel.stderr is not None
    lines = tunnel.stderr.read().splitlines()
    if any("Address already in use" in line or "cannot listen" in line for line in lines):
        return CustomGazeError("the port is taken on this machine; choose another with --port")
    return explain(host, lines, tunnel.returncode, had_answered=False)
