"""A folder for what an interrupted training leaves to its successor, one for each set of inputs.

Locked by hand and not by filelock, for the locked file is the one that says who holds it.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from custom_gaze.common.console import warn
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import printable

LOCK = ".lock"


@contextmanager
def scratch_folder(parent: Path, key: str) -> Iterator[Path]:
    """Yield `parent/key` for this process alone; it stays after a failure and goes after success.

    Folders with another key belong to trainings whose inputs have changed since: they are removed,
    unless a training is at work in them. One that works in this folder is waited for, and named.

    Raises:
        CustomGazeError: the folder cannot be made.
    """
    folder = parent / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (parent / f"{key}{LOCK}").open("a+", encoding="ascii")
    except OSError as error:
        raise CustomGazeError(f"{folder}: cannot be made ({error.strerror})") from None
    with lock:
        _take(lock)
        folder.mkdir(exist_ok=True)
        _remove_idle(parent, key)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


def _take(lock: TextIO) -> None:
    """Wait until this process alone holds the lock, and leave its number there."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        warn(f"waiting for {_holder(lock)} with the same inputs; Ctrl-C ends this wait")
        fcntl.flock(lock, fcntl.LOCK_EX)
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()


def _holder(lock: TextIO) -> str:
    """Who holds it and since when, as far as can be told; it may be an orphan of a killed DVC."""
    import psutil

    try:
        lock.seek(0)
        process = psutil.Process(int(lock.read(20)))
        since = time.strftime("%d %B %H:%M", time.localtime(process.create_time()))
        command = printable(" ".join(process.cmdline()), 100)
    except (OSError, ValueError, psutil.Error):
        return "another process at work"
    return f"process {process.pid} ({command}), at work since {since}"


def _remove_idle(parent: Path, key: str) -> None:
    for other in parent.glob(f"*{LOCK}"):
        if other.name == f"{key}{LOCK}":
            continue
        with other.open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            shutil.rmtree(parent / other.name.removesuffix(LOCK), ignore_errors=True)
