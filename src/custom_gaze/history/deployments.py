"""The journal of deploys: which model went into which app's folder, and when.

A line a deploy or rollback in deployments.jsonl, in the main repository's root beside mlflow.db and
outside git: it has the app's path, and has to survive every branch, experiment and checkout.
"""

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.stage_files import SHA256, Strict
from custom_gaze.common.untrusted import MOST_TABLE_BYTES, printable, read_text
from custom_gaze.config.paths import Paths


class Deployment(Strict):
    """One line: a model put live, or a deploy undone and this model live again ('' for none)."""

    model_config = ConfigDict(frozen=True)

    at: Annotated[AwareDatetime, Field(strict=False)]
    what: Literal["deploy", "rollback"]
    app: str
    model_sha256: Annotated[str, Field(pattern=f"^({SHA256.pattern})?$")]
    experiment: str  # the calibration's name, where it had one
    commit: str


def deployments(paths: Paths) -> list[Deployment]:
    """All that the journal has, the oldest first; a line that is none of ours is passed over."""
    if not paths.deployments.exists():
        return []
    found = []
    for line in read_text(paths.deployments, MOST_TABLE_BYTES).splitlines():
        try:
            found.append(Deployment.model_validate_json(line))
        except ValidationError:
            continue
    return found


def note(
    what: Literal["deploy", "rollback"],
    app: Path,
    model_sha256: str,
    paths: Paths,
    experiment: str = "",
    commit: str = "",
) -> None:
    """Add a line, whole: it is shorter than what a system writes in one piece.

    Raises:
        CustomGazeError: the journal cannot be written.
    """
    line = Deployment(
        at=datetime.now(timezone.utc).replace(microsecond=0),
        what=what,
        app=printable(app.resolve(), 1000),
        model_sha256=model_sha256,
        experiment=printable(experiment, 200),
        commit=commit,
    )
    try:
        handle = os.open(paths.deployments, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, f"{line.model_dump_json()}\n".encode())
        finally:
            os.close(handle)
    except OSError as error:
        raise CustomGazeError(
            f"{paths.deployments}: cannot be written ({error.strerror}); the deploy is not noted"
        ) from None


def last_app(paths: Paths) -> Path:
    """The app's folder of the last deploy.

    Raises:
        InputError: there was none from here.
    """
    known = deployments(paths)
    if not known:
        raise InputError(
            "nothing was deployed from this project yet; name the app's folder: "
            "custom-gaze status APP_DIR"
        )
    return Path(known[-1].app)
