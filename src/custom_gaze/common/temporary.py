"""Where new files and folders are made before they are moved to their place.

That is the project's .dvc/tmp/custom-gaze, which neither git nor DVC looks at, and outside a
project, or on another file system than it, the folder of the target. Each of them is locked while
it is in use, itself and not by a file beside it as filelock does: what a killed process left is
nobody's, and the next use of the folder removes it.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER = Path(".dvc", "tmp", "custom-gaze")
SUFFIX = ".part"
NAME_MOST = 40  # characters of the target's name; a name may have 255 bytes in all


@contextmanager
def temporary_place(target: Path, beside: bool = False) -> Iterator[Path]:
    """Yield a new folder of this use alone, on the file system of `target`; it goes afterwards.

    Args:
        target: what is to be made; its parent exists.
        beside: the folder has to lie beside `target`.

    Raises:
        OSError: the folder cannot be made.
    """
    own = f".{target.name[:NAME_MOST]}."
    shared = None if beside else _in_project(target.parent)
    parent = shared or target.parent
    with _held(parent):  # nobody sweeps between the two lines in which a new one is not yet locked
        _sweep(parent, "" if shared else own)
        place = Path(tempfile.mkdtemp(prefix=own, suffix=SUFFIX, dir=parent))
        lock = _hold(place)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(lock)


def sweep(project: Path) -> None:
    """Remove what killed processes left in a project, which has a .dvc folder.

    Raises:
        OSError: its folder for temporaries cannot be made.
    """
    (project / FOLDER).mkdir(parents=True, exist_ok=True)
    with _held(project / FOLDER):
        _sweep(project / FOLDER, "")


def _in_project(folder: Path) -> Path | None:
    """The project's folder for temporaries, where what it holds can be renamed into `folder`."""
    if not os.access(folder, os.W_OK):  # said by what fails beside the target, and before the work
        return None
    around = folder.resolve()
    project = next((root for root in (around, *around.parents) if (root / ".dvc").is_dir()), None)
    if project is None:
        return None
    try:
        (project / FOLDER).mkdir(parents=True, exist_ok=True)
        same_device = (project / FOLDER).stat().st_dev == around.stat().st_dev
    except OSError:
        return None
    usable = same_device and os.access(project / FOLDER, os.W_OK)
    return project / FOLDER if usable else None


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    lock = _hold(folder)
    try:
        yield
    finally:
        os.close(lock)


def _hold(folder: Path) -> int:
    """An open handle that holds the folder's lock until it is closed."""
    handle = os.open(folder, os.O_RDONLY)
    with suppress(OSError):  # some network file systems have no locks; then nothing is swept
        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def _sweep(parent: Path, prefix: str) -> None:
    """Remove what begins with `prefix` and is in nobody's hands."""
    with os.scandir(parent) as entries:
        left = [e for e in entries if e.name.startswith(prefix) and e.name.endswith(SUFFIX)]
    for entry in left:
        if entry.is_dir(follow_symlinks=False) and _is_idle(entry.path):
            shutil.rmtree(entry.path, ignore_errors=True)


def _is_idle(path: str) -> bool:
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        finally:
            os.close(handle)
    return False
