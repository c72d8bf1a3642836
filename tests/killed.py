"""Killing a process at each of its steps, to see what it leaves behind."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = {
    "os.chmod",
    "os.chown",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.utime",
}


def comes_to_its_end(action: Callable[[], object], number: int, below: Path) -> bool:
    """Whether `action` does, in a child that is killed just before its `number`-th change.

    Changes are those to the file system that Python announces to an audit hook; of opened files
    those below a folder. An action that raises fails the test.
    """
    child = os.fork()
    if child == 0:
        _kill_before_change(number, below)
        code = 1
        try:
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    assert status == 0, f"step {number}: the child ended with {status}"
    return True


def _kill_before_change(number: int, below: Path) -> None:
    """Have this process killed, by the signal no process can catch, at its n-th change."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
            counts = str(arguments[0]).startswith(str(below)) and bool(arguments[2] & writes)
        else:
            counts = event in CHANGES
        if counts:
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
