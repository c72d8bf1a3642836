"""`custom-gaze mlflow`: a port that is taken, and an end that leaves no process."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import Project
from custom_gaze.cli import main
from custom_gaze.evaluation.tracking import server

# What `python -m mlflow` starts instead of MLflow, which takes seconds: a page and a worker.
STAND_IN = """
import http.server, os, subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200), self.end_headers(), self.wfile.write(b"OK")
    def log_message(self, *_):
        pass
port = int(sys.argv[sys.argv.index("--port") + 1])
assert sys.argv[sys.argv.index("--host") + 1] == "127.0.0.1"
print(os.getpid(), worker.pid, flush=True)
http.server.HTTPServer(("127.0.0.1", port), Page).serve_forever()
"""
COMMAND = """
import sys
from custom_gaze.evaluation.tracking import server
server.open_store = lambda: None
server.serve(int(sys.argv[1]))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_page_ends_with_its_command_and_its_workers_too(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "mlflow.py").write_text(STAND_IN)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(free_port())],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "DVC_ROOT": str(tmp_path)},
    )
    assert command.stdout is not None
    processes = [int(word) for word in command.stdout.readline().split()]
    assert len(processes) == 2
    assert command.stdout.readline().startswith("MLflow: http://127.0.0.1:")
    command.send_signal(number)
    command.wait(timeout=60)
    deadline = time.monotonic() + 60
    while left := [pid for pid in processes if _runs(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # one that has ended waits for its parent to look
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_taken_port_is_said_before_anything_starts(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never() -> None:
        raise AssertionError("opened a store for a page that cannot be")

    monkeypatch.setattr(server, "open_store", never)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["mlflow", "--port", port]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"custom-gaze: 127.0.0.1:{port} cannot be used (Address already")
    assert said.err.endswith("; name another port: custom-gaze mlflow --port N\n")
    assert main(["mlflow", "--port", "70000"]) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["mlflow"]) == 2
    assert "names a server" in capsys.readouterr().err
