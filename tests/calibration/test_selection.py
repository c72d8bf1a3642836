import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import SEED
from custom_gaze.calibration import policy, trainer
from custom_gaze.calibration.base_features import BaseFeatures, angles_of
from custom_gaze.calibration.calibrate import Calibrated, as_epoch, calibrate, without_training
from custom_gaze.calibration.calibration_set import CalibrationSet
from custom_gaze.calibration.candidates import closed_forms, closed_held_out, corrected_base
from custom_gaze.calibration.cross_training import cross_train
from custom_gaze.calibration.cross_validation import training_folds
from custom_gaze.calibration.linear_probe import LinearProbe
from custom_gaze.calibration.recipe import Recipe, cosine, fitted
from custom_gaze.calibration.selection import (
    CARRYING_OVER,
    WITHOUT_BASE,
    carrying_over,
    choice_of,
    settled,
)
from custom_gaze.calibration.starting_head import starting_head
from custom_gaze.calibration.trainer import Trainer, predict
from custom_gaze.common.errors import InputError
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.params import Params, TrainParams
from custom_gaze.geometry import angular_error_deg
from custom_gaze.models import devices
from custom_gaze.models.checkpoint import load_tensors
from custom_gaze.models.network import GazeNetwork
from custom_gaze.weights.base_heads import BinHeads
from headed_base import fitted_heads

BASE, PROBE, FINETUNE = Candidate

RECIPE = TrainParams(
    schedule="constant", batch_size=16, epochs=4, patience=2, learning_rate=3e-4, seed=SEED
)
SHORT = TrainParams(steps=30, peak_learning_rate=1e-3, seed=SEED)  # cosine: three epochs
RECIPES = {"constant": RECIPE, "cosine": SHORT}
SAMPLES = 2


@dataclasses.dataclass
class World:
    """Frames as a network sees them, and as its frozen blocks gave them."""

    network: GazeNetwork
    heads: BinHeads
    seen: BaseFeatures
    store: np.ndarray  # (frames × SAMPLES, 96, 2, 2)

    def set(self, seen: BaseFeatures | None = None) -> CalibrationSet:
        trunk = world(True, 4, 0).network.trunk_state()
        return CalibrationSet(
            self.network, trunk, self.heads, seen or self.seen, self.store, SAMPLES
        )

    def trainer(self, recipe: TrainParams, alone: bool = True) -> Trainer:
        return Trainer(self.set().with_augmented(), Recipe(recipe, alone), Path("no state"))

    def calibrated(self, scratch: Path, params: TrainParams = RECIPE) -> Calibrated:
        scratch.mkdir(exist_ok=True)
        return calibrate(self.set(), params, scratch)


def world(
    base_knows: bool, frames: int, seed: int, gain: tuple[float, float] = (-1.5, 1.2)
) -> World:
    """A base whose angles tell the gaze up to gain and offset, or nothing; features that tell
    nothing beyond the base, or everything."""
    torch.manual_seed(0)
    network = GazeNetwork("slim18", "layer3").eval()
    generator = np.random.default_rng([7, seed + 100 * (SEED - 1)])
    patterns = np.random.default_rng(5).normal(0, 1, (4, 96, 2, 2))

    def maps(hidden: np.ndarray) -> np.ndarray:
        noise = generator.normal(0, 0.3, (len(hidden), 96, 2, 2))
        return np.maximum(1 + np.tensordot(hidden, patterns, 1) + noise, 0).astype(np.float16)

    def features(some: np.ndarray) -> torch.Tensor:
        with torch.inference_mode():
            return network.features(torch.from_numpy(some).float())

    general = generator.normal(size=(400, 4))  # what the base network was made on
    heads = fitted_heads(features(maps(general)).double().numpy(), 6 * general[:, :2])
    hidden = generator.normal(size=(frames, 4))
    store = maps(np.repeat(hidden, SAMPLES, axis=0))
    seen = features(store[::SAMPLES])
    base_deg = angles_of(seen, heads)
    true = base_deg * gain + [10, -5] + generator.normal(0, 0.5, (frames, 2))
    if not base_knows:
        true = hidden[:, 2:] * [14, 9]  # which the base's angles do not tell
    known = BaseFeatures(seen.double().numpy(), base_deg, true, np.arange(frames))
    return World(network, heads, known, store)


def predictions(form: LinearProbe, frames: BaseFeatures) -> np.ndarray:
    return form.predict(frames.features, frames.base_deg)


def read_state(path: Path) -> dict:
    return load_tensors(path, "state", "")


@pytest.mark.parametrize(
    ("frames", "recipe"),
    [(7, "cosine"), pytest.param(20, "cosine", marks=pytest.mark.long), (20, "constant")],
)
def test_a_base_that_only_needs_a_correction_gets_no_more(
    frames: int, recipe: str, tmp_path: Path
) -> None:
    made = world(True, frames, 0).calibrated(tmp_path / "state", RECIPES[recipe])
    assert made.choice.method == BASE, made.choice
    assert made.closed[BASE].correction.name == "gain_offset"
    assert np.abs(np.array(made.closed[BASE].correction.gain) - [-1.5, 1.2]).max() < 0.2


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_what_only_the_features_tell_is_learned(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "SETTLED_SURELY", 1 - 1e-12)  # all candidates, on all frames
    known = world(False, 60, 0)
    made = known.calibrated(tmp_path, RECIPES[recipe])
    assert made.choice.method in (PROBE, FINETUNE)
    errors = {name: made.held_out[name].errors_deg().mean() for name in Candidate}
    assert errors[made.choice.method] < 0.6 * errors[BASE]
    unseen = world(False, 100, 1)
    assert predictions(made.closed[PROBE], unseen.seen).std(axis=0).min() > 3
    known.network.load_trained_state(made.fine_tuned)
    tuned = predict(known.network, unseen.store[::SAMPLES], 100, 16).numpy()
    probe, base = (predictions(made.closed[name], unseen.seen) for name in (PROBE, BASE))
    measured = {
        name: angular_error_deg(some, unseen.seen.true_deg).mean()
        for name, some in ((BASE, base), (PROBE, probe), (FINETUNE, tuned))
    }
    for name in (PROBE, FINETUNE):  # what was said beforehand comes true
        assert measured[name] < 0.6 * measured[BASE]
        assert measured[name] / 1.35 < errors[name] < 1.6 * measured[name]


def test_the_held_out_answers_know_nothing_of_their_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "CHECKED_SHARE", 2.0)  # poison is allowed to spoil a training
    honest = world(False, 20, 0)
    parts = training_folds(honest.seen.targets, 1)
    assert len(parts) == 5
    true = honest.seen.true_deg.copy()
    true[parts[0]] += [500, -300]
    poisoned = dataclasses.replace(honest.seen, true_deg=true)
    first = int(parts[0].sum())

    def predicted(seen: BaseFeatures, scratch: Path) -> dict[str, np.ndarray]:
        scratch.mkdir()
        crossed = cross_train(honest.set(seen), parts, Recipe(RECIPE), scratch)
        state = read_state(scratch / "fold-0.pt")
        found = {name: h.predictions_deg for name, h in closed_held_out(seen, parts, 1).items()}
        assert crossed.held_out.rows[:first].tolist() == np.flatnonzero(parts[0]).tolist()
        epochs = torch.stack(state["predictions"]).numpy()[:3]
        return {**found, FINETUNE: epochs.reshape(3, -1, 2)}

    one, other = predicted(honest.seen, tmp_path / "1"), predicted(poisoned, tmp_path / "2")
    for name in (BASE, PROBE):
        np.testing.assert_array_equal(one[name][:first], other[name][:first])
        assert np.abs(one[name][first:] - other[name][first:]).max() > 10
    np.testing.assert_array_equal(one[FINETUNE], other[FINETUNE])


def test_the_epochs_are_those_of_the_answers(tmp_path: Path) -> None:
    made = world(False, 9, 0)
    parts = training_folds(made.seen.targets, 1)
    assert len(parts) == 10  # few targets: drawn twice
    before = made.network.trained_state()
    crossed = cross_train(made.set(), parts, Recipe(RECIPE), tmp_path)
    after = made.network.trained_state()
    body = [name for name in before if not name.startswith("head")]
    assert all(torch.equal(before[name], after[name]) for name in body)
    states = [read_state(tmp_path / f"fold-{n}.pt") for n in range(10)]
    for epoch in crossed.history:
        predicted = [state["predictions"][epoch.epoch].numpy() for state in states]
        answers = np.concatenate(predicted)
        true = np.concatenate([made.seen.true_deg[out] for out in parts])
        assert epoch.validation_loss == pytest.approx(((answers - true) ** 2).mean(), rel=1e-5)
        error = angular_error_deg(answers, true).mean()
        assert epoch.validation_error_deg == pytest.approx(error, rel=1e-5)
    best = Recipe(RECIPE).exported(crossed.history)
    assert crossed.held_out.loss() == pytest.approx(best.validation_loss, rel=1e-5)
    # Epoch 0 is the fold's own start.
    out = parts[3]
    probe = closed_forms(made.seen.rows(~out), RECIPE.seed)[PROBE]
    start = predictions(probe, made.seen.rows(out))
    np.testing.assert_allclose(states[3]["predictions"][0].numpy(), start, atol=1e-3)
    errors = crossed.held_out.errors_deg()
    where = crossed.held_out.rows == 4
    mine = angular_error_deg(crossed.held_out.predictions_deg[where], made.seen.true_deg[[4, 4]])
    assert errors[4] == pytest.approx(mine.mean())


@pytest.mark.parametrize("settled_by", [2, 3, 99])
def test_two_folds_at_once_are_those_that_one_after_another_are(
    tmp_path: Path, torch_threads: Callable[[int], None], settled_by: int
) -> None:
    """The same folds are used, with the same numbers: of two, one may be one too many."""
    made, both = world(False, 20, 0), []
    parts = training_folds(made.seen.targets, 1)
    for threads in (1, 2):
        torch_threads(threads)
        scratch = tmp_path / str(threads)
        scratch.mkdir()
        both.append(
            cross_train(
                *(made.set(), parts, Recipe(SHORT), scratch),
                settled=lambda so_far: len(np.unique(so_far.rows)) >= settled_by * 4,
            )
        )
    one, two = both
    assert one.folds == two.folds == min(settled_by, 5)
    assert one.held_out.rows.tolist() == two.held_out.rows.tolist()
    np.testing.assert_allclose(one.held_out.predictions_deg, two.held_out.predictions_deg, atol=0.1)
    assert not (tmp_path / "1" / f"fold-{settled_by}.pt").exists()
    assert (tmp_path / "2" / "fold-3.pt").exists() == (settled_by > 2)


def test_two_folds_at_once_go_on_where_they_stopped(
    tmp_path: Path, torch_threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one of them was left further behind than the other."""
    torch_threads(2)
    made = world(False, 20, 0)
    parts = training_folds(made.seen.targets, 1)[:3]
    whole = cross_train(made.set(), parts, Recipe(SHORT), tmp_path)
    monkeypatch.setattr(policy, "KEEP_EVERY_S", 0.0)
    told, cut = Trainer.told, tmp_path / "cut"
    cut.mkdir()

    def killed(self: Trainer, *rest: object, **named: bool) -> None:
        told(self, *rest, **named)
        if self.next == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "told", killed)
    with pytest.raises(KeyboardInterrupt):
        cross_train(made.set(), parts, Recipe(SHORT), cut)
    lengths = [len(read_state(cut / f"fold-{number}.pt")["losses"]) for number in (0, 1)]
    assert lengths == [2, 1]
    monkeypatch.setattr(Trainer, "told", told)
    resumed = cross_train(made.set(), parts, Recipe(SHORT), cut)
    np.testing.assert_array_equal(whole.held_out.predictions_deg, resumed.held_out.predictions_deg)


def test_it_stops_when_held_out_answers_get_no_better(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=60, learning_rate=3e-3)
    made = world(True, 20, 0).calibrated(tmp_path, recipe)
    best = Recipe(recipe).exported(made.history).epoch
    assert len(made.history) - 1 < 60
    assert best + 2 <= len(made.history) - 1 <= best + 2 * recipe.patience


def test_the_final_training_is_as_long_as_the_exported_epoch_on_all_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = world(False, 20, 0)
    # Which epoch is the best one is the processor's to say; here it is always the second.
    monkeypatch.setattr(Recipe, "exported", lambda _, history: history[min(2, len(history) - 1)])
    made = one.calibrated(tmp_path / "whole")
    train_by_hand(one, 2, RECIPE)
    by_hand = one.network.trained_state()
    assert all(torch.equal(by_hand[name], made.fine_tuned[name]) for name in by_hand)


def train_by_hand(one: World, epochs: int, recipe: TrainParams) -> None:
    training = one.trainer(recipe, alone=False)
    for number in range(1, epochs + 1):
        training.epoch(number)


def test_a_cosine_schedule_always_goes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half as far in the folds."""
    monkeypatch.setattr(policy, "SETTLED_FOLDS", 5)
    monkeypatch.setattr(policy, "SETTLED_SURELY", 1 - 1e-12)
    one = world(True, 20, 0)  # nothing to gain: epoch 0 is the best
    made = one.calibrated(tmp_path / "whole", SHORT)
    assert [epoch.epoch for epoch in made.history] == [0, 1, 2]
    answers = made.held_out[FINETUNE]
    assert answers.loss() == pytest.approx(made.history[-1].validation_loss, rel=1e-5)
    assert answers.loss() != pytest.approx(made.history[0].validation_loss, rel=1e-5)
    train_by_hand(one, 3, SHORT)
    by_hand = one.network.trained_state()
    assert all(torch.equal(by_hand[name], made.fine_tuned[name]) for name in by_hand)
    fixed = [name for name in by_hand if name.startswith(("head.yaw", "head.pitch", "head.gain"))]
    start = starting_head(one.set().with_augmented().frames, one.heads, SHORT).state_dict()
    assert len(fixed) == 5
    assert all(torch.equal(by_hand[name], start[name.removeprefix("head.")]) for name in fixed)


def test_the_rate_rises_and_sinks_along_a_cosine() -> None:
    rates = [cosine(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.5 - 0.5 * np.cos(np.pi / 90), abs=1e-12)
    assert cosine(0, 1) == 1


def test_the_rate_is_that_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam's first change is as large as the rate, whatever the gradient."""
    monkeypatch.setattr(policy, "MOST_PROMISED", 1e9)
    one = world(False, 20, 0)
    training = one.trainer(dataclasses.replace(SHORT, steps=1, peak_learning_rate=5e-3))
    before = one.network.head.residual.bias.detach().clone()
    training.epoch(1)
    moved = (one.network.head.residual.bias - before).abs()
    torch.testing.assert_close(moved, torch.full((2,), 5e-3), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("frames", "samples", "steps"), [(9, 36, 120), (30, 14, 150), (100, 14, 500), (2500, 3, 2500)]
)
def test_steps_and_samples_fit_the_frames(frames: int, samples: int, steps: int) -> None:
    made = fitted(Params(), frames)
    assert (made.augment.samples, made.train.steps) == (samples, steps)
    assert steps * made.train.batch_size >= 8 * frames
    constant = dataclasses.replace(Params(), train=RECIPE)
    assert fitted(constant, frames) == constant  # the specification's recipe, as it says


def test_in_bfloat16_it_trains_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU computes it; here the CPU does, for which it is only slower."""
    cpu = torch.device("cpu")
    assert not isinstance(devices.lower_precision(cpu), torch.autocast)
    recipe = dataclasses.replace(SHORT, start="base")  # far from the labels
    losses, answers = [], []
    for precision in (devices.lower_precision, lambda _: torch.autocast("cpu", torch.bfloat16)):
        monkeypatch.setattr(trainer, "lower_precision", precision)
        one = world(False, 20, 0)
        training = one.trainer(recipe)
        losses.append([training.epoch(number) for number in range(4)])
        answers.append(predict(one.network, one.store, len(one.store), 16))
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.3)
    assert losses[1][3] < 0.9 * losses[1][0]
    assert answers[1].dtype == torch.float32


@pytest.mark.parametrize("frames", [5, 8, 23])
def test_a_cosine_schedule_draws_every_frame_equally_often(frames: int) -> None:
    recipe = Recipe(TrainParams(steps=46, batch_size=8))

    def drawn_in(number: int) -> list[list[int]]:
        return [batch.tolist() for batch in recipe.batches(number, frames, 7)]

    batches = [batch for number in range(1, 6) for batch in drawn_in(number)]
    size = min(8, frames)
    assert [len(batch) for batch in batches] == [size] * 46
    drawn = np.concatenate(batches)
    counts = np.bincount(drawn // 7, minlength=frames)
    assert counts.max() - counts.min() <= 1
    assert len(set(drawn)) == min(len(drawn), 7 * frames)  # none again before every other one
    # Where a training goes on after an interruption, it draws what it would have drawn.
    assert drawn_in(5) == batches[-6:]
    # The start is measured on what the epoch goes over after which it is compared.
    assert drawn_in(0) == drawn_in(1)


def test_an_epoch_is_bounded_and_goes_through_all_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "EPOCH_SAMPLES", 16)
    recipe = Recipe(RECIPE)
    epochs = [np.sort(np.concatenate(recipe.batches(number, 4, 10))) for number in range(1, 4)]
    for rows in epochs:
        assert len(rows) == 16
        assert [row // 10 for row in rows] == [frame for frame in range(4) for _ in range(4)]
        assert {0, 10, 20, 30} <= set(rows)
    assert set(np.concatenate(epochs)) == set(range(40))
    np.testing.assert_array_equal(np.sort(recipe.batches(0, 4, 10)[0]), epochs[0])
    unbounded = Recipe(RECIPE, alone=True).batches(3, 4, 10)
    assert sorted(np.concatenate(unbounded).tolist()) == list(range(40))


def test_a_training_on_some_frames_draws_what_one_on_all_draws() -> None:
    """A fold's features serve the training on all frames."""
    recipe = Recipe(TrainParams(steps=40))
    epochs = range(1, recipe.epochs + 1)
    whole = np.concatenate([row for n in epochs for row in recipe.batches(n, 20, 9)])
    fold = recipe.in_folds()
    assert fold.params.steps == 20
    epochs = range(1, fold.epochs + 1)
    some = np.concatenate([row for n in epochs for row in fold.batches(n, 16, 9)])
    assert set(some % 9) <= set(whole % 9)
    assert len(set(some % 9)) == 9  # 160 of 16 frames: nine rounds and the tenth


def test_folds_that_are_not_needed_are_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "SETTLED_SURELY", 0.6)  # this little world is soon settled
    one = world(False, 20, 0)
    held_out = closed_held_out(one.seen, training_folds(one.seen.targets, 1), 1)
    nothing = {
        name: dataclasses.replace(h, predictions_deg=h.predictions_deg + 90)
        for name, h in held_out.items()
    }
    closed = closed_forms(one.seen, 1)
    monkeypatch.setattr(
        "custom_gaze.calibration.calibrate.without_training", lambda *_: (closed, dict(nothing))
    )
    made = one.calibrated(tmp_path / "some", SHORT)
    assert made.choice.method == FINETUNE
    assert made.choice.reason.endswith(", which 2 of 5 folds settled")
    assert sorted(path.name for path in (tmp_path / "some").iterdir()) == [
        "final.pt",
        "fold-0.pt",
        "fold-1.pt",
    ]
    errors, out = made.held_out[FINETUNE].errors_deg(), training_folds(one.seen.targets, 1)
    np.testing.assert_array_equal(np.isfinite(errors), out[0] | out[1])
    again = world(False, 20, 0).calibrated(tmp_path / "some", SHORT)  # all is there already
    assert again.history == made.history
    assert again.choice == made.choice

    better = {
        name: dataclasses.replace(h, predictions_deg=h.true_deg) for name, h in held_out.items()
    }
    monkeypatch.setattr(
        "custom_gaze.calibration.calibrate.without_training", lambda *_: (closed, dict(better))
    )
    left = world(False, 20, 0).calibrated(tmp_path / "left", SHORT)
    assert left.fine_tuned is None
    assert "; the fine-tune was left after 2 folds: " in left.choice.reason
    assert "final.pt" not in [path.name for path in (tmp_path / "left").iterdir()]


@pytest.mark.parametrize(
    ("gain", "held", "expected"),
    [(1.0, 8, True), (1.0, 7, None), (-1.0, 8, False), (-0.1, 8, None), (0.4, 8, True)],
)
def test_what_settles_a_choice(gain: float, held: int, expected: bool | None) -> None:
    """Gains over the probe, which may be a little better: by 0.08, which nobody would notice."""
    last = np.full(20, 4.0)
    last[held:] = np.nan
    noise = 0.2 * np.resize([1, -1], 20)
    simpler = {BASE: np.full(20, 9.0), PROBE: 4.0 + gain + noise}
    assert settled(simpler, last, np.arange(20)) is expected
    if expected is not None:  # of few targets all are held out
        assert settled(simpler, last, np.resize(np.arange(13), 20)) is None


@pytest.mark.parametrize(("targets", "folds"), [(4, 16), (7, 10), (20, 5), (80, 3)])
def test_the_number_of_trainings_is_bounded(targets: int, folds: int) -> None:
    parts = training_folds(np.arange(targets), 1)
    assert len(parts) == folds
    assert len(set(np.sum(parts, axis=0))) == 1  # each target as often as every other


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Calibrated, int]]:
    """Calibrations that nothing interrupted, and how often each kept its state."""
    keep, made, saves = trainer.save_tensors, {}, []

    def counted(content: dict, path: Path) -> None:
        keep(content, path)
        saves.append(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "KEEP_EVERY_S", 0.0)
        patch.setattr(trainer, "save_tensors", counted)
        for name, recipe in RECIPES.items():
            saves.clear()
            calibrated = world(False, 20, 0).calibrated(tmp_path_factory.mktemp(name), recipe)
            made[name] = calibrated, len(saves)
    return made


# Within a fold's turn, after some folds' second turn, in the training on all frames.
@pytest.mark.parametrize(
    ("recipe", "share"), [("constant", 0.07), ("constant", 0.6), ("constant", 1), ("cosine", 0.9)]
)
def test_cut_off_anywhere_it_ends_with_the_same_weights(
    recipe: str,
    share: float,
    whole: dict[str, tuple[Calibrated, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(policy, "KEEP_EVERY_S", 0.0)
    uncut, most = whole[recipe]
    saves, after = 0, max(1, round(share * most))

    def dies(keep: object) -> object:
        def save(content: dict, path: Path) -> None:
            nonlocal saves
            keep(content, path)  # type: ignore[operator]
            saves += 1
            if saves == after:
                raise KeyboardInterrupt

        return save

    with monkeypatch.context() as cut:
        cut.setattr(trainer, "save_tensors", dies(trainer.save_tensors))
        with pytest.raises(KeyboardInterrupt):
            world(False, 20, 0).calibrated(tmp_path / "cut", RECIPES[recipe])
    again = world(False, 20, 0).calibrated(tmp_path / "cut", RECIPES[recipe])
    assert again.history == uncut.history
    assert again.choice == uncut.choice
    assert uncut.fine_tuned is not None
    assert again.fine_tuned is not None
    for name, tensor in uncut.fine_tuned.items():
        assert torch.equal(tensor, again.fine_tuned[name]), name


def test_of_those_as_good_the_one_that_carries_over_is_taken_and_the_reason_said() -> None:
    targets = np.arange(10)
    base = np.full(10, 4.0)
    noisy = base + np.tile([-0.6, 0.5], 5)
    choice = choice_of({BASE: base, PROBE: base + 1, FINETUNE: noisy}, targets)
    assert choice.method == BASE
    assert choice.reason == (
        "its cross-validated error, 4.00°, is within the noise (0.18°) of that of the fine-tuned, "
        "3.95°, and it is simpler"
    )
    alike = choice_of({BASE: base, PROBE: base - 0.04, FINETUNE: base + 1}, targets)
    assert alike.method == BASE
    assert alike.reason == (
        "its cross-validated error, 4.00°, is within 0.08°, which nobody would notice, of that of "
        "the probe, 3.96°, and it is simpler"
    )
    clear = choice_of({BASE: base, PROBE: base - 2.0, FINETUNE: base - 1.9}, targets)
    assert clear.method == PROBE
    said = "the least cross-validated error, 2.00° (corrected base 4.00°, fine-tuned 2.10°)"
    assert clear.reason == said
    close = choice_of({BASE: base, PROBE: base - 2.0, FINETUNE: base - 1.96}, targets)
    assert close.method == FINETUNE
    assert close.reason == (
        "its cross-validated error, 2.04°, is within 0.05°, which nobody would notice, of that of "
        "the probe, 2.00°, and it carries over better to another day"
    )


def test_a_calibration_does_not_fall_back_on_a_correction_that_magnifies(tmp_path: Path) -> None:
    made = world(True, 7, 0, gain=(-2.0, 1.9)).calibrated(tmp_path / "state", SHORT)
    errors = {name: made.held_out[name].errors_deg() for name in Candidate}
    assert made.choice == choice_of(errors, np.arange(7), WITHOUT_BASE)
    assert made.choice.method != BASE
    assert choice_of(errors, np.arange(7), CARRYING_OVER).method == BASE


def test_a_gain_that_another_day_may_take_away_is_none() -> None:
    targets, base = np.arange(20), np.full(20, 4.0)
    some = {BASE: base, PROBE: base - 1.5, FINETUNE: base - 1.3}
    kept = choice_of(some, targets)
    assert kept.method == BASE
    assert kept.reason == (
        "its cross-validated error, 4.00°, carries over to another day, which may take away what "
        "the probe gains, 2.50°, and it is simpler"
    )
    assert choice_of(some, targets, WITHOUT_BASE).method == PROBE
    assert settled({BASE: base}, np.full(20, 2.5), targets) is False
    assert settled({BASE: base}, np.full(20, 2.3), targets) is True
    assert settled({BASE: base}, np.full(20, 2.5), targets, WITHOUT_BASE) is True


def test_a_correction_that_magnifies_is_nothing_to_fall_back_on() -> None:
    true = np.stack([np.resize([-15.0, 0, 15], 9), np.repeat([-9.0, 0, 9], 3)], axis=1)
    assert carrying_over(true, 0.7 * true) == CARRYING_OVER
    assert carrying_over(true, [0.7, 0.5] * true) == WITHOUT_BASE  # pitch alone is magnified
    assert carrying_over(0 * true, true) == CARRYING_OVER  # the targets' mean
    noise = np.tile([-3.0, 2.0, 1.6], 3)  # of a difference: 0.74
    errors = {BASE: np.full(9, 10.0), PROBE: 10.4 + noise, FINETUNE: 10.1 + noise}
    assert choice_of(errors, np.arange(9), CARRYING_OVER).method == BASE
    assert choice_of(errors, np.arange(9), WITHOUT_BASE).method == FINETUNE
    # And it is settled by the same order: a small loss to the base alone is no reason to stop.
    closed, tuned = {BASE: np.full(20, 10.0)}, np.full(20, 10.1)
    assert settled(closed, tuned, np.arange(20), CARRYING_OVER) is False
    assert settled(closed, tuned, np.arange(20), WITHOUT_BASE) is True


def test_closed_forms_alone_and_their_figures_as_an_epoch() -> None:
    seen = world(False, 30, 0).seen
    closed, held_out = without_training(seen, 1)
    for name, form in closed_forms(seen, 1).items():
        np.testing.assert_array_equal(closed[name].weight, form.weight)
        epoch = as_epoch(closed, name, seen, held_out[name])
        assert epoch.epoch == 0
        assert epoch.train_loss == pytest.approx(
            ((predictions(form, seen) - seen.true_deg) ** 2).mean()
        )
        assert epoch.train_loss < epoch.validation_loss
        assert epoch.validation_error_deg == held_out[name].errors_deg().mean()
    # The correction alone, by hand, in the fold that it did not see.
    out = training_folds(seen.targets, 1)[0]
    by_hand = predictions(corrected_base(seen.rows(~out), 1), seen.rows(out))
    np.testing.assert_allclose(held_out[BASE].predictions_deg[: out.sum()], by_hand)


def test_too_few_targets_are_refused() -> None:
    with pytest.raises(InputError, match="2 targets are too few to choose by"):
        without_training(world(True, 2, 0).seen, 1)
