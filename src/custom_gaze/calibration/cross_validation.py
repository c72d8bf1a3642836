"""The candidates on targets they have not seen: cross-validation, all of them on the same folds.

The closed forms are fitted anew in every fold, with everything that is chosen about them. The
fine-tuned network is trained anew in every fold, from a head that the fold's own frames give; all
folds advance together, and what they answer after each epoch to the frames that they do not train
on says when to stop: every calibration frame trains and every one validates, which with a few dozen
of them is worth several trainings.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from custom_gaze.calibration import finetune, trainer
from custom_gaze.calibration.base_features import Seen
from custom_gaze.calibration.candidates import closed_forms
from custom_gaze.calibration.corrections import FOLDS, Angles, Targets, folds_by_target
from custom_gaze.calibration.feature_cache import Part, Store
from custom_gaze.calibration.finetune import Epoch
from custom_gaze.calibration.starting_head import starting_head
from custom_gaze.calibration.trainer import COSINE, Training
from custom_gaze.common.console import bar
from custom_gaze.common.saved_tensors import save_tensors
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.params import TrainParams
from custom_gaze.geometry import angular_error_deg
from custom_gaze.models.network import GazeNetwork
from custom_gaze.weights.base import BinHeads

Folds = Sequence[NDArray[np.bool_]]

# Each fold is a training, so there are few. Five of them hold out every target once. With fewer
# targets than the first number five more draw the folds anew, since one draw of so few decides too
# much; from the second on three do: what they train on is plenty, and differences are clear.
HELD_OUT_AT_LEAST, MANY = 14, 40


@dataclass(frozen=True)
class HeldOut:
    """Answers to frames by fits that did not see their targets.

    Attributes:
        rows: (P,) the frames' numbers, fold after fold; a frame may come up several times.
        answers_deg: (P, 2) float64.
        true_deg: (P, 2) float64, the targets' angles.
    """

    rows: NDArray[np.int64]
    answers_deg: Angles
    true_deg: Angles

    def errors_deg(self, frames: int) -> NDArray[np.float64]:
        """Each frame's mean angular error in degrees (frames,)."""
        errors = angular_error_deg(self.answers_deg, self.true_deg)
        times = np.bincount(self.rows, minlength=frames)
        mean: NDArray[np.float64] = np.bincount(self.rows, errors, frames) / times
        return mean

    def loss(self) -> float:
        """Mean squared error in degrees², over both angles."""
        return float(((self.answers_deg - self.true_deg) ** 2).mean())


@dataclass(frozen=True)
class CrossTraining:
    """The fine-tuned candidate, cross-validated.

    Attributes:
        history: the epochs; train_loss is the folds' mean, validation_loss that of all answers to
            frames held out.
        held_out: the answers after the exported epoch.
    """

    history: list[Epoch]
    held_out: HeldOut


def training_folds(targets: Targets, seed: int) -> list[NDArray[np.bool_]]:
    """Which frames (N,) each fold holds out: five folds, ten where targets are few, else three.

    Raises:
        InputError: there are too few targets.
    """
    count = 3 if len(np.unique(targets)) >= MANY else FOLDS
    return folds_by_target(targets, seed, HELD_OUT_AT_LEAST, count)


def closed_held_out(seen: Seen, folds: Folds, seed: int) -> dict[Candidate, HeldOut]:
    """Both closed forms cross-validated, by candidate.

    Raises:
        InputError: a fold leaves too few targets to choose a correction by.
    """
    answers: dict[Candidate, list[Angles]] = {}
    for out in folds:
        for name, form in closed_forms(seen.rows(~out), seed).items():
            answers.setdefault(name, []).append(form.answers(seen.rows(out)))
    return {name: _held_out(seen, folds, some) for name, some in answers.items()}


def _held_out(seen: Seen, folds: Folds, answers: Sequence[Angles]) -> HeldOut:
    rows = np.concatenate([np.flatnonzero(out) for out in folds])
    return HeldOut(rows, np.concatenate(answers).astype(np.float64), seen.true_deg[rows])


def cross_train(
    network: GazeNetwork,
    seen: Seen,
    heads: BinHeads,
    store: Store,
    copies: int,
    folds: Folds,
    params: TrainParams,
    scratch: Path,
) -> CrossTraining:
    """Fine-tune once a fold until the answers to the frames held out no longer improve.

    With a constant schedule the folds take turns of `params.patience` epochs, so that only one of
    them is in memory; with a cosine one each goes to its end.

    Args:
        network: on its device, with the base's trunk; it is used for all folds, and afterwards has
            its trunk back as it was.
        seen: the N frames.
        heads: the base network's.
        store: frozen features of the frames' copies, frame by frame, the plain one first.
        copies: of each frame in `store`, the plain one included.
        folds: which frames (N,) each holds out.
        params: the recipe.
        scratch: folder where every fold's state is kept, to go on from.

    Raises:
        InputError: a training diverged, or there are too few targets.
        WorseThanStart: a training was stopped; the other folds are not trained on.
    """
    trunk = network.trunk_state()
    device = next(network.parameters()).device
    labels = torch.from_numpy(seen.true_deg).float()
    history: list[Epoch] = []
    done, most = 0, trainer.epochs_of(params)
    turn = most if params.schedule == COSINE else params.patience
    todo = bar(range(-(-most // turn) * len(folds)), "cross-validating", unit="turns")
    try:
        while done < most and not finetune.stopped(history, params):
            done = min(done + turn, most)
            states = []
            for number, out in enumerate(folds):
                network.load_trunk(trunk)
                network.head = starting_head(seen.rows(~out), heads, params).to(device)
                train = Part(store, _copies_of(np.flatnonzero(~out), copies))
                wanted = labels[~out].repeat_interleave(copies, 0)
                training = Training(network, train, wanted, copies, params, shortened=True)
                held_out = Part(store, np.flatnonzero(out) * copies)
                path = scratch / f"fold-{number}.pt"
                states.append(_advance(training, held_out, int(out.sum()), done, path))
                todo.update()
            history = _history(states, done, labels, folds, params)
    finally:
        todo.close()
        network.load_trunk(trunk)
    best = finetune.exported(history, params).epoch
    answers = [state["answers"][best].numpy() for state in states]
    return CrossTraining(history, _held_out(seen, folds, answers))


def _copies_of(frames: NDArray[np.int64], copies: int) -> NDArray[np.int64]:
    """Where the copies of these frames lie in a store, frame by frame."""
    return np.asarray((frames[:, None] * copies + np.arange(copies)).ravel(), np.int64)


def _advance(
    training: Training, held_out: Store, count: int, until: int, path: Path
) -> dict[str, Any]:
    """Train one fold up to epoch `until`, from where `path` says it is; returns what is there then.

    Its "losses" are the epochs' training losses, its "answers" (epoch, count, 2) those to the
    frames held out, whose features are `held_out`.
    """
    state: dict[str, Any] = {"losses": [], "answers": []}
    if path.exists():
        state = finetune.read_state(path)
        if len(state["losses"]) > until:
            return state
        training.load(state)
    kept_at = time.monotonic()
    for number in range(len(state["losses"]), until + 1):
        state["losses"].append(training.epoch(number))
        answers = finetune.predict(training.network, held_out, count, training.params.batch_size)
        state["answers"].append(answers)
        if number == until or time.monotonic() - kept_at >= finetune.KEEP_EVERY_S:
            save_tensors({**state, **training.state()}, path)
            kept_at = time.monotonic()
    return state


def _history(
    states: Sequence[dict[str, Any]], done: int, labels: Tensor, folds: Folds, params: TrainParams
) -> list[Epoch]:
    """The first `done` epochs of all folds; an interrupted run may have left more of some."""
    true = torch.cat([labels[out] for out in folds])
    epochs = []
    for number in range(done + 1):
        loss = float(np.mean([state["losses"][number] for state in states]))
        answers = torch.cat([state["answers"][number] for state in states])
        epochs.append(finetune.measured(number, loss, answers, true, params))
    return epochs
