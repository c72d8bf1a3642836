"""Which candidate is exported: made, cross-validated and chosen on the calibration frames alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from custom_gaze.calibration import finetune
from custom_gaze.calibration.base_features import Seen
from custom_gaze.calibration.candidates import ClosedForm, closed_forms
from custom_gaze.calibration.corrections import Targets, alike_deg, mean_over_targets, preferred
from custom_gaze.calibration.cross_validation import (
    HeldOut,
    closed_held_out,
    cross_train,
    training_folds,
)
from custom_gaze.calibration.feature_cache import Store
from custom_gaze.calibration.finetune import Epoch
from custom_gaze.calibration.starting_head import starting_head
from custom_gaze.calibration.trainer import WorseThanStart
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.params import TrainParams
from custom_gaze.models.network import GazeNetwork
from custom_gaze.weights.base import BinHeads

ASKED_FOR = "train.method asks for it"


@dataclass(frozen=True)
class Choice:
    """A candidate, and why it is the one, in one line."""

    method: Candidate
    reason: str


@dataclass(frozen=True)
class Calibrated:
    """The candidates: all three, or the closed forms where the fine-tune came to nothing.

    Attributes:
        choice: the one to export.
        held_out: each one's answers to targets its fit had not seen, by candidate.
        closed: the closed forms fitted on all the frames, by candidate.
        fine_tuned: the trained parameters, by name, after training on all the frames; None where
            the training was stopped.
        history: the epochs of the fine-tuned one's cross-validation; none where it was stopped.
    """

    choice: Choice
    held_out: dict[Candidate, HeldOut]
    closed: dict[Candidate, ClosedForm]
    fine_tuned: dict[str, Tensor] | None
    history: list[Epoch]


def calibrate(
    network: GazeNetwork,
    seen: Seen,
    heads: BinHeads,
    store: Store,
    copies: int,
    params: TrainParams,
    scratch: Path,
) -> Calibrated:
    """Make the candidates and choose one.

    What was learned in cross-validation is used on all frames: the polynomial and the ridge's
    strength are chosen and fitted on all of them, and the fine-tuned network, in the end, trains on
    all of them for as many epochs as served the held-out ones best. With few targets a
    validation part set aside costs more than it tells: of nine, two would validate.

    Args:
        network: on its device, with the base's trunk; fine-tuned in place.
        seen: the N frames to calibrate on.
        heads: the base network's.
        store: frozen features of the frames' copies, frame by frame, the plain one first.
        copies: of each frame in `store`, the plain one included.
        params: the recipe.
        scratch: folder for what an interruption leaves.

    Raises:
        InputError: there are too few targets, or a training diverged.
    """
    folds = training_folds(seen.targets, params.seed)
    held_out = closed_held_out(seen, folds, params.seed)
    closed = closed_forms(seen, params.seed)
    try:
        crossed = cross_train(network, seen, heads, store, copies, folds, params, scratch)
        network.head = starting_head(seen, heads, params).to(next(network.parameters()).device)
        labels = torch.from_numpy(seen.true_deg).float().repeat_interleave(copies, 0)
        epochs = finetune.exported(crossed.history, params).epoch
        finetune.fit_for(network, store, labels, copies, epochs, params, scratch / "final.pt")
    except WorseThanStart as stop:
        chosen = _chosen(held_out, seen)
        chosen = replace(chosen, reason=f"{chosen.reason}; {stop}")
        return Calibrated(chosen, held_out, closed, None, [])
    held_out[Candidate.FINETUNE] = crossed.held_out
    chosen = _chosen(held_out, seen)
    return Calibrated(chosen, held_out, closed, network.trained_state(), crossed.history)


def _chosen(held_out: Mapping[Candidate, HeldOut], seen: Seen) -> Choice:
    frames = len(seen.targets)
    return choice_of(
        {name: held_out[name].errors_deg(frames) for name in Candidate if name in held_out},
        seen.targets,
    )


def choice_of(errors: Mapping[Candidate, NDArray[np.float64]], targets: Targets) -> Choice:
    """The simplest candidate that is as good as the best one (`baselines.preferred`).

    Args:
        errors: each candidate's (N,) held-out errors in degrees, by candidate, the simplest first.
        targets: (N,) the frames' targets.
    """
    method = preferred(errors, targets)
    means = {name: float(some.mean()) for name, some in errors.items()}
    best = min(means, key=lambda name: means[name])
    if method == best:
        others = ", ".join(f"{n.label} {mean:.2f}°" for n, mean in means.items() if n != method)
        return Choice(method, f"the least held-out error, {means[method]:.2f}° ({others})")
    _, noise = mean_over_targets(errors[method] - errors[best], targets)
    alike = alike_deg(errors[best], targets)
    limit = (
        f"the noise ({noise:.2f}°)"
        if noise >= alike
        else f"{alike:.2f}°, which nobody would notice,"
    )
    return Choice(
        method,
        f"its held-out error, {means[method]:.2f}°, is within {limit} of that of the "
        f"{best.label}, {means[best]:.2f}°, and it is simpler",
    )


def without_training(
    seen: Seen, seed: int
) -> tuple[dict[Candidate, ClosedForm], dict[Candidate, HeldOut]]:
    """The closed forms alone, fitted on all the frames and cross-validated, by candidate.

    Raises:
        InputError: there are too few targets.
    """
    held_out = closed_held_out(seen, training_folds(seen.targets, seed), seed)
    return closed_forms(seen, seed), held_out


def as_epoch(form: ClosedForm, seen: Seen, held_out: HeldOut) -> Epoch:
    """A closed form's figures as an epoch 0: the losses on its frames and on those held out."""
    loss = float(((form.answers(seen) - seen.true_deg) ** 2).mean())
    error = float(held_out.errors_deg(len(seen.targets)).mean())
    return Epoch(0, loss, held_out.loss(), error)
