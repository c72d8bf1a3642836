"""What bench/accuracy.py compares: each method calibrates on the same frames of a person."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from accuracy_person import PARAMS, SEED, Person, Settings
from accuracy_results import OTHER, SAME, Interval, Measures, Outcome, Remark
from accuracy_views import Views, sample_rows, views_of
from custom_gaze.calibration.base_features import BaseFeatures
from custom_gaze.calibration.calibrate import Calibrated, calibrate
from custom_gaze.calibration.calibration_set import CalibrationSet, Validation
from custom_gaze.calibration.candidates import Closed, closed_forms, closed_predictions
from custom_gaze.calibration.corrections import CORRECTIONS, best_correction
from custom_gaze.calibration.feature_cache import Part
from custom_gaze.calibration.recipe import Recipe, fitted
from custom_gaze.calibration.starting_head import trunk_network
from custom_gaze.calibration.trainer import Trainer, predict
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.params import TrainParams
from custom_gaze.evaluation.metrics import mean_interval
from custom_gaze.geometry import angular_error_deg
from custom_gaze.models.network import GazeNetwork, trunk_spec
from custom_gaze.weights.base import BaseNetwork


@dataclass(frozen=True)
class Case:
    """One calibration: a person, a base network, k targets."""

    person: Person
    base: BaseNetwork
    views: Views
    settings: Settings
    k: int
    device: torch.device
    state_path: Path  # for what an interrupted training leaves
    made: list[tuple[Calibrated, NDArray[np.float64]]] = field(default_factory=list, repr=False)

    def whole(self) -> Views:
        """Of whole crops, whatever the product looks at."""
        told = self.person, self.base, self.settings, (self.k,), self.device
        return views_of(*told, self.state_path.with_suffix(".whole"), inner_share=1.0)

    @property
    def known(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """The calibration's base angles (M, 2), labels (M, 2) and targets (M,)."""
        rows = self.person.calibration(self.k)
        return self.views.app_deg[rows], self.person.labels_deg[rows], self.person.targets[rows]

    @property
    def base_features(self) -> BaseFeatures:
        """The calibration's frames as the product has them."""
        return self.views.known(self.person, self.person.calibration(self.k))

    def predictions(self, closed: Closed, method: Candidate) -> NDArray[np.float64]:
        """A closed form's angles (N, 2) for all of the person's frames."""
        every = self.views.known(self.person, np.arange(len(self.person.targets)))
        return closed_predictions(closed, every)[method]


@dataclass(frozen=True)
class Predictions:
    """A calibrated method's angles (N, 2) for all of the person's frames, and a remark."""

    angles_deg: NDArray[np.float64]
    remark: Remark | None = None


def centre(case: Case) -> Predictions:
    """The middle of the screen, always."""
    return Predictions(np.zeros_like(case.views.base_deg))


def base_as_it_is(case: Case) -> Predictions:
    """The base's expected angles."""
    return Predictions(case.views.app_deg)


def corrected(name: str) -> Callable[[Case], Predictions]:
    """One of the app's corrections, fitted on all k targets."""

    def method(case: Case) -> Predictions:
        return Predictions(CORRECTIONS[name].fit(*case.known).predict(case.views.app_deg))

    return method


def best_corrected(case: Case) -> Predictions:
    """The correction, SVR included, that cross-validation on the k targets prefers."""
    best = best_correction(*case.known, SEED, among=tuple(CORRECTIONS))
    return Predictions(best.predict(case.views.app_deg), Remark(correction=best.name))


def corrected_base(case: Case) -> Predictions:
    """The product's first candidate: the polynomial that cross-validation prefers."""
    closed = closed_forms(case.base_features, SEED)
    remark = Remark(correction=closed[Candidate.BASE].correction.name)
    return Predictions(case.predictions(closed, Candidate.BASE), remark)


def probe(case: Case) -> Predictions:
    """The product's second candidate: ridge regression on the trunk's features, augmented samples'
    too, towards what the first one leaves or the labels."""
    network = case.base.network(case.base.spec.frozen_through)
    known = calibration_set(case, network, case.person.calibration(case.k)).with_augmented()
    closed = closed_forms(known.frames, SEED)
    form = closed[Candidate.PROBE]
    alpha = form.alpha if np.isfinite(form.alpha) else None
    share = case.views.inner_share
    remark = Remark(correction=form.correction.name, alpha=alpha, inner_share=share)
    return Predictions(case.predictions(closed, Candidate.PROBE), remark)


def fine_tuned_from_probe(case: Case) -> Predictions:
    """The product's third candidate: its head begins as the probe, all k targets are trained on."""
    return Predictions(calibrated(case)[1])


def auto(case: Case) -> Predictions:
    """What the product exports: the candidate that held-out targets prefer."""
    made, angles = calibrated(case)
    method, held_out = made.choice.method, made.held_out
    errors = {str(n): float(h.errors_deg().mean()) for n, h in held_out.items()}
    if method != Candidate.FINETUNE:
        angles = case.predictions(made.closed, method)
    return Predictions(angles, Remark(chosen=str(method), held_out_deg=errors))


def calibrated(case: Case) -> tuple[Calibrated, NDArray[np.float64]]:
    """The product's candidates on the case, made once, and the fine-tuned one's angles (N, 2)."""
    if not case.made:
        rows, views = case.person.calibration(case.k), case.views
        params = train_params(case.base, case.settings)
        params = fitted(replace(PARAMS, train=params), len(rows)).train
        network = GazeNetwork(case.base.trunk, params.frozen_through)
        network.load_trunk(case.base.trunk_state)
        scratch = case.state_path.with_suffix(".folds")
        scratch.mkdir(parents=True, exist_ok=True)
        made = calibrate(calibration_set(case, network, rows), params, scratch)
        angles = predictions_of(network, views)
        shutil.rmtree(scratch)
        case.made.append((made, angles))
    return case.made[0]


def calibration_set(
    case: Case, network: GazeNetwork, rows: NDArray[np.int64], validation: Validation | None = None
) -> CalibrationSet:
    """Some of the person's frames to calibrate on; `network` goes to the case's device."""
    views, person = case.views, case.person
    samples = min(case.settings.samples_at(len(rows)), views.samples)
    network.eval().placed(case.device)
    frames = views.known(person, rows)
    store = Part(views.store, sample_rows(views, rows, samples))
    trunk, heads = network.trunk_state(), case.base.heads
    return CalibrationSet(network, trunk, heads, frames, store, samples + 1, validation)


def predictions_of(network: GazeNetwork, views: Views) -> NDArray[np.float64]:
    """A network's angles (N, 2) for all of a person's frames."""
    size = PARAMS.train.batch_size
    return predict(network, views.frozen, len(views.frozen), size).numpy().astype(np.float64)


def fine_tuned(case: Case) -> Predictions:
    """The specification's recipe to the letter, from the base's own angles for whole crops; a
    fifth of the targets validates."""
    if case.views.inner_share < 1:
        case = replace(case, views=case.whole())
    person, views = case.person, case.views
    train, validation = person.split(case.k)
    params = train_params(case.base, case.settings)
    params = replace(params, start="base", schedule="constant", batch_size=16)
    torch.manual_seed(SEED)
    network = trunk_network(case.base, params, [person.samples[row] for row in train], person.paths)
    true_deg = torch.from_numpy(person.labels_deg[validation]).float()
    measured_on = Validation(views.frozen[validation], true_deg)
    recipe = Recipe(params, alone=True)
    one_set = calibration_set(case, network, train, measured_on)
    trainer = Trainer(one_set, recipe, case.state_path)
    trainer.run(recipe.epochs)
    case.state_path.unlink(missing_ok=True)
    network.load_trained_state(trainer.best)
    angles = predictions_of(network, views)
    top = recipe.exported(trainer.history)
    remark = Remark(
        epochs=len(trainer.history) - 1,
        best_epoch=top.epoch,
        validation_error_deg=top.validation_error_deg,
        samples=one_set.samples_per_frame - 1,
        train=len(train),
        validation=len(validation),
    )
    return Predictions(angles, remark)


METHODS: dict[str, Callable[[Case], Predictions]] = {
    "centre": centre,
    "base": base_as_it_is,
    "gain_offset": corrected("gain_offset"),
    "quadratic": corrected("quadratic"),
    "svr": corrected("svr"),
    "best_correction": best_corrected,
    "corrected_base": corrected_base,
    "probe": probe,
    "fine_tuned": fine_tuned,
    "fine_tuned_from_probe": fine_tuned_from_probe,
    "auto": auto,
}

TRAINED = {"probe", "fine_tuned", "fine_tuned_from_probe", "auto"}  # on augmented samples


def measured(case: Case, started: float) -> Outcome:
    """Calibrate every method on the case and measure it; `started` on the monotonic clock."""
    person = case.person
    rows_of = {SAME: person.test, OTHER: person.other}
    rows_of = {name: rows for name, rows in rows_of.items() if len(rows)}
    errors: dict[str, dict[str, Interval]] = {name: {} for name in rows_of}
    remarks = {}
    for method in case.settings.methods or METHODS:
        predictions = METHODS[method](case)
        for name, rows in rows_of.items():
            error = angular_error_deg(predictions.angles_deg[rows], person.labels_deg[rows])
            errors[name][method] = over_targets(error, person.targets[rows])
        if predictions.remark is not None:
            remarks[method] = predictions.remark
    own = ~np.isin(np.arange(len(person.targets)), person.other)
    sides = {SAME: own, OTHER: ~own}
    tested = {
        name: Measures(
            frames=len(rows),
            targets=len(set(person.targets[rows].tolist())),
            slope=slope(case.views.app_deg, person.labels_deg, sides[name]),
            error_deg=errors[name],
        )
        for name, rows in rows_of.items()
    }
    return Outcome(
        person=person.name,
        k=case.k,
        targets=len(person.order[: case.k]),
        of_targets=len(set(person.targets[own].tolist())),
        crop_from=person.crop_from,
        seconds=round(time.monotonic() - started, 1),
        tested=tested,
        remarks=remarks,
    )


def over_targets(errors_deg: NDArray[np.float64], targets: NDArray[np.int64]) -> Interval:
    """The mean error over frames (N,), its interval over their targets."""
    low, high = mean_interval(errors_deg, targets.tolist()) or (None, None)
    return Interval(mean=float(errors_deg.mean()), low=low, high=high)


def slope(
    base_deg: NDArray[np.float64], true_deg: NDArray[np.float64], rows: NDArray[np.bool_]
) -> tuple[float, float]:
    """Yaw's, pitch's: how many degrees the base's angle moves for each degree of the truth."""
    base, true = base_deg[rows] - base_deg[rows].mean(axis=0), true_deg[rows]
    true = true - true.mean(axis=0)
    yaw, pitch = ((base * true).sum(axis=0) / np.maximum((true**2).sum(axis=0), 1e-12)).tolist()
    return float(yaw), float(pitch)


def train_params(base: BaseNetwork, settings: Settings) -> TrainParams:
    """The product's own, for this trunk, with as many epochs and steps as the settings ask for."""
    through = trunk_spec(base.trunk).frozen_through
    params = replace(PARAMS.train, frozen_through=through, seed=SEED)
    return replace(params, epochs=settings.epochs, steps=settings.steps, visits=settings.visits)
