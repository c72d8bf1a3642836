"""The one training of the fine-tune: the trained blocks and the head, from frozen features.

Mean squared error in degrees, Adam with bounded steps (optimizer.py), by a recipe (recipe.py). It
trains on the head's predictions without their limits, beyond which there is no gradient. A training
that is worse than its start after a tenth of its steps is stopped (`WorseThanStart`).
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from custom_gaze.calibration import policy
from custom_gaze.calibration.calibration_set import CalibrationSet, Validation
from custom_gaze.calibration.feature_cache import Store, make_ahead
from custom_gaze.calibration.optimizer import BoundedAdam
from custom_gaze.calibration.progress import SILENT, Progress
from custom_gaze.calibration.recipe import Epoch, Recipe
from custom_gaze.calibration.starting_head import starting_head
from custom_gaze.common.console import bar
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.saved_tensors import load_tensors, save_tensors
from custom_gaze.geometry import angular_error_deg
from custom_gaze.models.devices import lower_precision
from custom_gaze.models.network import GazeNetwork

if TYPE_CHECKING:
    from tqdm import tqdm


class WorseThanStart(CustomGazeError):
    """A training was stopped after a tenth of its steps: nothing comes of such a network.

    Its loss is WORSE times that at its start, and that of one and the same prediction for every
    frame. The start alone is no measure: a probe knows the frames that it was fitted to nearly by
    heart, and a training that ends better gives up some of that first.
    """


@dataclass(frozen=True)
class Trained:
    """What a training gave so far, epoch by epoch, the start first.

    Attributes:
        losses: over the samples trained on.
        predictions: (M, 2) degrees, float32 on the CPU, for the frames of its validation, if any.
        true_deg: (M, 2) float32, the targets' angles of these.
    """

    losses: list[float]
    predictions: list[Tensor]
    true_deg: Tensor


class Trainer:
    """One training, which goes on where its state file says that it stopped.

    Attributes:
        done: what it gave so far.
        shown: the bar that counts its batches, if any.
        start: the trained parameters by name before the first epoch, where it is alone.
        best: likewise, of the exported epoch.
    """

    def __init__(self, calibration_set: CalibrationSet, recipe: Recipe, state_path: Path) -> None:
        """Make the set's network ready to start: the base's trunk under the starting head.

        Raises:
            InputError: there are too few targets for a head to start from.
        """
        self.set, self.recipe, self._path = calibration_set, recipe, state_path
        self._kept_at = time.monotonic()
        self.network = calibration_set.network.eval()  # BatchNorm stays there
        self.network.load_trunk(calibration_set.trunk_state)
        head = starting_head(calibration_set.frames, calibration_set.heads, recipe.params)
        self.network.head = head.to(calibration_set.device)
        self._labels = calibration_set.labels()
        self._optimizer = BoundedAdam(self.network.trained_parameters())
        self._start_loss = math.inf
        self.shown: tqdm[int] | None = None
        validation = calibration_set.validation
        self.done = Trained(
            [], [], torch.zeros(0, 2) if validation is None else validation.true_deg
        )
        self.start: dict[str, Tensor] = self.network.trained_state() if recipe.alone else {}
        self.best = self.start

    @property
    def history(self) -> list[Epoch]:
        """The epochs so far, where there is a validation."""
        return history([self.done], self.recipe, len(self.done.predictions))

    def run(self, until: int, progress: Progress = SILENT) -> Trained:
        """Train up to epoch `until`; the network is left as it is then.

        Epoch 0 changes nothing: it is what training starts from, and may be the best one. Where the
        state is further than `until` already, nothing is done.

        Raises:
            InputError: the training diverged, or the state is damaged.
            WorseThanStart: it is worse than its start where a tenth of it is done.
        """
        alone = self.recipe.alone
        progress.stands("training")
        self.begin(progress)
        total, done = self.batches(until), self.batches(self.next - 1)
        with bar(range(0), "training", total, "batches", done=done) as self.shown:
            for number in range(self.next, until + 1):
                if alone and self.recipe.stopped(self.history):
                    break
                self.ahead()
                self.advance()
                if alone:
                    now = self.history[-1]
                    said = f"loss {now.train_loss:.2f}, validation {now.validation_error_deg:.2f}°"
                    self.shown.set_postfix_str(said, False)
                    if self.recipe.exported(self.history) == now:
                        self.best = self.network.trained_state()
                self.told(progress, last=number == until)
        return self.done

    @property
    def next(self) -> int:
        """The epoch that comes next."""
        return len(self.done.losses)

    def begin(self, progress: Progress, fold: int | None = None) -> None:
        """Go on where its state file says that it stopped, and tell those epochs again, with the
        number of the fold that it is, from 1 on."""
        self._resume()
        self._kept_at = time.monotonic()
        for epoch in self.history:
            progress.epoch(epoch, fold)

    def ahead(self, *others: "Trainer") -> None:
        """Have the frozen features that its next epoch draws computed, and those of others, all of
        one store, whose threads then have as much to do as one another."""
        begun = time.time()
        drawn = [each for trainer in (self, *others) for each in trainer._drawn()]
        if make_ahead(drawn) and self.shown is not None:
            spent = time.time() - begun  # what is left is told by the seconds of a batch
            self.shown.start_t += spent
            self.shown.last_print_t += spent

    def _drawn(self) -> list[tuple[Store, NDArray[np.int64]]]:
        frames, per_frame = len(self.set.frames.targets), self.set.samples_per_frame
        batches = self.recipe.batches(self.next, frames, per_frame)
        drawn = [(self.set.store, np.concatenate(batches))]
        if self.set.validation is not None:
            measured = np.arange(len(self.set.validation.true_deg))
            drawn.append((self.set.validation.store, measured))
        return drawn

    def advance(self) -> None:
        """One epoch, in any thread. Raises as `run`."""
        self.done.losses.append(self.epoch(self.next))
        if self.set.validation is not None:
            self.done.predictions.append(self._validate(self.set.validation))

    def told(self, progress: Progress, fold: int | None = None, last: bool = False) -> None:
        """Tell the epoch that was the latest, and keep the state now and then."""
        if self.set.validation is not None:
            progress.epoch(self.history[-1], fold)
        if last or time.monotonic() - self._kept_at >= policy.KEEP_EVERY_S:
            self._keep()
            self._kept_at = time.monotonic()

    def batches(self, until: int) -> int:
        """How many are trained on up to epoch `until`, about as many with a constant schedule."""
        frames, per_frame = len(self.set.frames.targets), self.set.samples_per_frame
        an_epoch = len(self.recipe.batches(1, frames, per_frame))
        most = self.recipe.params.steps if self.recipe.cosine else until * an_epoch
        return min(most, max(0, until) * an_epoch)

    def epoch(self, number: int) -> float:
        """Train one epoch, or measure epoch 0; returns the mean loss. Raises as `run`."""
        losses, sizes = [], []
        frames, per_frame = len(self.set.frames.targets), self.set.samples_per_frame
        for step, rows in enumerate(self.recipe.batches(number, frames, per_frame)):
            x = self._to_device(self.set.store[rows]).float()  # (B, channels, h, w)
            y = self._labels[rows].to(self.set.device)
            with torch.set_grad_enabled(number > 0), lower_precision(self.set.device):
                predictions = self.network.unbounded(x)
            loss = torch.nn.functional.mse_loss(predictions, y)
            if number > 0:
                rate = self.recipe.rate((number - 1) * policy.EPOCH_BATCHES + step)
                self._optimizer.step(loss, rate)
                if self.shown is not None:
                    lock = self.shown.get_lock()  # type: ignore[no-untyped-call]
                    with lock:  # another fold's thread counts there too
                        self.shown.update()
            losses.append(loss.detach())  # not its value: a GPU is not waited for
            sizes.append(len(rows))
        mean = float(np.average(torch.stack(losses).double().cpu().numpy(), weights=sizes))
        if not math.isfinite(mean):
            raise self.recipe.diverged(number)
        if number == 0:
            self._start_loss = mean
        elif number == self.recipe.checked:
            self._check(mean)
        return mean

    def _check(self, loss: float) -> None:
        start, one_for_all = self._start_loss, self._labels.var(dim=0, correction=0).mean().item()
        if loss > policy.WORSE * max(start, one_for_all):
            raise WorseThanStart(
                f"the fine-tune was stopped after {self.recipe.checked} of {self.recipe.epochs} "
                f"epochs, its loss {loss:.4g} degrees² and {start:.4g} at its start"
            )

    def _to_device(self, features: NDArray[np.float16]) -> Tensor:
        """A batch (B, channels, h, w) on the device, copied there while a GPU still computes."""
        x = torch.from_numpy(features)
        if self.set.device.type == "cuda":
            return x.pin_memory().to(self.set.device, non_blocking=True)
        return x.to(self.set.device)

    def _validate(self, validation: Validation) -> Tensor:
        size = self.recipe.params.batch_size
        return predict(self.network, validation.store, len(validation.true_deg), size)

    def _keep(self) -> None:
        state = {
            "losses": self.done.losses,
            "predictions": self.done.predictions,
            "best": self.best,
            "now": self.network.trained_state(),
            "optimizer": self._optimizer.state_dict(),
        }
        save_tensors(state, self._path)

    def _resume(self) -> None:
        if not self._path.exists():
            return
        what = "state of an interrupted training"
        state = load_tensors(self._path, what, "delete it to start again")
        self.done = replace(self.done, losses=state["losses"], predictions=state["predictions"])
        self._start_loss, self.best = self.done.losses[0], state["best"]
        self.network.load_trained_state(state["now"])
        self._optimizer.load_state_dict(state["optimizer"])


def history(trainings: Sequence[Trained], recipe: Recipe, count: int) -> list[Epoch]:
    """The first `count` epochs of trainings together: train_loss is their mean, the validation's
    figures are over all their predictions. An interrupted run may have left more of some.

    Raises:
        InputError: a prediction is no number: a training diverged.
    """
    true = torch.cat([each.true_deg for each in trainings])
    epochs = []
    for number in range(count):
        train_loss = float(np.mean([each.losses[number] for each in trainings]))
        predicted = torch.cat([each.predictions[number] for each in trainings])
        loss = torch.nn.functional.mse_loss(predicted, true).item()
        if not math.isfinite(loss):
            raise recipe.diverged(number)
        error = float(angular_error_deg(predicted.numpy(), true.numpy()).mean())
        epochs.append(Epoch(number, train_loss, loss, error))
    return epochs


def predict(network: GazeNetwork, store: Store, count: int, batch_size: int) -> Tensor:
    """The first `count` features of a store → (count, 2) degrees, float32 on the CPU."""
    device = next(network.parameters()).device
    with torch.inference_mode(), lower_precision(device):
        predictions = [
            network.trained(torch.from_numpy(store[rows]).to(device).float())
            for rows in np.split(np.arange(count), range(batch_size, count, batch_size))
        ]
        return torch.cat(predictions).float().cpu()
