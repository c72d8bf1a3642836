"""What the base network's trunk makes of some frames' plain crops: all that a closed form needs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from custom_gaze.calibration.cross_validation import Angles, Targets
from custom_gaze.common.console import bar
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample, labels_deg, load_crop, targets_of
from custom_gaze.faces.crops import normalise
from custom_gaze.models.network import GazeNetwork
from custom_gaze.weights.base_heads import Heads


@dataclass(frozen=True)
class BaseFeatures:
    """What the base network makes of some frames.

    Attributes:
        features: (N, F) float64, what its heads get.
        base_deg: (N, 2) float64 [yaw, pitch], its own angles in degrees; zeros for a trunk alone.
        true_deg: (N, 2) float64, the targets' angles.
        targets: (N,) int64; frames with the same number share a target.

    Raises:
        ValueError: they are not of the same frames.
    """

    features: NDArray[np.float64]
    base_deg: Angles
    true_deg: Angles
    targets: Targets

    def __post_init__(self) -> None:
        count = len(self.targets)
        shapes = self.features.shape[:1], self.base_deg.shape, self.true_deg.shape
        if self.features.ndim != 2 or shapes != ((count,), (count, 2), (count, 2)):
            raise ValueError(f"{count} targets and arrays of {shapes} are not of the same frames")

    def rows(self, wanted: NDArray[np.bool_] | NDArray[np.int64] | slice) -> "BaseFeatures":
        """Some of the frames."""
        return BaseFeatures(
            self.features[wanted],
            self.base_deg[wanted],
            self.true_deg[wanted],
            self.targets[wanted],
        )


def base_features_of(
    network: GazeNetwork, heads: Heads | None, samples: Sequence[Sample], paths: Paths
) -> BaseFeatures:
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
    return BaseFeatures(
        features.numpy().astype(np.float64),
        angles_of(features, heads),
        labels_deg(samples).astype(np.float64),
        targets_of(samples),
    )


def angles_of(features: Tensor, heads: Heads | None) -> Angles:
    """The base's own angles (N, 2) in degrees, float64, for features (N, F) float32."""
    if heads is None:
        return np.zeros((len(features), 2))
    angles: Angles = heads.angles_deg(features).numpy().astype(np.float64)
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
