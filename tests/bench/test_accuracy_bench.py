"""bench/accuracy.py: its quick form once, and the parts that decide what its figures mean."""

import contextlib
import dataclasses
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import REPOSITORY
from custom_gaze.calibration.feature_cache import AugmentedSamples, Part
from custom_gaze.common.errors import InputError
from custom_gaze.common.provenance import code_of
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import load_crop
from custom_gaze.demo.seeds import PERSON_SEEDS
from custom_gaze.faces.crops import normalise
from custom_gaze.geometry import angular_error_deg
from custom_gaze.models.network import GazeNetwork
from custom_gaze.weights.base import BaseModule, BaseNetwork, save_base
from custom_gaze.weights.base_heads import bin_heads, expected_angles

sys.path.append(str(REPOSITORY / "bench"))  # the bench is a program, no package

import accuracy
import accuracy_bases
import accuracy_jobs
import accuracy_methods
import accuracy_report
import accuracy_results
from accuracy_bases import base_network, fingerprint
from accuracy_methods import METHODS, Case, slope, train_params
from accuracy_people import PEOPLE_CODE
from accuracy_person import Person, Settings, farthest_first, spread_choice
from accuracy_results import (
    METHOD_CODE,
    OTHER,
    SAME,
    Clock,
    Interval,
    Measures,
    Outcome,
    Remark,
    Results,
)
from accuracy_views import Views, sample_rows, views_of
from accuracy_world import QUICK, WORLD_CODE, DemoWorld, person_seeds

CPU = torch.device("cpu")
QUICK_SETTINGS = Settings("bench", **QUICK)
WORLD = DemoWorld((1000, 1001), QUICK_SETTINGS)


def small_base(seed: int = 0) -> BaseNetwork:
    """A trunk with random weights under heads that tell dark images from bright ones (yaw) and
    soft ones from sharp ones (pitch), ten degrees apart."""
    torch.manual_seed(seed)
    network = GazeNetwork("slim18", "layer3").eval()
    bins_deg, spread = torch.arange(90) * 4.0 - 180.0, 20.0**2
    sharp = torch.rand(1, 3, 64, 64) - 0.5
    heads = []
    for one, other in ((sharp - 1, sharp + 1), (sharp, sharp.mean() + 0 * sharp)):
        with torch.inference_mode():
            images = torch.cat([one, other]).repeat_interleave(7, 2).repeat_interleave(7, 3)
            f = network.features(network.frozen(images))  # (2, F)
            direction = 10 * (f[0] - f[1]) / ((f[0] - f[1]) ** 2).sum()
            middle = float(direction @ f.mean(dim=0))
        weight = bins_deg[:, None] * direction / spread
        heads.append((weight, -(bins_deg**2) / (2 * spread) - bins_deg * middle / spread))
    state = {k: v for k, v in network.trunk.state_dict().items() if "num_batches" not in k}
    built = bin_heads(heads[0], heads[1], heads[0][0].shape[1], "test")
    return BaseNetwork("slim18", state, built, "test", "", "onnx")


@dataclasses.dataclass(frozen=True)
class Quick:
    """A finished quick run."""

    work: Path
    base: Path
    printed: str

    def again(self, *more: str) -> int:
        return accuracy.main(["--quick", "--base", str(self.base), "--work", str(self.work), *more])

    def results(self) -> dict[str, Any]:
        return {path.name: json.loads(path.read_text()) for path in self.files()}

    def files(self) -> list[Path]:
        return sorted(self.work.glob("results/*/*.json"))


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Quick:
    folder = tmp_path_factory.mktemp("accuracy")
    save_base(small_base(), folder / "small.pt")
    printed = io.StringIO()
    run = Quick(folder / "work", folder / "small.pt", "")
    with contextlib.redirect_stdout(printed):
        assert run.again() == 0
    return dataclasses.replace(run, printed=printed.getvalue())


@pytest.mark.long
def test_the_quick_form_measures_every_method(quick: Quick) -> None:
    results = list(quick.results().values())
    assert sorted((r["person"], r["k"]) for r in results) == [
        *(("1000", 9), ("1000", 16), ("1001", 9), ("1001", 16))
    ]
    for result in results:
        assert result["targets"] == result["k"]
        assert {s: t["frames"] for s, t in result["tested"].items()} == {SAME: 6, OTHER: 9}
        assert result["crop_from"] == "detector box"
        errors = [tested["error_deg"] for tested in result["tested"].values()]
        for by_method in errors:
            assert list(by_method) == list(METHODS)
            assert all(0 < error["low"] < error["mean"] for error in by_method.values())
            chosen = result["remarks"]["best_correction"]["correction"]
            if chosen != "constant":
                assert by_method["best_correction"] == by_method[chosen]
        trained = result["remarks"]["fine_tuned"]
        assert trained["train"] + trained["validation"] == result["k"]
        assert trained["epochs"] == 4
        exported = result["remarks"]["auto"]
        of = {"base": "corrected_base", "finetune": "fine_tuned_from_probe", "probe": "probe"}
        for by_method in errors:
            assert by_method["auto"] == by_method[of[exported["chosen"]]]
        held_out = exported["held_out_deg"]
        assert held_out[exported["chosen"]] <= 1.2 * min(held_out.values())
    # The centre's error is the targets' mean distance from it: nothing else decides about it.
    one, other = (r["tested"][SAME]["error_deg"]["centre"] for r in results[:2])
    assert one == other


@pytest.mark.long
def test_the_quick_form_writes_table_numbers_and_plot(quick: Quick) -> None:
    page = (quick.work / "accuracy.md").read_text()
    assert quick.printed.endswith(page)
    for name in METHODS:
        assert page.count(f"\n| {accuracy_report.NAMES[name]} | ") == 2  # both days
    assert page.count("**fine-tuned ÷ best correction**") == 2
    assert page.count("**auto ÷ best correction**") == 2
    assert "slope of its angles against the truth, same session: yaw" in page
    assert "2 of 2 persons done" in page
    assert "simulated persons, seeds 1000, 1001; 6×4 targets in the first session" in page
    assert str(quick.base.parent) not in page  # this machine's folders are nobody's business
    content = json.loads((quick.work / "accuracy.json").read_text())
    figures = content["bases"]["small.pt"]["sides"][OTHER]
    mean = figures["error_deg"]["probe"]["16"]["mean"]
    at_16 = [r["tested"][OTHER]["error_deg"] for r in quick.results().values() if r["k"] == 16]
    own = [by_method["probe"]["mean"] for by_method in at_16]
    assert mean == pytest.approx(np.mean(own), abs=6e-4)
    assert f"{mean:.2f} (" in page
    with Image.open(quick.work / "accuracy.png") as picture:
        assert picture.size == (1300, 500)
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 100


@pytest.mark.long
def test_a_rerun_computes_only_what_is_missing(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = quick.results()
    lost = next(path for path in quick.files() if path.name.startswith("1001-16-"))
    lost.unlink()
    computed: list[tuple[str, int]] = []
    really = accuracy_jobs.measured
    monkeypatch.setattr(
        accuracy_jobs,
        "measured",
        lambda c, started: computed.append((c.person.name, c.k)) or really(c, started),
    )
    assert quick.again() == 0
    assert computed == [("1001", 16)]
    after = quick.results()
    for name, result in before.items():
        del result["seconds"], after[name]["seconds"]
        assert after[name] == result  # the same numbers, to the last bit
    assert quick.again() == 0
    assert computed == [("1001", 16)]
    assert "0 of 4 calibrations to do" in capsys.readouterr().out


@pytest.mark.long
def test_an_interrupted_run_keeps_what_is_done(
    quick: Quick,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(case: Any, _: float) -> Outcome:
        if case.k == 16:
            raise KeyboardInterrupt
        known = next(r for r in quick.results().values() if r["k"] == 9)
        return Outcome.model_validate_json(json.dumps(known))

    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "persons").symlink_to(quick.work / "persons")
    monkeypatch.setattr(accuracy_jobs, "measured", interrupted)
    code = accuracy.main(["--quick", "--base", str(quick.base), "--work", str(tmp_path / "work")])
    assert code == 130
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("stopped; what is done is kept, the same command goes on: about ")
    assert [path.name[:7] for path in (tmp_path / "work").glob("results/*/*.json")] == ["1000-9-"]


def test_other_weights_and_settings_have_results_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {
        Results(base, settings, WORLD, tmp_path)._path("1000", 9)
        for base in (small_base(0), small_base(1))
        for settings in (
            QUICK_SETTINGS,
            dataclasses.replace(QUICK_SETTINGS, samples=3),
            dataclasses.replace(QUICK_SETTINGS, epochs=5),
            dataclasses.replace(QUICK_SETTINGS, purpose="tuning"),
        )
    }
    assert len(names) == 8
    named = Results(small_base(), QUICK_SETTINGS, WORLD, tmp_path).name("1000", 9)
    more_targets = dataclasses.replace(QUICK_SETTINGS, targets=(9, 10, 16))
    assert named == Results(small_base(), more_targets, WORLD, tmp_path).name("1000", 9)
    larger = DemoWorld((1000,), dataclasses.replace(QUICK_SETTINGS, grid=(7, 4)))
    assert named != Results(small_base(), QUICK_SETTINGS, larger, tmp_path).name("1000", 9)
    monkeypatch.setattr(accuracy_results, "source_hash", lambda _: "of other code")
    assert named != Results(small_base(), QUICK_SETTINGS, WORLD, tmp_path).name("1000", 9)


def test_all_code_that_decides_about_a_result_is_in_its_key() -> None:
    """Otherwise a changed method would be reported with its old figures."""
    named = {path for module in (*WORLD_CODE, *METHOD_CODE) for path in code_of(module)}
    of_people = {path for module in (*PEOPLE_CODE, *METHOD_CODE) for path in code_of(module)}
    assert {
        path for start in ("stages.prepare", "data.splits") for path in code_of(start)
    } <= of_people
    starts = ("stages.prepare", "data.index", "demo.session", "stages.train")
    starts += ("calibration.starting_head", "calibration.corrections", "calibration.linear_probe")
    assert {path for start in starts for path in code_of(start)} <= named


@pytest.mark.long
def test_the_base_s_angles_are_the_base_s(quick: Quick) -> None:
    person = WORLD.person("1000", quick.work)
    base = base_network(str(quick.base), quick.work)
    views = views_of(person, base, QUICK_SETTINGS, (9,), CPU, quick.work / "scratch")
    assert set(person.calibration(18)).isdisjoint(person.test)
    assert len(person.calibration(18)) + len(person.test) == 24
    crops = np.stack([load_crop(sample, person.paths) for sample in person.samples[::9]])
    with torch.inference_mode():
        logits = BaseModule(base)(torch.from_numpy(normalise(crops)))
        expected = expected_angles(*logits, base.heads).numpy()
    assert expected.std(axis=0).min() > 0.1  # degrees: there is something to agree on
    np.testing.assert_allclose(views.base_deg[::9], expected, atol=0.02)


@pytest.mark.long
def test_the_best_epoch_answers_and_not_the_last(
    quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = WORLD.person("1000", quick.work)
    base = base_network(str(quick.base), quick.work)
    views = views_of(person, base, QUICK_SETTINGS, (9,), CPU, quick.work / "scratch")
    far = dataclasses.replace(train_params(base, QUICK_SETTINGS), learning_rate=0.1)
    monkeypatch.setattr(accuracy_methods, "train_params", lambda *_: far)
    case = Case(person, base, views, QUICK_SETTINGS, 9, CPU, quick.work / "state.pt")
    predictions = METHODS["fine_tuned"](case)
    remark = predictions.remark
    assert remark is not None
    assert remark.best_epoch < remark.epochs
    _, validation = person.split(9)
    error = angular_error_deg(predictions.angles_deg[validation], person.labels_deg[validation])
    assert error.mean() == pytest.approx(remark.validation_error_deg, abs=1e-3)


def test_bench_persons_are_those_of_the_bench_alone(tmp_path: Path) -> None:
    def plan(*arguments: str) -> accuracy.Plan:
        return accuracy.plan_of(accuracy.parser().parse_args(arguments))

    assert plan().world == DemoWorld(tuple(range(1000, 1010)), plan().settings)
    for arguments in ((), ("--quick",), ("--persons", "1000"), ("--seeds", "1500,1999")):
        assert set(map(int, plan(*arguments).world.names)) <= set(PERSON_SEEDS["bench"])
        assert plan(*arguments).settings.purpose == "bench"
    tuning = plan("--tuning")
    assert set(map(int, tuning.world.names)) <= set(PERSON_SEEDS["tuning"])
    assert tuning.settings.purpose == "tuning"
    for seed in (17, 999, 2000, 10_000):
        with pytest.raises(InputError, match=f"person seed {seed} is not one for bench"):
            DemoWorld((seed,), Settings("bench")).person(str(seed), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "17"], "person seed 17 is not one for bench; choose from 1000 to 1999"),
        (["--seeds", "2000", "--quick"], "person seed 2000 is not one for bench"),
        (["--seeds", "1000,1000"], "--seeds names a person twice"),
        (["--seeds", "a"], "--seeds 'a': whole numbers with commas between them needed"),
        (["--persons", "0"], "--persons is 0; choose from 1 to 1000"),
        (["--persons", "1001"], "--persons is 1001; choose from 1 to 1000"),
        (["--persons", "3,4"], "--persons '3,4': a whole number needed"),
        (["--targets", "3,9"], "--targets names 3; choose from 4 to 100"),
        (["--targets", "9,101"], "--targets names 101; choose from 4 to 100"),
        (["--targets", "50", "--quick"], "--targets names 50; choose from 4 to 18"),
        (["--targets", "9", "--sessions", "anna"], "--sessions 'anna': write whom they are of"),
        (["--sessions", "a/b=mon"], "--sessions 'a/b=mon': write whom they are of"),
        (["--sessions", "anna=mon", "anna=tue"], "--sessions names anna twice"),
        (["--sessions", "anna=mon,mon"], "--sessions names mon twice; its frames would test"),
        (["--sessions", "anna=../x"], "--sessions anna: '../x' is no session id"),
        (["--sessions", "anna=mon", "--seeds", "1000"], "--seeds is of simulated persons"),
        (["--executor", "local", "--at-once", "0"], "--at-once goes from 1 to 1000"),
        (["--executor", "slurm", "--slurm", "gpu"], "--slurm 'gpu': write KEY=VALUE, as in"),
        (["--samples", "0"], "--samples is 0; choose from 1 to 1000"),
        (["--base", "no.pt"], "no.pt: not found"),
        (["--base", "a/x.pt", "b/x.pt"], "two files have the same name"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accuracy.main([*arguments, "--work", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("accuracy: ")
    assert said.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert accuracy.main(["--work", str(tmp_path / "file" / "work")]) == 2
    assert "file/work: cannot be written (Not a directory)" in capsys.readouterr().err


def test_a_base_without_heads_is_refused(tmp_path: Path) -> None:
    save_base(dataclasses.replace(small_base(), heads=None), tmp_path / "trunk.pt")
    with pytest.raises(InputError, match="trunk without heads; it gives no angles to correct"):
        base_network(str(tmp_path / "trunk.pt"), tmp_path)


def test_the_easy_base_is_pretrained_once_from_the_embedded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def pretrain(params: Path, output: Path, start: Path) -> None:
        assert params == REPOSITORY / "pretrain" / "easy.yaml"
        assert start == accuracy_bases.EMBEDDED_BASE
        made.append(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        save_base(small_base(len(made)), output)

    embedded = small_base(7)
    monkeypatch.setattr("custom_gaze.demo.pretrain.run.run", pretrain)
    monkeypatch.setattr(accuracy_bases, "load_embedded", lambda: embedded)
    one = base_network("easy", tmp_path)
    again = base_network("easy", tmp_path)
    assert fingerprint(one) == fingerprint(again)
    assert len(made) == 1
    # Another embedded base makes another easy one.
    embedded = dataclasses.replace(embedded, sha256="1" * 64)
    assert fingerprint(base_network("easy", tmp_path)) != fingerprint(one)
    assert len(made) == 2


def test_a_base_is_known_by_its_weights() -> None:
    assert fingerprint(small_base()) == fingerprint(
        dataclasses.replace(small_base(), source="another file")
    )
    other = small_base()
    assert other.heads is not None
    other.heads.pitch_bias[3] += 1e-3
    assert fingerprint(other) != fingerprint(small_base())


def grid_person(columns: int = 12, rows: int = 10, held_out: int = 20) -> Person:
    """A person whose first day is a whole grid, as prepared_person would place it."""
    yaw, pitch = np.meshgrid(np.linspace(-25, 25, columns), np.linspace(-16, 16, rows))
    points = np.stack([yaw.ravel(), pitch.ravel()], axis=1)
    held = spread_choice(points, held_out, np.random.default_rng(1))
    left = np.setdiff1d(np.arange(len(points)), held)
    order = left[farthest_first(points[left])]
    labels = np.concatenate([points, np.zeros((5, 2))])
    targets = np.arange(len(labels))
    other = targets[len(points) :]
    return Person("1", 1, Paths(), (), labels, targets, np.sort(held), other, order, "mesh")


@pytest.mark.parametrize("k", [4, 9, 16, 25, 50, 100])
def test_no_target_serves_two_purposes(k: int) -> None:
    person = grid_person()
    rows = person.calibration(k)
    train, validation = person.split(k)
    assert len(rows) == k
    assert sorted([*train, *validation]) == rows.tolist()
    assert len(validation) == max(2, round(0.2 * k))
    assert set(rows).isdisjoint(person.test)
    assert set(rows).isdisjoint(person.other)
    assert len(person.test) == 20
    assert set(person.calibration(9)) <= set(person.calibration(max(9, k)))


def test_frames_of_a_target_stay_together() -> None:
    person = grid_person(6, 5, held_out=6)
    double = dataclasses.replace(
        person,
        labels_deg=np.repeat(person.labels_deg, 2, axis=0),
        targets=np.repeat(person.targets, 2),
    )
    train, validation = double.split(9)
    assert (len(train), len(validation)) == (14, 4)
    assert set(double.targets[train]).isdisjoint(double.targets[validation])


def test_calibration_and_test_targets_are_spread_over_the_screen() -> None:
    person = grid_person()
    nine = person.labels_deg[person.order[:9]]
    assert np.hypot(*nine[0]) < 6  # the middle first, then corners
    for corner in ([-25, -16], [25, -16], [-25, 16], [25, 16]):
        assert np.hypot(*(nine - corner).T).min() < 8
    nearest = [np.sort(np.hypot(*(nine - point).T))[1] for point in nine]
    assert min(nearest) > 9
    held = person.labels_deg[person.test]
    for quarter in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        assert ((np.sign(held) == quarter).all(axis=1)).sum() == 5
    few = spread_choice(nine, 2, np.random.default_rng(0))
    assert np.prod(np.sign(nine[few][:, 0])) <= 0  # not both on one side


def test_large_calibrations_get_fewer_samples() -> None:
    settings = Settings("bench", samples=50)
    assert settings.samples_at(7) == 50
    assert settings.samples_at(40) == 11  # 40 · 12 samples
    assert Settings("bench").samples_at(40) == 10
    assert settings.samples_at(5000) == 1


@pytest.mark.long
def test_training_sees_its_own_frames_samples(quick: Quick) -> None:
    """The rows of a part lead to the samples that the pipeline would make of these very frames."""
    person = WORLD.person("1000", quick.work)
    rows = np.array([3, 8, 20])
    images = [[frame * 10 + sample for sample in range(6)] for frame in range(3)]
    store = np.array(images, np.float16).reshape(18, 1)
    views = Views(torch.empty(0), np.empty(0), np.empty(0), store, rows, 5)
    part = Part(store, sample_rows(views, np.array([8, 20]), 2))
    assert part[np.arange(6)].ravel().tolist() == [10, 11, 12, 20, 21, 22]
    params = dataclasses.replace(accuracy_params().augment, samples=5)
    augmented = AugmentedSamples([person.samples[row] for row in rows], person.paths, params, 1)
    frames = sample_rows(views, np.array([8, 20]), 2) // augmented.per_frame
    assert frames.tolist() == [1, 1, 1, 2, 2, 2]


def accuracy_params() -> Any:
    from accuracy_person import PARAMS

    return PARAMS


def test_the_slope_is_degrees_answered_for_each_degree_looked() -> None:
    person = grid_person()
    rows = ~np.isin(np.arange(len(person.targets)), person.other)
    base = person.labels_deg * [-0.4, 0.25] + [12.0, -3.0]
    base[~rows] = 99
    assert slope(base, person.labels_deg, rows) == pytest.approx([-0.4, 0.25])


def fake_results(fine_tuned: tuple[float, ...]) -> list[Outcome]:
    """Persons at 25 targets; the best correction has 8 degrees, another session twice the error."""

    def tested(error: float, slope: tuple[float, float]) -> Measures:
        of = {"best_correction": 8.0, "fine_tuned": error}
        intervals = {name: Interval(mean=e, low=e - 1, high=e + 2) for name, e in of.items()}
        return Measures(frames=6, targets=5, slope=slope, error_deg=intervals)

    return [
        Outcome(
            person=f"p{number}",
            k=25,
            targets=25,
            of_targets=30,
            crop_from="mesh",
            seconds=1.0,
            tested={SAME: tested(error, (0.1 * number, -0.5)), OTHER: tested(2 * error, (0, 0))},
            remarks={"best_correction": Remark(correction="quadratic")},
        )
        for number, error in enumerate(fine_tuned)
    ]


def test_the_report_s_figures() -> None:
    figures = accuracy_report.summary(fake_results((2.0, 4.0, 9.0, 5.0)))
    same = figures.sides[SAME]
    error = same.error_deg["fine_tuned"][25]
    assert error.mean == 5.0
    # 5 · exp(±t · 2.944 / √4 / 5) with t = 3.182 for three degrees of freedom
    assert (error.low, error.high) == pytest.approx((1.96, 12.76), abs=0.01)
    assert figures.sides[OTHER].error_deg["fine_tuned"][25].mean == 10.0
    assert same.compared["fine_tuned"][25] == accuracy_report.Compared(0.625, 1)
    assert same.slope["yaw"] == (0.15, 0.0, 0.3)
    page = accuracy_report.markdown({"embedded": figures}, ["a machine"])
    assert "| **fine-tuned ÷ best correction** | 0.62 |" in page
    assert "| fine-tuned: persons worse by more than 5 % | 1 of 4 |" in page
    assert "held-out targets (4 persons; 95 % interval over persons):" in page
    assert "yaw +0.15 (+0.00 to +0.30), pitch -0.50 (-0.50 to -0.50)" in page
    assert "25 targets: quadratic 4" in page


def test_few_persons_have_the_interval_that_they_can_have() -> None:
    """Two say nothing about how much persons differ; of one the targets do."""
    two = accuracy_report.summary(fake_results((2.0, 4.0)))
    assert two.sides[SAME].error_deg["fine_tuned"][25] == Interval(mean=3.0, low=None, high=None)
    assert "| fine-tuned | 3.00 (–) |" in accuracy_report.markdown({"embedded": two}, [])
    one = accuracy_report.summary(fake_results((2.0,)))
    page = accuracy_report.markdown({"embedded": one}, [])
    assert "held-out targets (one person; 95 % interval over targets):" in page
    assert "| fine-tuned | 2.00 (1.00–4.00) |" in page


def test_who_has_no_other_session_is_none_of_its_persons(tmp_path: Path) -> None:
    outcomes = fake_results((2.0, 4.0, 9.0))
    outcomes[1] = outcomes[1].model_copy(update={"tested": {SAME: outcomes[1].tested[SAME]}})
    figures = accuracy_report.summary(outcomes)
    assert figures.sides[SAME].persons == ("p0", "p1", "p2")
    assert figures.sides[OTHER].persons == ("p0", "p2")
    assert figures.sides[OTHER].error_deg["fine_tuned"][25].mean == 11.0
    alone = accuracy_report.summary(outcomes[1:2])
    assert list(alone.sides) == [SAME]
    accuracy_report.draw({"embedded": alone}, tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.size == (650, 500)


def test_labels_are_moved_apart_and_stay_in_order() -> None:
    heights = accuracy_report.spread_out([0.10, 0.11, 0.115, 0.5, 0.52, 0.9], 0.05)
    assert np.diff(heights).min() >= 0.05 - 1e-9
    assert heights[:3] == pytest.approx([0.0583, 0.1083, 0.1583], abs=1e-3)
    assert heights[3:] == pytest.approx([0.485, 0.535, 0.9])


def test_the_clock_tells_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(started=1000.0)
    assert clock.left(3).startswith("how long the rest takes is known after")
    monkeypatch.setattr(accuracy_results.time, "monotonic", lambda: 1240.0)
    clock.done = 4
    assert clock.left(9) == "about 9 min left"
    assert clock.left(0) == "nothing left to do"


def test_too_many_persons_are_refused() -> None:
    with pytest.raises(InputError, match="choose from 1 to 1000"):
        person_seeds("bench", 1001, None)
