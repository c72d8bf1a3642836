"""How a fine-tune goes: its schedule, which samples each batch shows, when it ends.

By one of two schedules:

- `cosine`: `train.steps` batches in all, more with many frames (`train.visits`), with samples drawn
  anew for each, at a rate that rises to `train.peak_learning_rate` and sinks along a cosine to zero
  (Loshchilov & Hutter 2017, "SGDR", with a warm-up). An epoch is a number of batches here, there to
  show how it goes.
- `constant`, the specification's recipe: up to `train.epochs` passes over all samples at
  `train.learning_rate`, stopped early
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from custom_gaze.calibration import policy
from custom_gaze.common.errors import InputError
from custom_gaze.config.params import Params, TrainParams

COSINE = "cosine"


@dataclass(frozen=True)
class Epoch:
    """Losses are mean squared errors in degrees², over both angles.

    Epoch 0 is the start. Its training loss is over what the epoch `Recipe.checked` goes over.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_error_deg: float


@dataclass(frozen=True)
class Recipe:
    """The parameters of a training, and whether it is the only one.

    One that is `alone` ends where its own validation says so, and keeps its exported epoch. One of
    several, in cross-validation and after it, goes as far as it is told; with a constant schedule
    its epochs have at most EPOCH_SAMPLES: of each frame the plain sample and as many others as fit,
    other ones in the next epoch.
    """

    params: TrainParams
    alone: bool = False

    @property
    def cosine(self) -> bool:
        """Whether the schedule is that one, and not the constant one."""
        return self.params.schedule == COSINE

    @property
    def epochs(self) -> int:
        """How many epochs it has at most."""
        params = self.params
        return -(-params.steps // policy.EPOCH_BATCHES) if self.cosine else params.epochs

    @property
    def checked(self) -> int:
        """The epoch after which a training has to be better than its start."""
        return math.ceil(policy.CHECKED_SHARE * self.epochs)

    def in_folds(self) -> "Recipe":
        """Of the folds' trainings before this one; a constant schedule's are stopped early."""
        if not self.cosine:
            return self
        steps = math.ceil(policy.FOLD_STEPS_SHARE * self.params.steps)
        return replace(self, params=replace(self.params, steps=steps))

    def rate(self, step: int) -> float:
        """The learning rate at `step`, 0 for the first one."""
        if not self.cosine:
            return self.params.learning_rate
        return self.params.peak_learning_rate * cosine(step, self.params.steps)

    def batches(self, number: int, frames: int, per_frame: int) -> list[NDArray[np.int64]]:
        """What an epoch goes over, by the seed and `number` alone: each batch's rows in the store
        of `frames` times `per_frame` samples, sorted to be read in order. Epoch 0 is the checked
        one, so that the start is measured on what it is compared on."""
        number, size = number or self.checked, self.params.batch_size
        if self.cosine:
            size = min(size, frames)
            rows = self._drawn(number, size, frames, per_frame)
        else:
            rows = self._passed_over(number, frames, per_frame)
            rows = rows[np.random.default_rng([self.params.seed, number]).permutation(len(rows))]
        return [np.sort(rows[start : start + size]) for start in range(0, len(rows), size)]

    def _drawn(self, number: int, size: int, frames: int, per_frame: int) -> NDArray[np.int64]:
        """Every frame comes up once a round, in an order drawn for the round.

        A round shows one sample of each frame, the one of the same number: they differ from frame
        to frame. Every number comes up before one does again, in an order that is the same however
        many frames there are, so trainings on some of the frames show nothing that one on all of
        them does not.
        """
        first = (number - 1) * policy.EPOCH_BATCHES
        last = min(first + policy.EPOCH_BATCHES, self.params.steps)
        places = np.arange(first * size, last * size)
        rounds = []
        for turn in range(places[0] // frames, places[-1] // frames + 1):
            order = np.random.default_rng([self.params.seed, turn]).permutation(frames)
            again, place = divmod(turn, per_frame)
            samples = np.random.default_rng([self.params.seed, 0, again]).permutation(per_frame)
            rounds.append(order * per_frame + samples[place])
        return np.asarray(np.concatenate(rounds)[places - places[0] // frames * frames], np.int64)

    def _passed_over(self, number: int, frames: int, per_frame: int) -> NDArray[np.int64]:
        """The rows of a constant schedule's epoch, in no order."""
        if self.alone or frames * per_frame <= policy.EPOCH_SAMPLES:
            return np.arange(frames * per_frame)
        others = per_frame - 1
        taken = min(others, max(1, policy.EPOCH_SAMPLES // frames - 1))
        turn = (number - 1) * taken + np.arange(taken)
        picked = np.concatenate([[0], 1 + turn % others])
        return np.asarray((np.arange(frames)[:, None] * per_frame + picked).ravel(), np.int64)

    def stopped(self, history: Sequence[Epoch]) -> bool:
        """Whether a constant schedule's last `patience` epochs brought no better validation loss.

        A cosine schedule is not stopped by that: what it gains comes towards its end.
        """
        if not history or self.cosine:
            return False
        losses = [epoch.validation_loss for epoch in history]
        return len(losses) - 1 - int(np.argmin(losses)) >= self.params.patience

    def exported(self, history: Sequence[Epoch]) -> Epoch:
        """The epoch whose network is the fine-tuned candidate, whichever method made it: a cosine
        schedule's last, else the first with the best validation loss."""
        if self.cosine:
            return history[-1]
        return min(history, key=lambda epoch: epoch.validation_loss)

    def diverged(self, number: int) -> InputError:
        """The error of a training whose loss is no number any more."""
        key = "peak_learning_rate" if self.cosine else "learning_rate"
        return InputError(
            f"training diverged in epoch {number} (the loss is no number); "
            f"train.{key} is {getattr(self.params, key):g}: try a smaller one"
        )


def cosine(step: int, steps: int) -> float:
    """The share of the peak rate at `step` of 0 … steps - 1."""
    warm_up = max(1, round(policy.WARM_UP_SHARE * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / (steps - warm_up))


def fitted(params: Params, frames: int) -> Params:
    """The parameters for a training on so many frames.

    With a cosine schedule there are steps enough to show each frame FRAME_VISITS times, up to
    VISITED_BATCHES `train.visits` times, and no more augmented samples than a training shows
    SAMPLE_VISITS times: each has to pass through the frozen blocks.
    """
    train = params.train
    if train.schedule != COSINE:
        return params
    least, wanted = (
        -(-visits * frames // train.batch_size) for visits in (policy.FRAME_VISITS, train.visits)
    )
    steps = max(train.steps, least, min(wanted, policy.VISITED_BATCHES))
    shown = -(-steps * train.batch_size // frames)  # of each frame
    samples = min(params.augment.samples, -(-shown // policy.SAMPLE_VISITS))
    return replace(
        params, train=replace(train, steps=steps), augment=replace(params.augment, samples=samples)
    )
