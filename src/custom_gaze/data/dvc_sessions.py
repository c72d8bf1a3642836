"""Putting sessions under DVC: one at a time, closed to whom they were closed, or taken back."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from custom_gaze.common.console import warn
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.files import write_bytes
from custom_gaze.common.temporary import FOLDER, sweep
from custom_gaze.common.untrusted import printable
from custom_gaze.config.paths import Paths
from custom_gaze.data import git_index
from custom_gaze.data.session_file import NOTHING_SAID, session_file, write_session_file


@contextmanager
def sessions_lock(paths: Paths) -> Iterator[None]:
    """Nobody else adds a session to this project meanwhile; who comes second waits, and says so.

    Raises:
        InputError: this is no DVC project.
        CustomGazeError: the lock cannot be written.
    """
    if not (paths.root / ".dvc").is_dir():
        where = printable(paths.root.resolve())
        raise InputError(f"{where}: is no DVC project; run this in the project's folder")
    lock = FileLock(paths.root / FOLDER / "sessions.filelock")
    try:
        sweep(paths.root)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            warn("waiting for another command that adds a session to this project")
            lock.acquire()
    except OSError as error:
        raise CustomGazeError(f"{lock.lock_file}: cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        lock.release()


def is_tracked(folder: Path) -> bool:
    """Whether DVC knows the session in `folder`, be the folder there or not."""
    return dvc_file(folder).exists()


def dvc_file(folder: Path) -> Path:
    """The file that names the session in `folder` to DVC and git."""
    return folder.with_name(f"{folder.name}.dvc")


@contextmanager
def whole_or_taken_back(folder: Path, paths: Paths) -> Iterator[None]:
    """A block that makes the session in `folder` and puts it under DVC: all of that, or nothing.

    What a failure or an interruption leaves of it is removed; a kill leaves what `put_under_dvc`
    brings to its end. A session that was there before stays.
    """
    was_there = os.path.lexists(folder) or is_tracked(folder)
    ignore = folder.parent / ".gitignore"  # dvc adds a line to it where it does not ignore all
    ignored_before = ignore.read_bytes() if ignore.exists() else None
    try:
        yield
    except BaseException:  # Ctrl-C too
        if was_there:
            raise
        _take_back(folder, paths)
        if ignored_before is None:
            ignore.unlink(missing_ok=True)
        elif ignore.read_bytes() != ignored_before:
            write_bytes(ignore, ignored_before)
        raise


def put_under_dvc(folder: Path, paths: Paths) -> None:
    """`dvc add` the folder, its session file made before where it has none; done twice, it
    changes nothing.

    Raises:
        CustomGazeError: dvc or git failed.
    """
    ensure_session_file(folder, paths)
    _close_cache(folder, paths)
    done = _dvc_add(folder, paths)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said or ["no message"]
        raise CustomGazeError(
            f"{folder}: dvc add failed ({printable(errors[0])}); put that right and run the same "
            "command again"
        )


def ensure_session_file(folder: Path, paths: Paths) -> bool:
    """Make the session's file, ID.yaml, where it has none, and let git know it; whether it was
    made. Sessions of earlier versions have none, and DVC asks for it before `prepare`.

    Raises:
        CustomGazeError: it cannot be written, or git refused it.
    """
    path = session_file(folder)
    made = not path.exists()
    if made:
        write_session_file(folder, NOTHING_SAID)
    git_index.add(paths.root, path)
    return made


def complete_sessions(paths: Paths) -> list[Path]:
    """Make the files of the sessions that have a .dvc file and none of ours, as those of earlier
    versions; returns which. All of them are in git's index then: DVC's `exp run` takes out of it
    what was never committed, and its next run in a copy of the repository would not have them.

    Raises:
        CustomGazeError: one cannot be written, or git refused it.
    """
    named = sorted(paths.sessions.glob("*.dvc"))
    folders = [path.with_suffix("") for path in named]
    missing = [folder for folder in folders if not session_file(folder).exists()]
    made = [write_session_file(folder, NOTHING_SAID) for folder in missing]
    git_index.add_unknown(paths.root, *named, *(session_file(folder) for folder in folders))
    return made


def _dvc_add(folder: Path, paths: Paths) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "dvc", "add", str(folder.relative_to(paths.root))],
        cwd=paths.root,
        env=_environment(paths),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def _environment(paths: Paths) -> dict[str, str]:
    """DVC keeps an index outside the project; where that cannot be written, it goes inside."""
    from dvc.dirs import site_cache_dir

    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    kept = Path(site_cache_dir())
    existing = next(folder for folder in (kept, *kept.absolute().parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        environment["DVC_SITE_CACHE_DIR"] = str((paths.root / FOLDER / "dvc").resolve())
    return environment


def _close_cache(folder: Path, paths: Paths) -> None:
    """DVC lets everybody read its copies: close their folder to whom the session is closed."""
    permitted = 0o777
    for around, _, names in os.walk(folder):
        for name in names:
            permitted &= (Path(around) / name).stat().st_mode
    closed = (0 if permitted & 0o040 else 0o070) | (0 if permitted & 0o004 else 0o007)
    cache = paths.root / ".dvc" / "cache"
    with suppress(PermissionError):  # somebody else's: theirs to close
        cache.mkdir(exist_ok=True)
        cache.chmod(cache.stat().st_mode & 0o777 & ~closed)


def _take_back(folder: Path, paths: Paths) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for named in (dvc_file(folder), session_file(folder)):
        if named.exists():
            named.unlink()
            with suppress(CustomGazeError):
                git_index.forget(paths.root, named)
