"""What a base network makes of a person's frames, for bench/accuracy.py."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from accuracy_person import PARAMS, SEED, Person, Settings
from custom_gaze.calibration import policy
from custom_gaze.calibration.base_features import BaseFeatures, angles_of
from custom_gaze.calibration.feature_cache import (
    AugmentedSamples,
    Store,
    frozen_features,
)
from custom_gaze.calibration.frozen_blocks import features_of
from custom_gaze.calibration.inner_share import asked_for, clearly_better
from custom_gaze.data.index import load_crop
from custom_gaze.models.network import GazeNetwork
from custom_gaze.weights.base import BaseNetwork


@dataclass
class Views:
    """What a base network makes of a person's frames, computed once for every k.

    Attributes:
        frozen: (N, channels, h, w) float16, the frozen blocks' outputs of the plain crops.
        features: (N, F) float64, what the heads see.
        base_deg: (N, 2) float64, the base's expected angles.
        store: frozen outputs of the samples of the frames in `rows`, frame by frame.
        samples: augmented ones of each frame in `store`, beside the plain one.
        inner_share: of the crop's side, the part that all of these are of.
        whole_deg: (N, 2) float64, the base's expected angles for whole crops; None where these are
            `base_deg`.
    """

    frozen: NDArray[np.float16]
    features: NDArray[np.float64]
    base_deg: NDArray[np.float64]
    store: Store
    rows: NDArray[np.int64]
    samples: int
    inner_share: float = 1.0
    whole_deg: NDArray[np.float64] | None = None

    @property
    def app_deg(self) -> NDArray[np.float64]:
        """The base's expected angles as the app gets them: (N, 2)."""
        return self.base_deg if self.whole_deg is None else self.whole_deg

    def known(self, person: Person, rows: NDArray[np.int64]) -> BaseFeatures:
        """Some of the frames as the product has them."""
        whole = None if self.whole_deg is None else self.whole_deg[rows]
        true_deg, targets = person.labels_deg[rows], person.targets[rows]
        return BaseFeatures(
            self.features[rows], self.base_deg[rows], true_deg, targets, whole_deg=whole
        )


def views_of(
    person: Person,
    base: BaseNetwork,
    settings: Settings,
    targets: tuple[int, ...],
    device: torch.device,
    scratch: Path,
    inner_share: float | None = None,
    augmented: bool = True,
) -> Views:
    """Pass the person's frames, and the samples that calibrating on `targets` needs, through the
    base's trunk.

    Args:
        person, base, settings, targets, device: the case's.
        scratch: a folder for features that do not fit into memory.
        inner_share: None: the product's choice for the frames calibrated on.
        augmented: whether the store is needed.
    """
    network = base.network(base.spec.frozen_through).placed(device)
    rows = np.unique(np.concatenate([person.calibration(k) for k in targets]))
    asked = asked_for(PARAMS.train, base) if inner_share is None else inner_share
    views = _seen(network, base, person, device, asked or 1.0)
    many = len(set(person.targets[rows].tolist())) >= policy.INNER_SHARE_TARGETS
    if asked is None and many:
        inner = _seen(network, base, person, device, policy.INNER_SHARE)
        if clearly_better(inner.known(person, rows), views.known(person, rows), SEED):
            views = replace(inner, whole_deg=views.base_deg)
    elif views.inner_share < 1:
        views = replace(views, whole_deg=_seen(network, base, person, device, 1.0).base_deg)
    if not augmented:
        return views
    samples = max(settings.samples_at(len(person.split(k)[0])) for k in targets)
    network.inner_share = views.inner_share
    store = _store(network, person, rows, samples, device, scratch)
    return replace(views, store=store, rows=rows, samples=samples)


def _seen(
    network: GazeNetwork, base: BaseNetwork, person: Person, device: torch.device, share: float
) -> Views:
    """The plain crops' views through one part of them, without a store."""
    assert base.heads is not None  # base_network refuses a base without
    network.inner_share = share
    frozen = features_of(
        network, (load_crop(each, person.paths) for each in person.samples), device
    )
    with torch.inference_mode():
        batches = torch.split(torch.from_numpy(frozen), PARAMS.train.batch_size)
        features = torch.cat([network.features(x.to(device).float()).cpu() for x in batches])
        base_deg = angles_of(features, base.heads)
    empty = np.empty((0, 1), np.float16), np.empty(0, np.int64), 0
    return Views(frozen, features.numpy().astype(np.float64), base_deg, *empty, share)


def _store(
    network: GazeNetwork,
    person: Person,
    rows: NDArray[np.int64],
    samples: int,
    device: torch.device,
    scratch: Path,
) -> Store:
    frames = [person.samples[row] for row in rows]
    augmented = AugmentedSamples(
        frames, person.paths, replace(PARAMS.augment, samples=samples), SEED
    )
    shutil.rmtree(scratch, ignore_errors=True)  # another person's
    return frozen_features(
        network, augmented, device, scratch, int(psutil.virtual_memory().available // 2)
    )


def sample_rows(views: Views, rows: NDArray[np.int64], samples: int) -> NDArray[np.int64]:
    """Where the plain frame and the first `samples` augmented ones of each row lie in the store."""
    frames = np.searchsorted(views.rows, rows)
    first = frames[:, None] * (views.samples + 1)
    return np.asarray((first + np.arange(samples + 1)).ravel(), np.int64)
