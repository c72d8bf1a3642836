"""A base network of another trunk for bench/accuracy.py: a ResNet that saw the demo world a little.

    python bench/pretrain_resnet.py OUTPUT.pt [--trunk resnet18] [--steps 150] [--large-steps 60]
    python bench/accuracy.py --base OUTPUT.pt

It learns from persons that no other base and no person of the bench has: crops of people who look
all around (pretrain/params.yaml's domain), first 224 pixels wide, then 448 as the product shows
them. A few minutes on two cores, so it knows little: a base as L2CS-Net is for a laptop's user.
"""

import argparse
import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn

from custom_gaze.common.console import bar
from custom_gaze.common.scratch import scratch_folder
from custom_gaze.config.paths import Paths
from custom_gaze.demo.pretrain.crops import DrawnCrops, drawn_crops, training_batch
from custom_gaze.demo.pretrain.learning import (
    BIN_WIDTH_DEG,
    BINS,
    FIRST_BIN_DEG,
    GRADIENT_LIMIT,
    l2cs_loss,
    rate_share,
)
from custom_gaze.demo.pretrain.params import load_pretrain_params
from custom_gaze.models.network import trunk_spec
from custom_gaze.weights.base import BaseNetwork, save_base
from custom_gaze.weights.base_heads import BinHeads
from custom_gaze.weights.embedded import EMBEDDED

PARAMS = Path(__file__).parents[1] / "pretrain" / "params.yaml"
FIRST_PERSON, PERSONS, CROPS_PER_PERSON = 700_000, 250, 20
BATCH_SIZE, RATE, WEIGHT_DECAY = 32, 1e-3, 0.02
LARGE_SHARE = 0.25  # of the rate, once the crops are as large as the product's


def learnt(crops: DrawnCrops, trunk: str, steps: int, large_steps: int, seed: int) -> BaseNetwork:
    """Train trunk and heads: `steps` batches of 224 pixels, then `large_steps` of 448."""
    torch.manual_seed(seed)
    spec = trunk_spec(trunk)
    network, yaw, pitch = (
        spec.build(),
        nn.Linear(spec.features, BINS),
        nn.Linear(spec.features, BINS),
    )
    network.to(memory_format=torch.channels_last)
    weights = [*network.parameters(), *yaw.parameters(), *pitch.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    for number in (todo := bar(range(steps + large_steps), "pretraining", unit="steps")):
        large = number >= steps
        share = LARGE_SHARE * (1 - (number - steps) / large_steps) if large else 1.0
        share = share if large else max(LARGE_SHARE, rate_share(number / max(1, steps)))
        for group in optimizer.param_groups:
            group["lr"] = RATE * share
        rows = torch.randperm(len(crops), generator=generator)[: BATCH_SIZE // (2 if large else 1)]
        images, gaze_deg = training_batch(crops, rows.numpy(), (seed, number))
        x = torch.from_numpy(images).to(memory_format=torch.channels_last)
        if large:
            x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        features = network(x)
        loss = l2cs_loss((yaw(features), pitch(features)), torch.from_numpy(gaze_deg), 0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, GRADIENT_LIMIT)
        optimizer.step()
        todo.set_postfix_str(f"loss {loss.item():.2f}", False)

    def kept(layer: nn.Linear) -> tuple[Tensor, Tensor]:
        return layer.weight.detach(), layer.bias.detach()

    heads = BinHeads(*kept(yaw), *kept(pitch), BINS, BIN_WIDTH_DEG, FIRST_BIN_DEG)
    state = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    return BaseNetwork(trunk, state, heads, "bench/pretrain_resnet.py", "", EMBEDDED)


def main() -> None:
    how = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser("pretrain_resnet", description=__doc__, formatter_class=how)
    parser.add_argument("output", type=Path)
    parser.add_argument("--trunk", default="resnet18")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--large-steps", type=int, default=60)
    parser.add_argument("--persons", type=int, default=PERSONS)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    domain = dataclasses.replace(
        load_pretrain_params(PARAMS).domain,
        first_person=FIRST_PERSON,
        persons=asked.persons,
        crops_per_person=CROPS_PER_PERSON,
    )
    with scratch_folder(Paths().unfinished / "bench-pretrain", f"{asked.persons}") as drawn:
        crops = drawn_crops(domain, drawn)
        base = learnt(crops, asked.trunk, asked.steps, asked.large_steps, asked.seed)
    save_base(base, asked.output)
    print(f"{asked.output}: {asked.trunk}, {len(crops)} crops of {asked.persons} persons")


if __name__ == "__main__":
    main()
