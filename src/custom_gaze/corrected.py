"""The network that a correction and a linear map make of a base network, as one module."""

import torch
from torch import Tensor, nn

from custom_gaze.network import trunk_spec

# An image without a face is far from all that the numbers were fitted on, and a linear map answers
# hundreds of degrees there. Nobody's gaze on a screen is further off than this.
FURTHEST_DEG = 90.0


class CorrectedNetwork(nn.Module):
    """x float32 (N, 3, 448, 448), RGB, ImageNet-normalised → (N, 2) [yaw, pitch] in degrees.

    With f the trunk's features and v the base network's own angles, the expectation of its bins'
    angles under their softmax, the answer is

        curve · v² + gain · v + offset + (W f + b)

    held between ±FURTHEST_DEG. The polynomial is the app's, per axis. Nothing here is trained:
    every number is fitted in closed form beforehand. What `load_state_dict` gets names them all.
    """

    bins_deg: Tensor  # (bins,) the bins' angles
    curve: Tensor  # (2,) like gain and offset: yaw, pitch
    gain: Tensor
    offset_deg: Tensor

    def __init__(self, trunk: str, bins: int) -> None:
        """Build with random weights for a base network with heads of `bins` bins.

        Raises:
            InputError: the trunk is unknown.
        """
        super().__init__()
        spec = trunk_spec(trunk)
        self.trunk = spec.build()
        self.yaw = nn.Linear(spec.features, bins)
        self.pitch = nn.Linear(spec.features, bins)
        self.change = nn.Linear(spec.features, 2)
        self.register_buffer("bins_deg", torch.zeros(bins))
        for name in ("curve", "gain", "offset_deg"):
            self.register_buffer(name, torch.zeros(2))
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """The corrected angles."""
        f = torch.flatten(self.trunk(x), 1)  # (N, features)
        axes = [torch.softmax(head(f), dim=1) @ self.bins_deg for head in (self.yaw, self.pitch)]
        v = torch.stack(axes, dim=1)  # (N, 2)
        answer = (self.curve * v + self.gain) * v + self.offset_deg + self.change(f)
        return torch.clamp(answer, -FURTHEST_DEG, FURTHEST_DEG)
