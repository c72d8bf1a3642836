"""The fine-tune on targets it has not seen: trained anew in every fold, all on the same folds.

Each fold starts from a head that its own frames give. What they predict after each epoch for the
frames that they do not train on says when a constant schedule stops; with a cosine one it says
whether another fold is needed to choose a candidate: every calibration frame trains and every one
may validate, which with a few dozen of them is worth several trainings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from custom_gaze.calibration import policy
from custom_gaze.calibration.calibration_set import CalibrationSet
from custom_gaze.calibration.cross_validation import Folds, HeldOut, held_out
from custom_gaze.calibration.progress import SILENT, Progress
from custom_gaze.calibration.recipe import Epoch, Recipe
from custom_gaze.calibration.trainer import Trained, Trainer, history
from custom_gaze.common.console import bar
from custom_gaze.models.devices import SideBySide

if TYPE_CHECKING:
    from tqdm import tqdm


@dataclass(frozen=True)
class CrossTraining:
    """The fine-tuned candidate, cross-validated.

    Attributes:
        history: the epochs; train_loss is the folds' mean, validation_loss that of all predictions
            for frames held out.
        held_out: the predictions after the exported epoch.
        folds: how many were trained.
    """

    history: list[Epoch]
    held_out: HeldOut
    folds: int


def never(_: HeldOut) -> bool:
    """That no fold is one too many."""
    return False


def folds_at_once(recipe: Recipe, device: torch.device) -> int:
    """How many folds are trained side by side where there are threads for them."""
    return 2 if recipe.cosine and device.type == "cpu" else 1


def cross_train(
    calibration_set: CalibrationSet,
    folds: Folds,
    recipe: Recipe,
    scratch: Path,
    progress: Progress = SILENT,
    settled: Callable[[HeldOut], bool] = never,
) -> CrossTraining:
    """Fine-tune once a fold until the predictions for the frames held out no longer improve.

    With a constant schedule the folds take turns of `patience` epochs, so that only one of them is
    in memory. With a cosine one each goes to its end, two of them side by side on the CPU, where
    the layers of a small network do not fill its threads; and those after the one that `settled` it
    are not trained, or not used. Afterwards the network has its trunk back.

    Args:
        calibration_set: all N frames.
        folds: which frames (N,) each holds out.
        recipe: of one of several trainings.
        scratch: folder where every fold's state is kept, to go on from.
        progress: is told each fold's epochs, and those of all together.
        settled: whether the predictions so far, for the frames held out, are enough; it decides by
            them alone, so that an interrupted run decides the same.

    Raises:
        InputError: a training diverged, or there are too few targets.
        WorseThanStart: a training was stopped; the other folds are not trained on.
    """
    epochs: list[Epoch] = []
    trained: list[Trained] = []
    turn = recipe.epochs if recipe.cosine else recipe.params.patience
    threads = SideBySide(folds_at_once(recipe, calibration_set.device))

    def enough(until: int) -> bool:
        if not recipe.cosine or len(trained) < policy.SETTLED_FOLDS:
            return False
        return settled(_held_out(trained, until, calibration_set, folds))

    try:
        with bar(range(0), "cross-validating", 0, "batches") as todo:
            done = 0
            while done < recipe.epochs and not recipe.stopped(epochs):
                done, trained = min(done + turn, recipe.epochs), []
                for first in range(0, len(folds), threads.count):
                    if enough(done):
                        break
                    numbers = range(len(folds))[first : first + threads.count]
                    some = _Group(calibration_set, folds, numbers, threads)
                    for one in some.train(recipe, done, scratch, progress, todo):
                        if not enough(done):
                            trained.append(one)
                epochs = history(trained, recipe, done + 1)
                for epoch in epochs:
                    progress.epoch(epoch)
    finally:
        calibration_set.network.load_trunk(calibration_set.trunk_state)
    best = recipe.exported(epochs).epoch
    return CrossTraining(epochs, _held_out(trained, best, calibration_set, folds), len(trained))


@dataclass(frozen=True)
class _Group:
    """Folds that are trained side by side: the numbers of some of them."""

    calibration_set: CalibrationSet
    folds: Folds
    numbers: Sequence[int]
    threads: SideBySide

    def train(
        self,
        recipe: Recipe,
        until: int,
        scratch: Path,
        progress: Progress,
        shown: "tqdm[int]",
    ) -> list[Trained]:
        """Up to epoch `until`; an interrupted run may have left one further than another."""
        names, count = [number + 1 for number in self.numbers], len(self.numbers)
        which = f"fold {names[0]}" if count == 1 else f"folds {names[0]} and {names[-1]}"
        progress.stands(f"{which} of {len(self.folds)}")
        trainers = [
            Trainer(self._set(number), recipe, scratch / f"fold-{number}.pt")
            for number in self.numbers
        ]
        each = trainers[0].batches(recipe.epochs)
        shown.total = each * len(self.folds)
        for trainer, name in zip(trainers, names, strict=True):
            trainer.shown = shown
            trainer.begin(progress, name)
        while (epoch := min(trainer.next for trainer in trainers)) <= until:
            going = [one for one in zip(trainers, names, strict=True) if one[0].next == epoch]
            advanced = [trainer for trainer, _ in going]
            Trainer.ahead(*advanced)
            # One of two has its share of the threads where the other is ahead, too.
            list((self.threads.map if count > 1 else map)(Trainer.advance, advanced))
            for trainer, name in going:
                trainer.told(progress, name, last=epoch == until)
        if recipe.cosine:
            shown.n = each * names[-1]  # those of an interrupted run too
        return [trainer.done for trainer in trainers]

    def _set(self, number: int) -> CalibrationSet:
        one = self.calibration_set.fold(self.folds[number])
        return one if len(self.numbers) == 1 else one.apart()


def _held_out(
    trained: Sequence[Trained], epoch: int, calibration_set: CalibrationSet, folds: Folds
) -> HeldOut:
    """What the folds trained so far predicted after `epoch` for the frames that they hold out."""
    predictions = [each.predictions[epoch].numpy() for each in trained]
    return held_out(predictions, calibration_set.frames.true_deg, folds[: len(trained)])
