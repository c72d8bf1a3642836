"""bench/train_speed.py: the reference computes what it says, and the figures are what was timed."""

import dataclasses
import sys
import threading
import time
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import REPOSITORY, Project
from custom_gaze.calibration.base_features import base_features_of
from custom_gaze.calibration.calibration_set import CalibrationSet
from custom_gaze.calibration.feature_cache import AugmentedSamples, frozen_features
from custom_gaze.calibration.recipe import Recipe
from custom_gaze.calibration.starting_head import starting_network, trunk_network
from custom_gaze.calibration.trainer import Trainer
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.config.params import TrainParams
from custom_gaze.data.index import Sample, labels_deg, load_crop, of_split, read_index
from custom_gaze.evaluation.results import read_training_log
from custom_gaze.faces.crops import normalise
from custom_gaze.models.network import GazeNetwork
from custom_gaze.stages import index
from custom_gaze.weights.base import read_base
from custom_gaze.weights.base_heads import expected_angles

sys.path.append(str(REPOSITORY / "bench"))  # the bench is a program, no package

import train_speed
from speed_world import even, grid_of, peak_mib, watched
from train_reference import OnTheFly, Reference
from train_speed import REFERENCE, SAME, SHIPPED
from train_speed_sides import LOADING, OUTSIDE, Job, Outcome, Turns, ours, reference, taking_turns
from train_speed_world import RIDGE, SESSION, fitted_heads, multiply

pytestmark = pytest.mark.long
CPU = torch.device("cpu")


@pytest.fixture
def tuned(headed: Project) -> Project:
    """Crops of 64 pixels, nine targets, a base with heads, `train.method: finetune`."""
    headed.change(train={"method": "finetune", **train_speed.RECIPE, "learning_rate": 1e-3})
    headed.change(train={"patience": 3, "epochs": 3, "batch_size": 8})
    return headed


def train_samples(project: Project) -> tuple[Sample, ...]:
    return of_split(read_index(project.paths.index), "train")


def samples_of(project: Project) -> OnTheFly:
    params = project.params
    return OnTheFly(train_samples(project), project.paths, params.augment, params.train.seed)


def started(project: Project, params: TrainParams) -> GazeNetwork:
    torch.manual_seed(params.seed)
    base = read_base(project.paths.base)
    return starting_network(base, params, train_samples(project), project.paths)


def side(project: Project, **changes: Any) -> Reference:
    params = dataclasses.replace(project.params.train, **changes)
    augment = dataclasses.replace(project.params.augment, samples=0)
    held_out = of_split(read_index(project.paths.index), "validation")
    plain = OnTheFly(held_out, project.paths, augment, 1)
    return Reference(started(project, params), samples_of(project), plain, params, 0)


def product(project: Project) -> Trainer:
    """The project's training from the same head on its own samples."""
    params, samples = project.params.train, train_samples(project)
    augmented = AugmentedSamples(samples, project.paths, project.params.augment, params.seed)
    base = read_base(project.paths.base)
    network = trunk_network(base, params, samples, project.paths)
    frames = base_features_of(network, base.heads, samples, project.paths)
    store = frozen_features(network, augmented, CPU, project.paths.root / "scratch", 10**9)
    known = network.trunk_state(), base.heads, frames, store, augmented.per_frame
    recipe = Recipe(params, alone=True)
    return Trainer(CalibrationSet(network, *known), recipe, project.paths.root / "state.pt")


def test_the_reference_sees_the_project_s_samples(tuned: Project) -> None:
    params, samples = tuned.params, train_samples(tuned)
    augmented = AugmentedSamples(samples, tuned.paths, params.augment, params.train.seed)
    mine = samples_of(tuned)
    assert len(mine) == len(augmented) == 2 * len(samples)
    for number, image in enumerate(map(augmented.image, range(len(augmented)))):
        x, y = mine[number]
        assert x.dtype == torch.float32
        assert x.is_contiguous()
        np.testing.assert_array_equal(x.numpy(), normalise(image[None])[0])
        np.testing.assert_array_equal(y.numpy(), labels_deg(samples)[number // 2])
    assert not torch.equal(mine[0][0], mine[1][0])


def test_both_sides_begin_with_the_same_losses(tuned: Project) -> None:
    plain, own = side(tuned, learning_rate=1e-8), product(tuned)
    loss = own.epoch(0)
    assert loss > 10  # degrees²: there is something to agree on
    assert plain.epoch() == pytest.approx(loss, rel=2e-3)
    held_out = of_split(read_index(tuned.paths.index), "validation")
    crops = np.stack([load_crop(sample, tuned.paths) for sample in held_out])
    with torch.no_grad():
        answers = own.network(torch.from_numpy(normalise(crops)))
    true = torch.from_numpy(labels_deg(held_out))
    assert plain.validate() == pytest.approx(((answers - true) ** 2).mean().item(), rel=1e-4)


def test_both_sides_learn(tuned: Project) -> None:
    plain, own = side(tuned), product(tuned)
    start = own.epoch(0)
    epochs = [(plain.epoch(), own.epoch(number)) for number in range(1, 9)]
    assert max(epochs[-1]) < 0.5 * start


def test_the_reference_trains_the_last_block_and_the_head_alone(tuned: Project) -> None:
    plain = side(tuned)
    before = {name: value.clone() for name, value in plain.network.state_dict().items()}
    plain.epoch()
    after = plain.network.state_dict()
    trained = {name for name in before if not torch.equal(before[name], after[name])}
    own = {name for name, each in plain.network.named_parameters() if each.requires_grad}
    assert trained == own
    assert {name.split(".")[1] for name in own if name.startswith("trunk")} == {"layer4"}


class NoTurns(Turns):
    """Turns of a side that is alone: a clock."""

    passed = 0

    def __init__(self) -> None:
        self._worked_s, self._since = 0.0, time.perf_counter()

    def pass_on(self) -> None:
        self.passed += 1


def job_of(project: Project, **changes: Any) -> Job:
    return Job(project.params, project.paths, threads=0, workers=0, **changes)


def test_what_the_sides_report(tuned: Project) -> None:
    turns = NoTurns()
    own = ours(job_of(tuned), turns)
    assert own.losses == read_training_log(tuned.paths.training_log).validation_loss.tolist()
    assert own.method == "finetune"
    assert turns.passed == len(own.losses) == 4
    plain = reference(job_of(tuned), turns)
    assert len(plain.losses) == 4
    for outcome in (own, plain):
        assert len(outcome.epochs_s) == len(outcome.known_s) - 1 == 3
        assert outcome.known_s == sorted(outcome.known_s)
        assert outcome.known_s[0] + sum(outcome.epochs_s) < outcome.known_s[-1]
        assert outcome.known_s[-1] == pytest.approx(outcome.total_s, abs=0.5)
    assert plain.losses[0] == pytest.approx(own.losses[0], rel=1e-3)


def test_the_reference_stops_early(tuned: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([9.0, 4.0, 5.0, 4.0, 8.0, 1.0])
    monkeypatch.setattr(Reference, "validate", lambda _: next(losses))
    monkeypatch.setattr(Reference, "epoch", lambda _: 0.0)
    tuned.change(train={"epochs": 50, "patience": 3})
    assert reference(job_of(tuned), NoTurns()).losses == [9.0, 4.0, 5.0, 4.0, 8.0]


def test_costs_are_named(tuned: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train_speed_sides.COSTS_SHOWN", 10_000)
    for some in (ours, reference):
        costs = some(job_of(tuned, profile=True), NoTurns()).costs
        shares = [share for _, share in costs]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1)
        assert {OUTSIDE, "aten::mkldnn_convolution"} <= dict(costs).keys()
        assert (LOADING in dict(costs)) == (some is reference)
    table = train_speed.costs_table({"reference": Outcome(costs=[("aten::mm", 0.614)])})
    assert "| reference | `aten::mm` | 61 % |" in table


def test_a_side_s_clock_stands_still_during_the_other_s_turn() -> None:
    end, other_end = Pipe()

    def other_side() -> None:
        for seconds in (0.3, 0.4):
            end.recv()
            time.sleep(seconds)
            end.send(None)

    thread = threading.Thread(target=other_side)
    thread.start()
    turns = Turns(other_end)
    time.sleep(0.1)
    turns.pass_on()
    assert 0.1 <= turns.now_s() < 0.3
    thread.join()


def outcome(known_s: list[float], losses: list[float], **more: Any) -> Outcome:
    epochs_s = np.diff(known_s).tolist()
    return Outcome(known_s[-1], epochs_s, known_s, losses, **more)


def cells(table: str) -> dict[str, list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]
    return {first: rest for first, *rest in rows}


def test_ratios_follow_from_the_figures_beside_them() -> None:
    sides = {
        REFERENCE: outcome([10, 40, 80, 110], [9.0, 8.0, 5.5, 6.0], peak_mib=900, workers_mib=50),
        SAME: outcome([20, 24, 28], [7.0, 5.6, 6.0], peak_mib=600),
        SHIPPED: outcome([20, 21, 32], [7.0, 5.5, 4.0], peak_mib=500),
        "auto": Outcome(total_s=99.0, method="probe", peak_mib=640),
    }
    table = cells(train_speed.speed_table(sides, 120))
    assert table["seconds an epoch (120 samples; median)"][:3] == ["30.00", "4.00", "7.50"]
    assert table["samples a second"][:3] == ["4.00", "30.00", "7.50"]
    label = "seconds to the reference's best validation loss, 5.500 deg² in epoch 2"
    assert table[label] == ["80.00", "never", "", "21.00", "3.81"]
    assert table["seconds in all"] == ["110.00", "28.00", "3.93", "32.00", "3.44"]
    assert table["peak memory, MiB"] == ["900.00", "600.00", "1.50", "500.00", "1.80"]
    assert table["seconds in all, `train.method: auto` (exported: probe)"][3] == "99.00"
    del sides[SHIPPED], sides["auto"]
    assert "best validation" not in train_speed.speed_table(sides, 120)


def test_memory_is_what_the_frames_add() -> None:
    few, many = Outcome(peak_mib=700, imported_mib=400), Outcome(peak_mib=1000)
    few.watched.own_mib, few.watched.mapped_mib = 500, 200
    many.watched.own_mib, many.watched.mapped_mib = 550, 450
    table = cells(train_speed.memory_table([few, many], 2500, 0.25))
    assert table["what the frames add"] == ["300", "1.17"]
    assert table["of that the process's own"] == ["50", "0.20"]
    assert table["budget, `train.feature_memory_gb`"] == ["256", "1.00"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
def test_memory_is_watched() -> None:
    with watched() as peak:
        before = peak.own_mib
        block = np.ones(100 * 2**17)  # 100 MiB
        time.sleep(0.2)
        del block
    assert 90 < peak.own_mib - before < 200
    assert peak.all_mib <= peak_mib() + 1
    assert peak.own_mib + 1 < peak.all_mib


def test_the_quick_form_prints_every_figure(capfd: pytest.CaptureFixture[str]) -> None:
    assert train_speed.main(["--quick", "--threads", "1", "--workers", "1"]) == 0
    said = capfd.readouterr().out
    assert "3 training and 1 validation frames, 2 augmented samples" in said
    rows = cells(said)
    plain, own, ratio = map(float, rows["seconds an epoch (9 samples; median)"][:3])
    assert ratio == pytest.approx(plain / own, rel=0.1)
    assert float(rows["samples a second"][0]) == pytest.approx(9 / plain, rel=0.05)
    plain, own, _, shipped, ratio = map(float, rows["peak memory, MiB"])
    assert ratio == pytest.approx(plain / shipped, abs=0.01)
    assert 200 < min(plain, own, shipped) < max(plain, own, shipped) < 5000
    assert float(rows["largest peak of a DataLoader worker, MiB"][0]) > 100
    assert said.count("validation loss ") == 3


def fails(job: Job, turns: Turns) -> Outcome:
    raise InputError("no such thing")


def test_a_side_s_error_is_the_bench_s(tuned: Project) -> None:
    with pytest.raises(CustomGazeError, match="no such thing"):
        taking_turns({"one": (fails, job_of(tuned))})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--targets", "4"], "--targets is 4; choose from 5 to 400"),
        (["--samples", "-1"], "--samples is -1; choose from 0 to 1000"),
        (["--epochs-only", "0"], "--epochs-only is 0; choose from 1 to 10000"),
        (["--memory", "24"], "--memory is 24; choose from 25 to 100000"),
        (["--budget-gb", "0"], "--budget-gb is 0.0; choose from 0.001 to 4096"),
        (["--profile", "--memory"], "exclude each other"),
        (["--quick", "--trunk", "nowhere.pkl"], "nowhere.pkl"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_speed.main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("train_speed: ")
    assert said.count("\n") == 1


def test_a_session_is_multiplied(project: Project, prepare_synthetic: Any) -> None:
    prepare_synthetic(SESSION, 3, 3, 1)
    params = dataclasses.replace(project.params, sessions=(SESSION,))
    index.run(params, project.paths)
    few = read_index(project.paths.index)
    multiply(project.paths, 40, params)
    many = read_index(project.paths.index)
    assert len(many) == 40
    assert len({sample.crop_sha256 for sample in many}) == 40
    assert {sample.target for sample in many} == {sample.target for sample in few}
    for sample in many[::7]:
        same = next(each for each in few if each.target == sample.target)
        assert (sample.yaw_deg, sample.split) == (same.yaw_deg, same.split)
        shown = load_crop(sample, project.paths)
        np.testing.assert_array_equal(shown, load_crop(same, project.paths))


def test_fitted_heads_answer_as_a_ridge_regression_does() -> None:
    generator = np.random.default_rng(1)
    features = generator.normal(size=(60, 8)) + 2
    true = features @ generator.normal(size=(8, 2)) * 4 + [3.0, -2.0]
    heads = fitted_heads(features, true)
    f = torch.from_numpy(features).float()
    yaw = f @ heads.yaw_weight.T + heads.yaw_bias
    pitch = f @ heads.pitch_weight.T + heads.pitch_bias
    answers = expected_angles(yaw, pitch, heads).numpy()
    # The same in its primal form, features × features.
    centered, mean_deg = features - features.mean(axis=0), true.mean(axis=0)
    penalty = RIDGE * (centered**2).sum() / 60 * np.eye(8)
    weight = np.linalg.solve(centered.T @ centered + penalty, centered.T @ (true - mean_deg))
    assert np.abs(centered @ weight).max() > 10  # degrees
    np.testing.assert_allclose(answers, centered @ weight + mean_deg, atol=0.01)


def test_even_and_grids() -> None:
    assert even(5, 10) == [0, 2, 4, 6, 8]
    assert even(3, 3) == [0, 1, 2]
    assert [grid_of(n) for n in (5, 9, 12, 100)] == [(5, 1), (3, 3), (4, 3), (10, 10)]
