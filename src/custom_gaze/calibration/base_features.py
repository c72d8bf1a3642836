"""What the base network's trunk makes of some frames' plain crops: all that a closed form needs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from custom_gaze.calibration.corrections import Angles, Targets
from custom_gaze.common.console import bar
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample, labels_deg, load_crop, targets_of
from custom_gaze.faces.crops import normalise
from custom_gaze.models.network import GazeNetwork
from custom_gaze.weights.base import BinHeads, expected_angles


@dataclass(frozen=True)
class Seen:
    """Some frames as the base network sees them.

    Attributes:
        features: (N, F) float64, what its heads see.
        base_deg: (N, 2) float64 [yaw, pitch], its own angles in degrees; zeros for a trunk alone.
        true_deg: (N, 2) float64, the targets' angles.
        targets: (N,) int64; frames with the same number share a target.
    """

    features: NDArray[np.float64]
    base_deg: Angles
    true_deg: Angles
    targets: Targets

    def rows(self, wanted: NDArray[np.bool_] | NDArray[np.int64] | slice) -> "Seen":
        """Some of the frames."""
        return Seen(
            self.features[wanted],
            self.base_deg[wanted],
            self.true_deg[wanted],
            self.targets[wanted],
        )


def seen_by(
    network: GazeNetwork, heads: BinHeads | None, samples: Sequence[Sample], paths: Paths
) -> Seen:
    """Pass the samples' plain crops through a trunk, on the CPU.

    Args:
        network: its trunk is used and its head is not; float32 on the CPU, in eval mode.
        heads: the base network's; None for a trunk alone.
        samples: N frames.
        paths: where their crops lie.

    Raises:
        InputError: a crop cannot be read.
    """
    features = plain_features(network, samples, paths)
    return Seen(
        features.numpy().astype(np.float64),
        angles_of(features, heads),
        labels_deg(samples).astype(np.float64),
        targets_of(samples),
    )


def angles_of(features: Tensor, heads: BinHeads | None) -> Angles:
    """The base's expected angles (N, 2) in degrees, float64, for features (N, F) float32."""
    if heads is None:
        return np.zeros((len(features), 2))
    yaw = features @ heads.yaw_weight.T + heads.yaw_bias
    pitch = features @ heads.pitch_weight.T + heads.pitch_bias
    angles: Angles = expected_angles(yaw, pitch, heads).numpy().astype(np.float64)
    return angles


def plain_features(network: GazeNetwork, samples: Sequence[Sample], paths: Paths) -> Tensor:
    """What the head sees of the plain crops: (N, features) float32, one crop at a time."""
    with torch.inference_mode():
        rows = [
            network.features(
                network.frozen(torch.from_numpy(normalise(load_crop(sample, paths)[None])))
            )
            for sample in bar(samples, "base network", unit="crops")
        ]
    return torch.cat(rows)
