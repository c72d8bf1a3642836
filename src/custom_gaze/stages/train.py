"""The train stage: the candidates from one or more sessions, and which of them is exported."""

import csv
import dataclasses
import hashlib
import io
import json
from dataclasses import dataclass
from importlib.metadata import version

import torch

from custom_gaze.calibration.candidates import save_candidates
from custom_gaze.calibration.inner_share import asked_for
from custom_gaze.calibration.making import Inputs, Made, make
from custom_gaze.calibration.progress import SILENT, Progress
from custom_gaze.calibration.recipe import Epoch
from custom_gaze.calibration.starting_head import trunk_network
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of, write_text
from custom_gaze.common.provenance import code_version
from custom_gaze.common.scratch import scratch_folder
from custom_gaze.config.candidate import AUTO, Candidate
from custom_gaze.config.params import Params, TrainParams
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import of_split, read_index, read_specification
from custom_gaze.data.splits import TRAIN, VALIDATION
from custom_gaze.models.checkpoint import Checkpoint, corrected_angles, head_kind, save_checkpoint
from custom_gaze.models.devices import pick_device
from custom_gaze.models.records import ChoiceRecord, TrainingRecord
from custom_gaze.weights.base import BaseNetwork, read_base


@dataclass(frozen=True)
class TrainResult:
    """What `custom-gaze train` says it did."""

    method: Candidate  # what is exported
    reason: str
    inner_share: float  # of the crop's side, what its trunk gets
    epochs: int  # beside epoch 0, the start
    exported: Epoch  # the one whose network is exported; 0 of a closed form
    train_frames: int  # that the exported network was fitted to
    validation_frames: int  # that were held out from it; none where all are trained on


def run(params: Params, paths: Paths, progress: Progress = SILENT) -> TrainResult:
    """Make the candidates that `train.method` asks for from data/index.csv and models/base.pt.

    Writes both checkpoints, models/candidates.pt and the losses. The test targets are not looked
    at. Interrupted and started again with the same inputs, it goes on where it stopped and ends
    with the weights of an uninterrupted run. `progress` is told how it is getting on.

    Raises:
        InputError: the index, a crop or the base network is missing or damaged, a parameter does
            not fit the network, there are too few targets, or the device asked for is not there.
    """
    samples = read_index(paths.index)
    read_specification(paths.specification)  # before the work, not after it
    train, validation = of_split(samples, TRAIN), of_split(samples, VALIDATION)
    device = pick_device(params.train.device, "train.device")
    base = read_base(paths.base)
    progress.about(base.spec.name, base.source)
    method = _method(params.train, base)
    torch.manual_seed(params.train.seed)
    network = trunk_network(base, params.train, train, paths)
    with scratch_folder(paths.unfinished, _key(params, paths, device)) as scratch:
        sides = train, validation
        share = asked_for(params.train, base)
        inputs = Inputs(
            params, paths, network, base.heads, *sides, device, scratch, progress, share
        )
        made = make(method, inputs)
        _save(made, base, params, paths)
    candidates = made.candidates
    said = (
        candidates.method,
        candidates.reason,
        made.network.inner_share,
        len(made.history) - 1,
        made.epoch,
    )
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


def _save(made: Made, base: BaseNetwork, params: Params, paths: Paths) -> None:
    """Write both checkpoints, the candidates and the losses per epoch."""
    candidates = made.candidates
    last_method = candidates.method if candidates.fine_tuned is None else Candidate.FINETUNE
    for path, network, epoch, method in (
        (paths.checkpoint, made.network, made.epoch, candidates.method),
        (paths.last_checkpoint, made.last, made.last_epoch, last_method),
    ):
        trained_on = list(_trained_on(_method(params.train, base)))
        checkpoint = Checkpoint(
            trunk=base.trunk,
            frozen_through=network.frozen_through,
            inner_share=network.inner_share,
            head=head_kind(network),
            angles=corrected_angles(network),
            state=network.state_dict(),
            base=base.provenance,
            code=code_version("stages.train"),
            sessions=list(params.sessions),
            params={
                "augment": dataclasses.asdict(params.augment),
                "train": dataclasses.asdict(params.train),
            },
            specification=read_specification(paths.specification),
            training=TrainingRecord(trained_on, *dataclasses.astuple(epoch)),
            choice=ChoiceRecord(method, candidates.reason, candidates.held_out_deg),
        )
        save_checkpoint(checkpoint, path)
    tied = dataclasses.replace(candidates, checkpoint_sha256=sha256_of(paths.checkpoint))
    save_candidates(tied, paths.candidates)
    write_text(paths.training_log, _as_csv(made))


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
    parts += [version(name) for name in ("torch", "albumentations")]
    return "train-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _as_csv(made: Made) -> str:
    """The epochs, and a column `exported`: 1 in the one whose network is exported, else 0. Where a
    closed form is exported beside a fine-tune, there is no 1."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*(entry.name for entry in dataclasses.fields(Epoch)), "exported"])
    writer.writerows((*dataclasses.astuple(e), int(e is made.epoch)) for e in made.history)
    return out.getvalue()
