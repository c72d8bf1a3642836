"""Messages, what ssh says and what is shown, without another machine."""

import io
import os
import time
from pathlib import Path

import pytest

from custom_gaze.common.errors import InputError
from custom_gaze.remote import (
    display,
)
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.frames import (
    PAYLOAD,
    START,
    BrokenFrame,
    CutFrame,
    read_frame,
    skip_greeting,
    write_frame,
)
from custom_gaze.remote.replies import Hello
from custom_gaze.remote.ssh import Lost, UnknownHostKey, Unreachable, check_host, explain


def test_a_message_comes_back_as_it_was_sent() -> None:
    pipe = io.BytesIO()
    payload = bytes(range(256)) * 4 + b"\n{}\n"
    length = write_frame(pipe, {"do": "put", "name": "ü"}, payload)
    write_frame(pipe, {"beat": 1})
    assert length == len(pipe.getvalue()) - len(b'{"beat": 1, "bytes": 0}\n')
    pipe.seek(0)
    assert read_frame(pipe) == ({"do": "put", "name": "ü", "bytes": len(payload)}, payload, length)
    second = read_frame(pipe)
    assert second is not None
    assert second[0] == {"beat": 1, "bytes": 0}
    assert read_frame(pipe) is None


NO_MESSAGES = {
    "greeting": b"Welcome to Ubuntu\n",
    "list": b"[1]\n",
    "negative": b'{"bytes": -1}\n',
    "text": b'{"bytes": "2"}\nab',
    "truth": b'{"bytes": true}\na',
    "nothing": b"{}\n",
    "deep": b"[" * 200_000 + b"\n",
    "digits": b'{"bytes": 0, "port": ' + b"9" * 5000 + b"}\n",
    "nan": b'{"bytes": 0, "now": NaN}\n',
    "infinity": b'{"bytes": 0, "now": -Infinity}\n',
    "endless": b'{"bytes": 0, "x": "' + b"x" * (1 << 24),
    "gigabytes": b'{"bytes": 5000000000}\n',
}


@pytest.mark.parametrize("content", NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_what_is_no_message_is_refused(content: bytes) -> None:
    stream = io.BytesIO(content)
    with pytest.raises(BrokenFrame) as caught:
        read_frame(stream)
    assert len(str(caught.value)) <= 200
    assert stream.tell() <= 1 << 23  # no more is read into the memory


def test_a_greeting_before_the_messages_is_skipped() -> None:
    said = b"Welcome to Ubuntu\n\nno end of line"
    stream = io.BytesIO(said + b"\n" + START + b'{"bytes": 0}\n')
    assert skip_greeting(stream) == said
    assert read_frame(stream) == ({"bytes": 0}, b"", 13)
    assert skip_greeting(io.BytesIO(b"This account has expired.\n")) == b"This account has expired."
    with pytest.raises(BrokenFrame, match="a greeting of more than 64 kB"):
        skip_greeting(io.BytesIO(b"x" * 100_000))


def test_a_shell_that_greets_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real program at the other end of a pipe, behind what ~/.bashrc prints."""
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\necho "Welcome \033[1mhome"\nfor c; do :; done; exec sh -c "$c"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    with Connection("far") as connection:
        about = connection.ask("hello", Hello, folder="x")
        assert about.dir == str(tmp_path / "x")
        assert connection.greeting == "Welcome \\x1b[1mhome"
    ssh.write_text("#!/bin/sh\necho This account has expired.\n")
    with pytest.raises(Unreachable, match="far: This account has expired."), Connection("far"):
        pass


def test_a_message_cut_in_the_middle_and_one_too_long() -> None:
    for half in (b'{"bytes": 5}\nabc', b'{"byt'):
        with pytest.raises(CutFrame, match="ended within"):
            read_frame(io.BytesIO(half))
    with pytest.raises(BrokenFrame, match=str(PAYLOAD + 1)):
        read_frame(io.BytesIO(b'{"bytes": %d}\n' % (PAYLOAD + 1)))


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
    error = explain("far", said.split("\n"), 255, had_answered=False)
    assert type(error) is kind
    assert str(error).startswith("far: ")
    assert meaning in str(error)
    assert "\n" not in str(error)


def test_a_connection_that_ends_later_was_cut() -> None:
    error = explain("far", ["client_loop: send disconnect: Broken pipe"], 255, had_answered=True)
    assert type(error) is Lost


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
        screen.write(b"x" * PAYLOAD)
    assert len(screen._rest) <= 2 * PAYLOAD
    assert {len(line) for line in shown} == {1000}
    started = time.process_time()
    for tail in (b"1/2 [" * 13_000, b"[" * PAYLOAD, b"Running stage '" * 4000):
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
