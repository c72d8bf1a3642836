"""What of a base network gives angles: heads over bins, or a head that gives them itself."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from custom_gaze.common.errors import InputError
from custom_gaze.models.graph import Node, NodeList, NodeModule, chained
from custom_gaze.models.heads import (
    BIN_LAYOUTS,
    CorrectedAngles,
    CorrectedBins,
    CorrectedHead,
    bin_angles_deg,
)


@dataclass(frozen=True)
class BinHeads:
    """Two linear layers that spread each angle over bins."""

    yaw_weight: Tensor  # float32 (bins, features)
    yaw_bias: Tensor  # float32 (bins,)
    pitch_weight: Tensor
    pitch_bias: Tensor
    bins: int
    bin_width_deg: float  # from one bin's angle to the next one's
    first_bin_deg: float

    @property
    def bins_deg(self) -> Tensor:
        """The bins' angles (bins,) in degrees, float64."""
        return bin_angles_deg(self.bins, self.bin_width_deg, self.first_bin_deg)

    @property
    def features(self) -> int:
        """How many numbers they read."""
        return self.yaw_weight.shape[1]

    def angles_deg(self, features: Tensor) -> Tensor:
        """Features (N, F) float32 → (N, 2) [yaw, pitch] in degrees."""
        yaw = features @ self.yaw_weight.T + self.yaw_bias
        pitch = features @ self.pitch_weight.T + self.pitch_bias
        return expected_angles(yaw, pitch, self)

    def module(self) -> nn.Module:
        """Features (N, F) → both angles' logits."""
        return _BinsModule(self)

    def blank(self) -> CorrectedHead:
        """The head that corrects them, its numbers still random."""
        return CorrectedBins(self.features, self.bins)

    def numbers(self) -> dict[str, Tensor]:
        """Theirs in a head that corrects them, by name."""
        return {
            "yaw.weight": self.yaw_weight,
            "yaw.bias": self.yaw_bias,
            "pitch.weight": self.pitch_weight,
            "pitch.bias": self.pitch_bias,
            "bins_deg": self.bins_deg,
        }

    def swapped(self) -> "BinHeads":
        """The same heads with yaw and pitch exchanged."""
        return replace(
            self,
            yaw_weight=self.pitch_weight,
            yaw_bias=self.pitch_bias,
            pitch_weight=self.yaw_weight,
            pitch_bias=self.yaw_bias,
        )


class _BinsModule(nn.Module):
    def __init__(self, heads: BinHeads) -> None:
        super().__init__()
        self.yaw = nn.Linear(heads.features, heads.bins)
        self.pitch = nn.Linear(heads.features, heads.bins)
        self.yaw.load_state_dict({"weight": heads.yaw_weight, "bias": heads.yaw_bias})
        self.pitch.load_state_dict({"weight": heads.pitch_weight, "bias": heads.pitch_bias})

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.yaw(features), self.pitch(features)


@dataclass(frozen=True)
class AngleHead:
    """A head that gives yaw and pitch in degrees itself: what a network with one output of two
    numbers does with its features, an earlier personal model's correction for instance."""

    nodes: NodeList
    state: dict[str, Tensor]  # float32, by the names of the nodes' module
    features: int

    def module(self) -> nn.Module:
        """Features (N, F) → (N, 2) [yaw, pitch] in degrees."""
        module = NodeModule(self.nodes)
        module.load_state_dict(self.state, strict=True)
        return module.requires_grad_(False)

    def angles_deg(self, features: Tensor) -> Tensor:
        """Features (N, F) float32 → (N, 2) [yaw, pitch] in degrees."""
        angles: Tensor = self.module()(features)
        return angles

    def blank(self) -> CorrectedHead:
        """The head that corrects it, its numbers still random."""
        return CorrectedAngles(self.features, self.nodes)

    def numbers(self) -> dict[str, Tensor]:
        """Its numbers in a head that corrects it, by name."""
        return {f"angles.{name}": tensor for name, tensor in self.state.items()}

    def swapped(self) -> "AngleHead":
        """The same head with yaw and pitch exchanged."""
        exchange = Node("linear", (0,), {"inputs": 2, "outputs": 2, "bias": 0})
        weight = {f"{len(self.nodes.nodes)}.weight": torch.eye(2).flip(0)}
        nodes = chained(self.nodes, NodeList((exchange,)))
        return AngleHead(nodes, self.state | weight, self.features)


Heads = BinHeads | AngleHead


def bin_heads(
    yaw: tuple[Tensor, Tensor], pitch: tuple[Tensor, Tensor], features: int, where: str
) -> BinHeads:
    """Heads from (weight, bias) pairs, every shape checked.

    Raises:
        InputError: a shape does not fit the trunk, or the number of bins is no known one. The
            message begins with `where`.
    """
    bins = len(yaw[1]) if yaw[1].ndim == 1 else 0
    if bins not in BIN_LAYOUTS:
        raise InputError(f"{where}: {bad_bins('the yaw', bins)}")
    for name, (weight, bias) in {"yaw": yaw, "pitch": pitch}.items():
        for tensor, shape in ((weight, (bins, features)), (bias, (bins,))):
            if tuple(tensor.shape) != shape:
                raise InputError(
                    f"{where}: the {name} head holds a tensor of shape {tuple(tensor.shape)} "
                    f"where {shape} is needed"
                )
    return BinHeads(*yaw, *pitch, bins, *BIN_LAYOUTS[bins])


def bad_bins(which: str, bins: int) -> str:
    """What is said of a head whose number of bins is none of the field's."""
    known = " and ".join(
        f"{count} ({width:g}° from {first:g}°)" for count, (width, first) in BIN_LAYOUTS.items()
    )
    return f"{which} head has {bins} bins, but known are {known}"


def checked_tensor(value: object, name: str, where: str) -> Tensor:
    """`value` as a float32 tensor of its own memory.

    Raises:
        InputError: it is no tensor of floats or holds NaN or infinity.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"{where}: {name} is {kind}, but must be a tensor of floats")
    # A hostile file may declare a huge tensor over few bytes; it would exist once it is copied.
    dense = value.layout is torch.strided
    if not dense or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise InputError(f"{where}: {name} is no plain tensor; the file is damaged")
    tensor = value.detach().to("cpu", torch.float32, copy=True).contiguous()
    if not torch.isfinite(tensor).all():
        raise InputError(f"{where}: {name} holds NaN or infinity; the file is damaged")
    return tensor


def expected_angles(yaw_logits: Tensor, pitch_logits: Tensor, heads: BinHeads) -> Tensor:
    """Logits (N, bins) of both angles → (N, 2) [yaw, pitch] in degrees, float32.

    The expectation of the bins' angles under the softmax, as L2CS-Net and the app compute it.
    """
    return _expected(yaw_logits, pitch_logits, heads.bins_deg)


def bins_deg(yaw_logits: Tensor, pitch_logits: Tensor) -> Tensor:
    """The same, the bins by their number."""
    bins = yaw_logits.shape[1]
    return _expected(yaw_logits, pitch_logits, bin_angles_deg(bins, *BIN_LAYOUTS[bins]))


def _expected(yaw_logits: Tensor, pitch_logits: Tensor, angles_deg: Tensor) -> Tensor:
    angles_deg = angles_deg.to(yaw_logits.device)
    columns = [
        torch.softmax(logits.double(), dim=1) @ angles_deg for logits in (yaw_logits, pitch_logits)
    ]
    return torch.stack(columns, dim=1).float()
