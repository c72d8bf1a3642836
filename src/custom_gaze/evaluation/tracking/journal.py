"""What a training tells while it runs: a file beside the project's temporaries, one a training.

It is what evaluate finds the training's run by, and what is delivered where MLflow could not be
reached. The training process and its courier hold the file's lock: a journal that is locked is in
the making, one that is idle and without an end was left by a killed process.

Lines of JSON, each {what: value}; a last line that is torn says nothing.
"""

import dataclasses
import fcntl
import json
import os
import re
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from custom_gaze.common.download import shown
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths

COURIER_S = 20.0  # MLflow takes some to load
KEPT_S = 30 * 24 * 3600.0  # of a training that nobody evaluates


@dataclass(frozen=True)
class Opening:
    """What is known of a run when its training starts. Times in milliseconds since 1970.

    `pipeline` is the process that runs all stages, as (number, seconds since 1970 of its start);
    None for a stage that was called by hand.
    """

    id: str  # 32 hexadecimal digits, like no other's
    experiment: str
    run_name: str
    start_ms: int
    params: dict[str, str]
    tags: dict[str, str]
    pipeline: tuple[int, float] | None


@dataclass(frozen=True)
class Told:
    """A journal as it was read; `told` is the state that MLflow knows of since it is idle."""

    path: Path
    opening: Opening
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[tuple[str, float, int, int]] = field(default_factory=list)  # …, step, ms
    progress: str = ""
    trained: str = ""  # SHA-256 of the checkpoint
    end: str = ""  # FAILED, KILLED
    end_in: str = ""  # the stage
    end_ms: int = 0
    told: str = ""

    @property
    def pipeline_lives(self) -> bool:
        """Whether the process that called the training may still call what follows it."""
        import psutil

        if self.opening.pipeline is None:
            return False
        number, started = self.opening.pipeline
        try:
            return abs(psutil.Process(number).create_time() - started) < 2
        except psutil.Error:
            return False


class Journal:
    """One that is being written, by this process alone."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @property
    def handle(self) -> int:
        """The open file, whose lock lasts as long as any process has it."""
        return self._file

    def write(self, **said: object) -> None:
        """Append a line.

        Raises:
            OSError: the disk is full.
        """
        os.write(self._file, (json.dumps(said) + "\n").encode())

    def close(self) -> None:
        """Let go of it; the courier that has it too may hold it still."""
        os.close(self._file)


def opening_of(params: Params, tags: Mapping[str, str]) -> Opening:
    """The opening of a training that starts now."""
    return Opening(
        id=uuid.uuid4().hex,
        experiment=params.tracking.experiment,
        run_name=run_name(params),
        start_ms=now_ms(),
        params=params_of(params),
        tags=dict(tags),
        pipeline=_pipeline(),
    )


def run_name(params: Params) -> str:
    """The DVC experiment's, or after the sessions trained on."""
    return os.environ.get("DVC_EXP_NAME") or "+".join(params.sessions)


def params_of(params: Params) -> dict[str, str]:
    """Parameters for a record, which is no place for secrets and paths."""
    flat = {"sessions": ",".join(params.sessions)}
    for section, values in dataclasses.asdict(params).items():
        if isinstance(values, dict):
            flat.update({f"{section}.{key}": _private(value) for key, value in values.items()})
    return flat


def _private(value: object) -> str:
    """Addresses without their user, password and query; of a file its name alone."""
    said = str(value)
    return Path(said).name if said.startswith(("/", "~")) else shown(said)


def now_ms() -> int:
    return int(time.time() * 1000)


def folder() -> Path:
    """In the main repository, also for the temporary copies DVC runs in."""
    return Paths().unfinished / "mlflow"


def begin(opening: Opening) -> Journal:
    """A new journal.

    Raises:
        OSError: it cannot be written.
    """
    for path in folder().glob("*.jsonl"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > KEPT_S and is_idle(path):
                path.unlink()
    journal = Journal(folder() / f"{opening.start_ms}-{opening.id}.jsonl")
    journal.write(run=dataclasses.asdict(opening))
    return journal


_LAST = ("progress", "trained", "end", "end_in", "told", "end_ms")  # the last word counts


def read(path: Path) -> Told | None:
    """A journal; None for one that says nothing of use."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        opening = _opening(json.loads(lines[0])["run"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    tags: dict[str, str] = {}
    metrics: list[tuple[str, float, int, int]] = []
    last: dict[str, str] = {}
    for line in lines[1:]:
        try:
            said = json.loads(line)
            if "metric" in said:
                name, value, step, ms = said["metric"]
                metrics.append((str(name), float(value), int(step), int(ms)))
            tags.update({str(name): str(value) for name, value in said.get("tags", {}).items()})
            last.update({name: str(said[name]) for name in _LAST if name in said})
        except (ValueError, TypeError, AttributeError):
            continue
    progress, trained, end, end_in, told = (last.get(name, "") for name in _LAST[:5])
    end_ms = int(last.get("end_ms", "0"))
    return Told(path, opening, tags, metrics, progress, trained, end, end_in, end_ms, told)


def _opening(said: object) -> Opening:
    from pydantic import TypeAdapter

    opening = TypeAdapter(Opening).validate_python(said)
    if not re.fullmatch("[0-9a-f]{32}", opening.id):
        raise ValueError
    return opening


def all_told() -> list[Told]:
    """The journals, the oldest first."""
    found = (read(path) for path in sorted(folder().glob("[0-9]*-*.jsonl")))
    return [told for told in found if told is not None]


def awaiting(checkpoint_sha256: str, params: Params) -> Told | None:
    """The newest training of this checkpoint, by these parameters and under this name, if any."""
    for told in reversed(all_told()):
        opening = told.opening
        same = (opening.run_name, opening.experiment, opening.params) == (
            run_name(params),
            params.tracking.experiment,
            params_of(params),
        )
        if told.trained == checkpoint_sha256 and same:
            return told
    return None


def wait_for_courier(record_id: str) -> None:
    """Give the courier of a training the seconds that it takes to have its say."""
    until = time.monotonic() + COURIER_S
    for path in folder().glob(f"*-{record_id}.jsonl"):
        while path.exists() and not is_idle(path) and time.monotonic() < until:
            time.sleep(0.05)


def forget(record_id: str) -> None:
    """Remove the journal of a training that has a whole record now."""
    for path in folder().glob(f"*-{record_id}.jsonl"):
        path.unlink(missing_ok=True)


def is_idle(path: Path) -> bool:
    """Whether no process has it in hand."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def append(path: Path, **said: object) -> None:
    """Add a line to an idle journal that is still there."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        return
    try:
        os.write(handle, (json.dumps(said) + "\n").encode())
    finally:
        os.close(handle)


def _pipeline() -> tuple[int, float] | None:
    """DVC: the nearest process above this one whose environment is not that of its stages."""
    import psutil

    stage = os.environ.get("DVC_STAGE")
    if stage is None:
        return None
    try:
        for process in psutil.Process().parents():
            if process.environ().get("DVC_STAGE") != stage:
                return process.pid, process.create_time()
    except psutil.Error:
        pass
    return None
