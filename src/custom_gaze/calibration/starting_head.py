"""Where training starts: the base network's trunk, and the head that it gets."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from custom_gaze.calibration import policy
from custom_gaze.calibration.base_features import BaseFeatures, base_features_of
from custom_gaze.calibration.candidates import closed_forms, closed_head
from custom_gaze.calibration.linear_probe import ridge_path
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.params import TrainParams
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample, load_crop
from custom_gaze.faces.crops import normalise
from custom_gaze.models.network import GazeNetwork, linear_head, take_batchnorm_statistics
from custom_gaze.weights.base import BaseNetwork
from custom_gaze.weights.base_heads import AngleHead, Heads


def trunk_network(
    base: BaseNetwork, params: TrainParams, train: Sequence[Sample], paths: Paths
) -> GazeNetwork:
    """The base's trunk under a head of random weights, float32 on the CPU, in eval mode.

    A trunk of random weights takes its BatchNorm's statistics from the training crops.

    Raises:
        InputError: `params.frozen_through` does not fit the trunk, or a crop cannot be read.
    """
    network = base.network(params.frozen_through)
    if base.kind == "random":
        crops = np.stack([load_crop(sample, paths) for sample in train[: policy.STATISTICS_FRAMES]])
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
    network.head = starting_head(
        base_features_of(network, base.heads, train, paths), base.heads, params
    )
    return network


def starting_head(frames: BaseFeatures, heads: Heads | None, params: TrainParams) -> nn.Module:
    """The head before the first epoch, float32 on the CPU: features (N, F) → (N, 2) degrees.

    With `params.start` "probe" it is the probe that is fitted on the frames given, with "base" a
    linear one that predicts as the base network itself, as closely as a linear one can. A trunk
    alone, which has no angles, gets one that predicts the mean of the labels.

    Raises:
        InputError: there are too few targets for a probe.
    """
    if heads is None:
        random = 1e-3 * torch.randn(2, frames.features.shape[1])
        return linear_head(random, torch.from_numpy(frames.true_deg.mean(axis=0)))
    if params.start == "base":
        weight, bias = linear_start(frames.features, heads)
        return linear_head(torch.from_numpy(weight), torch.from_numpy(bias))
    return closed_head(heads, closed_forms(frames, params.seed)[Candidate.PROBE])


def linear_start(
    features: NDArray[np.float64], heads: Heads
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A linear head that predicts the base's own angles, on these features as closely as it can:
    weight (2, F) and bias (2,), rows yaw and pitch.

    Args:
        features: (N, F).
        heads: the base network's.

    The tangent of the angles at the mean features is a linear head already and holds for any face.
    What it misses on the given features is added by the smallest change of weights that does so:
    ridge regression on the residual, with a ridge so small that it only tames rounding.
    """
    mean = features.mean(axis=0)
    rows, biases = [], []
    for at_mean, predicted, tangent in _axes(features, heads):
        residual = predicted - at_mean - (features - mean) @ tangent
        offset = residual.mean()
        alpha = policy.START_RIDGE / len(features)
        weight = tangent + ridge_path(features, (residual - offset)[:, None], (alpha,))[0, 0]
        rows.append(weight)
        biases.append(at_mean + offset - mean @ weight)
    return np.stack(rows), np.stack(biases)


Axis = tuple[float, NDArray[np.float64], NDArray[np.float64]]


def _axes(features: NDArray[np.float64], heads: Heads) -> list[Axis]:
    """For yaw and pitch: the angle at the mean features, the angles (N,), and the tangent (F,).

    An expected angle is Σ p_i c_i with p = softmax(W f + b); its tangent Σ p_i (c_i − angle) W_i.
    """
    mean, axes = features.mean(axis=0), []
    if isinstance(heads, AngleHead):
        module = heads.module().double()
        at_mean = torch.from_numpy(mean)[None]
        tangents = torch.func.jacrev(module)(at_mean)[0, :, 0]
        with torch.no_grad():
            angles, predicted = module(at_mean)[0], module(torch.from_numpy(features))
        return [
            (float(angles[axis]), predicted[:, axis].numpy(), tangents[axis].numpy())
            for axis in range(2)
        ]
    bins_deg = heads.bins_deg.numpy()
    for head_weight, head_bias in (
        (heads.yaw_weight, heads.yaw_bias),
        (heads.pitch_weight, heads.pitch_bias),
    ):
        w, b = head_weight.double().numpy(), head_bias.double().numpy()
        share = softmax(mean @ w.T + b)
        angle = share @ bins_deg
        expected = softmax(features @ w.T + b, axis=1) @ bins_deg  # (N,)
        axes.append((angle, expected, (share * (bins_deg - angle)) @ w))
    return axes
