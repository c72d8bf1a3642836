"""The fine-tune: the trained blocks and the head, from the features of the frozen blocks.

Mean squared error in degrees, Adam, by one of two schedules:

- `cosine`: `train.steps` batches in all, more with many frames, with copies drawn anew for each,
  at a rate that rises to `train.peak_learning_rate` and sinks along a cosine to nothing (Loshchilov
  & Hutter 2017, "SGDR", with a warm-up). An epoch is a number of batches here, there to show how it
  goes.
- `constant`, the specification's recipe: up to `train.epochs` passes over all copies at
  `train.learning_rate`, stopped early

`fit` has a validation set of its own, `fit_for` goes on for as many epochs as it is told.
"""

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from custom_gaze.checkpoint import load_tensors, save_tensors
from custom_gaze.devices import lower_precision
from custom_gaze.errors import InputError
from custom_gaze.features import Store
from custom_gaze.geometry import angular_error_deg
from custom_gaze.network import GazeNetwork
from custom_gaze.params import Params, TrainParams
from custom_gaze.progress import bar

KEEP_EVERY_S = 15.0  # so much work an interruption may cost
# Of a constant schedule where cross-validation trains many times: 32 steps of 16. With fewer, 50
# epochs would not be enough for a hundred targets.
EPOCH_SAMPLES = 512
COSINE = "cosine"
EPOCH_BATCHES = 10  # of a cosine schedule
WARM_UP_SHARE = 0.1
FRAME_VISITS = 8  # a cosine schedule shows each frame at least so often


@dataclass(frozen=True)
class Epoch:
    """Losses are mean squared errors in degrees², over both angles."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_error_deg: float


class Training:
    """A network being fine-tuned, its optimiser, and what it is trained on.

    Attributes:
        network: on its device, in eval mode; BatchNorm stays there.
        params: the recipe.
    """

    def __init__(
        self,
        network: GazeNetwork,
        store: Store,
        labels: Tensor,
        copies: int,
        params: TrainParams,
        shortened: bool = False,
    ) -> None:
        """`store` holds features (N, channels, h, w) float16, `labels` (N, 2) degrees float32.

        Each frame's copies lie together, the plain one first; there are `copies` of each, N = F ×
        copies. With a constant schedule `shortened` epochs have at most EPOCH_SAMPLES: of each
        frame the plain copy and as many others as fit, other ones in the next epoch.
        """
        self.network, self.params = network.eval(), params
        self._copies, self._shortened = copies, shortened
        self._store, self._labels = store, labels
        self._device = next(network.parameters()).device
        self._optimizer = torch.optim.Adam(network.trained_parameters(), lr=params.learning_rate)

    def epoch(self, number: int) -> float:
        """Train one epoch; which copies it sees in which order follows from the seed and `number`.

        Returns the mean loss. Epoch 0 changes nothing: it is what training starts from.
        """
        losses, sizes = [], []
        for step, rows in enumerate(self._batches(number)):
            x, y = self._to_device(self._store[rows]).float(), self._labels[rows].to(self._device)
            with torch.set_grad_enabled(number > 0), lower_precision(self._device):
                answers = self.network.trained(x)
            loss = torch.nn.functional.mse_loss(answers.float(), y)
            if number > 0:
                self._step(loss, (number - 1) * EPOCH_BATCHES + step)
            losses.append(loss.detach())  # not its value: a GPU is not waited for
            sizes.append(len(rows))
        mean = float(np.average(torch.stack(losses).double().cpu().numpy(), weights=sizes))
        if not math.isfinite(mean):
            raise diverged(number, self.params)
        return mean

    def _to_device(self, features: NDArray[np.float16]) -> Tensor:
        """A batch (B, channels, h, w) on the device, copied there while a GPU still computes."""
        x = torch.from_numpy(features)
        if self._device.type == "cuda":
            return x.pin_memory().to(self._device, non_blocking=True)
        return x.to(self._device)

    def _step(self, loss: Tensor, step: int) -> None:
        if self.params.schedule == COSINE:
            rate = self.params.peak_learning_rate * cosine(step, self.params.steps)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def _batches(self, number: int) -> list[NDArray[np.int64]]:
        """What an epoch goes over: each batch's rows in the store, sorted to be read in order."""
        size = self.params.batch_size
        if self.params.schedule == COSINE:
            rows, size = self._drawn(number)
        else:
            rows = self._rows(number)
            rows = rows[np.random.default_rng([self.params.seed, number]).permutation(len(rows))]
        return [np.sort(rows[start : start + size]) for start in range(0, len(rows), size)]

    def _drawn(self, number: int) -> tuple[NDArray[np.int64], int]:
        """The rows for an epoch of a cosine schedule, and the size of its batches.

        Every frame comes up once a round, in an order and with a copy drawn for the round. Epoch 0
        has every frame's plain copy.
        """
        frames = len(self._labels) // self._copies
        size = min(self.params.batch_size, frames)
        if number == 0:
            return np.arange(frames, dtype=np.int64) * self._copies, size
        first = (number - 1) * EPOCH_BATCHES
        last = min(first + EPOCH_BATCHES, self.params.steps)
        places = np.arange(first * size, last * size)
        rounds = []
        for turn in range(places[0] // frames, places[-1] // frames + 1):
            generator = np.random.default_rng([self.params.seed, turn])
            order, copy = generator.permutation(frames), generator.integers(0, self._copies, frames)
            rounds.append(order * self._copies + copy)
        rows = np.concatenate(rounds)[places - places[0] // frames * frames]
        return np.asarray(rows, np.int64), size

    def _rows(self, number: int) -> NDArray[np.int64]:
        """The rows for an epoch of a constant schedule, in no order."""
        if not self._shortened or len(self._labels) <= EPOCH_SAMPLES:
            return np.arange(len(self._labels))
        frames, others = len(self._labels) // self._copies, self._copies - 1
        taken = min(others, max(1, EPOCH_SAMPLES // frames - 1))
        turn = (max(number, 1) - 1) * taken + np.arange(taken)
        picked = np.concatenate([[0], 1 + turn % others])
        return np.asarray((np.arange(frames)[:, None] * self._copies + picked).ravel(), np.int64)

    def state(self) -> dict[str, Any]:
        """What `load` goes on from."""
        return {"now": self.network.trained_state(), "optimizer": self._optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.network.load_trained_state(state["now"])
        self._optimizer.load_state_dict(state["optimizer"])


def fitted(params: Params, frames: int) -> Params:
    """The parameters for a training on so many frames.

    With a cosine schedule there are steps enough to see each frame FRAME_VISITS times, and no more
    copies than a training sees of each: what is never drawn need not pass through the frozen
    blocks.
    """
    train = params.train
    if train.schedule != COSINE:
        return params
    steps = max(train.steps, -(-FRAME_VISITS * frames // train.batch_size))
    copies = min(params.augment.copies, -(-steps * train.batch_size // frames))
    return replace(
        params, train=replace(train, steps=steps), augment=replace(params.augment, copies=copies)
    )


def cosine(step: int, steps: int) -> float:
    """The share of the peak rate at `step` of 0 … steps - 1."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / (steps - warm_up))


def epochs_of(params: TrainParams) -> int:
    """How many epochs a training has at most."""
    return -(-params.steps // EPOCH_BATCHES) if params.schedule == COSINE else params.epochs


def fit(
    network: GazeNetwork,
    store: Store,
    labels: Tensor,
    copies: int,
    held_out: Store,
    held_out_labels: Tensor,
    params: TrainParams,
    state_path: Path,
) -> tuple[list[Epoch], dict[str, Tensor]]:
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

    Returns:
        The epochs, and the trained parameters (by name) of the one that is exported (`exported`).

    Raises:
        InputError: the training diverged.
    """
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
        loss = training.epoch(number)
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
    return history, best


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
    """
    training = Training(network, store, labels, copies, params, shortened=True)
    done = 0
    if state_path.exists():
        kept = read_state(state_path)
        training.load(kept)
        done = int(kept["done"])
    kept_at = time.monotonic()
    for number in bar(range(done + 1, epochs + 1), "training", epochs, "epochs", done=done):
        training.epoch(number)
        if time.monotonic() - kept_at >= KEEP_EVERY_S:
            save_tensors({**training.state(), "done": number}, state_path)
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

    A cosine schedule is never stopped: what it gains comes towards its end.
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


def diverged(number: int, params: TrainParams) -> InputError:
    """The error of a training whose loss is no number any more."""
    key = "peak_learning_rate" if params.schedule == COSINE else "learning_rate"
    return InputError(
        f"training diverged in epoch {number} (the loss is no number); "
        f"train.{key} is {getattr(params, key):g}: try a smaller one"
    )
