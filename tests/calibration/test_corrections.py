import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from custom_gaze.calibration.corrections import (
    CORRECTIONS,
    POLYNOMIALS,
    Polynomial,
    best_correction,
    held_out_error,
)
from custom_gaze.calibration.cross_validation import folds_by_target
from custom_gaze.calibration.selection import preferred
from custom_gaze.common.errors import InputError
from custom_gaze.geometry import ScreenGeometry, angular_error_deg

GAIN_OFFSET, QUADRATIC, SVR = (CORRECTIONS[name] for name in ("gain_offset", "quadratic", "svr"))
REAL = Path(__file__).parents[3] / "shared" / "data" / "l2cs_as_it_is.csv"


def leave_target_out(targets: np.ndarray) -> list[np.ndarray]:
    """Folds that hold out one target each; where every frame is a target, leave-one-frame-out."""
    return [targets == name for name in np.unique(targets)]


def grid_deg(columns: int, rows: int) -> np.ndarray:
    """(columns · rows, 2) targets over a laptop's screen."""
    yaw, pitch = np.meshgrid(np.linspace(-25, 25, columns), np.linspace(-16, 16, rows))
    return np.stack([yaw.ravel(), pitch.ravel()], axis=1)


def compressed(true_deg: np.ndarray, noise_deg: float, seed: int = 0) -> np.ndarray:
    """What a base like the real one answers: mirrored, compressed, shifted, noisy."""
    noise = np.random.default_rng(seed).normal(0, noise_deg, true_deg.shape)
    return true_deg * [-0.4, -0.3] + [18.0, -6.0] + noise


def test_the_app_s_form_is_recovered_exactly() -> None:
    base = np.random.default_rng(1).uniform(-30, 30, (40, 2))
    curve, gain, offset = (0.01, -0.02), (-2.5, 3.0), (4.0, -7.0)
    true = np.array(curve) * base**2 + np.array(gain) * base + offset
    fitted = QUADRATIC.fit(base, true, np.arange(40))
    assert fitted.curve == pytest.approx(curve)
    assert fitted.gain == pytest.approx(gain)
    assert fitted.offset_deg == pytest.approx(offset)
    np.testing.assert_allclose(fitted.predict(base), true, atol=1e-9)


def test_gain_and_offset_are_the_least_squares_line_of_truth_on_answer() -> None:
    true = grid_deg(5, 5)
    base = compressed(true, 4.0)
    fitted = GAIN_OFFSET.fit(base, true, np.arange(25))
    for axis in (0, 1):
        gain, offset = np.polyfit(base[:, axis], true[:, axis], 1)
        assert fitted.gain[axis] == pytest.approx(gain)
        assert fitted.offset_deg[axis] == pytest.approx(offset)
    assert fitted.curve == (0.0, 0.0)


def test_the_constant_is_the_targets_mean() -> None:
    true = grid_deg(4, 3) + np.array([2.0, -1.0])
    fitted = CORRECTIONS["constant"].fit(compressed(true, 1.0), true, np.arange(12))
    np.testing.assert_allclose(fitted.predict([[99.0, -99.0]]), [[2.0, -1.0]])


def test_polynomials_are_plain_numbers() -> None:
    true = grid_deg(4, 4)
    for name in POLYNOMIALS:
        fitted = CORRECTIONS[name].fit(compressed(true, 1.0), true, np.arange(16))
        again = Polynomial(**json.loads(json.dumps(dataclasses.asdict(fitted))))
        np.testing.assert_array_equal(again.predict(true), fitted.predict(true))


def test_a_base_that_always_answers_the_same_gives_the_constant() -> None:
    true = grid_deg(3, 3)
    base = np.full((9, 2), 7.0)
    for name in CORRECTIONS:
        fitted = CORRECTIONS[name].fit(base, true, np.arange(9))
        np.testing.assert_allclose(fitted.predict(base), np.zeros((9, 2)), atol=0.6)


def test_two_rows_of_targets_do_not_break_the_quadratic() -> None:
    """Two different answers cannot tell curve from gain: the fit stays tame between them."""
    true = grid_deg(2, 2)
    fitted = QUADRATIC.fit(true * 0.5, true, np.arange(4))
    np.testing.assert_allclose(fitted.predict(true * 0.5), true, atol=1e-6)
    assert np.abs(fitted.predict(true * 0.25)).max() < 30


def test_svr_is_sklearn_s_answer_and_bends_where_lines_cannot() -> None:
    from sklearn import svm

    true = grid_deg(8, 6)
    turn = np.deg2rad(40)  # a rolled head mixes the angles: per axis nothing can be done about it
    base = true @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    base += 0.01 * true[:, ::-1] ** 2
    targets = np.arange(48)
    fitted = SVR.fit(base, true, targets)
    reference = []
    u = (base - base.mean(axis=0)) / base.std(axis=0)
    for axis in (0, 1):
        center, scale = true[:, axis].mean(), true[:, axis].std()
        model = svm.SVR(C=fitted.cost, gamma=fitted.gamma, epsilon=0.05)
        model.fit(u, (true[:, axis] - center) / scale)
        reference.append(center + scale * model.predict(u))
    np.testing.assert_allclose(fitted.predict(base), np.stack(reference, axis=1), atol=1e-6)
    held_out = {
        name: held_out_error(CORRECTIONS[name], base, true, targets, leave_target_out(targets))
        for name in ("quadratic", "svr")
    }
    assert held_out["svr"].mean() < 0.4 * held_out["quadratic"].mean()
    assert best_correction(base, true, targets, 1, tuple(CORRECTIONS)).name == "svr"


@pytest.mark.parametrize("targets", [3, 4, 9, 16, 60])
def test_folds_hold_out_whole_targets_equally_often(targets: int) -> None:
    groups = np.repeat(np.arange(targets), 3)
    folds = folds_by_target(groups, seed=1)
    held_out = np.sum(folds, axis=0)
    assert len(set(held_out.tolist())) == 1
    assert held_out[0] * targets >= 50
    for out in folds:
        assert 0 < out.sum() < len(groups)
        assert set(groups[out]).isdisjoint(groups[~out])
    again = folds_by_target(groups, seed=1)
    other = folds_by_target(groups, seed=2)
    np.testing.assert_array_equal(folds, again)
    assert not np.array_equal(folds, other)


def test_two_targets_are_too_few_to_choose_by() -> None:
    two = np.array([[0.0, 0.0], [9.0, 9.0], [9.0, 9.0]])
    with pytest.raises(InputError, match="2 targets are too few to choose by.*at least 3"):
        best_correction(two, two, [0, 1, 1], seed=1)


def test_held_out_errors_do_not_see_their_target() -> None:
    """Frames of one target say the same: with one of them in the fit, the others look easy."""
    true = np.repeat(grid_deg(3, 3), 4, axis=0)
    targets = np.repeat(np.arange(9), 4)
    base = compressed(true, 0.0) + np.repeat(
        np.random.default_rng(3).normal(0, 6, (9, 2)), 4, axis=0
    )
    by_target = held_out_error(QUADRATIC, base, true, targets, leave_target_out(targets))
    by_frame = held_out_error(
        QUADRATIC, base, true, targets, leave_target_out(np.arange(len(targets)))
    )
    assert by_target.mean() > 1.15 * by_frame.mean()
    first = targets == 0
    alone = QUADRATIC.fit(base[~first], true[~first], targets[~first])
    expected = angular_error_deg(alone.predict(base[first]), true[first])
    np.testing.assert_allclose(by_target[first], expected)


def test_frames_held_out_several_times_get_their_mean_error() -> None:
    true = grid_deg(4, 2)
    base = compressed(true, 3.0)
    targets = np.arange(8)
    folds = folds_by_target(targets, 1)
    once = [
        held_out_error(GAIN_OFFSET, base, true, targets, folds[start : start + 5])
        for start in range(0, len(folds), 5)
    ]
    together = held_out_error(GAIN_OFFSET, base, true, targets, folds)
    np.testing.assert_allclose(together, np.mean(once, axis=0))
    assert np.std(once, axis=0).max() > 0.01


def test_the_simpler_one_wins_within_the_noise() -> None:
    targets = np.arange(20)
    noise = np.random.default_rng(0).normal(0, 1.0, 20)
    noise -= noise.mean()
    errors = {"simple": np.full(20, 5.0), "other": 5.0 - 0.1 + noise}
    assert preferred(errors, targets) == "simple"
    assert preferred({**errors, "other": 4.0 + noise}, targets) == "other"
    # What candidates share is no noise: a small gain on every frame counts.
    shared = {"simple": 5 + 3 * noise, "other": 4.5 + 3 * noise}
    assert preferred(shared, targets) == "other"
    # A gain that nobody could notice does not, however sure it is: 2 % of the error, or 0.05°.
    for error, gain, chosen in (
        *((5.0, 0.08, "simple"), (5.0, 0.13, "other")),
        *((0.5, 0.04, "simple"), (0.5, 0.06, "other")),
    ):
        close = {"simple": np.full(20, error), "other": np.full(20, error - gain)}
        assert preferred(close, targets) == chosen
    # Many frames of few targets are few observations.
    step = np.repeat([1.5, -1.0, 0.2], 30)
    assert preferred({"simple": 5 + step, "other": np.full(90, 5.0)}, np.repeat([0, 1, 2], 30)) == (
        "simple"
    )


def test_the_choice_follows_the_data_and_the_seed_alone() -> None:
    true = grid_deg(5, 5)
    targets = np.arange(25)
    bent = compressed(true, 0.2)
    bent[:, 0] = -0.4 * true[:, 0] + 0.006 * true[:, 0] ** 2
    wild = np.random.default_rng(5).normal(0, 20, (25, 2))
    assert best_correction(compressed(true, 2.0), true, targets, 1).name == "gain_offset"
    assert best_correction(bent, true, targets, 1).name == "quadratic"
    assert best_correction(wild, true, targets, 1).name == "constant"
    one, two = (best_correction(bent, true, targets, 1) for _ in range(2))
    assert one == two


def test_nine_targets_choose_well_most_of_the_time() -> None:
    """The truth is a line: on nine noisy points the quadratic fits better and predicts worse."""
    true = grid_deg(3, 3)
    names = [
        best_correction(compressed(true, 2.0, seed), true, np.arange(9), 1).name
        for seed in range(20)
    ]
    assert names.count("gain_offset") >= 16


@pytest.mark.skipif(not REAL.exists(), reason="the real user's answers are not at hand")
@pytest.mark.parametrize(
    ("session", "name", "fitted_deg", "left_out_deg"),
    [
        ("nine-points", "gain_offset", 7.45, 9.55),
        ("nine-points", "quadratic", 6.87, 9.68),
        ("older", "gain_offset", 14.19, 15.35),
        ("older", "quadratic", 14.24, 16.53),
    ],
)
def test_the_real_network_s_answers_give_the_known_figures(
    session: str, name: str, fitted_deg: float, left_out_deg: float
) -> None:
    rows = [row for row in csv.DictReader(REAL.open()) if row["session"] == session]
    base = np.array([[float(r["raw_yaw_deg"]), float(r["raw_pitch_deg"])] for r in rows])
    points = [[float(r["target_x"]), float(r["target_y"])] for r in rows]
    true = ScreenGeometry().to_degrees(points)
    frames = np.arange(len(rows))
    errors = angular_error_deg(CORRECTIONS[name].fit(base, true, frames).predict(base), true)
    assert errors.mean() == pytest.approx(fitted_deg, abs=0.006)
    out = held_out_error(CORRECTIONS[name], base, true, frames, leave_target_out(frames))
    assert out.mean() == pytest.approx(left_out_deg, abs=0.006)
