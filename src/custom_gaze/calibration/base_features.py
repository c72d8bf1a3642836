"""What the base network's trunk makes of some frames: all that a closed form needs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from custom_gaze.calibration.cross_validation import Angles, Targets
from custom_gaze.common.console import bar
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample, labels_deg, load_crop, targets_of
from custom_gaze.faces.crops import normalise
from custom_gaze.models.devices import SideBySide
from custom_gaze.models.network import GazeNetwork
from custom_gaze.weights.base_heads import Heads

Rows = NDArray[np.bool_] | NDArray[np.int64] | slice


@dataclass(frozen=True)
class AugmentedFeatures:
    """What the base network makes of augmented samples, S of each of N frames.

    They say which directions of the features light, noise and the face's place in the crop move;
    plain crops of one session do not.

    Attributes:
        features: (N, S, F) float32.
        base_deg: (N, S, 2) float64, the base's own angles of these samples.
        true_deg: (N, S, 2) float64, their targets' angles.
    """

    features: NDArray[np.float32]
    base_deg: Angles
    true_deg: Angles

    def rows(self, wanted: Rows) -> "AugmentedFeatures":
        """Those of some of the frames."""
        return AugmentedFeatures(
            self.features[wanted], self.base_deg[wanted], self.true_deg[wanted]
        )


@dataclass(frozen=True)
class BaseFeatures:
    """What the base network makes of some frames' plain crops.

    Attributes:
        features: (N, F) float64, what its heads get.
        base_deg: (N, 2) float64 [yaw, pitch], its own angles in degrees; zeros for a trunk alone.
        true_deg: (N, 2) float64, the targets' angles.
        targets: (N,) int64; frames with the same number share a target.
        augmented: the same of augmented samples of the frames, which a probe is fitted to besides;
            None where there are none.
        whole_deg: (N, 2) float64, its own angles for the whole crop, where features and `base_deg`
            are of the crop's inner part; None where they are of the whole crop themselves.

    Raises:
        ValueError: they are not of the same frames.
    """

    features: NDArray[np.float64]
    base_deg: Angles
    true_deg: Angles
    targets: Targets
    augmented: AugmentedFeatures | None = None
    whole_deg: Angles | None = None

    def __post_init__(self) -> None:
        count = len(self.targets)
        angles = self.base_deg, self.true_deg, self.app_deg
        shapes = self.features.shape[:1], *(some.shape for some in angles)
        if self.features.ndim != 2 or shapes != ((count,), *3 * [(count, 2)]):
            raise ValueError(f"{count} targets and arrays of {shapes} are not of the same frames")
        if self.augmented is not None and len(self.augmented.features) != count:
            raise ValueError("the augmented samples are not of the same frames")

    @property
    def app_deg(self) -> Angles:
        """The base's own angles as the app gets them, for whole crops: (N, 2) degrees."""
        return self.base_deg if self.whole_deg is None else self.whole_deg

    def beside(self, whole: "BaseFeatures") -> "BaseFeatures":
        """These of the crops' inner part, with the angles of the same frames' whole crops."""
        return replace(self, whole_deg=whole.base_deg)

    def rows(self, wanted: Rows) -> "BaseFeatures":
        """Some of the frames."""
        return BaseFeatures(
            self.features[wanted],
            self.base_deg[wanted],
            self.true_deg[wanted],
            self.targets[wanted],
            None if self.augmented is None else self.augmented.rows(wanted),
            None if self.whole_deg is None else self.whole_deg[wanted],
        )

    def with_augmented(
        self, features: Tensor, heads: Heads | None, true_deg: Angles
    ) -> "BaseFeatures":
        """These frames with S augmented samples of each, one frame's after another's.

        Args:
            features: (N · S, F) float32.
            heads: the base network's; None for a trunk alone.
            true_deg: (N · S, 2), the targets' angles.
        """
        count = len(self.targets)
        augmented = AugmentedFeatures(
            features.numpy().reshape(count, -1, features.shape[1]),
            angles_of(features, heads).reshape(count, -1, 2),
            true_deg.reshape(count, -1, 2),
        )
        return replace(self, augmented=augmented)


def base_features_of(
    network: GazeNetwork, heads: Heads | None, samples: Sequence[Sample], paths: Paths
) -> BaseFeatures:
    """Pass the samples' plain crops through a trunk, on the CPU.

    Args:
        network: its trunk and inner share are used and its head is not; float32 on the CPU, in eval
            mode.
        heads: the base network's; None for a trunk alone.
        samples: N frames.
        paths: where their crops lie.

    Raises:
        InputError: a crop cannot be read.
    """
    seen = seen_through(network, heads, samples, paths, network.inner_share)
    if network.inner_share == 1 or heads is None:
        return seen
    return seen.beside(seen_through(network, heads, samples, paths, 1.0))


def seen_through(
    network: GazeNetwork,
    heads: Heads | None,
    samples: Sequence[Sample],
    paths: Paths,
    inner_share: float,
) -> BaseFeatures:
    """The same for one part of the crops alone, whatever the network's own."""
    features = plain_features(network, samples, paths, inner_share)
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


def plain_features(
    network: GazeNetwork,
    samples: Sequence[Sample],
    paths: Paths,
    inner_share: float | None = None,
) -> Tensor:
    """What the head sees of the plain crops: (N, features) float32, each crop alone; None: of the
    network's own inner share.

    The weights' layout in memory becomes channels last, which their numbers do not show: a small
    trunk then takes two thirds of the time.
    """
    network.to(memory_format=torch.channels_last)

    def one(sample: Sample) -> Tensor:
        with torch.inference_mode():
            x = torch.from_numpy(normalise(load_crop(sample, paths)[None]))
            return network.features(network.frozen(x, inner_share))

    seen = SideBySide().map(one, samples)
    return torch.cat(list(bar(seen, "base network", len(samples), "crops")))
