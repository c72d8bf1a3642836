"""Messages, what ssh says and what is shown, without another machine."""

import base64
import json
import os
import time
from pathlib import Path

import pytest

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.remote import agent_setup, display
from custom_gaze.remote.agent import START
from custom_gaze.remote.agent_runs import CHUNK
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.programs import UnknownHostKey, Unreachable, check_host, explain
from custom_gaze.remote.replies import NotAsked, understood
from custom_gaze.remote.settings import Settings

NO_REPLIES = {
    "greeting": b"Welcome to Ubuntu\n",
    "list": b"[1]\n",
    "deep": b"[" * 200_000 + b"\n",
    "digits": b'{"free": ' + b"9" * 5000 + b"}\n",
    "nan": b'{"now": NaN}\n',
    "infinity": b'{"now": -Infinity}\n',
}


@pytest.mark.parametrize("line", NO_REPLIES.values(), ids=NO_REPLIES)
def test_what_is_no_reply_is_refused(line: bytes) -> None:
    with pytest.raises(CustomGazeError, match="far: ") as caught:
        understood("far", line)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 300


def test_a_piece_of_a_log_comes_as_it_was_written() -> None:
    content = bytes(range(256)) + "50%|█\r".encode()[:-2]  # cut within a character
    said = {"text": base64.urlsafe_b64encode(content).decode()}
    assert understood("far", json.dumps(said).encode()).text == content
    for wrong in (7, "€", "x"):
        with pytest.raises(NotAsked, match="text"):
            understood("far", json.dumps({"text": wrong}).encode())


def test_a_shell_that_greets_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real program at the other end of a pipe, behind what ~/.bashrc prints."""
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\necho "Welcome \033[1mhome"\nfor c; do :; done; exec sh -c "$c"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    with Connection(Settings("far")) as connection:
        about = connection.ask(agent_setup.hello, folder="x")
        assert about.dir == str(tmp_path / "x")
        assert connection.greeting == "Welcome \\x1b[1mhome"
    for answer, said in (
        ("echo This account has expired.", "far: This account has expired."),
        ("exec yes", "far: what it sent is not understood: a greeting of more than 64 kB"),
        (f"echo '{START}'; exec yes", "far: what it sent is not understood: y"),
        (f"echo '{START}'; printf '{{\"x\"'", "far: the connection was cut"),
        (f"echo '{START}'; exec cat /dev/zero", "far: what it sent is not understood: \\x00"),
    ):
        ssh.write_text(f"#!/bin/sh\n{answer}\n")
        with pytest.raises(CustomGazeError) as caught, Connection(Settings("far")) as connection:
            connection.ask(agent_setup.hello, folder="x")
        assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("said", "kind", "meaning"),
    [
        ("@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@", Unreachable, "not the one"),
        ("Host key verification failed.", UnknownHostKey, "custom-gaze remote setup --host far"),
        (
            "Host key verification failed.\nConnection closed by UNKNOWN port 65535",
            Unreachable,
            "the jump host on the way to far (ProxyJump in ~/.ssh/config) is not known here",
        ),
        ("ssh: Could not resolve hostname far: unknown", Unreachable, "no such machine"),
        ("ssh: connect to host far port 22: Connection refused", Unreachable, "refuses"),
        ("ssh: connect to host far port 22: Connection timed out", Unreachable, "no answer"),
        ("me@far: Permission denied (publickey).", Unreachable, "does not let us in"),
        ("Idle logins are timed out.\nme@far: Permission denied.", Unreachable, "not let us in"),
        ("sh: 1: python3: not found", Unreachable, "python3 is missing"),
        ("something new", Unreachable, "something new"),
    ],
)
def test_what_ssh_says_in_one_line(said: str, kind: type, meaning: str) -> None:
    error = explain("far", said.split("\n"), 255)
    assert type(error) is kind
    assert str(error).startswith("far: ")
    assert meaning in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    "host",
    ["", "-oProxyCommand=touch x", "a b", "a\nb", "a/b", "a'b", "$(x)", "ü", "a..b", "a.lock", "A"],
)
def test_what_ssh_would_take_for_something_else_is_no_host(host: str) -> None:
    with pytest.raises(InputError, match="--host"):
        check_host(host)


def test_progress_is_read_from_the_end_of_a_log() -> None:
    log = (
        "Running stage 'prepare@one':\n> custom-gaze prepare one\nRunning stage 'train':\n"
        "training:   0%|          | 0/50 [00:00<?, ? epochs/s]\r"
        "training:  14%|█▍        | 7/50 [00:35<03:35,  5.0s/ epochs, loss 9.10, validation 4.20°]"
    ).encode()
    assert display.progress(log) == "stage train, epoch 7 of 50, loss 9.10, validation 4.20°"
    assert display.progress(log.split(b"Running stage 'train'")[0]) == "stage prepare@one"
    assert display.progress(b"") == ""


def test_a_log_is_shown_without_control_characters_and_nothing_twice() -> None:
    shown: list[str] = []
    screen = display.Screen(shown.append)
    for chunk in (b"one\rtw", b"o\n\x1b[31mred\x1b[0m\x07\n", b"half \xc3", b"\xa9\n\n", b"end"):
        screen.write(chunk)
    screen.end()
    assert shown == ["one", "two", "red\\x07", "half é", "end"]


def test_a_log_that_never_ends_a_line_fills_no_memory_and_no_time() -> None:
    shown: list[str] = []
    screen = display.Screen(shown.append)
    for _ in range(40):
        screen.write(b"x" * CHUNK)
    assert len(screen._rest) <= 2 * CHUNK
    assert {len(line) for line in shown} == {1000}
    started = time.process_time()
    for tail in (b"1/2 [" * 13_000, b"[" * CHUNK, b"Running stage '" * 4000):
        display.progress(b"Running stage 'train'" + tail)
    assert time.process_time() - started < 2.0


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("NVIDIA GB10, [N/A], [N/A], 37", "NVIDIA GB10, shared memory, 37 % load"),
        ("NVIDIA H100, 812, 81559, 96", "NVIDIA H100, 812 of 81559 MiB, 96 % load"),
        ("odd", "odd, shared memory, ? % load"),
    ],
)
def test_a_graphics_card_in_one_line(entry: str, line: str) -> None:
    assert display.gpu_line(entry) == line


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (94_000_000, "94.0 MB")]
)
def test_bytes_in_words(count: int, text: str) -> None:
    assert display.in_bytes(count) == text
