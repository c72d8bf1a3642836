"""The heads, trained anew on a frozen trunk: why the base predicts as L2CS-Net does on a laptop.

A trunk that has learnt wide gaze knows the eyes of the demo's sessions well, and heads trained with
it are right within a few degrees: a base that leaves nothing to calibrate. The real L2CS-Net knows
the head's pose best and counts the eyes' own turn for little (slope 0.3 to 0.4 across a laptop's
screen). So the heads are finished on people far away, whose labels count it for little too. What
the trunk has learnt of the eyes stays in its features, for training to find.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from custom_gaze.common.console import bar
from custom_gaze.demo.pretrain.crops import DrawnCrops, plain_batch
from custom_gaze.demo.pretrain.learning import l2cs_loss
from custom_gaze.demo.pretrain.params import HeadsParams

FORWARD_BATCH = 32


class Headed(Protocol):
    """x float32 (N, 3, 224, 224) → features → two heads' bins; in eval mode, on the CPU."""

    yaw: nn.Linear
    pitch: nn.Linear

    def features(self, x: Tensor) -> Tensor:
        """What the heads see, (N, F)."""


def finish_heads(
    network: Headed, crops: DrawnCrops, params: HeadsParams, regression_weight: float
) -> None:
    """Replace the heads of `network` by ones trained on `crops`, in place.

    AdamW on features of one scale, its rate falling to zero; the scale is folded into the heads.
    """
    features = _features(network, crops)  # (N, F)
    gaze_deg = torch.from_numpy(crops.gaze_deg)
    mean, spread = features.mean(dim=0), features.std()
    scaled = (features - mean) / spread
    torch.manual_seed(params.seed)
    heads = [nn.Linear(scaled.shape[1], head.out_features) for head in (network.yaw, network.pitch)]
    weights = [parameter for head in heads for parameter in head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=params.learning_rate, weight_decay=0.02)
    order = np.random.default_rng(params.seed)
    for number in bar(range(params.steps), "heads", unit="steps"):
        for group in optimizer.param_groups:
            group["lr"] = params.learning_rate * (1 - number / params.steps)
        rows = torch.from_numpy(order.integers(0, len(scaled), params.batch_size))
        logits = (heads[0](scaled[rows]), heads[1](scaled[rows]))
        loss = l2cs_loss(logits, gaze_deg[rows], regression_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        for old, new in zip((network.yaw, network.pitch), heads, strict=True):
            old.weight.copy_(new.weight / spread)
            old.bias.copy_(new.bias - (new.weight @ mean) / spread)


def _features(network: Headed, crops: DrawnCrops) -> Tensor:
    batches = [
        range(first, min(first + FORWARD_BATCH, len(crops)))
        for first in range(0, len(crops), FORWARD_BATCH)
    ]
    with torch.inference_mode():
        rows = [
            network.features(torch.from_numpy(plain_batch(crops, batch)))
            for batch in bar(batches, "features", unit=f"× {FORWARD_BATCH} crops")
        ]
    return torch.cat(rows).clone()
