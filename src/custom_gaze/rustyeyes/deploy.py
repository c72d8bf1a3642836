"""Deploying a gaze network into the app's folder, and taking it back."""

import fcntl
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.files import sha256_of
from custom_gaze.common.untrusted import MOST_TEXT_BYTES, printable, read_file
from custom_gaze.faces.other_files import other_files
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.models.onnx_metadata import ModelFacts
from custom_gaze.rustyeyes.config import CONFIG_FILE, MODEL_FILE, AppConfig, Edit
from custom_gaze.rustyeyes.contract import APP_PIXELS_PER_DEGREE, Correction, check_model
from custom_gaze.rustyeyes.records import (
    BACKUPS,
    BEFORE,
    DEPLOY,
    MADE,
    ROLLBACK,
    FileRecord,
    Record,
    check_backups,
    complete_records,
    is_interrupted,
    is_switch_link,
    record_name,
)
from custom_gaze.rustyeyes.transaction import Change, recover, switch

SVR_FILES = ("svr_l2cs_x.model", "svr_l2cs_y.model")
TOUCHED = frozenset((CONFIG_FILE, MODEL_FILE, *SVR_FILES))


@dataclass(frozen=True)
class DeployPlan:
    """What a deploy would change; `changes` is empty where everything is in place already."""

    app: Path
    model: Path
    called: str  # what the model is, in words
    facts: ModelFacts
    changes: tuple[Change, ...]
    edits: tuple[Edit, ...]
    scale_note: str
    other_faces: str  # what it means that the app finds faces by other files; '' where it does not
    interrupted: bool

    def lines(self) -> list[str]:
        """The plan for a person, one change a line, with what the gain means at the end."""
        lines = []
        if self.interrupted:
            lines.append("first: finish or undo the deploy or rollback that was interrupted")
        for change in self.changes:
            if change.path == MODEL_FILE:
                what = "new" if change.before_sha256 is None else "replaced"
                lines.append(f"{MODEL_FILE}: {what}, a copy of {self.called}")
            elif change.path in SVR_FILES:
                lines.append(f"{change.path}: moved away, it was fitted to the network before")
        lines += [
            f"{CONFIG_FILE}: {e.key}: {printable(e.old or 'absent', 80)} → {e.new}"
            for e in self.edits
        ]
        if self.changes:
            lines.append(f"backup of all this: {self.app / BACKUPS}")
        else:
            lines.append(f"{self.app}: this model is deployed already, nothing to change")
        lines.append(self.scale_note)
        return [*lines, f"warning: {self.other_faces}"] if self.other_faces else lines


@dataclass(frozen=True)
class DeployResult:
    """What was deployed; `backup` is None where nothing had to change."""

    plan: DeployPlan
    backup: Path | None


@dataclass(frozen=True)
class RollbackResult:
    """What was restored, and where files changed since the deploy are kept, if there are any."""

    restored: tuple[str, ...]
    kept: Path | None
    note: str


def plan_deploy(
    app: Path,
    model: Path,
    geometry: ScreenGeometry,
    app_pixels_per_degree: float | None = None,
    called: str = "",
) -> DeployPlan:
    """Check everything and say what `deploy` would change; nothing is written.

    `geometry` is used for a model that does not name its own. `app_pixels_per_degree` sets the
    gains to 1 / (degrees per pixel * it), so that the app's dot lands on the target; without it
    they are the specification's 1. `called` says what the model is, where its path does not.

    Raises:
        InputError: `app` is not the app's folder; its config.json does not parse or names a path
            outside; the app could not use `model`; the scale is out of range.
    """
    content = read_app(app)
    config = AppConfig(content, app)
    facts = check_model(model)
    geometry = facts.geometry or geometry
    wanted = _correction(geometry, app_pixels_per_degree)
    edits = config.point_to_model(wanted)
    changes = []
    if (before := _sha256(app / MODEL_FILE)) != facts.sha256:
        changes.append(Change(MODEL_FILE, before, facts.sha256, model))
    for name in SVR_FILES:
        if (before := _sha256(app / name)) is not None:
            changes.append(Change(name, before, None, None))
    if edits:
        fresh = config.dump()
        before = hashlib.sha256(content).hexdigest()
        changes.append(Change(CONFIG_FILE, before, hashlib.sha256(fresh).hexdigest(), fresh))
    note = _scale_note(geometry, wanted, app_pixels_per_degree)
    named = called or f"{model}"
    faces = _other_faces(config, facts, app)
    plan = tuple(changes), tuple(edits), note, faces, is_interrupted(app)
    return DeployPlan(app, model, named, facts, *plan)


def deploy(
    app: Path,
    model: Path,
    geometry: ScreenGeometry,
    app_pixels_per_degree: float | None = None,
    show: Callable[[DeployPlan], None] = lambda plan: None,
    called: str = "",
    made_by: Mapping[str, str] | None = None,
) -> DeployResult:
    """Make the app look through `model`; `show` gets the plan before anything changes, and may
    raise to prevent it. `made_by` is for the record, beside how the model is `called`.

    All of it happens at one instant: a kill at any point leaves what the app reads as it was
    before or as it is after, and the next deploy or rollback tidies up.

    Raises:
        InputError: as `plan_deploy`.
        CustomGazeError: another deploy is at work, or a write was refused; nothing is changed.
    """
    read_app(app)
    with _locked(app), _all_or_nothing(app):
        recover(app, TOUCHED)
        plan = plan_deploy(app, model, geometry, app_pixels_per_degree, called)
        show(plan)
        if not plan.changes:
            return DeployResult(plan, None)
        about = {
            "model": printable(plan.called),
            "app_pixels_per_degree": app_pixels_per_degree,
            **(made_by or {}),
        }
        return DeployResult(plan, _on_record(app, DEPLOY, plan.changes, about))


def rollback(app: Path) -> RollbackResult:
    """Undo the last deploy: the files it touched are again what they were, byte for byte.

    Where one of them changed after the deploy, that version is kept. Called again, it undoes the
    deploy before that one. After an interrupted deploy it only undoes that.

    Raises:
        InputError: `app` is no folder, no deploy is on record, the backup is damaged, or there are
            links where files should be.
        CustomGazeError: another deploy is at work, or a write was refused.
    """
    _check_folder(app)
    with _locked(app), _all_or_nothing(app):
        interrupted = recover(app, TOUCHED)
        if interrupted in ((DEPLOY, False), (ROLLBACK, True)):
            note = f"an interrupted {interrupted[0]} was cleared up; all is as before the deploy"
            return RollbackResult((), None, note)
        records = complete_records(app, DEPLOY, TOUCHED)
        if not records:
            raise InputError(f"{app}: nothing to roll back, no deploy is on record there")
        return _roll_back(app, *records[-1])


def _roll_back(app: Path, folder: Path, deployed: Record) -> RollbackResult:
    changes, keep = [], False
    for entry in deployed.files:
        saved = folder / BEFORE / entry.path
        if _sha256(saved) != entry.before_sha256:
            raise InputError(f"{saved}: damaged, it is not what was saved; nothing is changed")
        live = _sha256(app / entry.path)
        if live != entry.before_sha256:
            source = None if entry.before_sha256 is None else saved
            changes.append(Change(entry.path, live, entry.before_sha256, source))
            keep = keep or live not in (None, entry.after_sha256)
    own = _on_record(app, ROLLBACK, changes, {}, undoes=folder.name, keep=keep)
    note = f"{app} is as it was before the deploy of {deployed.made}"
    kept = own / BEFORE if keep else None
    return RollbackResult(tuple(change.path for change in changes), kept, note)


def _on_record(
    app: Path,
    kind: str,
    changes: Sequence[Change],
    about: dict[str, str | float | None],
    undoes: str | None = None,
    keep: bool = True,
) -> Path:
    """Make the changes, all at once; return the folder of their record."""
    made = datetime.now(timezone.utc).strftime(MADE)
    name = record_name(app, kind, made)
    files = tuple(FileRecord(c.path, c.before_sha256, c.after_sha256) for c in changes)
    switch(app, name, changes, Record(made, files, undoes, keep, about))
    return app / BACKUPS / name


def read_app(app: Path) -> bytes:
    """The bytes of config.json, once `app` is known to look like the app's folder.

    Raises:
        InputError: it is not, holds links where files should be, or cannot be read.
    """
    _check_folder(app)
    for name in (CONFIG_FILE, "models"):
        if not (app / name).exists():
            raise InputError(
                f"{app}: not the RustyEyes app's folder, it holds no {name}; "
                "if it is, start the app once so that it writes its settings"
            )
    if (app / "models").stat().st_dev != app.stat().st_dev:
        raise InputError(f"{app / 'models'}: lies on another file system than {app}")
    return read_file(app / CONFIG_FILE, MOST_TEXT_BYTES)


def _check_folder(app: Path) -> None:
    """What a deploy or rollback reads or replaces has to lie here itself, and be a file."""
    try:
        if not app.is_dir():
            raise InputError(f"{printable(app)}: no folder; give the folder of the RustyEyes app")
        for name in ("models", BACKUPS, *sorted(TOUCHED)):
            if (app / name).is_symlink() and not is_switch_link(app, name):
                raise InputError(f"{app / name}: is a link; put the real thing in its place first")
        for name in sorted(TOUCHED):
            if (app / name).exists() and not (app / name).is_file():
                raise InputError(f"{app / name}: is no regular file; move it away first")
        check_backups(app)
    except OSError as error:
        where = printable(error.filename or app)
        raise InputError(f"{where}: cannot be read ({error.strerror})") from None


def _correction(geometry: ScreenGeometry, app_pixels_per_degree: float | None) -> Correction:
    if app_pixels_per_degree is None:
        return Correction()
    if not (math.isfinite(app_pixels_per_degree) and 1 <= app_pixels_per_degree <= 1000):
        raise InputError(
            f"--app-pixels-per-degree is {app_pixels_per_degree:g}, but must lie in 1 … 1000"
        )
    gain = 1 / (geometry.deg_per_pixel * app_pixels_per_degree)
    return Correction(yaw_gain=gain, pitch_gain=gain)


def _other_faces(config: AppConfig, facts: ModelFacts, app: Path) -> str:
    files = config.face_files()
    if files is None:
        return ""
    detector, mesh = (_sha256(app / name) for name in files)
    return other_files(facts.specification, detector, mesh, "the app")


def _scale_note(
    geometry: ScreenGeometry, wanted: Correction, app_pixels_per_degree: float | None
) -> str:
    """What the gain means on this screen, by the app's own way from angles to the dot."""
    scale = app_pixels_per_degree or APP_PIXELS_PER_DEGREE
    edge_px = geometry.center_x_px
    edge_deg = edge_px * geometry.deg_per_pixel
    dot_px, _ = wanted.dot_offset_px(edge_deg, 0.0, scale)
    note = (
        f"gain {wanted.yaw_gain:.4g}: for a look at the screen's edge, {edge_px:g} px from its "
        f"centre, the app's dot moves {dot_px:.0f} px ({dot_px / edge_px:.0%})"
    )
    if app_pixels_per_degree is None and not math.isclose(dot_px, edge_px, rel_tol=0.02):
        note += f"; --app-pixels-per-degree {scale:g} would put it on the target"
    return note


@contextmanager
def _locked(app: Path) -> Iterator[None]:
    """Hold the app's folder itself as a lock: no file stays behind, a kill lets go of it."""
    handle = os.open(app, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CustomGazeError(
                f"{app}: another deploy or rollback is at work there; wait until it is done"
            ) from None
        except OSError as error:
            raise CustomGazeError(f"{app}: cannot be locked ({error.strerror})") from None
        yield
    finally:
        os.close(handle)


@contextmanager
def _all_or_nothing(app: Path) -> Iterator[None]:
    """Finish or undo at once what an error or Ctrl-C interrupts; write errors in one line."""
    try:
        yield
    except BaseException as error:
        state = "half way; run the same command again"
        with suppress(OSError, CustomGazeError):
            outcome = recover(app, TOUCHED)
            state = "changed all the same" if outcome and outcome[1] else "as it was"
        if not isinstance(error, OSError):
            raise
        reason = error.strerror or str(error)
        raise CustomGazeError(
            f"{error.filename or app}: cannot be written ({reason}); the app's folder is {state}"
        ) from error


def _sha256(path: Path) -> str | None:
    return sha256_of(path) if path.is_file() else None
