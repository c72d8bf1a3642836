import numpy as np
import pytest
import torch

from custom_gaze.calibration.base_features import BaseFeatures
from custom_gaze.calibration.calibration_set import CalibrationSet
from custom_gaze.calibration.plan import Plan, plan_of
from custom_gaze.calibration.recipe import Recipe
from custom_gaze.config.params import TrainParams
from custom_gaze.models.network import GazeNetwork


def test_a_plan_counts_what_will_be_drawn_and_changes_nothing() -> None:
    network = GazeNetwork("slim18", "layer3").eval()
    frames, per_frame = 10, 4
    known = np.zeros((frames, 256)), np.zeros((frames, 2)), np.zeros((frames, 2)), np.arange(frames)
    store = np.ones((frames * per_frame, 96, 2, 2), np.float16)
    trunk = network.trunk_state()
    one = CalibrationSet(network, trunk, None, BaseFeatures(*known), store, per_frame)
    plan = plan_of(one, Recipe(TrainParams(steps=3)), 5)
    assert plan is not None
    assert plan.samples == 24  # 3 batches of 8: two rounds of 10 frames and 4 of the third
    assert (plan.folds, plan.fold_steps, plan.steps) == (5, 2, 3)
    assert plan.step_s > 0
    assert plan.sample_s > 0
    after = network.trunk_state()
    assert all(torch.equal(trunk[name], after[name]) for name in trunk)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert plan_of(one, Recipe(TrainParams(schedule="constant")), 5) is None


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (
            Plan(320, 5, 60, 120, 0.1, 1.0, 0.2),
            "plan: 320 augmented samples, up to 5 folds of 60 steps, then 120 steps; about 4 min, "
            "about 3 min if two folds decide",
        ),
        (
            Plan(320, 5, 60, 120, 0.1, 1.0, 1.0),
            "plan: 320 augmented samples, up to 5 folds of 60 steps, then 120 steps; about 8 min, "
            "about 5 min if two folds decide",
        ),
        (Plan(40, 0, 60, 120, 0.1, 0.1, 0.1), "plan: 40 augmented samples, 120 steps; about 16 s"),
    ],
)
def test_what_a_plan_says(plan: Plan, said: str) -> None:
    assert str(plan) == said
