"""The records of deploys and rollbacks in the app's folder, read as what anybody may have written.

A record is one folder in custom_gaze_backups, with `before`, `after` and plan.json. Once the change
is complete, that is renamed to manifest.json, or to done.json if the record is not to be kept.
Nothing in there is followed that is a link, and nothing restored that a deploy does not touch.
"""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable, read_file

BACKUPS = "custom_gaze_backups"
CURRENT = "current"
BEFORE, AFTER, LINKS = "before", "after", "links"
PLAN, MANIFEST, DONE = "plan.json", "manifest.json", "done.json"
DEPLOY, ROLLBACK = "deploy", "rollback"
RECORD_NAME = re.compile(
    rf"[0-9]{{4}}-[0-9TZ-]+-(?P<kind>{DEPLOY}|{ROLLBACK})(?P<removed>\.completed|\.undone)?"
)
MADE = "%Y-%m-%dT%H-%M-%SZ"  # when, in universal time; in names and in records
MADE_BY = ("experiment", "commit")  # what a record says of the model's calibration, if it is known
MOST_RECORD_BYTES = 64 << 10  # four files and a path

_EXACT = ConfigDict(extra="forbid", strict=True)
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Moment = Annotated[str, Field(pattern="^[0-9]{4}-[0-9TZ-]{1,40}$")]
_Name = Annotated[str, Field(pattern=f"^[0-9]{{4}}-[0-9TZ-]+-{DEPLOY}$")]


@dataclass(frozen=True)
class FileRecord:
    """One file, by its path relative to the folder; a hash is None where there is no file."""

    __pydantic_config__: ClassVar[ConfigDict] = _EXACT

    path: str
    before_sha256: _Sha256 | None
    after_sha256: _Sha256 | None


@dataclass(frozen=True)
class Record:
    """A change as its folder in custom_gaze_backups describes it.

    `undoes` is the deploy's record that this one makes superfluous; only where `keep` is set does
    this one outlast its completion. `about` is for people.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _EXACT

    made: _Moment
    files: tuple[FileRecord, ...]
    undoes: _Name | None
    keep: bool
    about: dict[str, str | float | None]


_RECORD = TypeAdapter(Record)


def check_backups(app: Path) -> None:
    """Refuse backups of which a part is a link, a pipe or a device: they would be read or removed.

    Raises:
        InputError: there is one; it is named.
        OSError: a folder cannot be read.
    """
    backups = app / BACKUPS
    if not _is_folder(backups):
        return
    current = backups / CURRENT
    if os.path.lexists(current):
        name, _, side = os.readlink(current).partition("/") if current.is_symlink() else ("",) * 3
        if not RECORD_NAME.fullmatch(name) or side not in (BEFORE, AFTER):
            raise InputError(f"{printable(current)}: points out of {backups}; remove this link")
    for folder in sorted(backups.iterdir()):
        if RECORD_NAME.fullmatch(folder.name) and _is_folder(folder):
            for side in (BEFORE, AFTER):
                if _is_folder(folder / side):
                    _check_stored(folder / side)


def _check_stored(side: Path) -> None:
    """Of the files of one side, and the folders that they lie in, none may be anything else."""
    for root, folders, names in os.walk(side):
        for name in folders:
            _is_folder(Path(root) / name)
        for name in names:
            if not stat.S_ISREG(os.lstat(Path(root) / name).st_mode):
                raise _no_backup(Path(root) / name, "no regular file")


def _is_folder(path: Path) -> bool:
    """Whether there is a folder; what else stands in its place is refused."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(found.st_mode):
        raise _no_backup(path, "a link" if stat.S_ISLNK(found.st_mode) else "no folder")
    return True


def _no_backup(path: Path, kind: str) -> InputError:
    return InputError(
        f"{printable(path)}: is {kind}; no deploy has made it: put the real thing in its place or "
        "remove it"
    )


def read_record(folder: Path, allowed: frozenset[str]) -> Record:
    """The record in `folder`, complete or not.

    Raises:
        InputError: it is missing, damaged, or names a file that is not in `allowed`.
    """
    path = next(
        (folder / name for name in (MANIFEST, DONE) if os.path.lexists(folder / name)),
        folder / PLAN,
    )
    try:
        if path.is_symlink():
            raise InputError("is a link")
        record = _RECORD.validate_json(read_file(path, MOST_RECORD_BYTES))
        paths = [entry.path for entry in record.files]
        if not set(paths) <= allowed or len(set(paths)) < len(paths):
            raise InputError("names a file that no deploy touches, or one twice")
    except (InputError, ValidationError, RecursionError) as error:
        raise InputError(
            f"{printable(path)}: damaged ({_reason(error)}); what was saved lies in "
            f"{folder / BEFORE}, put it back by hand and remove this folder"
        ) from None
    return record


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return printable(f"{where}: {first['msg']}" if where else first["msg"], 200)
    return printable(error, 200)


def complete_records(app: Path, kind: str, allowed: frozenset[str]) -> list[tuple[Path, Record]]:
    """The folders and records of all complete changes of a kind, the oldest first.

    Raises:
        InputError: one of them is damaged.
    """
    return [
        (path.parent, read_record(path.parent, allowed))
        for path in sorted((app / BACKUPS).glob(f"*/{MANIFEST}"))
        if (name := RECORD_NAME.fullmatch(path.parent.name))
        and (name["kind"], name["removed"]) == (kind, None)
    ]


def is_interrupted(app: Path) -> bool:
    """Whether `recover` has something to do."""
    backups = app / BACKUPS
    unfinished = any(not (backups / name / MANIFEST).is_file() for name in _names(backups))
    return unfinished or (backups / CURRENT).is_symlink()


def record_name(app: Path, kind: str, made: str) -> str:
    """The name of the next record: counted, so that names sort even where a clock went back."""
    numbers = [int(name[:4]) for name in _names(app / BACKUPS)]
    return f"{max(numbers, default=0) + 1:04d}-{made}-{kind}"


def _names(backups: Path) -> list[str]:
    names = os.listdir(backups) if backups.is_dir() else []
    return [name for name in names if RECORD_NAME.fullmatch(name)]


def switch_link(path: str) -> str:
    """What the link says that stands in for the app's file `path` during a switch."""
    return f"{'../' * path.count('/')}{BACKUPS}/{CURRENT}/{path}"


def is_switch_link(app: Path, path: str) -> bool:
    """Whether the app's file `path` is that link."""
    live = app / path
    return live.is_symlink() and os.readlink(live) == switch_link(path)
