"""MobileGaze's MobileNetV2 and MobileOne as modules, by the project's published key names.

Written from the architectures' papers and torchvision, not from the reader under test: strides,
order and epsilon stand here a second time. Weights are random but behave; BatchNorm has statistics
of its own.
"""

from copy import deepcopy
from functools import cache

import torch
import torchvision
from torch import Tensor, nn

# Width multipliers, branches of a k x k convolution, squeeze and excitation.
MOBILEONES = {
    "mobileone_s0": ((0.75, 1.0, 1.0, 2.0), 4, False),
    "mobileone_s1": ((1.5, 1.5, 2.0, 2.5), 1, False),
    "mobileone_s2": ((1.5, 2.0, 2.5, 4.0), 1, False),
    "mobileone_s3": ((2.0, 2.5, 3.0, 4.0), 1, False),
    "mobileone_s4": ((3.0, 3.5, 3.5, 4.0), 1, True),
}


class Headed(nn.Module):
    """Two heads on pooled features."""

    def __init__(self, features: int, bins: int) -> None:
        super().__init__()
        self.fc_yaw = nn.Linear(features, bins)
        self.fc_pitch = nn.Linear(features, bins)

    def maps(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = nn.functional.adaptive_avg_pool2d(self.maps(x), 1)
        x = torch.flatten(x, 1)
        return self.fc_yaw(x), self.fc_pitch(x)


class GazeMobileNet(Headed):
    def __init__(self, bins: int = 90) -> None:
        super().__init__(1280, bins)
        self.features = torchvision.models.mobilenet_v2().features
        for module in self.features.modules():
            # All BatchNorms but those without an activation behind them.
            if isinstance(module, torchvision.ops.Conv2dNormActivation):
                module[1].eps = 1e-3

    def maps(self, x: Tensor) -> Tensor:
        return self.features(x)


def _branch(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    branch = nn.Sequential()
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    branch.add_module("conv", convolution)
    branch.add_module("bn", nn.BatchNorm2d(outputs))
    return branch


class Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, int(channels * 0.0625), 1)
        self.expand = nn.Conv2d(int(channels * 0.0625), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = nn.functional.avg_pool2d(x, x.shape[2:])
        gate = torch.sigmoid(self.expand(torch.relu(self.reduce(gate))))
        return x * gate.view(-1, x.shape[1], 1, 1)


class MobileOneBlock(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, branches: int
    ) -> None:
        super().__init__()
        self.se: nn.Module = nn.Identity()
        skip = inputs == outputs and stride == 1
        self.rbr_skip = nn.BatchNorm2d(inputs) if skip else None
        rows = (inputs, outputs, kernel, stride, groups)
        self.rbr_conv = nn.ModuleList([_branch(*rows) for _ in range(branches)])
        self.rbr_scale = _branch(inputs, outputs, 1, stride, groups) if kernel > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        out = 0 if self.rbr_scale is None else self.rbr_scale(x)
        out = out + (0 if self.rbr_skip is None else self.rbr_skip(x))
        for branch in self.rbr_conv:
            out = out + branch(x)
        return torch.relu(self.se(out))


class GazeMobileOne(Headed):
    def __init__(self, name: str = "mobileone_s0", bins: int = 90) -> None:
        widths, branches, squeezed = MOBILEONES[name]
        super().__init__(int(512 * widths[3]), bins)
        channels = min(64, int(64 * widths[0]))
        self.stage0 = MobileOneBlock(3, channels, 3, 2, 1, 1)
        for stage, (count, width) in enumerate(zip((2, 8, 10, 1), widths, strict=True), start=1):
            outputs, blocks = int(32 * 2**stage * width), []
            with_gate = {3: count // 2, 4: count}.get(stage, 0) if squeezed else 0
            for place in range(count):
                stride = 1 if place else 2
                pair = (
                    MobileOneBlock(channels, channels, 3, stride, channels, branches),
                    MobileOneBlock(channels, outputs, 1, 1, 1, branches),
                )
                if place >= count - with_gate:
                    pair[0].se, pair[1].se = Squeeze(channels), Squeeze(outputs)
                blocks += pair
                channels = outputs
            setattr(self, f"stage{stage}", nn.Sequential(*blocks))

    def maps(self, x: Tensor) -> Tensor:
        for stage in range(5):
            x = getattr(self, f"stage{stage}")(x)
        return x


def family_network(name: str, bins: int = 90) -> Headed:
    """A network in eval mode, by the name of its architecture; equal ones for equal names."""
    return deepcopy(_network(name, bins))


@cache
def _network(name: str, bins: int) -> Headed:
    torch.manual_seed(7)
    network = GazeMobileNet(bins) if name == "mobilenet_v2" else GazeMobileOne(name, bins)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.6, 1.2)
        nn.init.uniform_(norm.bias, 0.2, 0.8)  # most ReLUs open: rounding stays small
        norm.momentum = None
    with torch.no_grad():
        network.train()(torch.rand(4, 3, 96, 96) * 4 - 2)
        for norm in norms:
            norm.running_mean += 0.05 * torch.randn_like(norm.running_mean)
            norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.9, 1.1)
        for head in (network.fc_yaw, network.fc_pitch):
            head.weight *= 10  # logits of a size that a trained head gives
    return network.eval()


def merged_state(network: Headed) -> dict[str, Tensor]:
    """A MobileOne's state dict with each block's branches merged, by the published names."""
    state = {k: v for k, v in network.state_dict().items() if ".rbr_" not in k}
    for name, block in network.named_modules():
        if not isinstance(block, MobileOneBlock):
            continue
        kernel, inputs = block.rbr_conv[0].conv.kernel_size[0], block.rbr_conv[0].conv.in_channels
        rest = [block.rbr_scale] if block.rbr_scale is not None else []
        parts = [_folded(each.conv.weight, each.bn) for each in [*block.rbr_conv, *rest]]
        if block.rbr_skip is not None:
            of_group = inputs // block.rbr_conv[0].conv.groups
            unit = torch.zeros(inputs, of_group, 1, 1)
            unit[range(inputs), [n % of_group for n in range(inputs)]] = 1
            parts.append(_folded(unit, block.rbr_skip))
        weight = sum(_widened(each, kernel) for each, _ in parts)
        state[f"{name}.reparam_conv.weight"] = weight.float()
        state[f"{name}.reparam_conv.bias"] = sum(bias for _, bias in parts).float()
    return state


def _folded(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.double() - gain * norm.running_mean.double()
    return (weight.double() * gain[:, None, None, None]).detach(), bias.detach()


def _widened(weight: Tensor, kernel: int) -> Tensor:
    edge = (kernel - weight.shape[-1]) // 2
    return nn.functional.pad(weight, [edge] * 4)
