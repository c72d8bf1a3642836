"""The head that a correction and a linear map make of a base network's own heads."""

import torch
from torch import Tensor, nn

from custom_gaze.models.graph import NodeList, NodeModule, sizes_of

# An image without a face is far from all that the numbers were fitted on, and a linear map predicts
# hundreds of degrees there. Nobody's gaze on a screen is further off than this.
FURTHEST_DEG = 90.0

# What L2CS-Net and its descendants are released with: number of bins → width, first angle (deg).
BIN_LAYOUTS = {90: (4.0, -180.0), 28: (3.0, -42.0)}


def bin_angles_deg(bins: int, width_deg: float, first_deg: float) -> Tensor:
    """The bins' angles (bins,) in degrees, float64."""
    return first_deg + width_deg * torch.arange(bins, dtype=torch.float64)


class CorrectedHead(nn.Module):
    """Features f (N, F) → (N, 2) [yaw, pitch] in degrees.

    With v the base network's own angles the prediction is

        curve · v² + gain · v + offset + (W f + b)

    held between ±FURTHEST_DEG, beyond which there is no gradient: `unbounded` is what is trained
    on. The polynomial is the app's, per axis. Only W and b, `residual`, are
    open to training; the rest stays what it was fitted to or came with. What `load_state_dict`
    gets names all numbers.
    """

    curve: Tensor  # (2,) like gain and offset: yaw, pitch
    gain: Tensor
    offset_deg: Tensor

    def __init__(self, features: int) -> None:
        """Build with random weights for `features` numbers, without a correction."""
        super().__init__()
        self.residual = nn.Linear(features, 2)
        self._add_terms()

    def _add_terms(self) -> None:
        for name in ("curve", "gain", "offset_deg"):
            self.register_buffer(name, torch.zeros(2))

    def base_deg(self, f: Tensor) -> Tensor:
        """The base network's own angles (N, 2)."""
        raise NotImplementedError

    def forward(self, f: Tensor) -> Tensor:
        """The corrected angles, within their limits."""
        return torch.clamp(self.unbounded(f), -FURTHEST_DEG, FURTHEST_DEG)

    def unbounded(self, f: Tensor) -> Tensor:
        """The corrected angles, however large."""
        v = self.base_deg(f)  # (N, 2)
        angles: Tensor = (self.curve * v + self.gain) * v + self.offset_deg + self.residual(f)
        return angles


class CorrectedBins(CorrectedHead):
    """v are the expectations of the bins' angles under the softmax of two linear layers."""

    bins_deg: Tensor  # (bins,) the bins' angles

    def __init__(self, features: int, bins: int) -> None:
        """Build with random weights for `features` numbers and heads of `bins` bins."""
        nn.Module.__init__(self)
        self.yaw = nn.Linear(features, bins).requires_grad_(False)
        self.pitch = nn.Linear(features, bins).requires_grad_(False)
        self.residual = nn.Linear(features, 2)
        self.register_buffer("bins_deg", torch.zeros(bins))
        self._add_terms()

    def base_deg(self, f: Tensor) -> Tensor:
        """The expected angles (N, 2)."""
        axes = [torch.softmax(head(f), dim=1) @ self.bins_deg for head in (self.yaw, self.pitch)]
        return torch.stack(axes, dim=1)


class CorrectedAngles(CorrectedHead):
    """v is what a list of operations makes of the features: the head of a network that gives
    angles itself."""

    def __init__(self, features: int, nodes: NodeList) -> None:
        """Build with random weights.

        Raises:
            ValueError: the nodes are no head.
        """
        super().__init__(features)
        check_head(nodes, features)
        self.nodes = nodes
        self.angles = NodeModule(nodes).requires_grad_(False)

    def base_deg(self, f: Tensor) -> Tensor:
        """The angles (N, 2)."""
        angles: Tensor = self.angles(f)
        return angles


def check_head(nodes: NodeList, features: int) -> None:
    """Check that the nodes make two angles of the features; nothing is computed.

    Raises:
        ValueError: they do not.
    """
    shape: tuple[int, ...] = (1, features)
    for value in sizes_of(nodes, shape):
        shape = value.shape
    if shape != (1, 2):
        raise ValueError("a head that gives no two angles")
