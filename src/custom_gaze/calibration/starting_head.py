"""Where training starts: the base network's trunk, and the head that it gets."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from custom_gaze.calibration.base_features import Seen, seen_by
from custom_gaze.calibration.candidates import closed_forms, closed_head
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.params import TrainParams
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample, load_crop
from custom_gaze.faces.crops import normalise
from custom_gaze.models.network import GazeNetwork, linear_head, take_batchnorm_statistics
from custom_gaze.weights.base import BaseNetwork, BinHeads

STATISTICS_FRAMES = 32
# Share of the features' mean energy added to the fit's diagonal: with fewer frames than features
# the fit is exact but for rounding, and this keeps rounding from being amplified.
RIDGE = 1e-6


def trunk_network(
    base: BaseNetwork, params: TrainParams, train: Sequence[Sample], paths: Paths
) -> GazeNetwork:
    """The base's trunk under a head of random weights, float32 on the CPU, in eval mode.

    A trunk of random weights takes its BatchNorm's statistics from the training crops.

    Raises:
        InputError: `params.frozen_through` does not fit the trunk, or a crop cannot be read.
    """
    network = GazeNetwork(base.trunk, params.frozen_through)
    network.load_trunk(base.trunk_state)
    network.eval()
    if base.kind == "random":
        crops = np.stack([load_crop(sample, paths) for sample in train[:STATISTICS_FRAMES]])
        take_batchnorm_statistics(network, torch.from_numpy(normalise(crops)))
    return network


def starting_network(
    base: BaseNetwork, params: TrainParams, train: Sequence[Sample], paths: Paths
) -> GazeNetwork:
    """The network before its first epoch, float32 on the CPU, in eval mode.

    Raises:
        InputError: `params.frozen_through` does not fit the trunk, a crop cannot be read, or there
            are too few targets for a probe.
    """
    network = trunk_network(base, params, train, paths)
    network.head = starting_head(seen_by(network, base.heads, train, paths), base.heads, params)
    return network


def starting_head(seen: Seen, heads: BinHeads | None, params: TrainParams) -> nn.Module:
    """The head before the first epoch, float32 on the CPU: features (N, F) → (N, 2) degrees.

    With `params.start` "probe" it is the probe that is fitted on the frames given, with "base" a
    linear one that answers as the base network itself, as closely as a linear one can. A trunk
    alone, which has no angles, gets one that answers the mean of the labels.

    Raises:
        InputError: there are too few targets for a probe.
    """
    if heads is None:
        weight = 1e-3 * torch.randn(2, seen.features.shape[1])
        return linear_head(weight, torch.from_numpy(seen.true_deg.mean(axis=0)))
    if params.start == "base":
        return linear_head(*head_from_bins(torch.from_numpy(seen.features), heads))
    return closed_head(heads, closed_forms(seen, params.seed)[Candidate.PROBE])


def head_from_bins(features: Tensor, heads: BinHeads) -> tuple[Tensor, Tensor]:
    """A linear head that answers the base's expected angles, on these features as closely as it
    can: weight (2, features) and bias (2,), float32, rows yaw and pitch.

    Args:
        features: (N, features) float.
        heads: the base network's; its expected angle is Σ softmax(W f + b) · bin angle.

    The tangent of the expected angle at the mean features is a linear head already and holds for
    any face: Σ p_i (c_i − angle) W_i. What it misses on the given features is added by the smallest
    change of weights that does so (kernel ridge regression on the residual, with a ridge so small
    that it only tames rounding).
    """
    f = features.double()
    mean = f.mean(dim=0)
    centered = f - mean
    kernel = centered @ centered.T
    kernel += RIDGE * kernel.diagonal().mean().clamp_min(1e-12) * torch.eye(len(f)).double()
    rows, biases = [], []
    for head_weight, head_bias in (
        (heads.yaw_weight, heads.yaw_bias),
        (heads.pitch_weight, heads.pitch_bias),
    ):
        angles = heads.first_bin_deg + heads.bin_width_deg * torch.arange(heads.bins).double()
        w, b = head_weight.double(), head_bias.double()
        share = torch.softmax(mean @ w.T + b, dim=0)
        at_mean = share @ angles
        expected = torch.softmax(f @ w.T + b, dim=1) @ angles  # (N,)
        tangent = (share * (angles - at_mean)) @ w

        residual = expected - at_mean - centered @ tangent
        offset = residual.mean()
        weight = tangent + centered.T @ torch.linalg.solve(kernel, residual - offset)
        rows.append(weight)
        biases.append(at_mean + offset - mean @ weight)
    return torch.stack(rows).float(), torch.stack(biases).float()
