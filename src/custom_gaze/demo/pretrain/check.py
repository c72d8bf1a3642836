"""How a base network does: on its own domain, and on what the demo's sessions show."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from custom_gaze.demo.pretrain.crops import crops_of, plain_batch
from custom_gaze.demo.pretrain.learning import BINS_DEG, BinNetwork
from custom_gaze.demo.pretrain.params import SCREEN, DomainParams
from custom_gaze.demo.seeds import check_person_seed
from custom_gaze.geometry import angular_error_deg

# Persons for choosing settings: neither pretrained on nor measured by the accuracy bench.
OWN_PERSONS, OWN_CROPS = range(2001, 2021), 8
SCREEN_PERSONS, SCREEN_CROPS = range(2101, 2113), 40
BATCH = 16


@dataclass(frozen=True)
class Figures:
    """All in degrees but the slopes, which are those of the prediction against the truth.

    Attributes:
        own_error_deg: mean error on unseen persons of the domain it was trained on.
        own_constant_deg: that of always predicting straight ahead.
        screen_error_deg: mean error on crops of demo sessions, as the network predicts.
        screen_corrected_deg: what gain and offset, fitted per person on all of them, leave.
        screen_constant_deg: that of always predicting the screen's centre.
        yaw_slope: mean over persons on demo sessions.
        pitch_slope: likewise.
    """

    own_error_deg: float
    own_constant_deg: float
    screen_error_deg: float
    screen_corrected_deg: float
    screen_constant_deg: float
    yaw_slope: float
    pitch_slope: float


def figures(network: BinNetwork, domain: DomainParams) -> Figures:
    """Measure `network` (eval mode, CPU) on persons it was not trained on."""
    own = [
        _predicted(network, seed, replace(domain, crops_per_person=OWN_CROPS))
        for seed in OWN_PERSONS
    ]
    screen = replace(domain, kind=SCREEN, crops_per_person=SCREEN_CROPS)
    on_screen = [_predicted(network, seed, screen) for seed in SCREEN_PERSONS]
    slopes = np.mean([_slopes(predicted, truth) for predicted, truth in on_screen], axis=0)
    return Figures(
        own_error_deg=_mean_error(own),
        own_constant_deg=_mean_error([(0 * truth, truth) for _, truth in own]),
        screen_error_deg=_mean_error(on_screen),
        screen_corrected_deg=_mean_error([(_fitted(p, truth), truth) for p, truth in on_screen]),
        screen_constant_deg=_mean_error([(0 * truth, truth) for _, truth in on_screen]),
        yaw_slope=float(slopes[0]),
        pitch_slope=float(slopes[1]),
    )


Pair = tuple[NDArray[np.float64], NDArray[np.float64]]  # predictions and truth, each (N, 2) degrees


def _predicted(network: BinNetwork, seed: int, domain: DomainParams) -> Pair:
    check_person_seed(seed, "tuning")
    crops = crops_of([seed], domain)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(crops), BATCH):
            x = plain_batch(crops, range(start, min(start + BATCH, len(crops))))
            logits = network(torch.from_numpy(x))
            angles = [torch.softmax(one.double(), 1) @ BINS_DEG for one in logits]
            rows.append(torch.stack(angles, 1))
    return torch.cat(rows).numpy(), crops.gaze_deg.astype(np.float64)


def _mean_error(pairs: list[Pair]) -> float:
    return float(
        np.mean([angular_error_deg(predicted, truth).mean() for predicted, truth in pairs])
    )


def _slopes(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> list[float]:
    return [float(np.polyfit(truth[:, axis], predicted[:, axis], 1)[0]) for axis in (0, 1)]


def _fitted(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gain and offset per axis, least squares."""
    columns = [
        np.polyval(np.polyfit(predicted[:, axis], truth[:, axis], 1), predicted[:, axis])
        for axis in (0, 1)
    ]
    return np.stack(columns, -1)
