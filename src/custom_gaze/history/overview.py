"""`custom-gaze history`: all calibrations, measured on one session, as a table and as a picture."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel

from custom_gaze.common.console import aligned
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.evaluation.metrics import Measure
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.history.calibrations import Calibration, history
from custom_gaze.history.comparison import shown
from custom_gaze.history.deployments import Deployment, deployments
from custom_gaze.history.kept import Kept
from custom_gaze.history.reference import (
    Measurable,
    Measured,
    Reference,
    measured,
    reference_for,
)
from custom_gaze.history.revisions import WORKSPACE, Tested

NONE = "–"
TRAINED = "trained on it"
CROSSED = " *"
# Said once below the table where all agree, and left out first where the terminal is narrow.
COMMON = ("screen", "base", "exported")
MOST_NAMES = 4  # of those with the same problem
WIDTH_UNKNOWN = 200  # where the output is no terminal


@dataclass(frozen=True)
class Row:
    """One calibration; None and nothing where something is not known.

    `found_in` is git (a commit), experiment (of DVC), workspace, or MLflow (git has it no more).
    `on_reference` is its error on the reference session, in degrees; where it was
    `trained_on_reference`, that is no figure to compare.
    """

    when: datetime
    name: str
    found_in: str
    commit: str
    sessions: tuple[str, ...]
    screen: ScreenGeometry | None
    base: str
    exported: str
    test: Tested | None
    cross_session: Tested | None
    on_reference: Measure | None
    trained_on_reference: bool
    problem: str
    deployed: tuple[datetime, ...]
    is_live: bool
    model_sha256: str
    mlflow_runs: tuple[str, ...]


@dataclass(frozen=True)
class Overview:
    """All calibrations, the oldest first. `reference` is a session's id, '' where there is none."""

    reference: str
    reference_why: str
    calibrations: tuple[Row, ...]
    notes: tuple[str, ...]
    picture: Path | None

    def lines(self) -> list[str]:
        """The table for a person, and below it what explains it."""
        if not self.calibrations:
            return ["no calibration was made here yet; run `dvc repro` or `dvc exp run`"]
        columns = self._columns()
        left_out = [name for name, cells in columns.items() if set(cells) <= {"", NONE}]
        agreed = [
            name
            for name in COMMON
            if len(set(columns[name])) == 1 < len(columns[name]) and name not in left_out
        ]
        left_out += agreed
        shown_columns = {name: cells for name, cells in columns.items() if name not in left_out}
        width = shutil.get_terminal_size((WIDTH_UNKNOWN, 24)).columns
        for name in ("commit", *COMMON, "made", "deployed"):
            table = _table(shown_columns)
            if max(map(len, table)) <= width:
                break
            if name == "made":  # the day is enough
                shown_columns[name] = [cell.partition(" ")[0] for cell in shown_columns[name]]
            else:
                shown_columns.pop(name, None)
        lines = _table(shown_columns)
        if agreed:
            lines.append("all: " + ", ".join(f"{name} {columns[name][0]}" for name in agreed))
        if any(cell.endswith(CROSSED) for cell in columns["test error"]):
            lines.append("* cross-validated over the calibration targets, for want of test targets")
        if self.reference:
            lines.append(f"{self.reference} is {self.reference_why}; another: --reference SESSION")
        for problem in dict.fromkeys(row.problem for row in self.calibrations if row.problem):
            names = [row.name for row in self.calibrations if row.problem == problem]
            more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
            lines.append(f"{', '.join(names[:MOST_NAMES])}{more}: {problem}")
        lines += self.notes
        return [*lines, f"→ {self.picture}"] if self.picture else lines

    def _columns(self) -> dict[str, list[str]]:
        rows = self.calibrations
        on = f"on {self.reference}" if self.reference else "on a reference"
        return {
            "calibration": [row.name for row in rows],
            "made": [f"{row.when.astimezone():%Y-%m-%d %H:%M}" for row in rows],
            "commit": [_commit(row) for row in rows],
            "sessions": [_short(row.sessions) for row in rows],
            "screen": [_screen(row.screen) for row in rows],
            "base": [row.base or NONE for row in rows],
            "exported": [row.exported or NONE for row in rows],
            "test error": [_tested(row.test) for row in rows],
            on: [_on_reference(row) for row in rows],
            "deployed": [_deployed(row) for row in rows],
        }


def run(
    params: Params, paths: Paths, named: str | None = None, picture: Path | None = None
) -> Overview:
    """List and measure all calibrations; the picture goes to `picture`, or reports/history.png.

    Raises:
        InputError: the session `named` is not prepared, or `picture` is no .png.
        CustomGazeError: the picture cannot be written.
    """
    if picture is not None and picture.suffix.lower() != ".png":
        raise InputError(f"{picture}: the picture is written as PNG; give it a name ending in .png")
    known = history(paths)
    models = [
        Measurable(each.model, each.index_md5) if each.model else None
        for each in known.calibrations
    ]
    here = [each for each in models if each is not None]
    notes = list(known.notes)
    reference = reference_for(here, params, paths, named)
    found: list[Measured | None] = [None] * len(models)
    if reference is not None:
        found = measured(models, reference, paths)
    elif known.calibrations:
        notes.append("no session is prepared here, so there is no common figure: `dvc repro`")
    live = live_models(deployments(paths))
    rows = tuple(_row(*each, live) for each in zip(known.calibrations, found, strict=True))
    drawn = None
    if reference is not None and any(row.on_reference for row in rows):
        drawn = picture or paths.history_plot
        _draw(rows, reference, drawn, paths)
    session, why = (reference.session, reference.why) if reference else ("", "")
    return Overview(session, why, rows, tuple(notes), drawn)


def live_models(journal: Sequence[Deployment]) -> set[str]:
    """The SHA-256 of what is live in each app's folder, by the journal's last line on it."""
    return {each.model_sha256 for each in {each.app: each for each in journal}.values()} - {""}


def _row(each: Calibration, found: Measured | None, live: set[str]) -> Row:
    return Row(
        when=datetime.fromtimestamp(each.when_s, timezone.utc),
        name=each.name,
        found_in=_found_in(each),
        commit=each.commit,
        sessions=each.sessions,
        screen=each.screen,
        base=each.base,
        exported=each.exported,
        test=each.test,
        cross_session=each.cross_session,
        on_reference=found.figures if found else None,
        trained_on_reference=bool(found and found.trained_on),
        problem=each.missing or (found.problem if found else ""),
        deployed=tuple(entry.at for entry in each.deployed),
        is_live=each.sha256 in live,
        model_sha256=each.sha256,
        mlflow_runs=tuple(run.id for run in each.runs),
    )


def _found_in(each: Calibration) -> str:
    if each.gone:
        return "MLflow"
    if any(one.commit and not one.baseline for one in each.revisions):
        return "git"
    return "experiment" if each.commit else WORKSPACE


class Drawn(BaseModel):
    """What was drawn last into a file, and what the file was then."""

    rows_sha256: str
    picture_sha256: str


def _draw(rows: Sequence[Row], reference: Reference, path: Path, paths: Paths) -> None:
    """Draw the trend; a picture that shows it already stays, for matplotlib takes a second."""
    kept, place = Kept(Drawn, paths), _sha256(str(path.resolve()))
    drawn, now = kept.get(place), _sha256(f"{reference!r}{rows!r}")
    is_there = drawn and path.is_file() and sha256_of(path) == drawn.picture_sha256
    if drawn and is_there and drawn.rows_sha256 == now:
        return
    _draw_anew(rows, reference, path)
    kept.put(place, Drawn(rows_sha256=now, picture_sha256=sha256_of(path)))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _draw_anew(rows: Sequence[Row], reference: Reference, path: Path) -> None:
    from custom_gaze.evaluation.trend_plot import TrendPoint, draw_trend

    points = [
        TrendPoint(
            name=row.name,
            when=row.when.astimezone(),
            figures=row.on_reference,
            trained_on=row.trained_on_reference,
            test_error_deg=row.test.error_deg if row.test else None,
            is_live=row.is_live,
        )
        for row in rows
    ]
    draw_trend(points, reference.session, path)


def _table(columns: dict[str, list[str]]) -> list[str]:
    rows = list(zip(*columns.values(), strict=True))
    return aligned(list(columns), rows).split("\n")


def _commit(row: Row) -> str:
    if row.found_in == "MLflow":
        return "MLflow alone"
    return row.commit[:7] or "not committed"


def _short(sessions: Sequence[str]) -> str:
    text = "+".join(sessions) or NONE
    return text if len(text) <= 30 else f"{sessions[0]} and {len(sessions) - 1} more"


def _screen(screen: ScreenGeometry | None) -> str:
    return f"{2 * screen.center_x_px:g}x{2 * screen.center_y_px:g}" if screen else NONE


def _tested(test: Tested | None) -> str:
    if test is None:
        return NONE
    return f"{test}{CROSSED if test.measured == 'cross-validated' else ''}"


def _on_reference(row: Row) -> str:
    if row.on_reference is None:
        return NONE
    if row.trained_on_reference:
        return f"{TRAINED}: {row.on_reference.error_deg:.2f}°"
    return shown(row.on_reference)


def _deployed(row: Row) -> str:
    if not row.deployed:
        return "live" if row.is_live else ""
    last = f"{row.deployed[-1].astimezone():%Y-%m-%d}"
    return f"{last}, live" if row.is_live else last
