"""A base network of another trunk for bench/accuracy.py: a ResNet that saw the demo world.

    python bench/pretrain_resnet.py OUTPUT.pt [--trunk resnet18] [--steps 150] [--large-steps 60]
    python bench/accuracy.py --base OUTPUT.pt

It learns as the embedded base does (pretrain/params.yaml's domain, no person of the bench), first
from crops 224 pixels wide, then 448 as the product shows them. The default is a few minutes of two
cores, in which it learns hardly anything. On a CUDA GPU a ResNet-50 learns in a few minutes what
it needs:

    python bench/pretrain_resnet.py resnet50.pt --trunk resnet50 --first-person 10000 \\
        --persons 3560 --crops-per-person 25 --batch-size 128 --steps 1100 --large-steps 400

With --far-heads its heads are then trained anew as the embedded base's are, on people far away, and
it predicts on a laptop's screen as badly as L2CS-Net does; --from FILE takes one that has learnt.
"""

import argparse
import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from custom_gaze.common.console import bar
from custom_gaze.common.scratch import scratch_folder
from custom_gaze.config.paths import Paths
from custom_gaze.demo.pretrain.crops import DrawnCrops, drawn_crops
from custom_gaze.demo.pretrain.heads import finish_heads
from custom_gaze.demo.pretrain.learning import (
    BIN_WIDTH_DEG,
    BINS,
    FIRST_BIN_DEG,
    GRADIENT_LIMIT,
    batches,
    l2cs_loss,
    lit,
    rate_share,
)
from custom_gaze.demo.pretrain.params import LearnParams, PretrainParams, load_pretrain_params
from custom_gaze.models.devices import lower_precision, pick_device
from custom_gaze.models.network import trunk_spec
from custom_gaze.weights.base import BaseNetwork, read_base, save_base
from custom_gaze.weights.base_heads import BinHeads
from custom_gaze.weights.embedded import EMBEDDED

PARAMS = Path(__file__).parents[1] / "pretrain" / "params.yaml"
FIRST_PERSON, PERSONS, CROPS_PER_PERSON = 700_000, 250, 20
RATE, WEIGHT_DECAY = 1e-3, 0.02
FAR_CROPS = 120, 5  # persons, crops of each
LARGE_SHARE = 0.25  # of the rate, once the crops are as large as the product's


@dataclass(frozen=True)
class Steps:
    """How long it learns: batches of 224 pixels, then half as large ones of 448; and the seconds
    after which it ends even so."""

    small: int
    large: int
    batch_size: int
    at_most_s: float

    def rate(self, number: int) -> float:
        """The learning rate at a step: half a cosine, then a line to zero."""
        if number < self.small:
            return RATE * max(LARGE_SHARE, rate_share(number / self.small))
        return RATE * LARGE_SHARE * (1 - (number - self.small) / self.large)


def learnt(
    crops: DrawnCrops, trunk: str, steps: Steps, seed: int, device: torch.device
) -> BaseNetwork:
    """Train trunk and heads; weights in float16, as those of the embedded base."""
    torch.manual_seed(seed)
    spec, started = trunk_spec(trunk), time.monotonic()
    heads = [nn.Linear(spec.features, BINS) for _ in range(2)]
    network = nn.ModuleList([spec.build(), *heads])
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = list(network.parameters())
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=WEIGHT_DECAY)
    total = steps.small + steps.large
    drawn = LearnParams(steps=total, schedule_steps=total, batch_size=steps.batch_size, seed=seed)
    network.train()
    for number, (images, gaze_deg) in enumerate(
        todo := bar(batches(crops, drawn, 0), "pretraining", total, "steps")
    ):
        if time.monotonic() - started > steps.at_most_s:
            break
        for group in optimizer.param_groups:
            group["lr"] = steps.rate(number)
        large = number >= steps.small
        count = steps.batch_size // 2 if large else steps.batch_size
        x = lit(images[:count].to(device), torch.Generator(device).manual_seed(number))
        if large:
            x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        with lower_precision(device):
            features = network[0](x)
            logits = network[1](features), network[2](features)
        loss = l2cs_loss(logits, gaze_deg[:count].to(device), 0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, GRADIENT_LIMIT)
        optimizer.step()
        if number % 20 == 0:
            todo.set_postfix_str(f"loss {loss.item():.2f}", False)

    return _base(trunk, _half(network[0]), network[1], network[2])


def _half(module: nn.Module) -> dict[str, Tensor]:
    state = module.state_dict().items()
    return {k: v.detach().cpu().half() for k, v in state if "num_batches" not in k}


def _base(trunk: str, state: dict[str, Tensor], yaw: nn.Module, pitch: nn.Module) -> BaseNetwork:
    (yaw_weight, yaw_bias), (pitch_weight, pitch_bias) = (_half(m).values() for m in (yaw, pitch))
    weights = yaw_weight, yaw_bias, pitch_weight, pitch_bias
    bins = BinHeads(*weights, BINS, BIN_WIDTH_DEG, FIRST_BIN_DEG)
    return BaseNetwork(trunk, state, bins, "bench/pretrain_resnet.py", "", EMBEDDED)


class Enlarging(nn.Module):
    """A base for crops of 224 pixels, which it enlarges to the 448 that it knows."""

    def __init__(self, base: BaseNetwork) -> None:
        super().__init__()
        spec = trunk_spec(base.trunk)
        self._trunk = spec.build().eval()
        self._trunk.load_state_dict({k: v.float() for k, v in base.trunk_state.items()}, False)
        self.yaw, self.pitch = (nn.Linear(spec.features, BINS) for _ in range(2))

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, 224, 224) → (N, F)."""
        x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return torch.flatten(self._trunk(x), 1)


def far_heads(base: BaseNetwork, params: PretrainParams, folder: Path) -> BaseNetwork:
    """The base with heads of pretrain/params.yaml's heads_domain, of FAR_CROPS persons' crops."""
    persons, each = FAR_CROPS
    domain = dataclasses.replace(params.heads_domain, persons=persons, crops_per_person=each)
    network = Enlarging(base)
    finish_heads(network, drawn_crops(domain, folder), params.heads, 0.1)
    state = {k: v.half() for k, v in base.trunk_state.items()}
    return _base(str(base.trunk), state, network.yaw, network.pitch)


def main() -> None:
    how = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser("pretrain_resnet", description=__doc__, formatter_class=how)
    parser.add_argument("output", type=Path)
    parser.add_argument("--trunk", default="resnet18")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--large-steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--at-most", type=float, default=math.inf, metavar="SECONDS")
    parser.add_argument("--persons", type=int, default=PERSONS)
    parser.add_argument("--first-person", type=int, default=FIRST_PERSON)
    parser.add_argument("--crops-per-person", type=int, default=CROPS_PER_PERSON)
    parser.add_argument("--crops", type=Path, metavar="FOLDER", help="of drawn crops, which stay")
    parser.add_argument("--far-heads", action="store_true")
    parser.add_argument("--from", type=Path, dest="learnt", metavar="FILE")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    params = load_pretrain_params(PARAMS)
    domain = dataclasses.replace(
        params.domain,
        first_person=asked.first_person,
        persons=asked.persons,
        crops_per_person=asked.crops_per_person,
    )
    steps = Steps(asked.steps, asked.large_steps, asked.batch_size, asked.at_most)
    device = pick_device("auto", "device")
    with scratch_folder(Paths().unfinished / "bench-pretrain", f"{asked.persons}") as scratch:
        if asked.learnt is None:
            crops = drawn_crops(domain, asked.crops or scratch)
            base = learnt(crops, asked.trunk, steps, asked.seed, device)
        else:
            base = read_base(asked.learnt)
        if asked.far_heads:
            base = far_heads(base, params, scratch / "far")
    save_base(base, asked.output)
    print(f"{asked.output}: {base.trunk}")


if __name__ == "__main__":
    main()
