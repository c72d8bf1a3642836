"""The train stage: the candidates from one or more sessions, and which of them is exported."""

import copy
import csv
import dataclasses
import hashlib
import io
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import torch

from custom_gaze.calibration import finetune, selection, trainer
from custom_gaze.calibration.base_features import Seen, seen_by
from custom_gaze.calibration.candidates import (
    Candidates,
    ClosedForm,
    closed_network,
    save_candidates,
)
from custom_gaze.calibration.feature_cache import Copies, features_of, frozen_features
from custom_gaze.calibration.finetune import Epoch
from custom_gaze.calibration.starting_head import starting_head, trunk_network
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of, write_text
from custom_gaze.common.provenance import code_version
from custom_gaze.common.scratch import scratch_folder
from custom_gaze.config.candidate import AUTO, Candidate
from custom_gaze.config.params import Params, TrainParams
from custom_gaze.config.paths import Paths
from custom_gaze.config.specification import Specification
from custom_gaze.data.index import (
    Sample,
    labels_deg,
    load_crop,
    of_split,
    read_index,
    read_specification,
)
from custom_gaze.data.splits import TRAIN, VALIDATION
from custom_gaze.models.checkpoint import Checkpoint, head_kind, save_checkpoint
from custom_gaze.models.devices import pick_device
from custom_gaze.models.network import GazeNetwork
from custom_gaze.models.records import ChoiceRecord, TrainingRecord
from custom_gaze.weights.base import BaseNetwork, read_base

NO_ANGLES = "the base network is a trunk without heads: it has no angles to correct"


@dataclass(frozen=True)
class TrainResult:
    """What `custom-gaze train` says it did."""

    method: Candidate  # what is exported
    reason: str
    epochs: int  # beside epoch 0, the start
    exported: Epoch  # the one whose network is exported; 0 of a closed form
    train_frames: int  # that the exported network was fitted to
    validation_frames: int  # that were held out from it; none where all are trained on


@dataclass(frozen=True)
class _Job:
    """The inputs of one training."""

    params: Params
    paths: Paths
    specification: Specification
    base: BaseNetwork
    network: GazeNetwork  # the base's trunk, float32 on the CPU until it is fine-tuned
    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    device: torch.device
    scratch: Path


@dataclass(frozen=True)
class _Made:
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


def run(params: Params, paths: Paths) -> TrainResult:
    """Make the candidates that `train.method` asks for from data/index.csv and models/base.pt.

    Writes both checkpoints, models/candidates.pt and the losses. The test targets are not looked
    at. Interrupted and started again with the same inputs, it goes on where it stopped and ends
    with the weights of an uninterrupted run.

    Raises:
        InputError: the index, a crop or the base network is missing or damaged, a parameter does
            not fit the network, there are too few targets, or the device asked for is not there.
    """
    samples = read_index(paths.index)
    specification = read_specification(paths.specification)
    train, validation = of_split(samples, TRAIN), of_split(samples, VALIDATION)
    device = pick_device(params.train.device, "train.device")
    base = read_base(paths.base)
    method = _method(params.train, base)
    torch.manual_seed(params.train.seed)
    network = trunk_network(base, params.train, train, paths)
    with scratch_folder(paths.unfinished, _key(params, paths, device)) as scratch:
        job = _Job(
            *(params, paths, specification, base, network, train, validation, device, scratch)
        )
        if method is None:
            made = _choose(job)
        else:
            made = _fine_tune(job) if method == Candidate.FINETUNE else _closed(job, method)
        _save(made, job)
    candidates = made.candidates
    said = candidates.method, candidates.reason, len(made.history) - 1, made.epoch
    held_out = 0 if VALIDATION in _trained_on(method) else len(validation)
    return TrainResult(*said, len(train) + len(validation) - held_out, held_out)


def _method(params: TrainParams, base: BaseNetwork) -> Candidate | None:
    """The candidate to make; None: all of them, to choose from."""
    method = None if params.method == AUTO else Candidate(params.method)
    if base.heads is not None:
        return method
    if method == Candidate.BASE:
        raise InputError(
            f"train.method is 'base', but {base.source} is a trunk without heads, which has no "
            "angles to correct; set it to auto, or bring a base network with heads"
        )
    return method or Candidate.FINETUNE


def _trained_on(method: Candidate | None) -> tuple[str, ...]:
    """The sides of the split that a candidate is fitted to: all but the test targets, unless the
    fine-tune alone is asked for, which leaves the validation's out."""
    return (TRAIN,) if method == Candidate.FINETUNE else (TRAIN, VALIDATION)


def _choose(job: _Job) -> _Made:
    """All candidates on the frames of training and validation; cross-validation chooses."""
    heads = job.base.heads
    assert heads is not None  # _method has seen to it
    known = (*job.train, *job.validation)
    fitted = trainer.fitted(job.params, len(known))
    params = fitted.train
    seen = seen_by(job.network, heads, known, job.paths)
    untrained = copy.deepcopy(job.network)
    network = _on_device(job)
    copies = Copies(known, job.paths, fitted.augment, params.seed)
    store = frozen_features(network, copies, job.device, job.scratch, _memory_budget(params))
    per_frame = len(copies) // len(known)
    made = selection.calibrate(network, seen, heads, store, per_frame, params, job.scratch)

    network = network.cpu()
    method = made.choice.method
    if method == Candidate.FINETUNE:
        exported, epoch = network, finetune.exported(made.history, params)
    else:
        exported = closed_network(untrained, heads, made.closed[method])
        epoch = selection.as_epoch(made.closed[method], seen, made.held_out[method])
    held_out = {name: each.errors_deg(len(known)) for name, each in made.held_out.items()}
    candidates = Candidates(
        method,
        made.choice.reason,
        {name: float(errors.mean()) for name, errors in held_out.items()},
        made.closed,
        params.frozen_through,
        made.fine_tuned,
        head_kind(exported),
    )
    if made.fine_tuned is None:
        return _Made(candidates, exported, epoch, exported, epoch, [epoch])
    last_epoch = finetune.exported(made.history, params)
    return _Made(candidates, exported, epoch, network, last_epoch, made.history)


def _closed(job: _Job, method: Candidate) -> _Made:
    """The closed forms alone, on the frames of training and validation; nothing is trained."""
    params, heads = job.params.train, job.base.heads
    seen = seen_by(job.network, heads, (*job.train, *job.validation), job.paths)
    closed, held_out = selection.without_training(seen, params.seed)
    epoch = selection.as_epoch(closed[method], seen, held_out[method])
    network = closed_network(job.network, heads, closed[method])
    if heads is None:
        del closed[Candidate.BASE], held_out[Candidate.BASE]
    errors = {name: each.errors_deg(len(seen.targets)) for name, each in held_out.items()}
    candidates = Candidates(
        method,
        selection.ASKED_FOR,
        {name: float(some.mean()) for name, some in errors.items()},
        closed if heads is not None else {},
        params.frozen_through,
        None,
        head_kind(network),
    )
    return _Made(candidates, network, epoch, network, epoch, [epoch])


def _fine_tune(job: _Job) -> _Made:
    """The fine-tune alone: trained on the training frames, measured on the validation's."""
    fitted = trainer.fitted(job.params, len(job.train))
    params, base, device = fitted.train, job.base, job.device
    seen = seen_by(job.network, base.heads, (*job.train, *job.validation), job.paths)
    trains = slice(len(job.train))
    job.network.head = starting_head(seen.rows(trains), base.heads, params)
    closed, errors = _beside(job, seen)
    network = _on_device(job)

    copies = Copies(job.train, job.paths, fitted.augment, params.seed)
    labels = torch.from_numpy(labels_deg(job.train))[copies.frame_of(np.arange(len(copies)))]
    plain = (load_crop(sample, job.paths) for sample in job.validation)
    held_out = features_of(network, plain, device)
    held_out_labels = torch.from_numpy(labels_deg(job.validation))
    budget = _memory_budget(params) - held_out.nbytes
    store = frozen_features(network, copies, device, job.scratch, budget)
    fit = finetune.fit(
        network,
        store,
        labels,
        len(copies) // len(job.train),
        held_out,
        held_out_labels,
        params,
        job.scratch / "state.pt",
    )
    history, epoch = fit.history, finetune.exported(fit.history, params)
    last = copy.deepcopy(network).cpu()
    network.load_trained_state(fit.state)
    reason = selection.ASKED_FOR if params.method == Candidate.FINETUNE else NO_ANGLES
    if fit.stopped:
        last, reason = network.cpu(), f"{reason}; {fit.stopped}: its start is exported"
    errors = {**errors, Candidate.FINETUNE: epoch.validation_error_deg}
    kind = head_kind(network)
    candidates = Candidates(
        Candidate.FINETUNE, reason, errors, closed, params.frozen_through, fit.state, kind
    )
    return _Made(candidates, network.cpu(), epoch, last, history[-1], history)


def _beside(job: _Job, seen: Seen) -> tuple[dict[Candidate, ClosedForm], dict[Candidate, float]]:
    """The closed forms and their held-out errors, to be measured beside the fine-tuned network."""
    if job.base.heads is None:
        return {}, {}
    closed, held_out = selection.without_training(seen, job.params.train.seed)
    frames = len(seen.targets)
    return closed, {n: float(each.errors_deg(frames).mean()) for n, each in held_out.items()}


def _on_device(job: _Job) -> GazeNetwork:
    moved: GazeNetwork = job.network.to(  # type: ignore[call-overload]
        job.device, memory_format=torch.channels_last
    )
    return moved


def _save(made: _Made, job: _Job) -> None:
    """Write both checkpoints, the candidates and the losses per epoch."""
    candidates = made.candidates
    last_method = candidates.method if candidates.fine_tuned is None else Candidate.FINETUNE
    for path, network, epoch, method in (
        (job.paths.checkpoint, made.network, made.epoch, candidates.method),
        (job.paths.last_checkpoint, made.last, made.last_epoch, last_method),
    ):
        choice = ChoiceRecord(method, candidates.reason, candidates.held_out_deg)
        save_checkpoint(_checkpoint(job, network, epoch, choice), path)
    save_candidates(candidates, job.paths.candidates)
    write_text(job.paths.training_log, _as_csv(made))


def _checkpoint(job: _Job, network: GazeNetwork, epoch: Epoch, choice: ChoiceRecord) -> Checkpoint:
    params = job.params
    trained_on = list(_trained_on(_method(params.train, job.base)))
    return Checkpoint(
        trunk=job.base.trunk,
        frozen_through=params.train.frozen_through,
        head=head_kind(network),
        state=network.state_dict(),
        base=job.base.provenance,
        code=code_version("stages.train"),
        sessions=list(params.sessions),
        params={
            "augment": dataclasses.asdict(params.augment),
            "train": dataclasses.asdict(params.train),
        },
        specification=job.specification,
        training=TrainingRecord(trained_on, *dataclasses.astuple(epoch)),
        choice=choice,
    )


def _key(params: Params, paths: Paths, device: torch.device) -> str:
    """Names the scratch folder of this very training: same inputs, same code, same name."""
    said = json.dumps([dataclasses.asdict(params.augment), dataclasses.asdict(params.train)])
    parts = [
        said,
        sha256_of(paths.index),
        sha256_of(paths.base),
        device.type,
        code_version("stages.train"),
    ]
    parts += [version(name) for name in ("torch", "torchvision", "albumentations")]
    return "train-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _memory_budget(params: TrainParams) -> int:
    if params.feature_memory_gb > 0:
        return int(params.feature_memory_gb * 2**30)
    return int(psutil.virtual_memory().available // 2)


def _as_csv(made: _Made) -> str:
    """The epochs, and a column `exported`: 1 in the one whose network is exported, else 0. Where a
    closed form is exported beside a fine-tune, there is no 1."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*(entry.name for entry in dataclasses.fields(Epoch)), "exported"])
    writer.writerows((*dataclasses.astuple(e), int(e is made.epoch)) for e in made.history)
    return out.getvalue()
