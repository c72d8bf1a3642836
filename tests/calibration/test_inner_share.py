"""Which part of the crop the base network gets is the calibration frames' matter."""

import dataclasses

import numpy as np
import pytest

from custom_gaze.calibration import inner_share
from custom_gaze.calibration.base_features import BaseFeatures
from custom_gaze.calibration.inner_share import asked_for, base_features_and_share, clearly_better
from custom_gaze.config.params import TrainParams
from custom_gaze.config.paths import Paths
from custom_gaze.models.network import GazeNetwork
from custom_gaze.weights.base import BaseNetwork
from headed_base import headed_base

WHOLE, INNER = 1.0, 2 / 3


def seen(noise_deg: float, frames: int = 25) -> BaseFeatures:
    """Frames whose base angles are the truth and noise; their features are noise alone."""
    generator = np.random.default_rng(5)
    true = generator.uniform([-25, -16], [25, 16], (frames, 2))
    noise = noise_deg * generator.normal(size=true.shape)
    return BaseFeatures(generator.normal(size=(frames, 8)), true + noise, true, np.arange(frames))


def test_the_inner_part_has_to_be_clearly_better() -> None:
    assert clearly_better(seen(2), seen(8), 1)
    assert not clearly_better(seen(8), seen(2), 1)
    assert not clearly_better(seen(4.95), seen(5), 1)


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Through which parts the frames were seen; the inner one is the better one."""
    looked = []

    def look(
        network: object, heads: object, samples: object, paths: object, share: float
    ) -> object:
        looked.append(share)
        return seen(2 if share < 1 else 8, len(samples))  # type: ignore[arg-type]

    monkeypatch.setattr(inner_share, "seen_through", look)
    return looked


def choose(frames: int, choosing: slice = slice(None)) -> tuple[GazeNetwork, BaseFeatures]:
    network = GazeNetwork("slim18", "layer3")
    samples = [None] * frames
    given = base_features_and_share(network, None, samples, Paths(), None, choosing, 1)  # type: ignore[arg-type]
    return network, given


def test_what_is_chosen_is_the_networks_and_the_whole_crops_angles_stay(
    shares: list[float],
) -> None:
    network, given = choose(25)
    assert (network.inner_share, shares) == (INNER, [WHOLE, INNER])
    np.testing.assert_array_equal(given.base_deg, seen(2).base_deg)
    np.testing.assert_array_equal(given.app_deg, seen(8).base_deg)


def test_few_targets_choose_nothing_and_cost_no_second_look(shares: list[float]) -> None:
    for network, given in (choose(8), choose(25, slice(0, 8))):
        assert network.inner_share == WHOLE
        np.testing.assert_array_equal(given.app_deg, given.base_deg)
    assert shares == [WHOLE, WHOLE]


def foreign(**changes: object) -> BaseNetwork:
    return dataclasses.replace(headed_base(), kind="onnx", **changes)  # type: ignore[arg-type]


def test_only_a_foreign_base_with_angles_is_tried() -> None:
    params = TrainParams()
    assert asked_for(params, foreign()) is None
    assert asked_for(params, headed_base()) == WHOLE  # of crops like the app's
    assert asked_for(params, foreign(heads=None)) == WHOLE
    half = TrainParams(inner_share=0.5)
    assert [asked_for(half, base) for base in (foreign(), headed_base())] == [0.5, 0.5]
