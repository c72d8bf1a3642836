"""Where training starts: the base network's trunk under a head that answers as the base does."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from custom_gaze.crops import normalise
from custom_gaze.dataset import Sample, labels_deg, load_crop
from custom_gaze.network import GazeNetwork, take_batchnorm_statistics
from custom_gaze.params import TrainParams
from custom_gaze.paths import Paths
from custom_gaze.weights.base import BaseNetwork, BinHeads

STATISTICS_FRAMES = 32
# Share of the features' mean energy added to the fit's diagonal: with fewer frames than features
# the fit is exact but for rounding, and this keeps rounding from being amplified.
RIDGE = 1e-6


def starting_network(
    base: BaseNetwork, params: TrainParams, train: Sequence[Sample], paths: Paths
) -> GazeNetwork:
    """The network before its first epoch, float32 on the CPU, in eval mode.

    A base with heads lends its answer: the linear head gives the base's expected angles on the
    training frames. A trunk alone gets a head that answers the mean of the training labels.

    Raises:
        InputError: `params.frozen_through` does not fit the trunk, or a crop cannot be read.
    """
    network = GazeNetwork(base.trunk, params.frozen_through)
    network.load_trunk(base.trunk_state)
    network.eval()
    if base.kind == "random":
        crops = np.stack([load_crop(sample, paths) for sample in train[:STATISTICS_FRAMES]])
        take_batchnorm_statistics(network, torch.from_numpy(normalise(crops)))
    if base.heads is None:
        weight = 1e-3 * torch.randn(network.head.weight.shape)
        bias = torch.from_numpy(labels_deg(train).mean(axis=0))
    else:
        weight, bias = head_from_bins(plain_features(network, train, paths), base.heads)
    with torch.no_grad():
        network.head.weight.copy_(weight)
        network.head.bias.copy_(bias)
    return network


def plain_features(network: GazeNetwork, samples: Sequence[Sample], paths: Paths) -> Tensor:
    """What the head sees of the plain crops: (N, features) float32, one crop at a time."""
    with torch.inference_mode():
        rows = [
            network.features(
                network.frozen(torch.from_numpy(normalise(load_crop(sample, paths)[None])))
            )
            for sample in samples
        ]
    return torch.cat(rows)


def head_from_bins(features: Tensor, heads: BinHeads) -> tuple[Tensor, Tensor]:
    """A linear head that answers as two heads of bins do, on these features as closely as it can.

    Args:
        features: (N, features) float32.
        heads: the base network's; expected angle = Σ softmax(W f + b) · bin angle.

    Returns:
        weight (2, features) and bias (2,), float32, rows yaw and pitch.

    The tangent of the expected angle at the mean features, g = Σ p_i (c_i − angle) W_i, is a
    linear head already and holds for any face. What it misses on the given features is added by
    the smallest change of weights that does so (kernel ridge regression on the residual, with a
    ridge so small that it only tames rounding).
    """
    f = features.double()
    mean = f.mean(dim=0)
    centered = f - mean
    kernel = centered @ centered.T
    kernel += RIDGE * kernel.diagonal().mean().clamp_min(1e-12) * torch.eye(len(f)).double()
    rows, biases = [], []
    for head_weight, head_bias in (
        (heads.yaw_weight.double(), heads.yaw_bias.double()),
        (heads.pitch_weight.double(), heads.pitch_bias.double()),
    ):
        angles = heads.first_bin_deg + heads.bin_width_deg * torch.arange(heads.bins).double()
        share = torch.softmax(mean @ head_weight.T + head_bias, dim=0)
        at_mean = share @ angles
        tangent = (share * (angles - at_mean)) @ head_weight
        expected = torch.softmax(f @ head_weight.T + head_bias, dim=1) @ angles
        residual = expected - at_mean - centered @ tangent
        offset = residual.mean()
        change = centered.T @ torch.linalg.solve(kernel, residual - offset)
        weight = tangent + change
        rows.append(weight)
        biases.append(at_mean + offset - mean @ weight)
    return torch.stack(rows).float(), torch.stack(biases).float()
