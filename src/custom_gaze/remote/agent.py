"""The agent: our program on the far machine, for as long as one connection lasts.

It is sent as text and run by `python3 -I`: standard library only, Python 3.10 or newer. Requests
and replies are lines of JSON. Each verb is a function `verb(link, header)` that returns its reply;
a refusal is one line.
"""

import errno
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

START = "custom-gaze: messages follow"  # what the far machine's shell says before is skipped
SILENCE_S = 30  # after which the other side, which sends an empty line every few, is gone

Header = dict[str, Any]


class Refused(Exception):
    """What was asked for is not done; `code` is the exit code it means to the user."""

    def __init__(self, message: str, code: int = 1, **more: Any) -> None:
        super().__init__(message)
        self.code = code
        self.more = more


class Link:
    """The connection as the agent sees it."""

    def __init__(self) -> None:
        self._inbox: queue.Queue[str] = queue.Queue()
        self._output = os.fdopen(os.dup(1), "w", encoding="ascii")
        self._helper: subprocess.Popen[bytes] | None = None
        signal.signal(signal.SIGALRM, lambda *_: self.leave())
        threading.Thread(target=self._read, daemon=True).start()
        self._write(f"\n{START}")  # a greeting may have left its line open

    def send(self, reply: Header) -> None:
        self._write(json.dumps(reply))

    def _write(self, line: str) -> None:
        try:
            print(line, file=self._output, flush=True)
        except OSError:
            self.leave()

    def receive(self) -> Header:
        """The next request."""
        header: Header = json.loads(self._inbox.get())
        return header

    def run(self, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a helper that ends with the connection, whatever it has started itself."""
        self._helper = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, **options
        )
        return self._helper

    def leave(self) -> NoReturn:
        """The other side is gone: end what was begun for it."""
        if self._helper is not None and self._helper.poll() is None:
            os.killpg(self._helper.pid, signal.SIGKILL)
        os._exit(0)

    def _read(self) -> None:
        signal.alarm(SILENCE_S)
        for line in sys.stdin.buffer:
            signal.alarm(SILENCE_S)
            if line.strip():
                self._inbox.put(line.decode())
        self.leave()


Verb = Callable[[Link, Header], Header]


def answer(verbs: dict[str, Verb]) -> None:
    """Answer requests until the connection ends."""
    os.umask(0o077)  # nothing here is anybody else's business
    link = Link()
    while True:
        header = link.receive()
        try:
            reply = verbs[header["do"]](link, header)
        except Refused as refused:
            reply = {"error": str(refused), "code": refused.code, **refused.more}
        except OSError as error:
            reply = {"error": said(error), "code": 1}
        link.send(reply)


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
    """What a git command in the far machine's repository prints."""
    return call("git", "-C", project, *words, check=check)


def call(*words: str, given: str = "", check: bool = True) -> str:
    """What a program prints.

    Raises:
        Refused: it failed.
        OSError: it is not there.
    """
    done = subprocess.run(
        words, input=given, capture_output=True, encoding="utf-8", errors="surrogateescape"
    )
    if check and done.returncode:
        *_, last = [f"code {done.returncode}", *done.stderr.strip().splitlines()]
        raise Refused(f"{words[0]} failed there: {last}")
    return done.stdout
