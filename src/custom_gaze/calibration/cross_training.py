"""The fine-tune on targets it has not seen: trained anew in every fold, all on the same folds.

All folds advance together, each from a head that its own frames give, and what they predict after
each epoch for the frames that they do not train on says when to stop: every calibration frame
trains and every one validates, which with a few dozen of them is worth several trainings.
"""

from dataclasses import dataclass
from pathlib import Path

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
    """

    history: list[Epoch]
    held_out: HeldOut


def cross_train(
    calibration_set: CalibrationSet,
    folds: Folds,
    recipe: Recipe,
    scratch: Path,
    progress: Progress = SILENT,
) -> CrossTraining:
    """Fine-tune once a fold until the predictions for the frames held out no longer improve.

    With a constant schedule the folds take turns of `patience` epochs, so that only one of them is
    in memory; with a cosine one each goes to its end. Afterwards the network has its trunk back.

    Args:
        calibration_set: all N frames.
        folds: which frames (N,) each holds out.
        recipe: of one of several trainings.
        scratch: folder where every fold's state is kept, to go on from.
        progress: is told each fold's epochs, and those of all together.

    Raises:
        InputError: a training diverged, or there are too few targets.
        WorseThanStart: a training was stopped; the other folds are not trained on.
    """
    epochs: list[Epoch] = []
    trained: list[Trained] = []
    turn = recipe.epochs if recipe.cosine else recipe.params.patience
    turns = -(-recipe.epochs // turn) * len(folds)
    try:
        with bar(range(turns), "cross-validating", unit="turns") as todo:
            done = 0
            while done < recipe.epochs and not recipe.stopped(epochs):
                done = min(done + turn, recipe.epochs)
                trained = []
                for number, out in enumerate(folds):
                    progress.stands(f"fold {number + 1} of {len(folds)}")
                    state_path = scratch / f"fold-{number}.pt"
                    trainer = Trainer(calibration_set.fold(out), recipe, state_path)
                    trained.append(trainer.run(done, progress, fold=number + 1))
                    todo.update()
                epochs = history(trained, recipe, done + 1)
                for epoch in epochs:
                    progress.epoch(epoch)
    finally:
        calibration_set.network.load_trunk(calibration_set.trunk_state)
    best = recipe.exported(epochs).epoch
    predictions = [each.predictions[best].numpy() for each in trained]
    return CrossTraining(epochs, held_out(predictions, calibration_set.frames.true_deg, folds))
