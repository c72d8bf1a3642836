"""Runs that MLflow has not got yet: kept in mlpending/, delivered by the next command that can.

One folder a run, beside mlflow.db in the main repository: record.json, and a copy of the run's
files. Its name begins with the run's time, so that the oldest comes first. A folder goes when its
run is in the store. A run carries its record's id as a tag: after a crash between the two it is
found there and not made again.
"""

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.files import whole_folder, write_json
from custom_gaze.common.untrusted import printable, read_text
from custom_gaze.config.paths import Paths
from custom_gaze.evaluation.tracking import journal
from custom_gaze.evaluation.tracking.addresses import shown_uri, tracking_uri
from custom_gaze.evaluation.tracking.journal import Told
from custom_gaze.evaluation.tracking.record import (
    Record,
    deliver,
    is_there,
    record_of_unfinished,
)
from custom_gaze.evaluation.tracking.store import open_store, quiet

RECORD_FILE = "record.json"
FOLDERS = ("reports", "model")  # of a run's files
LOCK_S = 60.0


def pending_folder() -> Path:
    """Where runs wait: in the main repository, also for the temporary copies DVC runs in."""
    return Paths().mlflow_pending


@dataclass(frozen=True)
class Delivery:
    """What came of the runs that were waiting."""

    delivered: int
    left: int
    reason: str  # why some are left; empty where none is
    reached: bool  # whether the store took what it was sent, or refused it in so many words

    def lines(self) -> list[str]:
        """What to tell; nothing where nothing had been waiting."""
        where = shown_uri(tracking_uri())
        lines = []
        if self.delivered:
            lines.append(f"MLflow: {_runs(self.delivered)} that had been waiting now in {where}")
        if self.left:
            lines.append(
                f"MLflow: {_runs(self.left)} waiting in {pending_folder()} for {where} "
                f"({self.reason}); `custom-gaze report` tries again"
            )
        return lines


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"


def record(made: Record, files: list[tuple[Path, str]]) -> str:
    """Record a run and its files, those that are waiting first; return lines that say where it is.

    A store that cannot be reached does not undo an evaluation that is done: its reports stay, and
    its run is kept until it can be delivered.
    """
    where = shown_uri(tracking_uri())
    journal.wait_for_courier(made.id)
    earlier = deliver_pending(besides=made.id)
    reason = earlier.reason
    if earlier.reached:
        try:
            with quiet():
                run_id = deliver(open_store(), made, files)
            journal.forget(made.id)
            return "\n".join([*earlier.lines(), f"MLflow run {run_id} in {where}"])
        except Exception as error:  # whatever a server, a database or a proxy may answer
            reason = _reason(error)
    try:
        keep(made, files)
        journal.forget(made.id)
    except (CustomGazeError, OSError) as error:
        return f"MLflow at {where} did not record this run ({reason}), nor can it wait: {error}"
    return (
        f"MLflow at {where} did not record this run ({reason}); it waits in {pending_folder()}, "
        "and the next evaluation, `custom-gaze report` or `custom-gaze mlflow` delivers it"
    )


def keep(record: Record, files: list[tuple[Path, str]]) -> None:
    """Put a run down to be delivered later, whole or not at all.

    Raises:
        CustomGazeError, OSError: it cannot be written.
    """
    with whole_folder(pending_folder() / f"{record.start_ms}-{record.id}") as folder:
        for path, name in files:
            (folder / name).mkdir(exist_ok=True)
            shutil.copyfile(path, folder / name / path.name)
        write_json(folder / RECORD_FILE, dataclasses.asdict(record))


def deliver_pending(besides: str = "") -> Delivery:
    """Deliver the runs that are waiting, the oldest first; the first failure ends it.

    A run that the store refuses, or whose record is damaged, stays and holds up no other. The
    training `besides` is being evaluated.
    """
    if not waiting() and not left_behind(besides):
        return Delivery(0, 0, "", True)
    delivered, reason, reached = 0, "", True
    try:
        with _alone(), quiet():
            client = open_store()
            for told in left_behind(besides):
                close(client, told)
            for folder in waiting():
                try:
                    _deliver_one(client, folder)
                    delivered += 1
                except Exception as error:
                    reason = _reason(error)
                    reached = _is_its_own_fault(error)
                    if not reached:
                        break
    except Exception as error:  # whatever a server, a database or a proxy may answer
        reason, reached = _reason(error), False
    return Delivery(delivered, len(waiting()), reason, reached)


def _deliver_one(client: Any, folder: Path) -> None:
    found = read_record(folder)
    if not is_there(client, found):
        deliver(client, found, _files(folder))
    (folder / RECORD_FILE).unlink()  # first: what is left of the folder is no record any more
    shutil.rmtree(folder, ignore_errors=True)


def read_record(folder: Path) -> Record:
    """The record in a folder of mlpending/.

    Raises:
        InputError: it is damaged.
    """
    from pydantic import TypeAdapter, ValidationError

    path = folder / RECORD_FILE
    text = read_text(path)
    try:
        record = TypeAdapter(Record).validate_python(json.loads(text))
        if re.fullmatch("[0-9a-f]{32}", record.id):
            return record
    except (ValidationError, ValueError, RecursionError):
        pass
    raise InputError(f"{path}: is damaged; remove {folder}, MLflow cannot have that run")


def _files(folder: Path) -> list[tuple[Path, str]]:
    return [
        (path, name)
        for name in FOLDERS
        for path in sorted((folder / name).glob("*"))
        if path.is_file() and not path.is_symlink()
    ]


def waiting() -> list[Path]:
    """The folders that hold a record, the oldest first."""
    found = [path.parent for path in pending_folder().glob(f"[0-9]*-*/{RECORD_FILE}")]
    return sorted(found, key=lambda folder: (int(re.findall("[0-9]+", folder.name)[0]), folder))


def left_behind(besides: str = "") -> list[Told]:
    """The trainings that nobody has in hand, and whose state MLflow has not been told."""
    return [
        told
        for told in journal.all_told()
        if told.opening.id != besides and journal.is_idle(told.path) and _state(told)
    ]


def _state(told: Told) -> str:
    """What an idle training has become; nothing where MLflow knows it, or evaluate is to come."""
    if told.end:
        return told.end
    if not told.trained:
        return "KILLED"
    if told.pipeline_lives:
        return ""
    # By hand, its evaluation may come any day; a pipeline that has gone went before it.
    state = "FINISHED" if told.opening.pipeline is None else "KILLED"
    return "" if told.told == state else state


def close(client: Any, told: Told) -> None:
    """Tell MLflow what a training has become that nobody has in hand.

    Raises:
        Exception: whatever a server, a database or a proxy may answer.
    """
    state = _state(told)
    trained = bool(told.trained)
    progress = "trained, not evaluated" if trained else told.progress
    deliver(client, record_of_unfinished(told, state, progress), [])
    if trained and not told.end:  # the same checkpoint may be evaluated yet
        journal.append(told.path, told=state)
    else:
        told.path.unlink(missing_ok=True)


@contextmanager
def _alone() -> Iterator[None]:
    import filelock

    with filelock.FileLock(pending_folder() / ".lock", timeout=LOCK_S):
        yield


def _is_its_own_fault(error: Exception) -> bool:
    """Whether a record is damaged or cannot be read, or was refused by a store that did answer."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return 400 <= int(error.get_http_status_code()) < 500
    return isinstance(error, (CustomGazeError, FileNotFoundError, PermissionError))


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    # An advice of ours may be a command, which is of no use in half.
    return printable(lines[0] if lines else type(error).__name__, 1000)
