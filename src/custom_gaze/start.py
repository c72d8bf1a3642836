"""Where training starts: the base network's trunk under a head that answers as a probe does."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from custom_gaze.baselines import Polynomial
from custom_gaze.candidates import ClosedForm, corrected_base, probed
from custom_gaze.crops import normalise
from custom_gaze.dataset import Sample, load_crop
from custom_gaze.network import GazeNetwork, take_batchnorm_statistics
from custom_gaze.params import TrainParams
from custom_gaze.paths import Paths
from custom_gaze.seen import Seen, seen_by
from custom_gaze.weights.base import BaseNetwork, BinHeads

STATISTICS_FRAMES = 32
# Share of the features' mean energy added to the fit's diagonal: with fewer frames than features
# the fit is exact but for rounding, and this keeps rounding from being amplified.
RIDGE = 1e-6
AS_IT_IS = Polynomial("none", (0.0, 0.0), (1.0, 1.0), (0.0, 0.0))


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
    seen = seen_by(network, base.heads, train, paths)
    network.set_head(*starting_head(seen, base.heads, params))
    return network


def starting_head(seen: Seen, heads: BinHeads | None, params: TrainParams) -> tuple[Tensor, Tensor]:
    """The linear head before the first epoch: weight (2, features) and bias (2,), float32.

    With `params.start` "probe" it answers the training frames as the probe does that is fitted on
    them, with "base" as the base network itself. A trunk alone, which has no angles, gets a head
    that answers the mean of the labels.

    Raises:
        InputError: there are too few targets for a probe.
    """
    if heads is None:
        weight = 1e-3 * torch.randn(2, seen.features.shape[1])
        return weight, torch.from_numpy(seen.true_deg.mean(axis=0)).float()
    features = torch.from_numpy(seen.features)
    if params.start == "base":
        return head_from_bins(features, heads)
    form = probed(seen, corrected_base(seen, params.seed), params.seed)
    return head_from_closed(features, heads, form)


def head_from_bins(features: Tensor, heads: BinHeads) -> tuple[Tensor, Tensor]:
    """`head_from_closed` for the base's expected angles as they are."""
    nothing = np.zeros((2, features.shape[1]))
    return head_from_closed(features, heads, ClosedForm(AS_IT_IS, nothing, np.zeros(2)))


def head_from_closed(features: Tensor, heads: BinHeads, form: ClosedForm) -> tuple[Tensor, Tensor]:
    """A linear head that answers as a closed form does, on these features as closely as it can.

    Args:
        features: (N, features) float.
        heads: the base network's; its expected angle is Σ softmax(W f + b) · bin angle.
        form: answers a polynomial of the expected angles plus a linear map of the features.

    Returns:
        weight (2, features) and bias (2,), float32, rows yaw and pitch.

    The tangent of the answer at the mean features is a linear head already and holds for any face;
    the expected angle's is Σ p_i (c_i − angle) W_i, the rest follows by the chain rule. What the
    tangent misses on the given features is added by the smallest change of weights that does so
    (kernel ridge regression on the residual, with a ridge so small that it only tames rounding).
    """
    f = features.double()
    mean = f.mean(dim=0)
    centered = f - mean
    kernel = centered @ centered.T
    kernel += RIDGE * kernel.diagonal().mean().clamp_min(1e-12) * torch.eye(len(f)).double()
    rows, biases = [], []
    for axis, (head_weight, head_bias) in enumerate(
        ((heads.yaw_weight, heads.yaw_bias), (heads.pitch_weight, heads.pitch_bias))
    ):
        angles = heads.first_bin_deg + heads.bin_width_deg * torch.arange(heads.bins).double()
        w, b = head_weight.double(), head_bias.double()
        share = torch.softmax(mean @ w.T + b, dim=0)
        expected_at_mean = share @ angles
        expected = torch.softmax(f @ w.T + b, dim=1) @ angles  # (N,)

        curve, gain = form.correction.curve[axis], form.correction.gain[axis]
        offset_deg = form.correction.offset_deg[axis] + float(form.bias_deg[axis])
        linear = torch.from_numpy(form.weight[axis])
        answers = (curve * expected + gain) * expected + offset_deg + f @ linear  # (N,)
        at_mean = (curve * expected_at_mean + gain) * expected_at_mean + offset_deg + mean @ linear
        slope = 2 * curve * expected_at_mean + gain
        tangent = slope * ((share * (angles - expected_at_mean)) @ w) + linear

        residual = answers - at_mean - centered @ tangent
        offset = residual.mean()
        change = centered.T @ torch.linalg.solve(kernel, residual - offset)
        weight = tangent + change
        rows.append(weight)
        biases.append(at_mean + offset - mean @ weight)
    return torch.stack(rows).float(), torch.stack(biases).float()
