"""The agent: our program on the far machine, for as long as one connection lasts.

It is sent as text and run by `python3 -I`: standard library only, Python 3.10 or newer. Each verb
is a function `verb(link, header)` that replies through the link; a refusal is one line.
"""

import errno
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from custom_gaze.remote.frames import START, BrokenFrame, Header, read_frame, write_frame

BEAT_S = 3.0  # each side says this often that it is there
SILENCE_S = 30.0  # after which the other side is taken for gone


class Refused(Exception):
    """What was asked for is not done; `code` is the exit code it means to the user."""

    def __init__(self, message: str, code: int = 1, **more: Any) -> None:
        super().__init__(message)
        self.code = code
        self.more = more


class Link:
    """The connection as the agent sees it."""

    def __init__(self) -> None:
        self.inbox: queue.Queue[tuple[Header, bytes] | None] = queue.Queue(maxsize=8)
        self.lock_file = -1  # held while this connection may start a run
        self._output = os.fdopen(os.dup(1), "wb")
        self._writing = threading.Lock()
        self._heard = time.monotonic()
        self._helper: subprocess.Popen[bytes] | None = None
        self._output.write(b"\n" + START)  # a greeting may have left its line open
        for target in (self._read, self._beat):
            threading.Thread(target=target, daemon=True).start()

    def send(self, header: Header, payload: bytes = b"") -> None:
        try:
            with self._writing:
                write_frame(self._output, header, payload)
        except OSError:
            self.leave()

    def receive(self) -> tuple[Header, bytes]:
        """The next message from the user's side."""
        message = self.inbox.get()
        if message is None:
            self.leave()
        return message

    def run(self, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a helper that ends with the connection, whatever it has started itself."""
        self._helper = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, **options
        )
        return self._helper

    def let_go(self) -> None:
        """In a child that outlives the connection: else ssh would wait for it to end."""
        os.close(self._output.fileno())

    def leave(self) -> NoReturn:
        """The other side is gone: end what was begun for it; the lock goes with the process."""
        if self._helper is not None and self._helper.poll() is None:
            os.killpg(self._helper.pid, signal.SIGKILL)
        os._exit(0)

    def _read(self) -> None:
        stream = os.fdopen(os.dup(0), "rb") if sys.stdin is None else sys.stdin.buffer
        while True:
            try:
                frame = read_frame(stream)
            except (BrokenFrame, OSError):
                frame = None
            if frame is None:
                self.leave()
            self._heard = time.monotonic()
            header, payload, _ = frame
            if "beat" not in header:
                self.inbox.put((header, payload))

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_S)
            if time.monotonic() - self._heard > SILENCE_S:
                self.leave()
            self.send({"beat": 1})


Verb = Callable[[Link, Header], None]


def answer(verbs: dict[str, Verb]) -> None:
    """Answer requests until the connection ends."""
    os.umask(0o077)  # nothing here is anybody else's business
    link = Link()
    link.send({"ready": 1})
    while True:
        header, _ = link.receive()
        try:
            verbs[header["do"]](link, header)
        except Refused as refused:
            link.send({"error": str(refused), "code": refused.code, **refused.more})
        except OSError as error:
            link.send({"error": said(error), "code": 1})


def project_of(header: Header) -> str:
    """The DVC project on the far machine: the repository, or a folder in it."""
    return os.path.join(header["dir"], "project", header["sub"]).rstrip("/")


def said(error: OSError) -> str:
    """One line about a failed system call."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}the disk is full there; free some space"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}no permission to write there"
    return f"{where}{error.strerror or error}"


def git(project: str, *words: str, check: bool = True) -> str:
    """What a git command in the far machine's repository prints.

    Raises:
        Refused: it failed.
    """
    command = ["git", "-C", project, *words]
    done = subprocess.run(
        command,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        stdin=subprocess.DEVNULL,
    )
    if check and done.returncode:
        lines = done.stderr.strip().splitlines() or [f"code {done.returncode}"]
        raise Refused(f"git {words[0]} failed there: {lines[-1]}")
    return done.stdout
