"""A small base network with heads of bins, whose angles know the gaze of the synthetic crops."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from conftest import synthetic_crop
from custom_gaze.faces.crops import normalise
from custom_gaze.models.network import GazeNetwork, take_batchnorm_statistics
from custom_gaze.weights.base import BaseNetwork
from custom_gaze.weights.base_heads import BinHeads

BINS_DEG = -180 + 4.0 * np.arange(90)
SIGMA_DEG = 4.0


def linear_heads(weight: NDArray[np.float64], bias_deg: NDArray[np.float64]) -> BinHeads:
    """Heads whose expected angle is weight (2, F) · f + bias (2,), between -160° and 160°.

    Each is a normal distribution about that angle: logits a c / σ² - c² / (2 σ²).
    """
    pairs = []
    for row, offset in zip(weight, bias_deg, strict=True):
        per_bin = torch.from_numpy(np.outer(BINS_DEG, row) / SIGMA_DEG**2).float()
        constant = (offset * BINS_DEG - BINS_DEG**2 / 2) / SIGMA_DEG**2
        pairs += [per_bin, torch.from_numpy(constant).float()]
    return BinHeads(*pairs, 90, 4.0, -180.0)


def fitted_heads(features: NDArray[np.float64], wanted_deg: NDArray[np.float64]) -> BinHeads:
    """Heads that answer (N, 2) angles on features (N, F), by ridge regression."""
    mean = features.mean(axis=0)
    centered = features - mean
    gram = centered.T @ centered
    gram += 1e-3 * np.trace(gram) / len(gram) * np.eye(len(gram))
    weight = np.linalg.solve(gram, centered.T @ (wanted_deg - wanted_deg.mean(axis=0))).T
    return linear_heads(weight, wanted_deg.mean(axis=0) - weight @ mean)


@cache
def headed_base(size_px: int = 64) -> BaseNetwork:
    """A trunk of random weights whose heads answer -0.4 times the yaw and 0.4 times the pitch,
    shifted, to within the 2.5° that its features leave."""
    torch.manual_seed(3)
    network = GazeNetwork("slim18", "layer3").eval()
    gaze = np.random.default_rng(3).uniform([-30, -20], [30, 20], (600, 2))
    crops = np.stack([synthetic_crop(*pair, size_px, 10**6 + n) for n, pair in enumerate(gaze)])
    x = torch.from_numpy(normalise(crops))
    take_batchnorm_statistics(network, x[:32])
    with torch.inference_mode():
        batches = [network.features(network.frozen(some)) for some in torch.split(x, 64)]
    features = torch.cat(batches).double().numpy()
    heads = fitted_heads(features, gaze * [-0.4, 0.4] + [12, -6])
    state = network.trunk.state_dict()
    trunk = {name: value.clone() for name, value in state.items() if "num_batches" not in name}
    return BaseNetwork("slim18", trunk, heads, "made by a test", "0" * 64, "embedded")
