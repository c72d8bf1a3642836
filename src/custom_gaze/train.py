"""The train stage: fine-tune the last block and a linear head on one or more sessions."""

import csv
import dataclasses
import hashlib
import io
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from custom_gaze import crops, dataset
from custom_gaze.checkpoint import Checkpoint, load_tensors, save_checkpoint, save_tensors
from custom_gaze.dataset import Sample, labels_deg, load_crop, of_split
from custom_gaze.devices import pick_device
from custom_gaze.errors import InputError
from custom_gaze.features import Copies, Store, features_of, frozen_features
from custom_gaze.files import sha256_of, write_text
from custom_gaze.geometry import angular_error_deg
from custom_gaze.network import GazeNetwork
from custom_gaze.params import Params, TrainParams
from custom_gaze.paths import Paths, project_root
from custom_gaze.progress import bar
from custom_gaze.scratch import scratch_folder
from custom_gaze.splits import TRAIN, VALIDATION
from custom_gaze.start import starting_network
from custom_gaze.version import code_version
from custom_gaze.weights.base import BaseNetwork, read_base

KEEP_EVERY_S = 15.0  # so much work an interruption may cost


@dataclass(frozen=True)
class Epoch:
    """Losses are mean squared errors in degrees², over both angles."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_error_deg: float


@dataclass(frozen=True)
class TrainResult:
    """What `custom-gaze train` says it did."""

    epochs: int  # beside epoch 0, the start
    best: Epoch
    train_frames: int
    validation_frames: int


def run(params: Params, paths: Paths) -> TrainResult:
    """Train on data/index.csv from models/base.pt; write both checkpoints and the losses.

    Interrupted and started again with the same inputs, it goes on where it stopped and ends with
    the weights of an uninterrupted run.

    Raises:
        InputError: the index, a crop or the base network is missing or damaged, a parameter does
            not fit the network, or the device asked for is not there.
    """
    samples = dataset.read_index(paths.index)
    train, validation = of_split(samples, TRAIN), of_split(samples, VALIDATION)
    device = pick_device(params.train.device, "train.device")
    base = read_base(paths.base)
    torch.manual_seed(params.train.seed)
    network = starting_network(base, params.train, train, paths)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    copies = Copies(train, paths, params.augment, params.train.seed)
    labels = torch.from_numpy(labels_deg(train))[copies.frame_of(np.arange(len(copies)))]
    held_out = features_of(network, [load_crop(sample, paths) for sample in validation], device)
    held_out_labels = torch.from_numpy(labels_deg(validation))
    unfinished = project_root() / ".dvc" / "tmp" / "custom-gaze"
    with scratch_folder(unfinished, _key(params, paths, device)) as scratch:
        store = frozen_features(network, copies, device, scratch, _memory_budget(params.train))
        state_path = scratch / "state.pt"
        history, best = fit(
            network, store, labels, held_out, held_out_labels, params.train, state_path
        )
        _save(network, best, history, _papers(params, base, train, validation), paths)
    top = min(history, key=lambda epoch: epoch.validation_loss)
    return TrainResult(len(history) - 1, top, len(train), len(validation))


def _save(
    network: GazeNetwork,
    best: dict[str, Tensor],
    history: Sequence[Epoch],
    papers: dict[str, Any],
    paths: Paths,
) -> None:
    """Write both checkpoints and the losses per epoch."""
    last = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_trained_state(best)
    top = min(history, key=lambda epoch: epoch.validation_loss)
    for path, state, epoch in (
        (paths.checkpoint, network.state_dict(), top),
        (paths.last_checkpoint, last, history[-1]),
    ):
        training = {**papers["training"], **dataclasses.asdict(epoch)}
        save_checkpoint(Checkpoint(**{**papers, "state": state, "training": training}), path)
    write_text(paths.training_log, _as_csv(history))


def fit(
    network: GazeNetwork,
    store: Store,
    labels: Tensor,
    held_out: Tensor,
    held_out_labels: Tensor,
    params: TrainParams,
    state_path: Path,
) -> tuple[list[Epoch], dict[str, Tensor]]:
    """Fine-tune the trained blocks and the head in place.

    Args:
        network: on its device, in eval mode; BatchNorm stays there.
        store: features (N, channels, h, w) float16 of the training copies.
        labels: (N, 2) [yaw, pitch] in degrees, float32.
        held_out: features (M, channels, h, w) of the validation crops.
        held_out_labels: (M, 2) in degrees.
        params: the recipe.
        state_path: where each epoch's end is kept, to go on from after an interruption.

    Returns:
        The epochs, and the trained parameters (by name) of the one with the best validation loss.
    """
    device = next(network.parameters()).device
    network.eval()
    optimizer = torch.optim.Adam(network.trained_parameters(), lr=params.learning_rate)
    history, best = _resume(state_path, network, optimizer)
    kept_at = time.monotonic()

    # Epoch 0 is what training starts from: where no epoch improves on it, it is the best one.
    left = range(len(history), params.epochs + 1)
    epochs = bar(left, "training", params.epochs + 1, "epochs", done=len(history))
    for number in epochs:
        if _stopped(history, params.patience):
            epochs.close()
            break

        # One pass over all copies, in an order that follows from the seed and the epoch alone.
        order = np.random.default_rng([params.seed, number]).permutation(len(labels))
        total = 0.0
        for start in range(0, len(order), params.batch_size):
            rows = np.sort(order[start : start + params.batch_size])  # sorted: reads in file order
            x = torch.from_numpy(store[rows]).to(device).float()  # (B, C, h, w)
            with torch.set_grad_enabled(number > 0):
                loss = torch.nn.functional.mse_loss(network.trained(x), labels[rows].to(device))
            if number > 0:
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            total += loss.item() * len(rows)

        # Validation on plain crops.
        predicted = predict(network, held_out, params.batch_size)  # (M, 2)
        validation_loss = torch.nn.functional.mse_loss(predicted, held_out_labels).item()
        error = float(angular_error_deg(predicted.numpy(), held_out_labels.numpy()).mean())
        if not math.isfinite(total + validation_loss):
            raise InputError(
                f"training diverged in epoch {number} (the loss is no number); "
                f"train.learning_rate is {params.learning_rate:g}: try a smaller one"
            )
        if not history or validation_loss < min(epoch.validation_loss for epoch in history):
            best = network.trained_state()
        history.append(Epoch(number, total / len(order), validation_loss, error))
        epochs.set_postfix_str(f"loss {history[-1].train_loss:.2f}, validation {error:.2f}°", False)
        if time.monotonic() - kept_at >= KEEP_EVERY_S:
            _keep(state_path, network, optimizer, history, best)
            kept_at = time.monotonic()
    return history, best


def predict(network: GazeNetwork, features: Tensor, batch_size: int) -> Tensor:
    """Features (N, channels, h, w) of the frozen blocks → (N, 2) degrees, float32 on the CPU."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        batches = torch.split(features, batch_size)
        return torch.cat([network.trained(batch.to(device).float()).cpu() for batch in batches])


def _papers(
    params: Params, base: BaseNetwork, train: Sequence[Sample], validation: Sequence[Sample]
) -> dict[str, Any]:
    return {
        "trunk": base.trunk,
        "frozen_through": params.train.frozen_through,
        "base": {
            "source": base.source,
            "sha256": base.sha256,
            "kind": base.kind,
            "trunk": base.trunk,
            "bins": base.heads.bins if base.heads else 0,
            "batchnorm_folded": base.batchnorm_folded,
        },
        "sessions": list(params.sessions),
        "params": {
            "geometry": dataclasses.asdict(params.geometry),
            "prepare": dataclasses.asdict(params.prepare),
            "augment": dataclasses.asdict(params.augment),
            "train": dataclasses.asdict(params.train),
        },
        "preprocessing": crops.Preprocessing(
            params.prepare.margin, params.prepare.size_px
        ).as_dict(),
        "training": {"train_frames": len(train), "validation_frames": len(validation)},
    }


def _key(params: Params, paths: Paths, device: torch.device) -> str:
    """Names the scratch folder of this very training: same inputs, same code, same name."""
    said = json.dumps([dataclasses.asdict(params.augment), dataclasses.asdict(params.train)])
    parts = [said, sha256_of(paths.index), sha256_of(paths.base), device.type, code_version()]
    parts += [version(name) for name in ("torch", "torchvision", "albumentations")]
    return "train-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _memory_budget(params: TrainParams) -> int:
    if params.feature_memory_gb > 0:
        return int(params.feature_memory_gb * 2**30)
    return int(psutil.virtual_memory().available // 2)


def _stopped(history: Sequence[Epoch], patience: int) -> bool:
    """Whether the last `patience` epochs brought no better validation loss."""
    if not history:
        return False
    losses = [epoch.validation_loss for epoch in history]
    return len(losses) - 1 - int(np.argmin(losses)) >= patience


def _keep(
    path: Path,
    network: GazeNetwork,
    optimizer: torch.optim.Optimizer,
    history: Sequence[Epoch],
    best: dict[str, Tensor],
) -> None:
    rows = [list(dataclasses.astuple(epoch)) for epoch in history]
    content = {"now": network.trained_state(), "best": best, "history": rows}
    save_tensors({**content, "optimizer": optimizer.state_dict()}, path)


def _resume(
    path: Path, network: GazeNetwork, optimizer: torch.optim.Optimizer
) -> tuple[list[Epoch], dict[str, Tensor]]:
    """Go on where an interrupted run with the same inputs stopped, if there is one."""
    if not path.exists():
        return [], {}
    kept = load_tensors(path, "state of an interrupted training", "delete it to start again")
    network.load_trained_state(kept["now"])
    optimizer.load_state_dict(kept["optimizer"])
    return [Epoch(*row) for row in kept["history"]], kept["best"]


def _as_csv(history: Sequence[Epoch]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([entry.name for entry in dataclasses.fields(Epoch)])
    writer.writerows(dataclasses.astuple(epoch) for epoch in history)
    return out.getvalue()
