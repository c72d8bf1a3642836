"""A calibration set checks itself when it is built, and a fold's is a part of it."""

import dataclasses

import numpy as np
import pytest
import torch

from custom_gaze.calibration.base_features import BaseFeatures
from custom_gaze.calibration.calibration_set import CalibrationSet
from custom_gaze.models.network import GazeNetwork
from custom_gaze.weights.base_heads import BinHeads

FRAMES, PER_FRAME = 5, 3


def frames() -> BaseFeatures:
    angles = np.arange(2.0 * FRAMES).reshape(FRAMES, 2)
    return BaseFeatures(np.zeros((FRAMES, 8)), angles, angles + 100, np.arange(FRAMES))


def calibration_set() -> CalibrationSet:
    """Each sample's features are its number."""
    network = GazeNetwork("slim18", "layer3")
    store = np.arange(FRAMES * PER_FRAME, dtype=np.float16)[:, None]
    return CalibrationSet(network, network.trunk_state(), None, frames(), store, PER_FRAME)


def test_a_fold_trains_on_its_samples_and_validates_on_the_plain_ones_held_out() -> None:
    out = np.array([False, True, False, False, True])
    fold = calibration_set().fold(out)
    assert fold.store[np.arange(9)].ravel().tolist() == [0, 1, 2, 6, 7, 8, 9, 10, 11]
    assert fold.labels()[:, 0].tolist() == [100.0] * 3 + [104.0] * 3 + [106.0] * 3
    assert fold.labels().dtype == torch.float32
    assert fold.validation is not None
    assert fold.validation.store[np.arange(2)].ravel().tolist() == [3, 12]
    assert fold.validation.true_deg.tolist() == [[102.0, 103.0], [108.0, 109.0]]


def test_what_does_not_fit_together_is_refused() -> None:
    known = calibration_set()
    with pytest.raises(ValueError, match="15 samples in the store, where 20 are needed"):
        dataclasses.replace(known, samples_per_frame=4)
    nowhere = dataclasses.replace(known.frames, true_deg=np.full((FRAMES, 2), np.nan))
    with pytest.raises(ValueError, match="a target's angle is no number"):
        dataclasses.replace(known, frames=nowhere)
    weight = torch.zeros(90, 7)
    heads = BinHeads(weight, torch.zeros(90), weight, torch.zeros(90), 90, 4.0, -180.0)
    with pytest.raises(ValueError, match="the features are not those of the heads"):
        dataclasses.replace(known, heads=heads)
    with pytest.raises(ValueError, match="are not of the same frames"):
        dataclasses.replace(known.frames, base_deg=np.zeros((FRAMES - 1, 2)))
