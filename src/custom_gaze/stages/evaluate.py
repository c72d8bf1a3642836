"""The evaluate stage: run the exported file on frames it was not trained on, write the reports.

This is the only place that looks at the labels of the test targets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from custom_gaze.calibration.candidates import Candidates, read_candidates
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import (
    Sample,
    of_split,
    read_index,
    read_manifests,
    read_specification,
    targets_of,
)
from custom_gaze.data.splits import CROSS_SESSION, TEST, TRAIN, VALIDATION
from custom_gaze.evaluation import plots
from custom_gaze.evaluation.comparisons import Comparison, Predictors, compare
from custom_gaze.evaluation.headline import CrossValidated, headline_of
from custom_gaze.evaluation.page.write import write_pages
from custom_gaze.evaluation.results import (
    Evaluation,
    Metrics,
    Provenance,
    SessionFigures,
    read_training_log,
    write_results,
)
from custom_gaze.evaluation.tracking import pending
from custom_gaze.evaluation.tracking.record import files_of, record_of
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.models.onnx_metadata import ModelMetadata, no_metadata
from custom_gaze.models.onnx_runtime import exported_session, predict_onnx
from custom_gaze.weights.base import read_base

TRAIN_FRAMES = 100  # frames trained on that are looked at, to tell fitting from generalising


@dataclass(frozen=True)
class EvaluateResult:
    """What `custom-gaze evaluate` says it did."""

    metrics: Metrics
    tracked: str  # where MLflow recorded it, or why it did not


def run(params: Params, paths: Paths) -> EvaluateResult:
    """Measure models/custom_gaze.onnx on the test targets and on other sessions (cross-session).

    Beside it the other candidates and what a user has without training are measured.

    Raises:
        InputError: the model, the index, a crop, the base network or the candidates are missing
            or damaged, or not made from each other.
    """
    samples = read_index(paths.index)
    log = read_training_log(paths.training_log)
    geometry = read_specification(paths.specification).geometry
    manifests = read_manifests(paths.index_manifests)
    session = exported_session(paths.model, paths.checkpoint, threads=1)
    model = ModelMetadata.from_props(session.get_modelmeta().custom_metadata_map, paths.model)
    predictors = Predictors(
        exported=partial(predict_onnx, session),
        base=read_base(paths.base),
        candidates=read_candidates(paths.candidates),
    )
    _check_of_one_training(model, predictors, paths)

    known = [sample for sample in samples if sample.split in (TRAIN, VALIDATION)]
    trained_on = [sample for sample in known if sample.split in model.trained_on]
    every = max(1, math.ceil(len(trained_on) / TRAIN_FRAMES))
    groups = {
        TEST: of_split(samples, TEST),
        CROSS_SESSION: of_split(samples, CROSS_SESSION),
        TRAIN: tuple(trained_on[::every]),
    }
    comparison = compare(predictors, known, groups, params.evaluate.seed, paths)
    evaluation = Evaluation(
        metrics=_metrics(
            comparison,
            predictors.candidates,
            _crossed(comparison, predictors.candidates, samples, paths),
            geometry,
        ),
        sessions=[
            SessionFigures(name, group.name, mine.figures(geometry))
            for group in comparison.tested()
            for name, mine in group.by_session().items()
        ],
        predictions=[row for group in comparison.tested() for row in group.table(geometry)],
        log=log,
        provenance=Provenance(
            model=model,
            model_sha256=sha256_of(paths.model),
            dataset_sha256=sha256_of(paths.index),
            train_frames=len(trained_on),
            manifests=manifests,
            correction=comparison.correction,
        ),
    )
    write_results(evaluation, paths)
    plots.draw(evaluation, paths, geometry)
    write_pages(evaluation, comparison, params.evaluate.show_faces, params.evaluate.seed, paths)
    tracked = pending.record(record_of(params, evaluation), files_of(paths))
    return EvaluateResult(evaluation.metrics, tracked)


def _check_of_one_training(model: ModelMetadata, predictors: Predictors, paths: Paths) -> None:
    """Check that the exported file, the candidates and the base network belong together.

    Raises:
        InputError: they do not; the message says what to run.
    """
    if not model.trained_on or not {TRAIN, VALIDATION}.issuperset(model.trained_on):
        raise no_metadata(paths.model)
    if model.method != predictors.candidates.method:
        raise InputError(
            f"{paths.model}: is the {model.method.label}, and {paths.candidates} has chosen "
            f"the {predictors.candidates.method.label}; run `custom-gaze export` again"
        )
    if model.checkpoint_sha256 != predictors.candidates.checkpoint_sha256:
        raise InputError(
            f"{paths.candidates}: is of another training than {paths.model}; "
            "run `custom-gaze train` and `custom-gaze export` again"
        )
    if predictors.base.sha256 != model.base.sha256:
        raise InputError(
            f"{paths.base}: is not the base network that {paths.model} was made from; "
            "run `custom-gaze train` and `custom-gaze export` again"
        )


def _crossed(
    comparison: Comparison, candidates: Candidates, samples: Sequence[Sample], paths: Paths
) -> CrossValidated | None:
    """What `train` measured on calibration targets held out; None where it did not."""
    errors = candidates.cross_validated_deg
    known = *of_split(samples, TRAIN), *of_split(samples, VALIDATION)  # as `train` had them
    if not errors:
        return None
    if len(errors) != len(known):
        raise InputError(
            f"{paths.candidates}: is of {len(errors)} frames, and {paths.index} has {len(known)} "
            "to calibrate on; run `custom-gaze train` and `custom-gaze export` again"
        )
    held_out = np.isfinite(errors)  # in a fold that `train` needed
    correction = comparison.correction_held_out_deg
    return CrossValidated(
        np.array(errors)[held_out],
        targets_of(known)[held_out].tolist(),
        None if correction is None else float(correction[held_out].mean()),
    )


def _metrics(
    comparison: Comparison,
    candidates: Candidates,
    crossed: CrossValidated | None,
    geometry: ScreenGeometry,
) -> Metrics:
    held_out = {name.held_out: round(e, 3) for name, e in candidates.held_out_deg.items()}
    choice = {"exported": candidates.method, "reason": candidates.reason, **held_out}
    figures = {group.name: group.figures(geometry) for group in comparison.groups}
    test = figures[TEST]
    correction_deg = test.best_correction_deg
    headline = headline_of(test, correction_deg, crossed, geometry.deg_per_pixel)
    return Metrics.model_validate({"headline": headline, "choice": choice, **figures})
