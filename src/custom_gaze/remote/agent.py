"""The agent: our program on the far machine, for as long as one connection lasts.

It is sent as text and run by `python3 -I`: standard library only, Python 3.10 or newer. Requests
and replies are lines of JSON. A request names one of our functions `verb(place, …)`, which yields
the replies to it; a refusal is one line.
"""

import errno
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

START = "custom-gaze: messages follow"  # what the far machine's shell says before is skipped
SILENCE_S = 30  # after which the other side, which sends an empty line every few, is gone

Reply = dict[str, Any]
Replies = Iterator[Reply]
Verb = Callable[..., Replies]


class Refused(Exception):
    """What was asked for is not done; `code` is the exit code it means to the user."""

    def __init__(self, message: str, code: int = 1, **more: Any) -> None:
        super().__init__(message)
        self.reply = {"error": message, "code": code, **more}


class Place:
    """Our folder on the far machine; `sub` is the project's folder in its repository."""

    def __init__(self, directory: str, sub: str = "") -> None:
        self.directory, self.sub = directory, sub
        self.store, self.repository = self.path("store"), self.path("project")
        self.project = self.path("project", sub).rstrip("/")

    def path(self, *names: str) -> str:
        return os.path.join(self.directory, *names)


def main() -> None:
    """Answer requests until the connection ends."""
    os.umask(0o077)  # nothing here is anybody else's business
    inbox: queue.Queue[bytes] = queue.Queue()
    signal.signal(signal.SIGALRM, lambda *_: _leave())
    threading.Thread(target=_read, args=(inbox,), daemon=True).start()
    _write(f"\n{START}")  # a greeting may have left its line open
    while True:
        request = json.loads(inbox.get())
        module, name = request.pop("do")
        place = Place(request.pop("dir"), request.pop("sub"))
        try:
            for reply in getattr(sys.modules[module], name)(place, **request):
                _answer(reply)
        except Refused as refused:
            _answer(refused.reply)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            what = error.strerror or str(error)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                what = "the disk is full there; free some space"
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                what = "no permission to write there"
            _answer({"error": where + what})


def _answer(reply: Reply) -> None:
    _write(json.dumps(reply, ensure_ascii=False))


def _write(line: str) -> None:
    sys.stdout.buffer.write(line.encode(errors="replace") + b"\n")  # all of it, as os.write may not
    sys.stdout.buffer.flush()


def _read(inbox: "queue.Queue[bytes]") -> None:
    signal.alarm(SILENCE_S)
    for line in sys.stdin.buffer:
        signal.alarm(SILENCE_S)
        if line.strip():
            inbox.put(line)
    _leave()


def _leave() -> NoReturn:
    """The other side is gone: end with all that was begun for it, which is of our process group."""
    os.killpg(0, signal.SIGKILL)
    os._exit(0)


def call(*words: str, given: str = "", cwd: str | None = None, failed: str = "") -> str:
    """What a program prints, which ends with the connection, whatever it has started itself.

    Refused with the last that it said where it fails; `failed` says of what that is.
    """
    done = subprocess.run(
        words, cwd=cwd, input=given, capture_output=True, errors="replace", check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        *_, last = [f"code {done.returncode}", *said]
        raise Refused(f"{failed or f'{words[0]} failed'} there: {last}")
    return done.stdout


def git(repository: str, *words: str) -> str:
    """What a git command in a repository of the far machine prints."""
    return call("git", "-C", repository, *words).strip()
