"""What `train.method` asks for, made from prepared frames and a base network."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch
from torch import Tensor

from custom_gaze.calibration.base_features import BaseFeatures
from custom_gaze.calibration.calibrate import as_epoch, calibrate, known_errors, without_training
from custom_gaze.calibration.calibration_set import CalibrationSet, Validation, probe_samples
from custom_gaze.calibration.candidates import Candidates, Closed, closed_network
from custom_gaze.calibration.cross_validation import HeldOut, training_folds
from custom_gaze.calibration.feature_cache import AugmentedSamples, frozen_features
from custom_gaze.calibration.frozen_blocks import features_of
from custom_gaze.calibration.inner_share import base_features_and_share
from custom_gaze.calibration.plan import plan_of
from custom_gaze.calibration.progress import SILENT, Progress
from custom_gaze.calibration.recipe import Epoch, Recipe, fitted
from custom_gaze.calibration.trainer import Trainer, WorseThanStart
from custom_gaze.common.console import warn
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample, labels_deg, load_crop
from custom_gaze.models.checkpoint import head_kind
from custom_gaze.models.network import GazeNetwork
from custom_gaze.weights.base_heads import Heads

ASKED_FOR = "train.method asks for it"
ALL = slice(None)
NO_ANGLES = "the base network is a trunk without heads: it has no angles to correct"


@dataclass(frozen=True)
class Inputs:
    """What candidates are made from.

    Attributes:
        network: the base's trunk, float32 on the CPU; it is moved and changed.
        heads: the base network's; None for a trunk alone.
        train, validation: the frames of these sides of the split.
        device: where the fine-tune computes.
        scratch: folder for what an interruption leaves.
        progress: is told how it is getting on.
        inner_share: of the crop's side, what the trunk gets; None: as the frames prefer.
    """

    params: Params
    paths: Paths
    network: GazeNetwork
    heads: Heads | None
    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    device: torch.device
    scratch: Path
    progress: Progress = SILENT
    inner_share: float | None = 1.0

    @property
    def known(self) -> tuple[Sample, ...]:
        """All frames but the test targets'."""
        return (*self.train, *self.validation)

    def base_features(self, fitted_to: slice = ALL) -> BaseFeatures:
        """Of the known frames, those that train first; the network is still on the CPU, and gets
        its inner share, which the frames in `fitted_to` choose."""
        self.progress.stands("base features")
        how = self.inner_share, fitted_to, self.params.train.seed
        return base_features_and_share(self.network, self.heads, self.known, self.paths, *how)


@dataclass(frozen=True)
class Made:
    """What one training made.

    Attributes:
        network: the one that is exported.
        epoch: its epoch, one of `history` or a closed form's figures.
        last, last_epoch: the network as the training left it.
        history: the epochs.
    """

    candidates: Candidates
    network: GazeNetwork
    epoch: Epoch
    last: GazeNetwork
    last_epoch: Epoch
    history: list[Epoch]


def make(method: Candidate | None, inputs: Inputs) -> Made:
    """Make one candidate, or all of them and choose.

    Raises:
        InputError: a crop cannot be read, there are too few targets, or a training diverged.
    """
    if method is None:
        return _chosen(inputs)
    return _fine_tuned(inputs) if method == Candidate.FINETUNE else _closed(inputs, method)


def _chosen(inputs: Inputs) -> Made:
    """All candidates on the frames of training and validation; cross-validation chooses."""
    params, heads = fitted(inputs.params, len(inputs.known)), inputs.heads
    frames, untrained = inputs.base_features(), copy.deepcopy(inputs.network)
    calibration_set = _calibration_set(inputs, frames, inputs.known, params)
    folds = len(training_folds(frames.targets, params.train.seed))
    _tell_plan(calibration_set, Recipe(params.train), folds)
    made = calibrate(calibration_set, params.train, inputs.scratch, inputs.progress)
    tuned, method, recipe = calibration_set.network.cpu(), made.choice.method, Recipe(params.train)
    if method == Candidate.FINETUNE:
        exported, epoch = tuned, recipe.exported(made.history)
    else:
        exported = _closed_network(untrained, heads, made.closed, method)
        epoch = as_epoch(made.closed, method, frames, made.held_out[method])
    candidates = Candidates(
        method,
        made.choice.reason,
        {name: float(some.mean()) for name, some in known_errors(made.held_out).items()},
        made.closed,
        tuned.frozen_through,
        made.fine_tuned,
        head_kind(exported),
        tuned.inner_share,
        _each_error(made.held_out[method]),
    )
    if made.fine_tuned is None:
        return Made(candidates, exported, epoch, exported, epoch, [epoch])
    return Made(candidates, exported, epoch, tuned, recipe.exported(made.history), made.history)


def _closed(inputs: Inputs, method: Candidate) -> Made:
    """The closed forms alone, on the frames of training and validation; nothing is trained."""
    train, heads = inputs.params.train, inputs.heads
    frames = inputs.base_features()
    if method == Candidate.PROBE:
        frames = _augmented(inputs, frames)
    closed, held_out = without_training(frames, train.seed, inputs.progress)
    epoch, share = as_epoch(closed, method, frames, held_out[method]), inputs.network.inner_share
    network = _closed_network(inputs.network, heads, closed, method)
    if heads is None:
        closed, held_out = {}, {Candidate.PROBE: held_out[Candidate.PROBE]}
    errors, kind = _mean_errors(held_out), head_kind(network)
    through, each = network.frozen_through, _each_error(held_out[method])
    candidates = Candidates(method, ASKED_FOR, errors, closed, through, None, kind, share, each)
    return Made(candidates, network, epoch, network, epoch, [epoch])


def _augmented(inputs: Inputs, frames: BaseFeatures) -> BaseFeatures:
    """The known frames with the augmented samples that a probe is fitted to, and no others."""
    augment = inputs.params.augment
    augment = replace(augment, samples=probe_samples(len(inputs.known), augment.samples))
    if augment.samples == 0:
        return frames
    params = replace(inputs.params, augment=augment)
    calibration_set = _calibration_set(inputs, frames, inputs.known, params)
    augmented = calibration_set.with_augmented().frames
    inputs.network.cpu()
    return augmented


def _closed_network(
    network: GazeNetwork, heads: Heads | None, closed: Closed, method: Candidate
) -> GazeNetwork:
    """`network`, in place, as that closed form; a corrected base sees the whole crop."""
    if method == Candidate.BASE:
        network.inner_share = 1.0
    return closed_network(network, heads, closed[method])


def _fine_tuned(inputs: Inputs) -> Made:
    """The fine-tune alone: trained on the training frames, measured on the validation's."""
    params, through = fitted(inputs.params, len(inputs.train)), inputs.network.frozen_through
    frames = inputs.base_features(fitted_to=slice(len(inputs.train)))
    closed: Closed = {}
    errors: dict[Candidate, float] = {}
    if inputs.heads is not None:  # to be measured beside it
        closed, held_out = without_training(frames, params.train.seed, inputs.progress)
        errors = _mean_errors(held_out)
    trained_on = frames.rows(slice(len(inputs.train)))
    sides = inputs.train, params, inputs.validation
    calibration_set = _calibration_set(inputs, trained_on, *sides).with_augmented()
    network, recipe = calibration_set.network, Recipe(params.train, alone=True)
    _tell_plan(calibration_set, recipe, 0)
    trainer = Trainer(calibration_set, recipe, inputs.scratch / "state.pt")
    asked_for = inputs.params.train.method == Candidate.FINETUNE
    reason = ASKED_FOR if asked_for else NO_ANGLES
    try:
        trainer.run(recipe.epochs, inputs.progress)
        history, state = trainer.history, trainer.best
        last = copy.deepcopy(network).cpu()
        network.load_trained_state(state)
    except WorseThanStart as stop:
        history, state, last = trainer.history[:1], trainer.start, network
        reason = f"{reason}; {stop}: its start is exported"
        network.load_trained_state(state)
    epoch = recipe.exported(history)
    errors[Candidate.FINETUNE] = epoch.validation_error_deg
    inputs.progress.candidate(Candidate.FINETUNE, epoch.validation_error_deg)
    kind, share = head_kind(network), network.inner_share
    candidates = Candidates(Candidate.FINETUNE, reason, errors, closed, through, state, kind, share)
    return Made(candidates, network.cpu(), epoch, last.cpu(), history[-1], history)


def _calibration_set(
    inputs: Inputs,
    frames: BaseFeatures,
    train: Sequence[Sample],
    params: Params,
    validation: Sequence[Sample] = (),
) -> CalibrationSet:
    """Move the network to its device and compute the frozen features of all that it needs."""
    network = inputs.network.placed(inputs.device)
    measured, memory_bytes = None, _memory_bytes(params.train.feature_memory_gb)
    if validation:
        crops = (load_crop(sample, inputs.paths) for sample in validation)
        plain = features_of(network, crops, inputs.device)
        measured = Validation(plain, torch.from_numpy(labels_deg(validation)))
        memory_bytes -= plain.nbytes
    samples = AugmentedSamples(train, inputs.paths, params.augment, params.train.seed)
    store = frozen_features(network, samples, inputs.device, inputs.scratch, memory_bytes)
    trunk: dict[str, Tensor] = network.trunk_state()
    return CalibrationSet(network, trunk, inputs.heads, frames, store, samples.per_frame, measured)


def _tell_plan(calibration_set: CalibrationSet, recipe: Recipe, folds: int) -> None:
    if plan := plan_of(calibration_set, recipe, folds):
        warn(plan)


def _each_error(held_out: HeldOut) -> tuple[float, ...]:
    return tuple(held_out.errors_deg().tolist())


def _mean_errors(held_out: Mapping[Candidate, HeldOut]) -> dict[Candidate, float]:
    return {name: float(each.errors_deg().mean()) for name, each in held_out.items()}


def _memory_bytes(feature_memory_gb: float) -> int:
    if feature_memory_gb > 0:
        return int(feature_memory_gb * 2**30)
    return int(psutil.virtual_memory().available // 2)
