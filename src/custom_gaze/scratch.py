"""A folder for what an interrupted training leaves to its successor, one for each set of inputs."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custom_gaze.errors import CustomGazeError

LOCK = ".lock"


@contextmanager
def scratch_folder(parent: Path, key: str) -> Iterator[Path]:
    """Yield `parent/key` for this process alone; it stays after a failure and goes after success.

    Folders with another key belong to trainings whose inputs have changed since: they are removed,
    unless a training is at work in them.

    Raises:
        CustomGazeError: the folder cannot be made.
    """
    folder = parent / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (parent / f"{key}{LOCK}").open("w")
    except OSError as error:
        raise CustomGazeError(f"{folder}: cannot be made ({error.strerror})") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second training with the same inputs waits
        folder.mkdir(exist_ok=True)
        _remove_idle(parent, key)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


def _remove_idle(parent: Path, key: str) -> None:
    for other in parent.glob(f"*{LOCK}"):
        if other.name == f"{key}{LOCK}":
            continue
        with other.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            shutil.rmtree(parent / other.name.removesuffix(LOCK), ignore_errors=True)
