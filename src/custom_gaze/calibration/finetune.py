"""The fine-tune: the trained blocks and the head, from the features of the frozen blocks.

`fit` has a validation set of its own, `fit_for` goes on for as many epochs as it is told; how a
training goes stands in trainer.py.
"""

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from custom_gaze.calibration.feature_cache import Store
from custom_gaze.calibration.trainer import COSINE, Training, WorseThanStart, diverged, epochs_of
from custom_gaze.common.console import bar
from custom_gaze.common.saved_tensors import load_tensors, save_tensors
from custom_gaze.config.params import TrainParams
from custom_gaze.geometry import angular_error_deg
from custom_gaze.models.devices import lower_precision
from custom_gaze.models.network import GazeNetwork

KEEP_EVERY_S = 15.0  # so much work an interruption may cost


@dataclass(frozen=True)
class Epoch:
    """Losses are mean squared errors in degrees², over both angles.

    Epoch 0 is the start. Its training loss is over what the epoch that `checked` names goes over.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_error_deg: float


@dataclass(frozen=True)
class Fitted:
    """What `fit` made.

    Attributes:
        history: the epochs; the start alone where the training was stopped.
        state: the trained parameters, by name, of the epoch that is exported (`exported`).
        stopped: why it was stopped as worse than its start, in one line; empty where it was not.
    """

    history: list[Epoch]
    state: dict[str, Tensor]
    stopped: str


def fit(
    network: GazeNetwork,
    store: Store,
    labels: Tensor,
    copies: int,
    held_out: Store,
    held_out_labels: Tensor,
    params: TrainParams,
    state_path: Path,
) -> Fitted:
    """Fine-tune the trained blocks and the head in place.

    Args:
        network: on its device, with the head it starts from.
        store: features (N, channels, h, w) float16 of the training copies, frame by frame, the
            plain one first.
        labels: (N, 2) [yaw, pitch] in degrees, float32.
        copies: of each frame in `store`, the plain one included.
        held_out: features (M, channels, h, w) of the validation crops.
        held_out_labels: (M, 2) in degrees.
        params: the recipe.
        state_path: where each epoch's end is kept, to go on from after an interruption.

    Raises:
        InputError: the training diverged.
    """
    start = network.trained_state()
    training = Training(network, store, labels, copies, params)
    history: list[Epoch] = []
    best: dict[str, Tensor] = {}
    if state_path.exists():
        kept = read_state(state_path)
        training.load(kept)
        history, best = [Epoch(*row) for row in kept["history"]], kept["best"]
    kept_at = time.monotonic()

    # Epoch 0 is what training starts from: with a constant schedule it may be the best one.
    most = epochs_of(params)
    left = range(len(history), most + 1)
    epochs = bar(left, "training", most + 1, "epochs", done=len(history))
    for number in epochs:
        if stopped(history, params):
            epochs.close()
            break
        try:
            loss = training.epoch(number)
        except WorseThanStart as stop:
            epochs.close()
            return Fitted(history[:1], start, str(stop))
        predicted = predict(network, held_out, len(held_out_labels), params.batch_size)  # (M, 2)
        epoch = measured(number, loss, predicted, held_out_labels, params)
        history.append(epoch)
        if exported(history, params) is epoch:
            best = network.trained_state()
        said = f"loss {epoch.train_loss:.2f}, validation {epoch.validation_error_deg:.2f}°"
        epochs.set_postfix_str(said, False)
        if time.monotonic() - kept_at >= KEEP_EVERY_S:
            rows = [list(dataclasses.astuple(each)) for each in history]
            save_tensors({**training.state(), "best": best, "history": rows}, state_path)
            kept_at = time.monotonic()
    return Fitted(history, best, "")


def fit_for(
    network: GazeNetwork,
    store: Store,
    labels: Tensor,
    copies: int,
    epochs: int,
    params: TrainParams,
    state_path: Path,
) -> None:
    """Fine-tune for so many shortened epochs, in place; the other arguments are those of `fit`.

    Raises:
        InputError: the training diverged.
        WorseThanStart: it was stopped.
    """
    training = Training(network, store, labels, copies, params, shortened=True)
    done = 0
    if state_path.exists():
        kept = read_state(state_path)
        training.load(kept)
        done = int(kept["done"])
    kept_at = time.monotonic()
    for number in bar(range(done, epochs + 1), "training", epochs + 1, "epochs", done=done):
        training.epoch(number)
        if time.monotonic() - kept_at >= KEEP_EVERY_S:
            save_tensors({**training.state(), "done": number + 1}, state_path)
            kept_at = time.monotonic()


def measured(
    number: int, train_loss: float, predicted: Tensor, labels: Tensor, params: TrainParams
) -> Epoch:
    """An epoch with its losses, from predictions (M, 2) for frames it was not trained on.

    Raises:
        InputError: they are no numbers: the training diverged.
    """
    loss = torch.nn.functional.mse_loss(predicted, labels).item()
    error = float(angular_error_deg(predicted.numpy(), labels.numpy()).mean())
    if not math.isfinite(loss):
        raise diverged(number, params)
    return Epoch(number, train_loss, loss, error)


def predict(network: GazeNetwork, store: Store, count: int, batch_size: int) -> Tensor:
    """The first `count` features of a store → (count, 2) degrees, float32 on the CPU."""
    device = next(network.parameters()).device
    with torch.inference_mode(), lower_precision(device):
        answers = [
            network.trained(torch.from_numpy(store[rows]).to(device).float())
            for rows in np.split(np.arange(count), range(batch_size, count, batch_size))
        ]
        return torch.cat(answers).float().cpu()


def stopped(history: Sequence[Epoch], params: TrainParams) -> bool:
    """Whether a constant schedule's last `patience` epochs brought no better validation loss.

    A cosine schedule is not stopped by that: what it gains comes towards its end.
    """
    if not history or params.schedule == COSINE:
        return False
    losses = [epoch.validation_loss for epoch in history]
    return len(losses) - 1 - int(np.argmin(losses)) >= params.patience


def exported(history: Sequence[Epoch], params: TrainParams) -> Epoch:
    """The epoch whose network is the fine-tuned candidate, whichever method made it: a cosine
    schedule's last, else the first with the best validation loss."""
    if params.schedule == COSINE:
        return history[-1]
    return min(history, key=lambda epoch: epoch.validation_loss)


def read_state(path: Path) -> dict[str, Any]:
    """What an interrupted training kept.

    Raises:
        InputError: it is damaged.
    """
    return load_tensors(path, "state of an interrupted training", "delete it to start again")
