"""A calibration set checks itself when it is built, and a fold's is a part of it."""

import dataclasses

import numpy as np
import pytest
import torch

from custom_gaze.calibration import policy
from custom_gaze.calibration.base_features import BaseFeatures
from custom_gaze.calibration.calibration_set import CalibrationSet, probe_samples
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


def test_the_probe_gets_the_features_of_each_frame_s_own_augmented_samples() -> None:
    network = GazeNetwork("slim18", "layer3").eval()
    maps = np.random.default_rng(1).random((FRAMES * PER_FRAME, 96, 3, 3)).astype(np.float16)
    known = BaseFeatures(np.zeros((FRAMES, 256)), *[np.ones((FRAMES, 2))] * 2, np.arange(FRAMES))
    trunk = network.trunk_state()
    one = CalibrationSet(network, trunk, None, known, maps, PER_FRAME)
    with torch.no_grad():
        expected = network.features(torch.from_numpy(maps).float()).numpy()
        for parameter in network.trained_parameters():
            parameter.zero_()  # as an earlier training would leave another trunk
    augmented = one.with_augmented().frames.augmented
    assert augmented is not None
    expected = expected.reshape(FRAMES, PER_FRAME, 256)[:, 1:]
    np.testing.assert_allclose(augmented.features, expected, rtol=1e-4, atol=1e-5)
    assert augmented.true_deg.shape == (FRAMES, PER_FRAME - 1, 2)
    fold = one.with_augmented().fold(np.arange(FRAMES) == 1)
    assert fold.frames.augmented is not None
    np.testing.assert_array_equal(fold.frames.augmented.features[1], augmented.features[2])


def test_the_probe_has_no_more_rows_than_it_can_afford() -> None:
    assert probe_samples(25, 50) == policy.PROBE_SAMPLES
    assert probe_samples(25, 2) == 2
    for frames in (100, 150, policy.PROBE_ROWS + 1):
        assert frames * (1 + probe_samples(frames, 50)) <= max(frames, policy.PROBE_ROWS)


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
