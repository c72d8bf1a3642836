"""What a training is made from, together: frames, their features, a network to start from."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from custom_gaze.calibration import policy
from custom_gaze.calibration.base_features import BaseFeatures
from custom_gaze.calibration.cross_validation import Angles
from custom_gaze.calibration.feature_cache import Part, Store, make_ahead
from custom_gaze.models.network import GazeNetwork
from custom_gaze.weights.base_heads import Heads


@dataclass(frozen=True)
class Validation:
    """Frames that a training is measured on and not made from.

    Attributes:
        store: frozen features of their M plain crops.
        true_deg: (M, 2) float32, the targets' angles.
    """

    store: Store
    true_deg: Tensor


@dataclass(frozen=True)
class CalibrationSet:
    """Frames to calibrate on, and what calibrating needs of them.

    Attributes:
        network: on its device; every training uses it, and changes its trunk and its head.
        trunk_state: the base's trunk, which every training starts from.
        heads: the base network's; None for a trunk alone.
        frames: the N frames' base features, labels and targets.
        store: frozen features of N × samples_per_frame samples, frame by frame, the plain one
            first.
        samples_per_frame: the plain one included.
        validation: none where a training is not measured.

    Raises:
        ValueError: it does not fit together.
    """

    network: GazeNetwork
    trunk_state: dict[str, Tensor]
    heads: Heads | None
    frames: BaseFeatures
    store: Store
    samples_per_frame: int
    validation: Validation | None = None

    def __post_init__(self) -> None:
        samples = len(self.frames.targets) * self.samples_per_frame
        held = len(self.store) if isinstance(self.store, np.ndarray) else samples
        if self.samples_per_frame < 1 or held != samples:
            raise ValueError(f"{held} samples in the store, where {samples} are needed")
        if not np.isfinite(self.frames.true_deg).all():
            raise ValueError("a target's angle is no number")
        if self.heads and self.heads.features != self.frames.features.shape[1]:
            raise ValueError("the features are not those of the heads")

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.network.parameters()).device

    def labels(self) -> Tensor:
        """The targets' angles for every sample in the store: (N × samples_per_frame, 2) float32."""
        labels = torch.from_numpy(self.frames.true_deg).float()
        return labels.repeat_interleave(self.samples_per_frame, 0)

    def with_augmented(self) -> "CalibrationSet":
        """The same, its frames with the features of the samples that the probe is fitted to.

        The network gets its trunk back. No sample passes through the frozen blocks for it.
        """
        frames, per_frame = self.frames, self.samples_per_frame
        count = probe_samples(len(frames.targets), per_frame - 1)
        if count == 0:
            return self
        self.network.load_trunk(self.trunk_state)
        starts = np.arange(len(frames.targets)) * per_frame
        wanted = [start + 1 + np.arange(count) for start in starts]
        make_ahead([(self.store, np.concatenate(wanted))])
        with torch.inference_mode():
            features = [
                self.network.features(torch.from_numpy(self.store[rows]).to(self.device).float())
                for rows in wanted
            ]
        true: Angles = self.labels()[np.concatenate(wanted)].double().numpy()
        said = torch.cat(features).float().cpu()
        return replace(self, frames=frames.with_augmented(said, self.heads, true))

    def apart(self) -> "CalibrationSet":
        """The same with a network of its own, to be trained beside others."""
        return replace(self, network=copy.deepcopy(self.network))

    def fold(self, out: NDArray[np.bool_]) -> "CalibrationSet":
        """The frames that a fold trains on, with those that it holds out (N,) to validate on."""
        kept, per_frame = np.flatnonzero(~out), self.samples_per_frame
        rows = np.asarray((kept[:, None] * per_frame + np.arange(per_frame)).ravel(), np.int64)
        plain = Part(self.store, np.flatnonzero(out) * per_frame)
        true: Angles = self.frames.true_deg[out]
        return replace(
            self,
            frames=self.frames.rows(~out),
            store=Part(self.store, rows),
            validation=Validation(plain, torch.from_numpy(true).float()),
        )


def probe_samples(frames: int, samples: int) -> int:
    """How many augmented samples of each frame the probe is fitted to, of `samples` there are."""
    return min(samples, policy.PROBE_SAMPLES, max(0, policy.PROBE_ROWS // frames - 1))
