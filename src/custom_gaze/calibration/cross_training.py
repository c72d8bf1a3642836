"""The fine-tune on targets it has not seen: trained anew in every fold, all on the same folds.

Each fold starts from a head that its own frames give. What they predict after each epoch for the
frames that they do not train on says when a constant schedule stops; with a cosine one it says
whether another fold is needed to choose a candidate: every calibration frame trains and every one
may validate, which with a few dozen of them is worth several trainings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_gaze.calibration import policy
from custom_gaze.calibration.calibration_set import CalibrationSet
from custom_gaze.calibration.cross_validation import Folds, HeldOut, held_out
from custom_gaze.calibration.progress import SILENT, Progress
from custom_gaze.calibration.recipe import Epoch, Recipe
from custom_gaze.calibration.trainer import Trained, Trainer, history
from custom_gaze.common.console import bar


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
    in memory; with a cosine one each goes to its end, and those after the one that `settled` it are
    not trained. Afterwards the network has its trunk back.

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
    try:
        with bar(range(0), "cross-validating", 0, "batches") as todo:
            done = 0
            while done < recipe.epochs and not recipe.stopped(epochs):
                done = min(done + turn, recipe.epochs)
                trained = []
                for number, out in enumerate(folds):
                    progress.stands(f"fold {number + 1} of {len(folds)}")
                    state_path = scratch / f"fold-{number}.pt"
                    trainer = Trainer(calibration_set.fold(out), recipe, state_path)
                    trainer.shown, each = todo, trainer.batches(recipe.epochs)
                    todo.total = each * len(folds)
                    trained.append(trainer.run(done, progress, fold=number + 1))
                    if recipe.cosine:
                        todo.n = each * len(trained)  # those of an interrupted run too
                    enough = recipe.cosine and len(trained) >= policy.SETTLED_FOLDS
                    if enough and settled(_held_out(trained, done, calibration_set, folds)):
                        break
                epochs = history(trained, recipe, done + 1)
                for epoch in epochs:
                    progress.epoch(epoch)
    finally:
        calibration_set.network.load_trunk(calibration_set.trunk_state)
    best = recipe.exported(epochs).epoch
    return CrossTraining(epochs, _held_out(trained, best, calibration_set, folds), len(trained))


def _held_out(
    trained: Sequence[Trained], epoch: int, calibration_set: CalibrationSet, folds: Folds
) -> HeldOut:
    """What the folds trained so far predicted after `epoch` for the frames that they hold out."""
    predictions = [each.predictions[epoch].numpy() for each in trained]
    return held_out(predictions, calibration_set.frames.true_deg, folds[: len(trained)])
