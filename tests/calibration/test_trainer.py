"""The steps of the fine-tune: bounded, on unbounded answers, in float32 where it matters."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import synthetic_crop
from custom_gaze.calibration.base_features import BaseFeatures, angles_of
from custom_gaze.calibration.calibrate import calibrate
from custom_gaze.calibration.calibration_set import CalibrationSet, Validation
from custom_gaze.calibration.cross_training import cross_train
from custom_gaze.calibration.cross_validation import training_folds
from custom_gaze.calibration.feature_cache import Kept, Record
from custom_gaze.calibration.optimizer import BoundedAdam
from custom_gaze.calibration.policy import MOST_PROMISED, WORSE
from custom_gaze.calibration.recipe import Recipe
from custom_gaze.calibration.starting_head import starting_head
from custom_gaze.calibration.trainer import Trainer, WorseThanStart, predict
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.params import TrainParams
from custom_gaze.faces.crops import normalise
from custom_gaze.models.heads import FURTHEST_DEG, CorrectedHead
from custom_gaze.models.network import GazeNetwork, take_batchnorm_statistics
from custom_gaze.weights.base_heads import BinHeads

BASE, PROBE, _ = Candidate

FRAMES, SAMPLES = 12, 3


class World:
    """A network of random weights with BatchNorm statistics, two heads of 90 bins that know
    nothing, and what it makes of a dozen small crops."""

    def __init__(self, trunk: str) -> None:
        torch.manual_seed(1)
        self.network = GazeNetwork(trunk, "layer3").eval()
        gaze = np.random.default_rng(1).uniform([-25, -15], [25, 15], (FRAMES, 2))
        crops = [
            synthetic_crop(*gaze[frame], 64, 10 * frame + number)
            for frame in range(FRAMES)
            for number in range(SAMPLES)
        ]
        x = torch.from_numpy(normalise(np.stack(crops)))
        # What a base network met in its own training is far more diverse than one person's frames.
        take_batchnorm_statistics(self.network, 2 * torch.randn(16, 3, 8, 8).repeat(1, 1, 8, 8))
        with torch.inference_mode():
            frozen = self.network.frozen(x)
            features = self.network.features(frozen)[::SAMPLES]
        self.store = frozen.numpy().astype(np.float16)
        yaw, pitch = (torch.nn.Linear(features.shape[1], 90) for _ in range(2))
        numbers = [p.detach().clone() for p in (yaw.weight, yaw.bias, pitch.weight, pitch.bias)]
        self.heads = BinHeads(*numbers, 90, 4.0, -180.0)
        base_deg = angles_of(features, self.heads)
        self.seen = BaseFeatures(features.double().numpy(), base_deg, gaze, np.arange(FRAMES))
        self.labels = torch.from_numpy(gaze).float().repeat_interleave(SAMPLES, 0)
        self.trunk = self.network.trunk_state()

    def head(self) -> CorrectedHead:
        """A probe that knows these frames by heart, as one does whose features differ little: its
        weights are large."""
        head = starting_head(self.seen, self.heads, TrainParams())
        assert isinstance(head, CorrectedHead)
        f, true = self.seen.features, self.seen.true_deg
        centered = f - f.mean(axis=0)
        kernel = centered @ centered.T + 1e-6 * np.eye(FRAMES)
        weight = (centered.T @ np.linalg.solve(kernel, true - true.mean(axis=0))).T
        with torch.no_grad():
            head.curve.zero_()
            head.gain.zero_()
            head.offset_deg.copy_(torch.from_numpy(true.mean(axis=0)))
            head.residual.weight.copy_(torch.from_numpy(weight))
            head.residual.bias.copy_(torch.from_numpy(-weight @ f.mean(axis=0)))
        return head

    def error_deg(self) -> float:
        """The mean error on the plain frames."""
        answers = predict(self.network, self.store[::SAMPLES], FRAMES, 8)
        return float((answers - self.labels[::SAMPLES]).norm(dim=1).mean())

    def set(self) -> CalibrationSet:
        """With the plain frames for its validation."""
        plain = Validation(self.store[::SAMPLES], self.labels[::SAMPLES])
        frames = self.seen, self.store, SAMPLES, plain
        return CalibrationSet(self.network, self.trunk, self.heads, *frames)

    def training(self, params: TrainParams) -> Trainer:
        """From the probe that knows the frames by heart."""
        trainer = Trainer(self.set(), Recipe(params, alone=True), Path("no state"))
        self.network.head.load_state_dict(self.head().state_dict())
        return trainer


def test_a_resnet50_whose_features_differ_little_learns_by_the_default_recipe() -> None:
    """Its probe's weights are large, and what a step changes in layer4 is multiplied by them: with
    clamped answers and free steps nothing came back from beyond the clamp."""
    world = World("resnet50")
    params = TrainParams(steps=20)  # else as shipped
    training = world.training(params)
    with torch.no_grad():  # the probe knows its frames; a training begins beside them
        world.network.head.residual.bias += torch.tensor([12.0, -9.0])
    start_deg = world.error_deg()
    losses = [training.epoch(number) for number in range(training.recipe.epochs + 1)]
    assert losses[-1] < 0.6 * losses[0]
    assert world.error_deg() < 0.6 * start_deg


def test_a_step_promises_no_more_than_the_loss_can_give() -> None:
    """Beyond the bound it is Adam's step made shorter, within it Adam's own, to the bit."""
    torch.manual_seed(0)
    x, y = torch.randn(16, 8), torch.randn(16)
    for rate, shortened in ((1e-4, False), (10.0, True)):
        ours, plain = (torch.nn.Parameter(torch.linspace(-1, 1, 8)) for _ in range(2))
        bounded, adam = BoundedAdam([ours]), torch.optim.Adam([plain], lr=rate, fused=True)
        for _ in range(3):
            before = ours.detach().clone()
            with torch.no_grad():
                plain.copy_(before)
            loss = ((x @ ours - y) ** 2).mean()
            adam.zero_grad()
            ((x @ plain - y) ** 2).mean().backward()
            assert plain.grad is not None
            bounded.step(loss, rate)
            adam.step()
            moved = ours.detach() - before
            promised = float((moved * plain.grad).abs().sum())
            if shortened:
                assert promised == pytest.approx(MOST_PROMISED * loss.item(), rel=1e-3)
                share = moved / (plain.detach() - before)
                torch.testing.assert_close(share, share[0].expand(8), rtol=1e-2, atol=0)
                assert 0 < share[0] < 1
            else:
                assert promised < MOST_PROMISED * loss.item()
                assert torch.equal(ours, plain)


def test_it_trains_on_what_lies_beyond_the_limits_and_predicts_within_them() -> None:
    world = World("slim18")
    training = world.training(TrainParams(steps=10))
    head = world.network.head
    assert isinstance(head, CorrectedHead)
    with torch.no_grad():
        head.residual.bias += 500.0
    answers = predict(world.network, world.store[::SAMPLES], FRAMES, 8)
    assert (answers == FURTHEST_DEG).all()
    assert training.epoch(0) > 400.0**2
    training.epoch(1)
    assert training.epoch(0) < 300.0**2


@pytest.mark.parametrize("corrected", [True, False])
def test_the_head_computes_in_float32_whatever_autocast_says(
    corrected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: in bfloat16 the softmax times bins of up to 180 degrees is far off."""
    world = World("slim18")
    network = world.network
    network.head = world.head()
    frozen = torch.from_numpy(world.store).float()
    with torch.inference_mode():
        f = network.features(frozen)
    if not corrected:
        network.head = torch.nn.Linear(f.shape[1], 2)
    monkeypatch.setattr(network, "features", lambda _: f)  # the trunk may round
    with torch.inference_mode():
        expected = network.head(f)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network.head(f)
            for ours in (network.trained(frozen), network.unbounded(frozen)):
                assert ours.dtype == torch.float32
                torch.testing.assert_close(ours, expected, atol=0.05, rtol=0)
    assert (rounded - expected).abs().max() > (0.05 if corrected else 0)


def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every step throw the head's linear map far away."""
    step = BoundedAdam.step

    def thrown(self: BoundedAdam, loss: Tensor, rate: float) -> None:
        step(self, loss, rate)
        with torch.no_grad():
            for parameter in self._parameters[-2:]:
                parameter += 1e3

    monkeypatch.setattr(BoundedAdam, "step", thrown)


def test_a_training_that_is_worse_than_its_start_is_stopped_its_folds_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch_threads: Callable[[int], None]
) -> None:
    torch_threads(1)  # with two the second fold begins beside the first
    world, params = World("slim18"), TrainParams(steps=200)
    assert Recipe(params).in_folds().checked == 1  # of 10 epochs
    spoil(monkeypatch)
    trunk = world.network.trunk_state()
    epochs: list[int] = []
    epoch = Trainer.epoch

    def counted(self: Trainer, number: int) -> float:
        epochs.append(number)
        return epoch(self, number)

    monkeypatch.setattr(Trainer, "epoch", counted)
    made = calibrate(world.set(), params, tmp_path)
    assert epochs == [0, 1]  # of the first fold; the others were not begun
    assert made.fine_tuned is None
    assert made.history == []
    assert set(made.held_out) == set(made.closed) == {BASE, PROBE}
    assert made.choice.method in (BASE, PROBE)
    assert "; the fine-tune was stopped after 1 of 10 epochs, its loss " in made.choice.reason
    assert "\n" not in made.choice.reason
    after = world.network.trunk_state()
    assert all(torch.equal(trunk[name], after[name]) for name in trunk)


def test_asked_for_alone_a_stopped_training_leaves_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, params = World("slim18"), TrainParams(steps=30)
    spoil(monkeypatch)
    training = Trainer(world.set(), Recipe(params, alone=True), tmp_path / "state.pt")
    start = world.network.trained_state()
    said = r"the fine-tune was stopped after 1 of 3 epochs, its loss "
    with pytest.raises(WorseThanStart, match=said):
        training.run(training.recipe.epochs)
    assert [each.epoch for each in training.history] == [0]
    assert start.keys() == training.start.keys()
    assert all(torch.equal(start[name], training.start[name]) for name in start)


def test_what_gives_up_some_of_a_probe_s_knowledge_is_not_stopped() -> None:
    """A probe knows its own frames by heart: a loss above its is no sign of a dead network, one
    far above that of the labels' mean is."""
    world = World("slim18")
    training = world.training(TrainParams(steps=30))
    mean_s = float(world.labels.var(dim=0, correction=0).mean())
    training._start_loss = 0.01
    training._check(0.9 * WORSE * mean_s)
    with pytest.raises(WorseThanStart, match=r"after 1 of 3 epochs, its loss .* at its start"):
        training._check(1.1 * WORSE * mean_s)
    training._start_loss = 2 * mean_s  # not worse than it was
    training._check(1.9 * WORSE * mean_s)


class Counted:
    """A source of features that are there already, which notes who asks for them."""

    def __init__(self, store: np.ndarray) -> None:
        self.store, self.asked = store, list[tuple[str, int]]()

    def each(self, rows: list[int]) -> list[np.ndarray]:
        self.asked += [(threading.current_thread().name, row) for row in rows]
        return [self.store[row] for row in rows]


def test_folds_find_what_an_epoch_draws_computed(
    tmp_path: Path, torch_threads: Callable[[int], None]
) -> None:
    """By the main thread, before they begin it: none of two waits for the other's samples."""
    torch_threads(2)
    world, recipe = World("slim18"), Recipe(TrainParams(steps=40)).in_folds()
    source = Counted(world.store)
    place = np.empty_like(world.store)
    kept = Kept(source, place, Record(len(world.store)))  # type: ignore[arg-type]
    folds = training_folds(world.seen.targets, 1)
    crossed = cross_train(replace(world.set(), store=kept), folds, recipe, tmp_path / "kept")
    assert len(source.asked) == len({row for _, row in source.asked}) > 0
    assert {name for name, _ in source.asked} == {threading.main_thread().name}
    plain = cross_train(world.set(), folds, recipe, tmp_path / "plain")
    assert crossed.history == plain.history
