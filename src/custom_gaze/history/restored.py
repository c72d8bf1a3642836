"""Experiments that DVC took from its cache whole: no stage ran, so nobody told MLflow of them."""

import hashlib
import json
import math
from pathlib import Path

from custom_gaze.common.errors import InputError
from custom_gaze.config.params import TrackingParams
from custom_gaze.config.paths import Paths
from custom_gaze.data.git_index import git
from custom_gaze.evaluation.tracking import pending
from custom_gaze.evaluation.tracking.record import EVALUATED, MODEL, PROGRESS_TAG, Record
from custom_gaze.history.calibrations import Calibration, history
from custom_gaze.history.revisions import METRICS, Revision

MOST_FIGURES = 100


def record_restored(tracking: TrackingParams, paths: Paths) -> list[str]:
    """Record each DVC experiment that MLflow has no run of, as what it is; returns what to tell.

    A store or a DVC configuration that cannot be read is tried again by the next command.
    """
    try:
        known = history(paths)
    except InputError:
        return []
    if known.notes:
        return []
    recorded = {run.experiment for each in known.calibrations for run in each.runs} | _waiting()
    return [
        f"{each.name}: from DVC's cache; {pending.record(*_recorded(each, made, tracking, paths))}"
        for made in known.calibrations
        for each in made.revisions
        if each.baseline and each.name not in recorded
    ]


def _waiting() -> set[str]:
    """The experiments whose runs wait to be delivered."""
    found = set()
    for folder in pending.waiting():
        try:
            found.add(pending.read_record(folder).tags.get("dvc_experiment", ""))
        except InputError:
            continue
    return found


def _recorded(
    each: Revision, made: Calibration, tracking: TrackingParams, paths: Paths
) -> tuple[Record, list[tuple[Path, str]]]:
    said, when_ms = each.said, each.when_s * 1000
    tags = {
        "sessions": ",".join(said.sessions),
        "evaluate_sessions": ",".join(said.tested_on),
        "git_commit": each.baseline,
        "dvc_experiment": each.name,
        "base": made.base,
        "method": made.exported,
        "model_sha256": made.sha256,
        "training": "cached",
        "evaluation": "cached",
        PROGRESS_TAG: EVALUATED,
    }
    record = Record(
        # Of the commit: asked for again after a crash, it is the same one.
        id=hashlib.sha256(each.commit.encode()).hexdigest()[:32],
        experiment=tracking.experiment,
        run_name=each.name,
        start_ms=when_ms,
        params={"sessions": ",".join(said.sessions)},
        tags={name: value for name, value in tags.items() if value},
        metrics=[(name, value, 0) for name, value in _figures(each.commit, paths)],
        end_ms=when_ms,
    )
    return record, [(made.model.path, MODEL)] if made.model is not None else []


def _figures(commit: str, paths: Paths) -> list[tuple[str, float]]:
    """The numbers of its metrics.json; none where it has another form."""
    shown = git(paths.root, "show", f"{commit}:./{METRICS}")
    try:
        read = json.loads(shown.stdout) if shown is not None and shown.returncode == 0 else {}
        numbers = [(str(name), value) for name, value in read.items()]
    except (ValueError, AttributeError, RecursionError):
        return []
    return [
        (name, float(value))
        for name, value in numbers[:MOST_FIGURES]
        if name.isidentifier()
        and type(value) in (int, float)
        and abs(value) < 1e12
        and math.isfinite(value)
    ]
