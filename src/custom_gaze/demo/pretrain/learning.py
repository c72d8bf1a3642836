"""The L2CS recipe on drawn crops: two heads of 90 bins, cross-entropy and regression together."""

import copy
import math
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from custom_gaze.common.console import bar
from custom_gaze.common.errors import InputError
from custom_gaze.common.saved_tensors import load_tensors, save_tensors
from custom_gaze.config.specification import PREPROCESSING
from custom_gaze.demo.pretrain.crops import DrawnCrops, training_batch
from custom_gaze.demo.pretrain.params import LearnParams
from custom_gaze.models.heads import BIN_LAYOUTS, bin_angles_deg
from custom_gaze.models.network import trunk_spec
from custom_gaze.weights.base import BaseNetwork
from custom_gaze.weights.base_heads import BinHeads

TRUNK = "slim18"
BINS = 90
BIN_WIDTH_DEG, FIRST_BIN_DEG = BIN_LAYOUTS[BINS]
BINS_DEG = bin_angles_deg(BINS, BIN_WIDTH_DEG, FIRST_BIN_DEG)
WARM_UP_SHARE = 0.05  # of the steps, over which the learning rate rises
GRADIENT_LIMIT = 5.0
KEEP_EVERY_S = 60.0  # so much work an interruption may cost
SHADE = 0.15  # standard deviation of the light's gain from an image's middle to its edge
NOISE = 6.0  # grey levels, at most
Batch = tuple[Tensor, Tensor]


class BinNetwork(nn.Module):
    """x float32 (N, 3, 224, 224), normalised → yaw and pitch logits, each (N, 90).

    The trunk's first block, which halves a 448 × 448 image, is left out: the crops come halved.
    """

    def __init__(self) -> None:
        super().__init__()
        spec = trunk_spec(TRUNK)
        self.trunk = spec.build()
        self.yaw = nn.Linear(spec.features, BINS)
        self.pitch = nn.Linear(spec.features, BINS)
        self._blocks = spec.blocks[1:]

    def features(self, x: Tensor) -> Tensor:
        """What the heads see, (N, features)."""
        for name in self._blocks:
            x = self.trunk.get_submodule(name)(x)
        return torch.flatten(x, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of both angles."""
        features = self.features(x)
        return self.yaw(features), self.pitch(features)


def bin_network(base: BaseNetwork) -> BinNetwork:
    """A base that was pretrained here, as the network it was trained as, in eval mode.

    Raises:
        ValueError: it has another trunk, or no heads of 90 bins.
    """
    if base.trunk != TRUNK or not isinstance(base.heads, BinHeads) or base.heads.bins != BINS:
        raise ValueError(f"{base.source}: is no {TRUNK} with heads of {BINS} bins")
    network = BinNetwork().eval()
    state = {f"trunk.{name}": tensor for name, tensor in base.trunk_state.items()}
    heads = base.heads
    state |= {"yaw.weight": heads.yaw_weight, "yaw.bias": heads.yaw_bias}
    state |= {"pitch.weight": heads.pitch_weight, "pitch.bias": heads.pitch_bias}
    missing, left_over = network.load_state_dict(state, strict=False)
    wrong = [name for name in missing if not name.endswith("num_batches_tracked")]
    if wrong or left_over:
        raise ValueError(f"{base.source}: these do not fit: {[*wrong, *left_over][:3]}")
    return network


def l2cs_loss(logits: tuple[Tensor, Tensor], gaze_deg: Tensor, regression_weight: float) -> Tensor:
    """Cross-entropy on the bins plus squared error of the expected angle, for both angles.

    Args:
        logits: yaw's and pitch's, each (N, 90).
        gaze_deg: (N, 2).
        regression_weight: L2CS-Net's α, per degree².

    Returns:
        A scalar, the sum over both angles (Abdelrahman et al. 2022, "L2CS-Net", equation 3).
    """
    angles = BINS_DEG.float().to(gaze_deg.device)
    total = torch.zeros((), device=gaze_deg.device)
    for axis, scores in enumerate(logits):
        scores, wanted = scores.float(), gaze_deg[:, axis]
        nearest = ((wanted - FIRST_BIN_DEG) / BIN_WIDTH_DEG).round().long().clamp(0, BINS - 1)
        total = total + nn.functional.cross_entropy(scores, nearest)
        expected = torch.softmax(scores, 1) @ angles
        total = total + regression_weight * nn.functional.mse_loss(expected, wanted)
    return total


def learn(
    crops: DrawnCrops,
    params: LearnParams,
    device: torch.device,
    state_path: Path,
    start: BaseNetwork | None = None,
) -> tuple[BinNetwork, float]:
    """Train on `crops`, from random weights or from `start`'s.

    It goes on where an interrupted training left `state_path`.

    Returns:
        The running average of the network's weights, in eval mode on the CPU, and how many
        seconds went into it, those before an interruption included.

    Raises:
        InputError: the loss is no number any more.
    """
    torch.manual_seed(params.seed)
    network: BinNetwork = (BinNetwork() if start is None else bin_network(start)).to(
        device, memory_format=torch.channels_last
    )  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay
    )
    first, spent_s = _resume(state_path, network, average, optimizer)
    started = kept_at = time.monotonic()
    steps = bar(batches(crops, params, first), "pretraining", params.steps, "steps", done=first)
    smoothed = float("nan")
    for number, (x, gaze_deg) in enumerate(steps, start=first):
        for group in optimizer.param_groups:
            group["lr"] = params.learning_rate * rate_share(number / params.schedule_steps)
        network.train()
        x = lit(x.to(device), torch.Generator(device).manual_seed(number))  # (B, 3, 224, 224)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = network(x)
        loss = l2cs_loss(logits, gaze_deg.to(device), params.regression_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_LIMIT)
        optimizer.step()
        _follow(average, network, min(params.average_decay, (1 + number) / (10 + number)))

        value = loss.item()
        if not math.isfinite(value):
            raise InputError(
                f"pretraining diverged in step {number} (the loss is no number); "
                f"learn.learning_rate is {params.learning_rate:g}: try a smaller one"
            )
        smoothed = value if math.isnan(smoothed) else 0.98 * smoothed + 0.02 * value
        steps.set_postfix_str(f"loss {smoothed:.2f}", False)
        if time.monotonic() - kept_at >= KEEP_EVERY_S:
            kept_at = time.monotonic()
            spent = (number + 1, spent_s + kept_at - started)
            _keep(state_path, spent, network, average, optimizer)
    return average.cpu(), spent_s + time.monotonic() - started


def lit(images: Tensor, generator: torch.Generator) -> Tensor:
    """Light from one side and the sensor's noise, each image's own, then the network's input.

    Args:
        images: uint8 (B, H, W, 3) RGB, on the generator's device.

    Returns:
        float32 (B, 3, H, W), normalised, its memory with the channels last.
    """
    device, (count, high, wide) = images.device, images.shape[:3]
    x = images.permute(0, 3, 1, 2).float()
    across, down = SHADE * torch.randn(2, count, 1, 1, 1, generator=generator, device=device)
    x = x * (
        1
        + across * torch.linspace(-1, 1, wide, device=device)
        + down * torch.linspace(-1, 1, high, device=device)[:, None]
    )
    sigma = NOISE * torch.rand(count, 1, 1, 1, generator=generator, device=device)
    x = x + sigma * torch.randn(x.shape, generator=generator, device=device)
    mean, std = (
        torch.tensor(values, device=device)[:, None, None]
        for values in (PREPROCESSING.mean, PREPROCESSING.std)
    )
    normalised: Tensor = (x.clamp(0, 255) / PREPROCESSING.scale - mean) / std
    return normalised.contiguous(memory_format=torch.channels_last)


def rate_share(progress: float) -> float:
    """The learning rate's share of its peak at `progress` 0 … 1: a ramp, then half a cosine."""
    if progress < WARM_UP_SHARE:
        return (progress + 1e-3) / (WARM_UP_SHARE + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)))


def batches(crops: DrawnCrops, params: LearnParams, first: int) -> Iterator[Batch]:
    """The batches from step `first` on: uint8 (B, 224, 224, 3), (B, 2); made ahead in threads."""

    def make(number: int) -> Batch:
        images, gaze_deg = training_batch(crops, _rows(len(crops), params, number), (0, number))
        return torch.from_numpy(images), torch.from_numpy(gaze_deg)

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        numbers = iter(range(first, params.steps))
        ahead = deque(pool.submit(make, number) for number in islice(numbers, 2 * workers))
        while ahead:
            batch = ahead.popleft().result()
            ahead.extend(pool.submit(make, number) for number in islice(numbers, 1))
            yield batch


def _rows(count: int, params: LearnParams, number: int) -> np.ndarray:
    """Step `number`'s crops: pass after pass over all of them, each in an order of its own."""
    places = np.arange(number * params.batch_size, (number + 1) * params.batch_size)
    passes, within = places // count, places % count
    orders = {
        int(turn): np.random.default_rng([params.seed, int(turn)]).permutation(count)
        for turn in np.unique(passes)
    }
    return np.array([orders[int(turn)][place] for turn, place in zip(passes, within, strict=True)])


def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Let the average's weights and statistics go on following the network's."""
    with torch.no_grad():
        for kept, new in zip(
            average.state_dict().values(), network.state_dict().values(), strict=True
        ):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)


def _keep(
    path: Path,
    spent: tuple[int, float],
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """`spent` are steps and seconds."""
    content: dict[str, Any] = {"network": network.state_dict(), "average": average.state_dict()}
    content |= {"optimizer": optimizer.state_dict(), "step": spent[0], "seconds": spent[1]}
    save_tensors(content, path)


def _resume(
    path: Path, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """The step to go on with, and the seconds spent so far."""
    if not path.exists():
        return 0, 0.0
    kept = load_tensors(path, "state of an interrupted pretraining", "delete it to start again")
    network.load_state_dict(kept["network"])
    average.load_state_dict(kept["average"])
    optimizer.load_state_dict(kept["optimizer"])
    return int(kept["step"]), float(kept["seconds"])
