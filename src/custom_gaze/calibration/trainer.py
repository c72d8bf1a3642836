"""One training of the fine-tune: its batches, its steps, its schedule.

Mean squared error in degrees, Adam with bounded steps (bounded_adam.py), by one of two schedules:

- `cosine`: `train.steps` batches in all, more with many frames, with copies drawn anew for each,
  at a rate that rises to `train.peak_learning_rate` and sinks along a cosine to nothing (Loshchilov
  & Hutter 2017, "SGDR", with a warm-up). An epoch is a number of batches here, there to show how it
  goes.
- `constant`, the specification's recipe: up to `train.epochs` passes over all copies at
  `train.learning_rate`, stopped early

It trains on the head's answers without their limits, beyond which there is no gradient. A training
that is worse than its start after a tenth of its steps is stopped (`WorseThanStart`).
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from custom_gaze.calibration.feature_cache import Store
from custom_gaze.calibration.optimizer import BoundedAdam
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.config.params import Params, TrainParams
from custom_gaze.models.devices import lower_precision
from custom_gaze.models.network import GazeNetwork

# Of a constant schedule where cross-validation trains many times: 32 steps of 16. With fewer, 50
# epochs would not be enough for a hundred targets.
EPOCH_SAMPLES = 512
COSINE = "cosine"
EPOCH_BATCHES = 10  # of a cosine schedule
WARM_UP_SHARE = 0.1
FRAME_VISITS = 8  # a cosine schedule shows each frame at least so often
CHECKED_SHARE = 0.1  # of a training, after which it may not be worse than its start
WORSE = 2.0  # times as large a loss: few batches scatter, and a dead network is far beyond it


class WorseThanStart(CustomGazeError):
    """A training was stopped after a tenth of its steps: nothing comes of such a network.

    Its loss is WORSE times that at its start, and that of one and the same answer to every frame.
    The start alone is no measure: a probe knows the frames that it was fitted to nearly by
    heart, and a training that ends better gives up some of that first.
    """


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
        self._optimizer = BoundedAdam(network.trained_parameters())
        self._start_loss = math.inf

    def epoch(self, number: int) -> float:
        """Train one epoch; which copies it sees in which order follows from the seed and `number`.

        Returns the mean loss. Epoch 0 changes nothing: it is what training starts from, measured on
        the batches of the epoch after which that is compared.

        Raises:
            InputError: the training diverged.
            WorseThanStart: it is worse than its start where a tenth of it is done.
        """
        losses, sizes = [], []
        for step, rows in enumerate(self._batches(number)):
            x, y = self._to_device(self._store[rows]).float(), self._labels[rows].to(self._device)
            with torch.set_grad_enabled(number > 0), lower_precision(self._device):
                answers = self.network.unbounded(x)
            loss = torch.nn.functional.mse_loss(answers, y)
            if number > 0:
                self._step(loss, (number - 1) * EPOCH_BATCHES + step)
            losses.append(loss.detach())  # not its value: a GPU is not waited for
            sizes.append(len(rows))
        mean = float(np.average(torch.stack(losses).double().cpu().numpy(), weights=sizes))
        if not math.isfinite(mean):
            raise diverged(number, self.params)
        if number == 0:
            self._start_loss = mean
        elif number == checked(self.params):
            self._check(mean)
        return mean

    def _check(self, loss: float) -> None:
        same_answer = float(self._labels.var(dim=0, correction=0).mean())
        if loss > WORSE * max(self._start_loss, same_answer):
            raise WorseThanStart(
                f"the fine-tune was stopped after {checked(self.params)} of "
                f"{epochs_of(self.params)} epochs, its loss {loss:.4g} degrees² "
                f"and {self._start_loss:.4g} at its start"
            )

    def _to_device(self, features: NDArray[np.float16]) -> Tensor:
        """A batch (B, channels, h, w) on the device, copied there while a GPU still computes."""
        x = torch.from_numpy(features)
        if self._device.type == "cuda":
            return x.pin_memory().to(self._device, non_blocking=True)
        return x.to(self._device)

    def _step(self, loss: Tensor, step: int) -> None:
        rate = self.params.learning_rate
        if self.params.schedule == COSINE:
            rate = self.params.peak_learning_rate * cosine(step, self.params.steps)
        self._optimizer.step(loss, rate)

    def _batches(self, number: int) -> list[NDArray[np.int64]]:
        """What an epoch goes over: each batch's rows in the store, sorted to be read in order."""
        number, size = number or checked(self.params), self.params.batch_size
        if self.params.schedule == COSINE:
            rows, size = self._drawn(number)
        else:
            rows = self._rows(number)
            rows = rows[np.random.default_rng([self.params.seed, number]).permutation(len(rows))]
        return [np.sort(rows[start : start + size]) for start in range(0, len(rows), size)]

    def _drawn(self, number: int) -> tuple[NDArray[np.int64], int]:
        """The rows for an epoch of a cosine schedule, and the size of its batches.

        Every frame comes up once a round, in an order and with a copy drawn for the round.
        """
        frames = len(self._labels) // self._copies
        size = min(self.params.batch_size, frames)
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
        turn = (number - 1) * taken + np.arange(taken)
        picked = np.concatenate([[0], 1 + turn % others])
        return np.asarray((np.arange(frames)[:, None] * self._copies + picked).ravel(), np.int64)

    def state(self) -> dict[str, Any]:
        """What `load` goes on from."""
        return {
            "now": self.network.trained_state(),
            "optimizer": self._optimizer.state_dict(),
            "start_loss": self._start_loss,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.network.load_trained_state(state["now"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._start_loss = float(state["start_loss"])


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


def checked(params: TrainParams) -> int:
    """The epoch after which a training has to be better than its start."""
    return math.ceil(CHECKED_SHARE * epochs_of(params))


def diverged(number: int, params: TrainParams) -> InputError:
    """The error of a training whose loss is no number any more."""
    key = "peak_learning_rate" if params.schedule == COSINE else "learning_rate"
    return InputError(
        f"training diverged in epoch {number} (the loss is no number); "
        f"train.{key} is {getattr(params, key):g}: try a smaller one"
    )
