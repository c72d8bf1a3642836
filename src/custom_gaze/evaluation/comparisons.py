"""What is measured: for groups of frames the exported file's predictions, and beside them, for the
same frames, those of the other candidates, of the base network and of a constant."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from custom_gaze.calibration.base_features import BaseFeatures, base_features_of
from custom_gaze.calibration.candidates import Candidates, closed_predictions
from custom_gaze.calibration.corrections import CORRECTIONS, best_held_out
from custom_gaze.common.console import bar
from custom_gaze.common.errors import InputError
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample, labels_deg, load_crop, targets_of
from custom_gaze.evaluation.metrics import measure
from custom_gaze.evaluation.results import TESTED_AS, Figures, PredictionRow
from custom_gaze.faces.crops import normalise
from custom_gaze.geometry import ScreenGeometry, angular_error_deg
from custom_gaze.models.checkpoint import CORRECTED
from custom_gaze.models.devices import SideBySide
from custom_gaze.weights.base import BaseNetwork

Angles = NDArray[np.floating]  # (N, 2) [yaw, pitch] in degrees
# From crops (N, 3, H, W), normalised; threads may ask at the same time.
Run = Callable[[NDArray[np.float32]], Angles]
NO_CORRECTION = "none"  # for a base without angles


@dataclass(frozen=True)
class Predictors:
    """All that predicts: the exported file, the base network, and the candidates, of which
    `candidates.method` is what the file holds."""

    exported: Run
    base: BaseNetwork
    candidates: Candidates


@dataclass(frozen=True)
class Predictions:
    """Predictions for a group of N frames, (N, 2) [yaw, pitch] in degrees each.

    Attributes:
        name: TEST, CROSS_SESSION or TRAIN.
        samples: the N frames.
        exported_deg: the exported file's.
        compared_deg: those beside it, by their keys in the metrics ("constant_deg" …).
        features: what the base network makes of the frames; None for one without angles.
    """

    name: str
    samples: tuple[Sample, ...]
    exported_deg: Angles
    compared_deg: Mapping[str, Angles]
    features: BaseFeatures | None = None

    def figures(self, geometry: ScreenGeometry) -> Figures:
        """The errors, rounded as the reports have them."""
        true_deg, targets = labels_deg(self.samples), targets_of(self.samples).tolist()
        exported = measure(self.exported_deg, true_deg, targets, geometry.deg_per_pixel)
        compared = {
            key: round(float(angular_error_deg(predicted_deg, true_deg).mean()), 3)
            for key, predicted_deg in self.compared_deg.items()
        }
        return Figures.model_validate({**exported.as_dict(), **compared})

    def by_session(self) -> dict[str, "Predictions"]:
        """The same, session by session, by their ids in the order of the frames."""
        rows: dict[str, list[int]] = {}
        for row, sample in enumerate(self.samples):
            rows.setdefault(sample.session, []).append(row)
        return {session: self._rows(mine) for session, mine in rows.items()}

    def _rows(self, wanted: list[int]) -> "Predictions":
        return replace(
            self,
            samples=tuple(self.samples[row] for row in wanted),
            exported_deg=self.exported_deg[wanted],
            compared_deg={key: angles[wanted] for key, angles in self.compared_deg.items()},
            features=None if self.features is None else self.features.rows(np.array(wanted)),
        )

    def table(self, geometry: ScreenGeometry) -> list[PredictionRow]:
        """The exported file's predictions as lines of predictions.csv."""
        points = geometry.to_pixels(self.exported_deg)
        errors = angular_error_deg(self.exported_deg, labels_deg(self.samples))
        return [
            PredictionRow(
                session=sample.session,
                filename=sample.filename,
                tested_as=self.name,
                target=sample.target,
                target_x=round(sample.target_x_px, 2),
                target_y=round(sample.target_y_px, 2),
                predicted_x=round(float(point[0]), 2),
                predicted_y=round(float(point[1]), 2),
                error_deg=round(float(error), 3),
            )
            for sample, point, error in zip(self.samples, points, errors, strict=True)
        ]


@dataclass(frozen=True)
class Comparison:
    """Every group's predictions, and the best of the app's corrections.

    Attributes:
        correction: its name.
        correction_held_out_deg: (N,) its error on each frame of `known` by fits that had not seen
            its target; None for a base without angles.
        groups: of frames that were predicted.
        known: all frames that training could use.
        known_features: what the base network makes of these; None for one without angles.
    """

    correction: str
    correction_held_out_deg: NDArray[np.float64] | None
    groups: tuple[Predictions, ...]
    known: tuple[Sample, ...]
    known_features: BaseFeatures | None

    def tested(self) -> list[Predictions]:
        """The groups of frames that were not trained on."""
        return [group for group in self.groups if group.name in TESTED_AS]


def compare(
    predictors: Predictors,
    known: Sequence[Sample],
    groups: Mapping[str, tuple[Sample, ...]],
    seed: int,
    paths: Paths,
) -> Comparison:
    """Predict groups of frames by the exported file, all candidates, the base as it is, its best
    correction and a constant.

    The best correction is what a user has without this project: the one of the app's, its support
    vector regressor among them, that cross-validation prefers, fitted on the same frames as the
    candidates' closed forms. The corrected base, a candidate, is the best polynomial alone.

    Args:
        predictors: what predicts.
        known: all frames that training could use; the mean of their targets is the constant.
        groups: the frames to predict, by group; without frames a group is left out.
        seed: of the folds that choose the best correction.
        paths: where the crops lie.

    Raises:
        InputError: a crop cannot be read, or the candidates are not made from the base network.
    """
    candidates = predictors.candidates
    constant = labels_deg(known).mean(axis=0, dtype=np.float64)
    from_base = _FromBase(predictors, known, seed, paths) if candidates.closed else None
    tuned = None
    if candidates.fine_tuned is not None and candidates.method != Candidate.FINETUNE:
        tuned = _fine_tuned(predictors, paths)
    predictions = []
    for name, samples in groups.items():
        if not samples:
            continue
        exported = _predicted(predictors.exported, samples, "evaluating", paths)
        frames = from_base.features(samples) if from_base else None
        compared = {
            "constant_deg": np.broadcast_to(constant, (len(samples), 2)),
            **(from_base.predict(frames) if from_base and frames else {}),
            candidates.method.metric: exported,
        }
        if tuned is not None:
            compared[Candidate.FINETUNE.metric] = _predicted(tuned, samples, "fine-tuned", paths)
        predictions.append(Predictions(name, samples, exported, compared, frames))
    return Comparison(
        correction=from_base.best.name if from_base else NO_CORRECTION,
        correction_held_out_deg=from_base.held_out_deg if from_base else None,
        groups=tuple(predictions),
        known=tuple(known),
        known_features=from_base.known if from_base else None,
    )


def _predicted(run: Run, samples: Sequence[Sample], what: str, paths: Paths) -> Angles:
    """(N, 2), as many crops at once as there are threads, each alone."""

    def one(sample: Sample) -> Angles:
        return run(normalise(load_crop(sample, paths)[None]))

    predicted = SideBySide().map(one, samples)
    return np.concatenate(list(bar(predicted, what, len(samples), "crops")))


class _FromBase:
    """What needs no more than the base network's features and angles of a frame; `known` are those
    of the frames to calibrate on, `best` is the best of the app's corrections, fitted on them, and
    `held_out_deg` its error on each of them by fits that had not seen its target."""

    def __init__(
        self, predictors: Predictors, known: Sequence[Sample], seed: int, paths: Paths
    ) -> None:
        base, self._closed = predictors.base, predictors.candidates.closed
        spec = base.spec
        if base.heads is None or self._closed[Candidate.BASE].weight.shape[1] != spec.features:
            raise _not_made_from(paths)
        share = predictors.candidates.inner_share
        network = base.network(spec.frozen_through, inner_share=share)
        self._base_features = partial(base_features_of, network, base.heads, paths=paths)
        self.known = frames = self._base_features(samples=known)
        self._row = {sample: row for row, sample in enumerate(known)}
        fitted_on = frames.app_deg, frames.true_deg, frames.targets
        self.best, self.held_out_deg = best_held_out(*fitted_on, seed, among=tuple(CORRECTIONS))

    def features(self, samples: Sequence[Sample]) -> BaseFeatures:
        """Of any frames; those to calibrate on went through already."""
        if all(sample in self._row for sample in samples):
            return self.known.rows(np.array([self._row[sample] for sample in samples]))
        found: BaseFeatures = self._base_features(samples=samples)
        return found

    def predict(self, frames: BaseFeatures) -> dict[str, Angles]:
        """The base's angles, the best correction's and the closed forms', each by its key."""
        return {
            "base_deg": frames.app_deg,
            "best_correction_deg": self.best.predict(frames.app_deg),
            **{
                name.metric: angles
                for name, angles in closed_predictions(self._closed, frames).items()
            },
        }


def _fine_tuned(predictors: Predictors, paths: Paths) -> Run:
    base, candidates = predictors.base, predictors.candidates
    assert candidates.fine_tuned is not None
    head = None
    if candidates.head == CORRECTED and base.heads is not None:
        head = base.heads.blank()
    network = base.network(candidates.frozen_through, head, candidates.inner_share)
    try:
        network.load_trained_state(candidates.fine_tuned)
    except (ValueError, RuntimeError):
        raise _not_made_from(paths) from None
    network.to(memory_format=torch.channels_last)

    def run(x: NDArray[np.float32]) -> Angles:
        with torch.inference_mode():
            angles: Angles = network(torch.from_numpy(x)).numpy()
        return angles

    return run


def _not_made_from(paths: Paths) -> InputError:
    return InputError(
        f"{paths.candidates}: not made from {paths.base}; run `custom-gaze train` again"
    )
