"""The evaluate stage: run the exported file on frames it never saw, and write the reports.

This is the only place that looks at the labels of the test targets.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.calibration.candidates import Candidates, read_candidates
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of, write_json, write_text
from custom_gaze.common.progress import bar
from custom_gaze.common.tables import read_columns
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import (
    Sample,
    labels_deg,
    load_crop,
    of_split,
    read_index,
    read_manifests,
    targets_of,
)
from custom_gaze.data.specification import read_specification
from custom_gaze.data.splits import CROSS_SESSION, TEST, TRAIN, VALIDATION
from custom_gaze.evaluation import plots, report
from custom_gaze.evaluation.comparisons import Answers, answers
from custom_gaze.evaluation.metrics import Measure, measure
from custom_gaze.evaluation.tracking import pending
from custom_gaze.faces import crops
from custom_gaze.geometry import ScreenGeometry, angular_error_deg
from custom_gaze.models.onnx_runtime import exported_session, predict_onnx
from custom_gaze.weights.base import read_base

SEEN_FRAMES = 100  # training frames looked at to tell fitting from generalising


@dataclass(frozen=True)
class EvaluateResult:
    """What `custom-gaze evaluate` says it did."""

    metrics: dict[str, Any]
    tracked: str  # where MLflow recorded it, or why it did not


def run(params: Params, paths: Paths) -> EvaluateResult:
    """Measure models/custom_gaze.onnx on the test targets and on other sessions (cross-session).

    Beside it the other candidates and what a user has without training are measured.

    Raises:
        InputError: the model, the index, a crop, the base network or the candidates are missing
            or damaged.
    """
    samples = read_index(paths.index)
    log = read_columns(paths.training_log)
    geometry = read_specification(paths.specification).geometry
    session = exported_session(paths.model, paths.checkpoint)
    facts = _facts(session, samples, paths)
    known = tuple(sample for sample in samples if sample.split in (TRAIN, VALIDATION))
    trained_on = [sample for sample in known if sample.split in facts["trained_on"]]
    seen = tuple(trained_on[:: max(1, -(-len(trained_on) // SEEN_FRAMES))])
    groups = {
        "test": of_split(samples, TEST),
        "cross_session": of_split(samples, CROSS_SESSION),
        "train": seen,
    }
    predicted = {name: _predict(session, group, paths) for name, group in groups.items() if group}
    groups = {name: groups[name] for name in predicted}
    candidates = read_candidates(paths.candidates)
    if facts["method"] != candidates.method:
        raise InputError(
            f"{paths.model}: is the {facts['method'].label}, and {paths.candidates} has chosen "
            f"the {candidates.method.label}; run `custom-gaze export` again"
        )
    if read_base(paths.base).sha256 != facts["base"].get("sha256"):
        raise InputError(
            f"{paths.base}: is not the base network that {paths.model} was made from; "
            "run `custom-gaze train` and `custom-gaze export` again"
        )
    seed = params.evaluate.seed
    beside = answers(candidates, facts["method"], known, groups, predicted, seed, paths)

    metrics: dict[str, Any] = {"choice": _choice(candidates, facts["method"])}
    for name in predicted:
        metrics[name] = _measure(predicted[name], groups[name], geometry).as_dict()
        metrics[name].update(_beside_deg(beside, name, groups[name], geometry))
    sessions = _by_session(predicted, groups, beside, geometry)
    facts["correction"] = beside.correction

    write_json(paths.metrics, metrics)
    write_json(paths.session_metrics, sessions)
    rows = _prediction_rows(predicted, groups, geometry)
    write_text(paths.predictions, _as_csv(rows))
    plots.draw(rows, log, paths, geometry)
    report.write_html(metrics, sessions, facts, paths)
    tracked = pending.record(params, paths, metrics, sessions, facts)
    return EvaluateResult(metrics, tracked)


def _predict(session: Any, samples: Sequence[Sample], paths: Paths) -> NDArray[np.float32]:
    """(N, 2) [yaw, pitch] in degrees."""
    answers = [
        predict_onnx(session, crops.normalise(load_crop(sample, paths)[None]))
        for sample in bar(samples, "evaluating", unit="crops")
    ]
    return np.concatenate(answers)


def _measure(
    predicted: NDArray[np.floating], samples: Sequence[Sample], geometry: ScreenGeometry
) -> Measure:
    targets = targets_of(samples).tolist()
    return measure(predicted, labels_deg(samples), targets, geometry.deg_per_pixel)


def _choice(candidates: Candidates, exported: Candidate) -> dict[str, Any]:
    """What is exported, why, and each candidate's error on targets that its fit had not seen."""
    held_out = {
        name.held_out: round(candidates.held_out_deg[name], 3)
        for name in Candidate
        if name in candidates.held_out_deg
    }
    return {"exported": exported, "reason": candidates.reason, **held_out}


def _beside_deg(
    beside: Answers,
    name: str,
    some: Sequence[Sample],
    geometry: ScreenGeometry,
    rows: Sequence[int] | None = None,
) -> dict[str, float]:
    """Mean error in degrees of everything in `beside` on a group, or on some rows of it."""
    picked = slice(None) if rows is None else list(rows)
    return {
        key: _measure(of_group[name][picked], some, geometry).as_dict()["error_deg"]
        for key, of_group in beside.angles_deg.items()
    }


def _by_session(
    predicted: dict[str, NDArray[np.float32]],
    groups: dict[str, tuple[Sample, ...]],
    beside: Answers,
    geometry: ScreenGeometry,
) -> dict[str, Any]:
    """Per session: what it was tested as, the model's measure, the errors beside it."""
    sessions: dict[str, Any] = {}
    for name in ("test", "cross_session"):
        if name not in groups:
            continue
        for session_id in dict.fromkeys(sample.session for sample in groups[name]):
            mine = [i for i, sample in enumerate(groups[name]) if sample.session == session_id]
            some = [groups[name][i] for i in mine]
            sessions[session_id] = {
                "tested_as": "held-out targets" if name == "test" else "another session",
                **_measure(predicted[name][mine], some, geometry).as_dict(),
                **_beside_deg(beside, name, some, geometry, mine),
            }
    return sessions


def _facts(session: Any, samples: Sequence[Sample], paths: Paths) -> dict[str, Any]:
    """What the report and MLflow say of the model beside its errors.

    Raises:
        InputError: the model is none that `custom-gaze export` writes.
    """
    metadata = session.get_modelmeta().custom_metadata_map
    try:
        method = Candidate(metadata["custom_gaze.method"])
        trained_on = json.loads(metadata["custom_gaze.trained_on"])
        base = json.loads(metadata["custom_gaze.base"])
        known = {TRAIN, VALIDATION}.issuperset(trained_on)
        if not (known and trained_on and isinstance(base, dict)):
            raise ValueError
    except (KeyError, ValueError, TypeError, RecursionError):
        raise InputError(
            f"{paths.model}: does not say what it was trained on, as the models of this version "
            "do; run `custom-gaze export` again"
        ) from None
    return {
        "trunk": metadata.get("custom_gaze.trunk", ""),
        "method": method,
        "base": base,
        "code_version": metadata.get("custom_gaze.code_version", ""),
        "model_sha256": sha256_of(paths.model),
        "dataset_sha256": sha256_of(paths.index),
        "trained_on": trained_on,
        "train_frames": sum(sample.split in trained_on for sample in samples),
        "manifests": read_manifests(paths.index_manifests),
    }


def _prediction_rows(
    predicted: dict[str, NDArray[np.float32]],
    groups: dict[str, tuple[Sample, ...]],
    geometry: ScreenGeometry,
) -> list[dict[str, Any]]:
    """One row a tested frame: target and answer in pixels, error in degrees."""
    rows = []
    for name in ("test", "cross_session"):
        if name not in predicted:
            continue
        points = geometry.to_pixels(predicted[name])
        errors = angular_error_deg(predicted[name], labels_deg(groups[name]))
        for sample, point, error in zip(groups[name], points, errors, strict=True):
            rows.append(
                {
                    "session": sample.session,
                    "filename": sample.filename,
                    "tested_as": name,
                    "target": sample.target,
                    "target_x": round(sample.target_x_px, 2),
                    "target_y": round(sample.target_y_px, 2),
                    "predicted_x": round(float(point[0]), 2),
                    "predicted_y": round(float(point[1]), 2),
                    "error_deg": round(float(error), 3),
                }
            )
    return rows


def _as_csv(rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
