"""Gaze networks as their projects define them, with weights that were never trained but behave.

Keys, layers and outputs are the projects' own; BatchNorm has statistics of its own, and the heads
are fitted to the built-in portrait: mirrored, the horizontal angle changes its sign, the vertical
one does not. So every test of order, names and values has something to find.
"""

from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from custom_gaze.faces.crops import normalise
from custom_gaze.weights.axis_test import portrait_crops
from custom_gaze.weights.self_check import check_images

LAYERS = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}
L2CS = ("fc_yaw_gaze", "fc_pitch_gaze")
MOBILEGAZE = ("fc_yaw", "fc_pitch")
BINS = {90: (4.0, -180.0), 28: (3.0, -42.0)}


class GazeResNet(ResNet):
    """torchvision's ResNet with two heads of bins; `returned` says which output comes first."""

    def __init__(self, trunk: str, heads: tuple[str, str], bins: int) -> None:
        block, layers = LAYERS[trunk]
        super().__init__(block, layers)
        width = self.fc.in_features
        del self.fc
        self.returned = heads
        for head in heads:
            setattr(self, head, nn.Linear(width, bins))
        if heads == L2CS:
            self.fc_finetune = nn.Linear(width + 3, 3)

    def features(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        return x.view(x.size(0), -1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        first, second = self.returned
        return getattr(self, first)(features), getattr(self, second)(features)


@cache
def _trunk(trunk: str) -> tuple[dict[str, Tensor], Tensor]:
    """Weights of a trunk whose activations stay sane, and its features (8, F) of eight images:
    three faces, the same mirrored, two of the self-check's."""
    torch.manual_seed(len(LAYERS[trunk][1]) + sum(LAYERS[trunk][1]))
    network = GazeResNet(trunk, MOBILEGAZE, 90)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.6, 1.2)
        nn.init.normal_(norm.bias, 0, 0.2)
        norm.momentum = None
    faces = portrait_crops()
    seen = np.concatenate([faces, faces[:, :, ::-1], check_images()[2:]])
    x = torch.from_numpy(normalise(seen))
    with torch.no_grad():
        network.train()
        network.features(x[::3, :, ::2, ::2])
        for norm in norms:  # what a network met in training is not what it meets here
            norm.running_mean += 0.1 * torch.randn_like(norm.running_mean)
            norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.8, 1.25)
        network.eval()
        features = torch.cat([network.features(image) for image in x[:, None]])
    state = network.state_dict()
    return {key: value for key, value in state.items() if not key.startswith("fc")}, features


def _fit(head: nn.Linear, features: Tensor, angles_deg: Tensor, bins: int) -> None:
    """Logits of a bell curve over the bins whose centre is linear in the features."""
    width, first = BINS[bins]
    bins_deg = first + width * torch.arange(bins)
    inputs = torch.cat([features, torch.ones(len(features), 1)], dim=1)
    solution = torch.linalg.lstsq(inputs, angles_deg[:, None], driver="gelsd").solution[:, 0]
    spread = 40.0**2 if bins == 90 else 12.0**2
    head.weight.copy_(bins_deg[:, None] * solution[:-1] / spread)
    head.bias.copy_((bins_deg * solution[-1] - bins_deg**2 / 2) / spread)


def gaze_network(
    trunk: str = "resnet18", heads: tuple[str, str] = MOBILEGAZE, bins: int = 90
) -> GazeResNet:
    """A network in eval mode; the first of `heads` is the horizontal angle. Equal arguments give
    equal weights."""
    return deepcopy(_gaze_network(trunk, heads, bins))


@cache
def _gaze_network(trunk: str, heads: tuple[str, str], bins: int) -> GazeResNet:
    torch.manual_seed(3)
    network = GazeResNet(trunk, heads, bins)
    state, features = _trunk(trunk)
    network.load_state_dict(state, strict=False)
    yaw = torch.tensor([-16.0, -9.0, -21.0])
    pitch = torch.tensor([6.0, -11.0, 3.0])
    other = torch.tensor([25.0, -18.0])
    with torch.no_grad():
        _fit(getattr(network, heads[0]), features, torch.cat([yaw, -yaw, other]), bins)
        _fit(getattr(network, heads[1]), features, torch.cat([pitch, pitch, -other]), bins)
    return network.eval()


def random_network(
    trunk: str = "resnet18", heads: tuple[str, str] = MOBILEGAZE, bins: int = 90
) -> GazeResNet:
    """As `gaze_network`, but made at once, for tests of what weights are read: its answers mean
    nothing, and no two of its tensors are alike."""
    return deepcopy(_random_network(trunk, heads, bins))


@cache
def _random_network(trunk: str, heads: tuple[str, str], bins: int) -> GazeResNet:
    torch.manual_seed(5)
    network = GazeResNet(trunk, heads, bins)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.6, 1.4)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, 0, 0.2)
    return network.eval()


def expected_deg(logits: Tensor) -> Tensor:
    """(N, bins) → (N,) degrees, as the projects compute it."""
    width, first = BINS[logits.shape[1]]
    return logits.softmax(1) @ (first + width * torch.arange(logits.shape[1]))


def angles_of(network: GazeResNet, x: Tensor) -> Tensor:
    """(N, 3, 448, 448) → (N, 2) degrees, in the order the network returns them."""
    with torch.inference_mode():
        return torch.stack([expected_deg(logits) for logits in network(x)], dim=1)


def export(
    network: nn.Module,
    path: Path,
    *,
    current: bool = False,
    opset: int = 17,
    folded: bool = True,
    names: tuple[str, str] = ("yaw", "pitch"),
    **more: object,
) -> Path:
    """Write ONNX with PyTorch's current or legacy exporter; BatchNorm folded or not."""
    if current:
        more = {"external_data": False, "optimize": folded, **more}
    elif not folded:
        more = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False, **more}
    torch.onnx.export(
        network,
        (torch.zeros(1, 3, 448, 448),),
        str(path),
        dynamo=current,
        opset_version=opset,
        input_names=["input"],
        output_names=list(names),
        verbose=False,
        **more,
    )
    return path
