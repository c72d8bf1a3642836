"""A base network in memory and as models/base.pt, and as a module that can be run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from custom_gaze.common.errors import InputError
from custom_gaze.common.plain_records import from_plain
from custom_gaze.common.saved_tensors import as_plain, check_state, load_tensors, save_tensors
from custom_gaze.common.untrusted import printable
from custom_gaze.models.graph import GraphTrunk, NodeModule
from custom_gaze.models.heads import check_head
from custom_gaze.models.network import GazeNetwork, Trunk, TrunkSpec, trunk_spec
from custom_gaze.models.records import BaseProvenance
from custom_gaze.weights.base_heads import (
    AngleHead,
    BinHeads,
    Heads,
    bin_heads,
    checked_tensor,
    expected_angles,
)

FORMAT = "custom-gaze-base"
VERSION = 2
READABLE = (1, VERSION)  # the first knew named trunks and heads of bins alone
SIZE_PX = 448  # the images that it is for
KINDS = ("l2cs-state-dict", "mobilegaze-state-dict", "onnx", "torchvision", "embedded", "random")


@dataclass(frozen=True)
class BaseNetwork:
    """What training starts from.

    `trunk_state` are the trunk's weights and BatchNorm statistics, float32. Those of a named trunk
    have torchvision's names, without the classifier and without `num_batches_tracked`; where
    BatchNorm was folded into the convolutions, such a layer is an identity here (mean 0, variance
    1, weight √(1 + eps)) with the folded bias.
    """

    trunk: Trunk
    trunk_state: dict[str, Tensor]
    heads: BinHeads | AngleHead | None  # None where the file holds a trunk only
    source: str  # the file it came from
    sha256: str  # of that file
    kind: str  # one of KINDS
    batchnorm_folded: bool = False
    warnings: tuple[str, ...] = ()  # what the user should know, one line each

    @property
    def provenance(self) -> BaseProvenance:
        """What a checkpoint says of it."""
        bins = self.heads.bins if isinstance(self.heads, BinHeads) else 0
        said = (self.source, self.sha256, self.kind, self.spec.name)
        return BaseProvenance(*said, bins, self.batchnorm_folded)

    @property
    def spec(self) -> TrunkSpec:
        """How its trunk is built."""
        return trunk_spec(self.trunk)

    @property
    def of_app_crops(self) -> bool:
        """Whether it was made by `custom-gaze pretrain`, from crops as the app cuts them."""
        return self.kind == "embedded"

    def network(
        self, frozen_through: str, head: nn.Module | None = None, inner_share: float = 1.0
    ) -> GazeNetwork:
        """Its trunk under a head, in eval mode; None: a linear one of random weights.

        Raises:
            InputError: `frozen_through` does not fit the trunk.
        """
        network = GazeNetwork(self.trunk, frozen_through, head, inner_share)
        network.load_trunk(self.trunk_state)
        return network.eval()


def checked_state(trunk: Trunk, state: Mapping[str, object], where: str) -> dict[str, Tensor]:
    """`state` as float32 tensors in the trunk's own order, if it fits the trunk exactly.

    Raises:
        InputError: a key is missing or left over; a value is no tensor of floats, has another
            shape or is not finite; a variance is negative. The message begins with `where`.
    """
    spec = trunk_spec(trunk)
    with torch.device("meta"):
        wanted = {
            name: tuple(tensor.shape)
            for name, tensor in spec.build().state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
    missing = [name for name in wanted if name not in state]
    if missing:
        raise InputError(f"{where}: lacks {_some(missing)} of a {spec.name}")
    left_over = [name for name in state if name not in wanted]
    if left_over:
        raise InputError(f"{where}: holds {_some(left_over)}, which a {spec.name} has not")
    return {name: _checked(state[name], shape, name, where) for name, shape in wanted.items()}


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
    if plain.pop("format", None) != FORMAT or plain.pop("version", None) not in READABLE:
        raise InputError(f"{where}: no base network of this version; {remedy}")
    try:
        base = from_plain(BaseNetwork, plain, "base network")
        if base.kind not in KINDS or not re.fullmatch(r"([0-9a-f]{64})?", base.sha256):
            raise ValueError("its kind or its SHA-256 is none")
        if isinstance(base.trunk, GraphTrunk):
            base.trunk.check(SIZE_PX)
        return replace(
            base,
            trunk=checked_name(base.trunk),
            trunk_state=checked_state(base.trunk, base.trunk_state, where),
            heads=_checked_heads(base, where),
            source=printable(base.source),
            warnings=tuple(printable(line, 1000) for line in base.warnings),
        )
    except ValueError as error:
        raise InputError(f"{where}: no valid base network ({printable(error)}); {remedy}") from None


def checked_name(trunk: Trunk) -> Trunk:
    """A trunk whose name can be printed."""
    return trunk if isinstance(trunk, str) else replace(trunk, name=printable(trunk.name, 60))


def _checked_heads(base: BaseNetwork, where: str) -> Heads | None:
    heads, features = base.heads, base.spec.features
    if heads is None:
        return None
    if isinstance(heads, AngleHead):
        check_head(heads.nodes, heads.features)
        state = {n: checked_tensor(t, printable(n, 60), where) for n, t in heads.state.items()}
        with torch.device("meta"):
            check_state(state, NodeModule(heads.nodes))
        if heads.features != features:
            raise ValueError("the head reads other features than the trunk gives")
        return replace(heads, state=state)
    names = ("yaw_weight", "yaw_bias", "pitch_weight", "pitch_bias")
    values = [checked_tensor(getattr(heads, name), name, where) for name in names]
    layout = ("bins", "bin_width_deg", "first_bin_deg")
    built = bin_heads((values[0], values[1]), (values[2], values[3]), features, where)
    if any(getattr(built, name) != getattr(heads, name) for name in layout):
        raise ValueError("the heads' bins contradict their layout")
    return built


class BaseModule(nn.Module):
    """x float32 (N, 3, 448, 448), normalised → what its heads give, on the CPU: the yaw and pitch
    logits, each (N, bins), or of a head that gives angles these alone, (N, 2).

    It predicts, it is never trained, and its BatchNorm never leaves eval mode: one that was folded
    away and is an identity now would fall apart in train mode.

    Raises:
        InputError: the base is a trunk without heads, which has no angles to give.
    """

    def __init__(self, base: BaseNetwork) -> None:
        super().__init__()
        if base.heads is None:
            raise InputError(
                f"{base.source}: is a trunk without heads; it gives no angles by itself"
            )
        self.trunk = base.spec.build()
        self.trunk.load_state_dict(base.trunk_state, strict=True)
        self.heads = base.heads.module()
        self._base_heads = base.heads
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "BaseModule":
        """Stay in eval mode, whatever `mode` says."""
        super().train(False)
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Logits of both angles, or the angles."""
        given: Tensor | tuple[Tensor, ...] = self.heads(torch.flatten(self.trunk(x), 1))
        return given if isinstance(given, tuple) else (given,)

    def angles_deg(self, x: Tensor) -> Tensor:
        """(N, 2) [yaw, pitch] in degrees, float32."""
        given = self(x)
        if isinstance(self._base_heads, AngleHead):
            angles: Tensor = given[0]
            return angles
        return expected_angles(given[0], given[1], self._base_heads)
