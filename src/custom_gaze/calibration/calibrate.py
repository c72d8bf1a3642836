"""The candidates made, cross-validated and chosen from, on the calibration frames alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from custom_gaze.calibration.base_features import BaseFeatures
from custom_gaze.calibration.calibration_set import CalibrationSet
from custom_gaze.calibration.candidates import (
    Closed,
    closed_forms,
    closed_held_out,
    closed_predictions,
)
from custom_gaze.calibration.cross_training import CrossTraining, cross_train
from custom_gaze.calibration.cross_validation import HeldOut, Targets, training_folds
from custom_gaze.calibration.progress import SILENT, Progress
from custom_gaze.calibration.recipe import Epoch, Recipe
from custom_gaze.calibration.selection import Choice, Order, carrying_over, choice_of, settled
from custom_gaze.calibration.trainer import Trainer, WorseThanStart
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.params import TrainParams


@dataclass(frozen=True)
class Calibrated:
    """The candidates: all three, or the closed forms where the fine-tune came to nothing.

    Attributes:
        choice: the one to export.
        held_out: each one's predictions for targets its fit had not seen.
        closed: the closed forms fitted on all the frames.
        fine_tuned: the trained parameters, by name, after training on all the frames; None where
            the training was stopped.
        history: the epochs of the fine-tuned one's cross-validation; none where it was stopped.
    """

    choice: Choice
    held_out: dict[Candidate, HeldOut]
    closed: Closed
    fine_tuned: dict[str, Tensor] | None
    history: list[Epoch]


def calibrate(
    calibration_set: CalibrationSet,
    params: TrainParams,
    scratch: Path,
    progress: Progress = SILENT,
) -> Calibrated:
    """Make the candidates and choose one; the set's network is left fine-tuned.

    What was learned in cross-validation is used on all frames: the polynomial and alpha are chosen
    and fitted on all of them, and the fine-tuned network, in the end, trains on all of them: with a
    constant schedule for as many epochs as served the held-out ones best, with a cosine one to its
    end, which the folds' shorter ones did not need to tell whether it is worth it. With few targets
    a validation part set aside costs more than it tells: of nine, two would validate.

    The fine-tune is left where its folds show that it will not be chosen.

    Args:
        calibration_set: all the frames; its base network has heads.
        params: the recipe's parameters.
        scratch: folder for what an interruption leaves.
        progress: is told each candidate's error as soon as it is known.

    Raises:
        InputError: there are too few targets, or a training diverged.
    """
    calibration_set = calibration_set.with_augmented()
    frames, recipe = calibration_set.frames, Recipe(params)
    closed, held_out = without_training(frames, params.seed, progress)
    folds = training_folds(frames.targets, params.seed)
    corrected_deg = closed_predictions(closed, frames)[Candidate.BASE]
    compared = frames.targets, carrying_over(corrected_deg, frames.app_deg)
    try:
        crossed = cross_train(
            *(calibration_set, folds, recipe.in_folds(), scratch, progress),
            lambda so_far: _settled(held_out, so_far, *compared) is not None,
        )
        _tell(progress, {Candidate.FINETUNE: crossed.held_out})
        if recipe.cosine and _settled(held_out, crossed.held_out, *compared) is False:
            raise WorseThanStart(_left(held_out, crossed))
        epochs = recipe.epochs if recipe.cosine else recipe.exported(crossed.history).epoch
        Trainer(calibration_set, recipe, scratch / "final.pt").run(epochs, progress)
    except WorseThanStart as stop:
        chosen = _chosen(held_out, *compared)
        chosen = replace(chosen, reason=f"{chosen.reason}; {stop}")
        return Calibrated(chosen, held_out, closed, None, [])
    held_out[Candidate.FINETUNE] = crossed.held_out
    chosen = _chosen(held_out, *compared)
    if crossed.folds < len(folds):
        reason = f"{chosen.reason}, which {crossed.folds} of {len(folds)} folds settled"
        chosen = replace(chosen, reason=reason)
    fine_tuned = calibration_set.network.trained_state()
    return Calibrated(chosen, held_out, closed, fine_tuned, crossed.history)


def _chosen(held_out: Mapping[Candidate, HeldOut], targets: Targets, order: Order) -> Choice:
    every = np.isfinite([each.errors_deg() for each in held_out.values()]).all(axis=0)
    return choice_of(known_errors(held_out), targets[every], order)


def known_errors(held_out: Mapping[Candidate, HeldOut]) -> dict[Candidate, NDArray[np.float64]]:
    """Each candidate's errors in degrees on the frames that were held out from all of them."""
    errors = {name: each.errors_deg() for name, each in held_out.items()}
    every = np.isfinite(list(errors.values())).all(axis=0)
    return {name: some[every] for name, some in errors.items()}


def _settled(
    closed: Mapping[Candidate, HeldOut], tuned: HeldOut, targets: Targets, order: Order
) -> bool | None:
    """As `settled` of the closed forms and the fine-tune, cross-validated."""
    errors = {name: each.errors_deg() for name, each in closed.items()}
    return settled(errors, tuned.errors_deg(), targets, order)


def _left(closed: Mapping[Candidate, HeldOut], crossed: CrossTraining) -> str:
    """Why the fine-tune was left, in the words that follow a reason."""
    errors = known_errors({**closed, Candidate.FINETUNE: crossed.held_out})
    means = {name: float(some.mean()) for name, some in errors.items()}
    best = min(closed, key=lambda name: means[name])
    return (
        f"the fine-tune was left after {crossed.folds} folds: {means[Candidate.FINETUNE]:.2f}° on "
        f"the targets that they held out, where the {best.label} has {means[best]:.2f}°"
    )


def _tell(progress: Progress, held_out: Mapping[Candidate, HeldOut]) -> None:
    for name, each in held_out.items():
        progress.candidate(name, float(np.nanmean(each.errors_deg())))


def without_training(
    frames: BaseFeatures, seed: int, progress: Progress = SILENT
) -> tuple[Closed, dict[Candidate, HeldOut]]:
    """The closed forms alone, fitted on all the frames, and cross-validated.

    Raises:
        InputError: there are too few targets.
    """
    progress.stands("closed forms")
    held_out = closed_held_out(frames, training_folds(frames.targets, seed), seed)
    _tell(progress, held_out)
    return closed_forms(frames, seed), held_out


def as_epoch(closed: Closed, method: Candidate, frames: BaseFeatures, held_out: HeldOut) -> Epoch:
    """A closed form's figures as an epoch 0: the losses on its frames and on those held out."""
    residual = closed_predictions(closed, frames)[method] - frames.true_deg
    error = float(held_out.errors_deg().mean())
    return Epoch(0, float((residual**2).mean()), held_out.loss(), error)
