"""One MLflow server on the far machine, however many look at it."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from custom_gaze.remote import mlflow_server
from remote_site import TINY_SERVER, Site, finish, kill, read_until
from sshd import NO_SSHD, SSHD, command_of, free_port, wait_until

pytest_plugins = ["remote_fixtures"]
pytestmark = pytest.mark.skipif(SSHD is None, reason=NO_SSHD)


def servers(site: Site) -> list[int]:
    commands = {pid: command_of(pid) for pid in site.machine.processes()}
    return [pid for pid, command in commands.items() if "tiny_server.py" in command.split("-m")[0]]


def answers(port: int) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.read() == b"OK")
    except (OSError, urllib.error.URLError):
        return False


def test_two_look_at_one_server_which_ends_with_the_last(site: Site) -> None:
    """The first leaves as if its power were cut; the second still looks."""
    ports = [free_port(), free_port()]
    pages = [site.start("mlflow", "--port", str(port)) for port in ports]
    for page in pages:
        read_until(page, "MLFLOW_TRACKING_URI")
    assert all(answers(port) for port in ports)
    (server,) = servers(site)

    kill(pages[0])
    finish(pages[0])
    wait_until(lambda: not answers(ports[0]), "its tunnel ends")
    assert answers(ports[1])
    assert servers(site) == [server]

    kill(pages[1], signal.SIGINT)
    assert finish(pages[1])[0] == 130
    site.wait_for_quiet()  # nothing stays there

    page = site.start("mlflow", "--port", str(ports[0]))  # and again, and its server is killed
    read_until(page, "MLFLOW_TRACKING_URI")
    (other,) = servers(site)
    os.kill(other, signal.SIGKILL)
    code, _, errors = finish(page)
    assert (code, "MLflow stopped there" in errors) == (1, True)


def test_the_server_of_several_people_is_led_to_and_none_is_started(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = [free_port(), free_port()]
    (site.project / "remote.yaml").write_text(f"mlflow: http://localhost:{ports[0]}\n")
    command = [sys.executable, "-c", TINY_SERVER, "--port", str(ports[0])]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as others:
        try:
            page = site.start("mlflow", "--port", str(ports[1]))
            assert f"http://127.0.0.1:{ports[1]}" in read_until(page, "MLFLOW_TRACKING_URI")
            assert answers(ports[1])
            assert not servers(site)
            kill(page, signal.SIGINT)
            assert finish(page)[0] == 130
        finally:
            others.kill()
    monkeypatch.setattr(mlflow_server, "_RUNNING_S", 1.0)
    done = site.run("mlflow", "--port", str(ports[1]))
    assert done.returncode == 1
    assert done.stderr.endswith("jowestdgxe: MLflow did not answer within 1 seconds\n")
    assert len(done.stderr.splitlines()) == 1
