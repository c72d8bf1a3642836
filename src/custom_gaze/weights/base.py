"""A base network in memory and as models/base.pt, and as a module that can be run."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from custom_gaze.common.errors import InputError
from custom_gaze.common.plain_records import from_plain
from custom_gaze.common.saved_tensors import as_plain, load_tensors, save_tensors
from custom_gaze.common.untrusted import printable
from custom_gaze.models.heads import BIN_LAYOUTS, bin_angles_deg
from custom_gaze.models.network import trunk_spec
from custom_gaze.models.records import BaseProvenance

FORMAT = "custom-gaze-base"
VERSION = 1
KINDS = ("l2cs-state-dict", "mobilegaze-state-dict", "onnx", "torchvision", "embedded", "random")


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

    def swapped(self) -> "BinHeads":
        """The same heads with yaw and pitch exchanged."""
        return dataclasses.replace(
            self,
            yaw_weight=self.pitch_weight,
            yaw_bias=self.pitch_bias,
            pitch_weight=self.yaw_weight,
            pitch_bias=self.yaw_bias,
        )


@dataclass(frozen=True)
class BaseNetwork:
    """What training starts from.

    `trunk_state` are the trunk's weights and BatchNorm statistics, float32 by torchvision's names,
    without the classifier and without `num_batches_tracked`. Where BatchNorm was folded into the
    convolutions, such a layer is an identity here (mean 0, variance 1, weight √(1 + eps)) with the
    folded bias.
    """

    trunk: str  # a name from `custom_gaze.models.network.TRUNKS`
    trunk_state: dict[str, Tensor]
    heads: BinHeads | None  # None where the file holds a trunk only
    source: str  # the file it came from
    sha256: str  # of that file
    kind: str  # one of KINDS
    batchnorm_folded: bool = False
    warnings: tuple[str, ...] = ()  # what the user should know, one line each

    @property
    def provenance(self) -> BaseProvenance:
        """What a checkpoint says of it."""
        bins = self.heads.bins if self.heads else 0
        said = (self.source, self.sha256, self.kind, self.trunk)
        return BaseProvenance(*said, bins, self.batchnorm_folded)


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
        known = " and ".join(
            f"{count} ({width:g}° from {first:g}°)" for count, (width, first) in BIN_LAYOUTS.items()
        )
        raise InputError(f"{where}: the yaw head has {bins} bins, but known are {known}")
    for name, (weight, bias) in {"yaw": yaw, "pitch": pitch}.items():
        for tensor, shape in ((weight, (bins, features)), (bias, (bins,))):
            if tuple(tensor.shape) != shape:
                raise InputError(
                    f"{where}: the {name} head holds a tensor of shape {tuple(tensor.shape)} "
                    f"where {shape} is needed"
                )
    return BinHeads(*yaw, *pitch, bins, *BIN_LAYOUTS[bins])


def checked_state(trunk: str, state: Mapping[str, object], where: str) -> dict[str, Tensor]:
    """`state` as float32 tensors in the trunk's own order, if it fits the trunk exactly.

    Raises:
        InputError: a key is missing or left over; a value is no tensor of floats, has another
            shape or is not finite; a variance is negative. The message begins with `where`.
    """
    with torch.device("meta"):
        wanted = {
            name: tuple(tensor.shape)
            for name, tensor in trunk_spec(trunk).build().state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
    missing = [name for name in wanted if name not in state]
    if missing:
        raise InputError(f"{where}: lacks {_some(missing)} of a {trunk}")
    left_over = [name for name in state if name not in wanted]
    if left_over:
        raise InputError(f"{where}: holds {_some(left_over)}, which a {trunk} has not")
    return {name: _checked(state[name], shape, name, where) for name, shape in wanted.items()}


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


def _checked(value: object, shape: tuple[int, ...], name: str, where: str) -> Tensor:
    if isinstance(value, Tensor) and tuple(value.shape) != shape:
        raise InputError(f"{where}: {name} has the shape {tuple(value.shape)}, not {shape}")
    tensor = checked_tensor(value, name, where)
    if name.endswith("running_var") and (tensor < 0).any():
        raise InputError(f"{where}: {name} holds negative variances; the file is damaged")
    return tensor


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(printable(name, 80) for name in names[:2]) + more


def save_base(base: BaseNetwork, path: Path) -> None:
    """Write models/base.pt, whole or not at all; equal bases give equal bytes."""
    save_tensors({"format": FORMAT, "version": VERSION, **as_plain(base)}, path)


def read_base(path: Path) -> BaseNetwork:
    """Read models/base.pt.

    Raises:
        InputError: it is missing, damaged, of another format or version, or not complete.
    """
    remedy = "run `custom-gaze fetch` first"
    content = load_tensors(path, "base network", remedy)
    return base_from_content(content, f"{path}", remedy)


def base_from_content(content: Mapping[str, object], where: str, remedy: str) -> BaseNetwork:
    """The base network in what `save_base` wrote.

    Raises:
        InputError: it is of another format or version, or not complete.
    """
    plain = dict(content)
    if (plain.pop("format", None), plain.pop("version", None)) != (FORMAT, VERSION):
        raise InputError(f"{where}: no base network of this version; {remedy}")
    try:
        base = from_plain(BaseNetwork, plain, "base network")
        if base.kind not in KINDS or not re.fullmatch(r"([0-9a-f]{64})?", base.sha256):
            raise ValueError("its kind or its SHA-256 is none")
        return dataclasses.replace(
            base,
            trunk_state=checked_state(base.trunk, base.trunk_state, where),
            heads=_checked_heads(base, where),
            source=printable(base.source),
            warnings=tuple(printable(line, 1000) for line in base.warnings),
        )
    except ValueError as error:
        raise InputError(f"{where}: no valid base network ({printable(error)}); {remedy}") from None


def _checked_heads(base: BaseNetwork, where: str) -> BinHeads | None:
    heads = base.heads
    if heads is None:
        return None
    names = ("yaw_weight", "yaw_bias", "pitch_weight", "pitch_bias")
    values = [checked_tensor(getattr(heads, name), name, where) for name in names]
    features = trunk_spec(base.trunk).features
    layout = ("bins", "bin_width_deg", "first_bin_deg")
    built = bin_heads((values[0], values[1]), (values[2], values[3]), features, where)
    if any(getattr(built, name) != getattr(heads, name) for name in layout):
        raise ValueError("the heads' bins contradict their layout")
    return built


class BaseModule(nn.Module):
    """x float32 (N, 3, 448, 448), normalised → yaw and pitch logits, each (N, bins), on the CPU.

    It predicts, it is never trained, and its BatchNorm never leaves eval mode: one that was folded
    away and is an identity now would fall apart in train mode.

    Raises:
        InputError: the base is a trunk without heads, which has no angles to give.
    """

    def __init__(self, base: BaseNetwork) -> None:
        super().__init__()
        heads = base.heads
        if heads is None:
            raise InputError(
                f"{base.source}: is a trunk without heads; it gives no angles by itself"
            )
        spec = trunk_spec(base.trunk)
        self.trunk = spec.build()
        self.trunk.load_state_dict(base.trunk_state, strict=True)
        self.yaw = nn.Linear(spec.features, heads.bins)
        self.pitch = nn.Linear(spec.features, heads.bins)
        self.yaw.load_state_dict({"weight": heads.yaw_weight, "bias": heads.yaw_bias})
        self.pitch.load_state_dict({"weight": heads.pitch_weight, "bias": heads.pitch_bias})
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "BaseModule":
        """Stay in eval mode, whatever `mode` says."""
        super().train(False)
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of both angles."""
        features = torch.flatten(self.trunk(x), 1)  # (N, features)
        return self.yaw(features), self.pitch(features)


def expected_angles(yaw_logits: Tensor, pitch_logits: Tensor, heads: BinHeads) -> Tensor:
    """Logits (N, bins) of both angles → (N, 2) [yaw, pitch] in degrees, float32.

    The expectation of the bins' angles under the softmax, as L2CS-Net and the app compute it.
    """
    bins_deg = heads.bins_deg.to(yaw_logits.device)
    columns = [
        torch.softmax(logits.double(), dim=1) @ bins_deg for logits in (yaw_logits, pitch_logits)
    ]
    return torch.stack(columns, dim=1).float()
