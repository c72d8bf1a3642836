"""The gaze network: a convolutional trunk and a head to (yaw, pitch) in degrees.

The trunk is a row of named blocks. Everything up to and including `frozen_through` is frozen; the
blocks behind it and the head are trained. BatchNorm stays in eval mode everywhere, in the trained
blocks too: calibration batches are far too few and too alike for running statistics.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from custom_gaze.common.errors import InputError
from custom_gaze.config.candidate import AUTO
from custom_gaze.models.devices import full_precision
from custom_gaze.models.graph import LAYERS, GraphTrunk
from custom_gaze.models.heads import CorrectedHead
from custom_gaze.models.resnet import BLOCKS, SLIM_CHANNELS, STAGES, STEM, resnet, slim_resnet


@dataclass(frozen=True)
class TrunkSpec:
    """One kind of trunk: how to build it, its blocks in order, the width of its features."""

    name: str
    build: Callable[[], nn.Module]  # random weights, the classifier an nn.Identity
    blocks: tuple[str, ...]  # dotted names of sub-modules, in the order of the forward pass
    features: int
    frozen_through: str  # what `auto` freezes ends here


def _trunks() -> dict[str, TrunkSpec]:
    deep = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048}
    specs = [
        TrunkSpec(name, partial(resnet, name), _resnet_blocks(name), features, _frozen(name))
        for name, features in {**deep, "resnet152": 2048}.items()
    ]
    slim = ("shrink", *_resnet_blocks("resnet18"))
    specs.append(TrunkSpec("slim18", slim_resnet, slim, SLIM_CHANNELS[-1], "layer3"))
    return {spec.name: spec for spec in specs}


def _resnet_blocks(name: str) -> tuple[str, ...]:
    """The stages, the last one by its blocks: training the last of them alone costs far less."""
    *stages, last = STAGES
    count = BLOCKS[name][0][-1]
    return (*STEM, *stages, *(f"{last}.{number}" for number in range(count)), "avgpool")


def _frozen(name: str) -> str:
    """All but the last stage, or, where that has bottlenecks, all but its last block.

    Training the one block of a ResNet-50 is as good as training the three (docs/accuracy.md), at a
    third of the cost.
    """
    counts, bottleneck = BLOCKS[name]
    return f"{STAGES[-1]}.{counts[-1] - 2}" if bottleneck else STAGES[-2]


LEAST_SHARE = 0.1  # of a crop: less of it shows no face
TRUNKS = _trunks()  # those that have a name; every other one is a GraphTrunk
Trunk = str | GraphTrunk


def trunk_spec(trunk: Trunk) -> TrunkSpec:
    """Look a trunk up by name, or say how one of another architecture is built.

    Raises:
        InputError: there is none of that name.
    """
    if isinstance(trunk, GraphTrunk):
        blocks = (*LAYERS, "flatten")
        return TrunkSpec(trunk.name, trunk.build, blocks, trunk.features, "layer3")
    try:
        return TRUNKS[trunk]
    except KeyError:
        raise InputError(f"unknown trunk {trunk!r}; known are {', '.join(TRUNKS)}") from None


class GazeNetwork(nn.Module):
    """x float32 (N, 3, 448, 448), RGB, ImageNet-normalised → (N, 2) [yaw, pitch] in degrees."""

    def __init__(
        self,
        trunk: Trunk,
        frozen_through: str,
        head: nn.Module | None = None,
        inner_share: float = 1.0,
    ) -> None:
        """Build with random weights.

        Args:
            trunk: a key of TRUNKS, or a trunk of another architecture.
            frozen_through: the name of the trunk's last frozen block, or `auto`.
            head: features (N, F) → (N, 2) degrees; None: a linear one.
            inner_share: of the crop's side, the part about its middle that the trunk gets.

        Raises:
            InputError: the trunk or the block is unknown, or nothing would be left to train.
            ValueError: the share is none.
        """
        super().__init__()
        if not LEAST_SHARE <= inner_share <= 1:
            raise ValueError(f"an inner share of {inner_share:g}")
        self.inner_share = inner_share
        spec = trunk_spec(trunk)
        frozen_through = spec.frozen_through if frozen_through == AUTO else frozen_through
        trainable = spec.blocks[:-1]  # the last block is the pooling
        if frozen_through not in trainable[:-1]:
            raise InputError(
                f"train.frozen_through is {frozen_through!r}, which {spec.name} has not as a block "
                f"before its last; allowed are {', '.join(trainable[:-1])}"
            )
        self.trunk_name = spec.name
        self.frozen_through = frozen_through
        self.trunk = spec.build()
        self.head = nn.Linear(spec.features, 2) if head is None else head
        cut = spec.blocks.index(frozen_through) + 1
        self._frozen_names, self._trained_names = spec.blocks[:cut], spec.blocks[cut:]
        for name in self._frozen_names:
            self.trunk.get_submodule(name).requires_grad_(False)

    def frozen(self, x: Tensor, inner_share: float | None = None) -> Tensor:
        """The frozen blocks alone: (N, 3, H, W) → (N, channels, h, w); None: of its own share."""
        x = inner_part(x, self.inner_share if inner_share is None else inner_share)
        for name in self._frozen_names:
            x = self.trunk.get_submodule(name)(x)
        return x

    def features(self, frozen: Tensor) -> Tensor:
        """The trained blocks: (N, channels, h, w) → (N, features)."""
        for name in self._trained_names:
            frozen = self.trunk.get_submodule(name)(frozen)
        return torch.flatten(frozen, 1)

    def trained(self, frozen: Tensor) -> Tensor:
        """The trained blocks and the head: (N, channels, h, w) → (N, 2) degrees, float32.

        The head computes in float32 whatever autocast says: in bfloat16 a softmax times bins of
        ±180° is up to half a degree off.
        """
        return self._headed(frozen, self.head)

    def unbounded(self, frozen: Tensor) -> Tensor:
        """As `trained`, without a head's limits, beyond which it has no gradient."""
        head = self.head.unbounded if isinstance(self.head, CorrectedHead) else self.head
        return self._headed(frozen, head)

    def _headed(self, frozen: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
        f = self.features(frozen)
        with full_precision(f.device):
            return head(f.float())

    def forward(self, x: Tensor) -> Tensor:
        """The whole network."""
        return self.trained(self.frozen(x))

    def placed(self, device: torch.device) -> "GazeNetwork":
        """This network on a device, its weights in memory as training is fastest there, which their
        numbers do not show: channels last. On the CPU the trained blocks, which get small maps and
        have a backward pass, take a tenth to a quarter less as they are."""
        network: GazeNetwork = self.to(  # type: ignore[call-overload]
            device, memory_format=torch.channels_last
        )
        if device.type == "cpu":
            for name in self._trained_names:
                self.trunk.get_submodule(name).to(memory_format=torch.contiguous_format)
        return network

    def trained_parameters(self) -> list[nn.Parameter]:
        """What the optimiser may change."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def load_trunk(self, state: dict[str, Tensor]) -> None:
        """Load the trunk's weights and statistics; only BatchNorm's batch counters may be missing.

        Raises:
            ValueError: another key is missing, or one is left over.
        """
        missing, left_over = self.trunk.load_state_dict(state, strict=False)
        wrong = [name for name in missing if not name.endswith(".num_batches_tracked")]
        if wrong or left_over:
            raise ValueError(f"these do not fit {self.trunk_name}: {[*wrong, *left_over][:3]}")

    def trunk_state(self) -> dict[str, Tensor]:
        """A copy of the trunk's weights and statistics, for `load_trunk`."""
        return {name: tensor.clone() for name, tensor in self.trunk.state_dict().items()}

    def trained_state(self) -> dict[str, Tensor]:
        """A copy of the trained blocks' parameters and of the whole head, by name, on the CPU."""
        return {name: tensor.cpu().clone() for name, tensor in self._trained().items()}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `trained_state` gave.

        Raises:
            ValueError: a name is missing, or one is left over; a shape is another.
        """
        own = self._trained()
        if own.keys() != state.keys():
            raise ValueError(f"other parameters: {sorted(own.keys() ^ state.keys())[:3]}")
        if any(tensor.shape != state[name].shape for name, tensor in own.items()):
            raise ValueError("other shapes")  # copy_ would spread a single number
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def _trained(self) -> dict[str, Tensor]:
        trained = {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}
        head = {f"head.{name}": tensor for name, tensor in self.head.state_dict().items()}
        return {**trained, **head}


def inner_part(x: Tensor, share: float) -> Tensor:
    """The middle of images (N, C, H, W), `share` of each side, enlarged to (N, C, H, W) again.

    Bilinear between the pixels' centres, which ONNX's Resize computes alike.
    """
    if share == 1:
        return x
    high, wide = (int(side) for side in x.shape[-2:])  # numbers while it is traced, too
    top, left = (round(side * (1 - share) / 2) for side in (high, wide))
    inner = x[..., top : high - top, left : wide - left]
    return nn.functional.interpolate(inner, (high, wide), mode="bilinear", align_corners=False)


def linear_head(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear head of weight (2, features) and bias (2,), in degrees, rows yaw and pitch."""
    head = nn.Linear(weight.shape[1], 2)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    return head


def take_batchnorm_statistics(network: GazeNetwork, x: Tensor) -> None:
    """Set every BatchNorm's running mean and variance from x (N, 3, H, W), in place.

    For a trunk with random weights: without statistics of its own its activations would vanish or
    explode on the way through fifty layers.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    with torch.no_grad():
        for batch in torch.split(x, 8):
            network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
