"""Changing several files of a folder at one instant, so that a kill leaves old or new, never both.

A rename replaces one file at a time, but a deploy has to change up to four together. So each of
them first becomes a link to custom_gaze_backups/current/…, where `current` is itself a link to
the folder `before`, which holds copies of what was there: nothing looks different yet. Turning
`current` from `before` to `after` is one rename, and it changes all of them. Then the links are
replaced by the files they point to. A file that is absent on one side is a link to nothing,
which a program that looks for it takes for absent.

`recover` finishes what was interrupted after the turn and undoes what was interrupted before it.
"""

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.files import sha256_of
from custom_gaze.rustyeyes.records import (
    AFTER,
    BACKUPS,
    BEFORE,
    CURRENT,
    DONE,
    LINKS,
    MANIFEST,
    PLAN,
    RECORD_NAME,
    FileRecord,
    Record,
    check_backups,
    is_switch_link,
    read_record,
    switch_link,
)

COMPLETED, UNDONE = ".completed", ".undone"  # a record that is being removed, and why


@dataclass(frozen=True)
class Change(FileRecord):
    """What a file shall become: a new content, a copy of another file, or None: it shall go."""

    after: bytes | Path | None


def switch(app: Path, name: str, changes: Sequence[Change], record: Record) -> None:
    """Make all `changes` in the folder `app` at one instant, on record under `name`.

    Raises:
        OSError: a write was refused; `recover` then undoes what was begun.
        CustomGazeError: a file changed since `changes` were planned; likewise.
    """
    folder = app / BACKUPS / name
    _stage(app, folder, changes, record)
    _point_current(app, folder, BEFORE)
    for change in changes:
        _check_unchanged(app, change)
        os.replace(folder / LINKS / change.path, app / change.path)
    for change in changes:  # another program may have written through a link
        _check_unchanged(app, change)
    _point_current(app, folder, AFTER)
    _finish(app, folder, record)


def recover(app: Path, allowed: frozenset[str]) -> tuple[str, bool] | None:
    """Bring an interrupted change to an end: (its kind, whether it was finished), else None.

    Only paths in `allowed` are ever touched, whatever a record says.

    Raises:
        OSError: a write was refused; call it again once writing works.
        InputError: a record is damaged, or a part of the backups is a link.
    """
    check_backups(app)
    backups, outcome = app / BACKUPS, None
    current = backups / CURRENT
    if current.is_symlink():
        name, _, side = os.readlink(current).partition("/")
        folder, finished = backups / name, side == AFTER
        (_finish if finished else _undo)(app, folder, read_record(folder, allowed))
        outcome = (folder.name.rpartition("-")[2], finished)
    swept = _sweep(app, allowed)
    return outcome or swept


def _stage(app: Path, folder: Path, changes: Sequence[Change], record: Record) -> None:
    for side in (BEFORE, AFTER, LINKS):
        (folder / side).mkdir(parents=True)
    for change in changes:
        live = app / change.path
        for side in (BEFORE, AFTER, LINKS):
            (folder / side / change.path).parent.mkdir(exist_ok=True)
        if change.before_sha256 is not None:
            _copy(live, folder / BEFORE / change.path)
        if change.after is not None:
            stored = folder / AFTER / change.path
            if isinstance(change.after, bytes):
                stored.write_bytes(change.after)
                shutil.copymode(live, stored)
                _take_owner(live, stored)
                _sync(stored)
            else:
                _copy(change.after, stored)
                if sha256_of(stored) != change.after_sha256:
                    raise CustomGazeError(f"{change.after}: changed just now; try again")
        os.symlink(switch_link(change.path), folder / LINKS / change.path)
    (folder / PLAN).write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
    _sync(folder / PLAN)
    _sync(folder)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    shutil.copystat(source, target)
    _take_owner(source, target)
    _sync(target)


def _take_owner(source: Path, target: Path) -> None:
    status = source.stat()
    with suppress(PermissionError):  # only root may give files away, and only root has to
        os.chown(target, status.st_uid, status.st_gid)


def _point_current(app: Path, folder: Path, side: str) -> None:
    """Make `current` point to one side of a record, in one rename."""
    fresh = folder / CURRENT
    os.symlink(f"{folder.name}/{side}", fresh)
    os.replace(fresh, app / BACKUPS / CURRENT)
    _sync(app / BACKUPS)


def _check_unchanged(app: Path, change: Change) -> None:
    path = app / change.path
    if (sha256_of(path) if path.exists() else None) != change.before_sha256:
        raise CustomGazeError(
            f"{path}: was changed by another program just now; close the app and try again"
        )


def _finish(app: Path, folder: Path, record: Record) -> None:
    """All after the turn; every step can be repeated."""
    _settle(app, folder / AFTER, record)
    if record.undoes is not None:
        _discard(app / BACKUPS / record.undoes, COMPLETED)
    if (folder / PLAN).exists():
        os.replace(folder / PLAN, folder / (MANIFEST if record.keep else DONE))
    (app / BACKUPS / CURRENT).unlink()
    _tidy(folder, record)
    _remove_if_empty(app / BACKUPS)


def _undo(app: Path, folder: Path, record: Record) -> None:
    """Back to before the turn; every step can be repeated."""
    _settle(app, folder / BEFORE, record)
    (app / BACKUPS / CURRENT).unlink()
    _discard(folder, UNDONE)
    _remove_if_empty(app / BACKUPS)


def _settle(app: Path, side: Path, record: Record) -> None:
    """Replace the links by the files of one side; what is no link any more is left alone."""
    for entry in record.files:
        path = app / entry.path
        if is_switch_link(app, entry.path):
            if (side / entry.path).exists():
                os.replace(side / entry.path, path)
            else:
                path.unlink()
        _sync(path.parent)


def _sweep(app: Path, allowed: frozenset[str]) -> tuple[str, bool] | None:
    """Remove what a kill left behind before `current` was there, or after it was gone."""
    outcome = None
    for folder in sorted((app / BACKUPS).glob("*")):
        name = RECORD_NAME.fullmatch(folder.name)
        if name is None:
            continue
        if name["removed"]:
            outcome = (name["kind"], name["removed"] == COMPLETED)
            shutil.rmtree(folder)
        elif (folder / MANIFEST).exists():
            _tidy(folder, read_record(folder, allowed))
        else:
            completed = (folder / DONE).exists()
            outcome = (name["kind"], completed)
            _discard(folder, COMPLETED if completed else UNDONE)
    _remove_if_empty(app / BACKUPS)
    return outcome


def _tidy(folder: Path, record: Record) -> None:
    """Of a complete record, keep the files it replaced and the manifest, or nothing."""
    if not record.keep:
        _discard(folder, COMPLETED)
        return
    for side in (AFTER, LINKS):
        shutil.rmtree(folder / side, ignore_errors=True)


def _discard(folder: Path, why: str) -> None:
    """Remove a record, first its name, so that half of one is never taken for one."""
    removed = folder.with_name(folder.name + why)
    if folder.exists():
        os.replace(folder, removed)
    shutil.rmtree(removed, ignore_errors=True)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _sync(path: Path) -> None:
    """Have a file's content, or a folder's names, on the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
