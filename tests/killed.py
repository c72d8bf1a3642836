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
    code = code_of(lambda: action() and None, number, below, signal.SIGKILL)
    assert code in (0, -signal.SIGKILL), f"step {number}: the child ended with {code}"
    return code == 0


def code_of(
    action: Callable[[], int | None], number: int, below: Path, stop: signal.Signals
) -> int:
    """What a child ends with that does `action` and gets the signal before its n-th change.

    That is what the action returns, 0 for None, and where the signal killed it, its negative.
    """
    child = os.fork()
    if child == 0:
        _signal_before_change(number, below, stop)
        code = 1
        try:
            code = action() or 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _signal_before_change(number: int, below: Path, stop: signal.Signals) -> None:
    seen = 0

    def is_below(path: Any) -> bool:
        named = isinstance(path, (str, bytes, os.PathLike))
        return named and os.path.abspath(os.fsdecode(path)).startswith(str(below))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
            counts = bool(arguments[2] & writes) and is_below(arguments[0])
        else:
            counts = event in CHANGES
        if counts:
            seen += 1
            if seen == number:
                os.kill(os.getpid(), stop)

    sys.addaudithook(hook)
