"""What MLflow has of calibrations: every run that evaluated a model.

The project's own store is read as the SQLite file that it is, which takes milliseconds; MLflow's
own client, which a server needs, takes seconds to load.
"""

import math
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pydantic import ValidationError

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.stage_files import SHA256
from custom_gaze.common.untrusted import lies_inside, printable
from custom_gaze.config.session_ids import SESSION_ID
from custom_gaze.evaluation.tracking import addresses, store
from custom_gaze.history.revisions import Tested

MODEL, EXPERIMENT, COMMIT = "model_sha256", "dvc_experiment", "git_commit"
TAGS = (MODEL, EXPERIMENT, COMMIT, "sessions", "method", "base_kind", "trunk")
# A figure by its names: of a run's headline, and of the group of frames that it is of.
TEST = {name: (f"headline/{name}", f"test/{name}", name) for name in Tested.model_fields}
CROSS_SESSION = {
    name: (f"cross_session/{name}", *(("cross_session_deg",) if name == "error_deg" else ()))
    for name in Tested.model_fields
}
METRICS = {name for names in (TEST, CROSS_SESSION) for pair in names.values() for name in pair}
_MOST_FILES = 50  # of a run's, looked through for its model


@dataclass(frozen=True)
class Run:
    """One run; what it does not say is None or empty. `when_s` is in seconds since 1970."""

    id: str
    name: str
    experiment: str
    when_s: int
    commit: str
    sessions: tuple[str, ...]
    exported: str
    base: str
    model_sha256: str
    test: Tested | None
    cross_session: Tested | None
    folders: tuple[Path, ...]  # of its files and of its model's, where they are on this machine

    def model_files(self) -> list[Path]:
        """The ONNX files that it keeps here."""
        return [
            path
            for folder in self.folders
            for path in sorted(folder.rglob("*.onnx"))[:_MOST_FILES]
            if lies_inside(folder, path)
        ]


def runs(ask_a_server: bool) -> tuple[list[Run], str]:
    """Every run with a model, the oldest first, and why there are none where a store failed.

    A server takes seconds to answer, or does not: it is asked only where that is worth waiting for.
    """
    uri = addresses.tracking_uri()
    database = addresses.sqlite_file(uri)
    try:
        if not (ask_a_server if database is None else database.exists()):
            return [], ""
        found = _asked() if database is None else _read(database)
    except Exception as error:  # whatever a server, a database or a proxy may answer
        reason = printable(str(error).partition("\n")[0], 200) or type(error).__name__
        return [], f"MLflow's runs at {addresses.shown_uri(uri)} cannot be read ({reason})"
    return sorted(found, key=lambda run: run.when_s), ""


def _read(database: Path) -> list[Run]:
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as opened:
        rows = opened.execute(
            "SELECT run_uuid, name, start_time, artifact_uri FROM runs "
            "WHERE lifecycle_stage = 'active' "
            "AND run_uuid IN (SELECT run_uuid FROM tags WHERE key = ?)",
            [MODEL],
        ).fetchall()
        tags = _by_run(opened, "tags", TAGS)
        metrics = _by_run(opened, "latest_metrics", METRICS)
        models: dict[str, list[str]] = {}
        with suppress(sqlite3.Error):  # MLflow before version 3 has no such table
            for run, address in opened.execute(
                "SELECT source_run_id, artifact_location FROM logged_models"
            ):
                models.setdefault(run, []).append(address)
    return [
        _run(
            *(name, title, started, [address, *models.get(name, [])]),
            *(tags.get(name, {}), metrics.get(name, {})),
        )
        for name, title, started, address in rows
    ]


def _by_run(
    opened: sqlite3.Connection, table: str, keys: Iterable[str]
) -> dict[str, dict[str, str]]:
    wanted = sorted(keys)
    marks = ", ".join("?" * len(wanted))
    found: dict[str, dict[str, str]] = {}
    for run, key, value in opened.execute(
        f"SELECT run_uuid, key, value FROM {table} WHERE key IN ({marks})", wanted
    ):
        found.setdefault(run, {})[key] = value
    return found


def _asked() -> list[Run]:
    with store.quiet():
        client = store.open_store()
        experiments = [each.experiment_id for each in client.search_experiments()]
        found, token = [], None
        while experiments:
            page = client.search_runs(experiments, f"tags.{MODEL} != ''", page_token=token)
            found += list(page)
            token = page.token
            if not token:
                break
    return [
        _run(
            *(run.info.run_id, run.info.run_name, run.info.start_time, [run.info.artifact_uri]),
            *(run.data.tags, run.data.metrics),
        )
        for run in found
    ]


def _run(
    name: str,
    title: str | None,
    started_ms: int | None,
    addresses: list[str],
    tags: Mapping[str, str],
    metrics: Mapping[str, object],
) -> Run:
    sha256 = str(tags.get(MODEL, ""))
    places = [urlsplit(address or "") for address in addresses]
    return Run(
        id=printable(name, 40),
        name=printable(title or "", 80),
        experiment=printable(tags.get(EXPERIMENT, ""), 80),
        when_s=int(started_ms or 0) // 1000,
        commit=printable(tags.get(COMMIT, ""), 40),
        sessions=tuple(
            id for id in tags.get("sessions", "").split(",") if SESSION_ID.fullmatch(id)
        ),
        exported=printable(tags.get("method", ""), 20),
        base=printable(f"{tags.get('trunk', '')} {tags.get('base_kind', '')}".strip(), 60),
        model_sha256=sha256 if SHA256.fullmatch(sha256) else "",
        test=_tested(TEST, metrics),
        cross_session=_tested(CROSS_SESSION, metrics),
        folders=tuple(Path(url2pathname(each.path)) for each in places if each.scheme == "file"),
    )


def _tested(names: Mapping[str, tuple[str, ...]], metrics: Mapping[str, object]) -> Tested | None:
    said: dict[str, float | int] = {}
    for field, keys in names.items():
        value = next((metrics[key] for key in keys if key in metrics), None)
        if isinstance(value, (int, float)) and math.isfinite(value):
            said[field] = int(value) if field in ("frames", "targets") else float(value)
    with suppress(ValidationError, CustomGazeError):
        return Tested.model_validate(said)
    return None
