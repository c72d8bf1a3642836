"""What a training will do and about how long that takes, known before it begins."""

import copy
import time
from dataclasses import dataclass

import numpy as np
import torch

from custom_gaze.calibration import policy
from custom_gaze.calibration.calibration_set import CalibrationSet
from custom_gaze.calibration.cross_training import folds_at_once
from custom_gaze.calibration.recipe import Recipe
from custom_gaze.models.devices import SideBySide
from custom_gaze.models.network import GazeNetwork

LEAST_MINUTES = 1.5  # below it a plan says seconds


@dataclass(frozen=True)
class Plan:
    """What a training with a cosine schedule does.

    Attributes:
        samples: that are drawn and pass through the frozen blocks.
        folds: at most; none where there is no cross-validation.
        fold_steps: of each fold.
        steps: of the training on all frames.
        sample_s, step_s: what one takes.
        fold_step_s: the same of one in the folds, two of which are trained side by side.
    """

    samples: int
    folds: int
    fold_steps: int
    steps: int
    sample_s: float
    step_s: float
    fold_step_s: float

    def seconds(self, folds: int) -> float:
        """About how long it takes, where so many folds decide."""
        in_folds = folds * self.fold_steps * self.fold_step_s
        return self.samples * self.sample_s + in_folds + self.steps * self.step_s

    def __str__(self) -> str:
        made = f"{self.samples} augmented samples"
        most = self.seconds(self.folds)
        if self.folds == 0:
            return f"plan: {made}, {self.steps} steps; {_about(most)}"
        least = self.seconds(min(self.folds, policy.SETTLED_FOLDS))
        folds = f"up to {self.folds} folds of {self.fold_steps} steps, then {self.steps} steps"
        between = "" if _about(least) == _about(most) else f", {_about(least)} if two folds decide"
        return f"plan: {made}, {folds}; {_about(most)}{between}"


def plan_of(calibration_set: CalibrationSet, recipe: Recipe, folds: int) -> Plan | None:
    """The plan, from the seconds of one batch; None for a constant schedule, whose end is open.

    The batch is the first one's samples, which stay computed; the network is left as it is.
    """
    if not recipe.cosine:
        return None
    frames, per_frame = len(calibration_set.frames.targets), calibration_set.samples_per_frame
    epochs = range(1, recipe.epochs + 1)
    batches = [rows for number in epochs for rows in recipe.batches(number, frames, per_frame)]
    begun = time.perf_counter()
    x = torch.from_numpy(calibration_set.store[batches[0]]).to(calibration_set.device).float()
    passed = time.perf_counter()
    network = calibration_set.network.eval()

    def step(network: GazeNetwork) -> float:
        for _ in range(2):  # the first one prepares what later ones go on using
            started = time.perf_counter()
            network.features(x).square().mean().backward()  # type: ignore[no-untyped-call]
            network.zero_grad(set_to_none=True)
        return time.perf_counter() - started

    step_s = fold_step_s = step(network)
    threads = SideBySide(folds_at_once(recipe, calibration_set.device))
    if folds and threads.count > 1:
        networks = [network, *(copy.deepcopy(network) for _ in range(threads.count - 1))]
        fold_step_s = max(threads.map(step, networks)) / threads.count
    return Plan(
        samples=len(np.unique(np.concatenate(batches))),
        folds=folds,
        fold_steps=recipe.in_folds().params.steps,
        steps=recipe.params.steps,
        sample_s=(passed - begun) / len(batches[0]),
        step_s=step_s,
        fold_step_s=fold_step_s,
    )


def _about(seconds: float) -> str:
    if seconds < 60 * LEAST_MINUTES:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min"
