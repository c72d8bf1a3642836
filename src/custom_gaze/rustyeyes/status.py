"""Which model is live in the app's folder, since when, and what was captured there since."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import MOST_MODEL_BYTES, printable, regular_file
from custom_gaze.models.onnx_metadata import ModelFacts
from custom_gaze.rustyeyes.config import CONFIG_FILE, MODEL_FILE, AppConfig
from custom_gaze.rustyeyes.contract import Correction, model_facts
from custom_gaze.rustyeyes.deploy import SVR_FILES, TOUCHED, read_app
from custom_gaze.rustyeyes.records import (
    DEPLOY,
    MADE,
    MADE_BY,
    Record,
    complete_records,
    is_interrupted,
)

CAPTURED = "calibration_data"  # the app's folder of frames
_FRAME = re.compile(r"img_([0-9]{1,18})\.jpg")  # the number: milliseconds since 1970


@dataclass(frozen=True)
class Deployed:
    """The deploy that put the live model there, as its record has it; '' for what it lacks."""

    at: datetime
    experiment: str
    commit: str


@dataclass(frozen=True)
class AppStatus:
    """What the app would load at its next start."""

    app: Path
    model: str
    is_personal: bool
    facts: ModelFacts | None
    problem: str | None
    correction: Correction | None
    svr_files: tuple[str, ...]
    deploys: tuple[str, ...]
    interrupted: bool
    deployed: Deployed | None  # of a personal network; None where no record tells
    frames_since: int | None  # captured in the app's folder since then

    def lines(self) -> list[str]:
        """The status for a person, one fact a line."""
        kind = "a personal network" if self.is_personal else "not deployed from here"
        lines = [f"live model: {printable(self.model)} ({kind})", *self._facts()]
        if self.deployed is not None:
            made_by = f", {self.deployed.experiment}" if self.deployed.experiment else ""
            lines.append(f"deployed: {self.deployed.at.astimezone():%Y-%m-%d %H:%M}{made_by}")
        if self.frames_since is not None:
            lines.append(f"frames captured since, in {CAPTURED}: {self.frames_since}")
        if self.correction is None:
            lines.append(f"correction: not whole in {CONFIG_FILE}")
        else:
            for axis in ("yaw", "pitch"):
                values = (
                    f"{name} {getattr(self.correction, f'{axis}_{name}'):g}"
                    for name in ("gain", "offset", "curve")
                )
                lines.append(f"{axis}: {', '.join(values)}")
        if self.svr_files:
            lines.append(f"in its place the app uses: {', '.join(self.svr_files)}")
        if self.interrupted:
            lines.append("a deploy or rollback was interrupted: run either again to clear it up")
        return [*lines, f"deploys that can be rolled back: {len(self.deploys)}"]

    def _facts(self) -> list[str]:
        if self.problem or self.facts is None:
            return [f"the app cannot load it: {self.problem}"]
        names, error_deg = self.facts.sessions, self.facts.validation_error_deg
        sessions = "unknown" if names is None else printable(", ".join(names)) or "none"
        error = "unknown" if error_deg is None else f"{error_deg:.2f} degrees"
        return [
            f"sessions: {sessions}",
            f"error on held-out targets: {error}",
            f"made by: {printable(self.facts.code_version or 'unknown')}",
            f"sha256: {self.facts.sha256}",
        ]


def status(app: Path) -> AppStatus:
    """Read which model, correction and SVR files are live in the folder `app`; writes nothing.

    Raises:
        InputError: `app` is not the app's folder, its config.json does not parse, or the record of
            a deploy is damaged.
    """
    config = AppConfig(read_app(app), app)
    model = config.model_path
    records = complete_records(app, DEPLOY, TOUCHED)
    facts, problem = None, None
    try:
        facts = model_facts(regular_file(app / model, MOST_MODEL_BYTES))
    except InputError as error:
        problem = str(error)
    is_personal = model == MODEL_FILE
    deployed = _deployed(records, facts.sha256) if facts and is_personal else None
    return AppStatus(
        app=app,
        model=model,
        is_personal=is_personal,
        facts=facts,
        problem=problem,
        correction=config.correction(),
        svr_files=tuple(name for name in SVR_FILES if (app / name).is_file()),
        deploys=tuple(folder.name for folder, _ in records),
        interrupted=is_interrupted(app),
        deployed=deployed,
        frames_since=None if deployed is None else _captured_since(app, deployed.at),
    )


def _deployed(records: list[tuple[Path, Record]], sha256: str) -> Deployed | None:
    """The last deploy of the model with this SHA-256."""
    for _, record in reversed(records):
        if any((file.path, file.after_sha256) == (MODEL_FILE, sha256) for file in record.files):
            with suppress(ValueError):
                at = datetime.strptime(record.made, MADE).replace(tzinfo=timezone.utc)
                said = (printable(record.about.get(key) or "", 80) for key in MADE_BY)
                return Deployed(at, *said)
    return None


def _captured_since(app: Path, when: datetime) -> int:
    """How many frames the app has captured since: their names tell when."""
    try:
        names = os.listdir(app / CAPTURED)
    except OSError:
        return 0
    numbers = (int(match[1]) for name in names if (match := _FRAME.fullmatch(name)))
    return sum(number > when.timestamp() * 1000 for number in numbers)
