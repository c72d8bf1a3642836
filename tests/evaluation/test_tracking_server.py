"""`custom-gaze mlflow`: one process, the page as it is meant to be seen, and a clean end."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from conftest import REPOSITORY, Project
from custom_gaze.cli import main
from custom_gaze.evaluation.tracking import record, server, store
from custom_gaze.evaluation.tracking.record import Record

CHROMIUM = shutil.which("chromium")
MOST_MB = 700  # measured: 260


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def page(port: int) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The command with its page's address, which answers."""
    command = [sys.executable, "-m", "custom_gaze", "mlflow", "--port", str(port)]
    path = os.pathsep.join([str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith(f"MLflow: http://127.0.0.1:{port}/#/experiments/"), said
        assert said.endswith(" (Ctrl-C ends it)\n")
        yield process, said.split()[1]
    finally:
        process.kill()
        process.communicate()


def record_two() -> None:
    client = store.open_store()
    names = {"error_deg": 3.25, "error_px": 105.5, "frames": 10.0, "test/p95_deg": 77.0}
    for number, name in enumerate(("monday", "monday+tuesday")):
        metrics = [(key, value + number, 0) for key, value in names.items()]
        tags = {record.PROGRESS_TAG: record.EVALUATED}
        made = Record(f"{number:032x}", "custom-gaze", name, 1_700_000_000_000, {}, tags, metrics)
        record.deliver(client, made, [])


@pytest.mark.long
def test_the_page_is_one_process_that_shows_the_headline_and_ends_when_told(
    project: Project,
) -> None:
    record_two()
    port = free_port()
    with page(port) as (process, address):
        itself = psutil.Process(process.pid)
        assert itself.children(recursive=True) == []
        assert itself.memory_info().rss < MOST_MB * 1e6
        shown = _seen(address)
        for words in ("monday+tuesday", "error_deg", "error_px", "frames", "4.25"):
            assert words in shown
        assert "p95_deg" not in shown
        assert "viewing a shared view" in shown  # the columns were found
        assert itself.children(recursive=True) == []  # nor after requests
        foreign = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1",
            headers={"Host": "elsewhere.example"},
        )
        with pytest.raises(urllib.error.HTTPError, match="403"):  # a page that rebinds its name
            urllib.request.urlopen(foreign, timeout=60)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


def _seen(address: str) -> str:
    """The page's words in a real browser, which asks nobody else."""
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        pytest.skip("no chromium here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1900, "height": 900})
        asked: set[str] = set()
        opened.on("request", lambda request: asked.add(request.url.split("/")[2]))
        opened.goto(address)
        opened.get_by_text("matching runs").wait_for(timeout=120_000)
        deadline = time.monotonic() + 60
        while "4.25" not in (text := str(opened.inner_text("body"))):
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
        browser.close()
    assert {host for host in asked if not host.startswith("127.0.0.1:")} == set()
    return text


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
