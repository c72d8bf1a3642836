import numpy as np
import pytest

from custom_gaze.calibration import policy
from custom_gaze.calibration.base_features import AugmentedFeatures
from custom_gaze.calibration.corrections import CORRECTIONS, Correction, held_out_error
from custom_gaze.calibration.cross_validation import folds_by_target
from custom_gaze.calibration.linear_probe import LinearProbe
from custom_gaze.calibration.policy import ALPHAS
from custom_gaze.geometry import angular_error_deg

CONSTANT, GAIN_OFFSET, SVR = (CORRECTIONS[name] for name in ("constant", "gain_offset", "svr"))


def fit_probe(
    f: np.ndarray,
    base: np.ndarray,
    true: np.ndarray,
    targets: np.ndarray,
    correction: Correction,
    seed: int,
) -> LinearProbe:
    return LinearProbe.corrected(correction, f.shape[1]).fit(f, base, true, targets, seed)


def world(
    frames: int, features: int, signal: float, seed: int = 0, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, a base's angles and the truth. What makes the base err lies in the features, for
    it is made of them; `signal` says how strongly they know the truth besides."""
    generator = np.random.default_rng(seed)
    true = generator.uniform([-25, -16], [25, 16], (frames, 2))
    errors = generator.normal(size=true.shape)
    base = -0.4 * true + [15, -5] + 3 * errors
    hidden = np.concatenate([signal * true / 15, errors], axis=1)
    directions = np.random.default_rng(99).normal(size=(4, features))
    noise = generator.normal(0, 0.3, (frames, features))
    return scale * (3.0 + hidden @ directions + noise), base, true


def ridge_by_the_book(f: np.ndarray, residual: np.ndarray, alpha: float) -> np.ndarray:
    """(2, F) from the normal equations."""
    centered = f - f.mean(axis=0)
    spread2 = (centered**2).sum() / len(f)
    gram = centered.T @ centered + len(f) * alpha * spread2 * np.eye(f.shape[1])
    return np.linalg.solve(gram, centered.T @ residual).T


@pytest.mark.parametrize(("frames", "features"), [(30, 80), (200, 12)])
def test_the_weights_solve_the_ridge_s_normal_equations(frames: int, features: int) -> None:
    f, base, true = world(frames, features, signal=1.0)
    fitted = fit_probe(f, base, true, np.arange(frames), GAIN_OFFSET, seed=1)
    assert fitted.alpha in ALPHAS
    residual = true - fitted.correction.predict(base)
    expected = ridge_by_the_book(f, residual, fitted.alpha)
    np.testing.assert_allclose(fitted.weight, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fitted.bias_deg, -expected @ f.mean(axis=0), rtol=1e-6)
    predictions = fitted.correction.predict(base) + f @ expected.T + fitted.bias_deg
    np.testing.assert_allclose(fitted.predict(f, base), predictions)
    # Residuals of least squares have mean 0, and so has what the probe adds to them.
    np.testing.assert_allclose((predictions - true).mean(axis=0), 0, atol=1e-6)


def lit(f: np.ndarray, base: np.ndarray, true: np.ndarray, count: int) -> AugmentedFeatures:
    """Samples of the frames in other light, which moves the features in one direction."""
    light = np.random.default_rng(7).normal(0, 1.5, (len(f), count, 1)) * light_direction(f)
    samples = f[:, None] + light
    every = (np.repeat(each[:, None], count, axis=1) for each in (base, true))
    return AugmentedFeatures(samples.astype(np.float32), *every)


def light_direction(f: np.ndarray) -> np.ndarray:
    return np.random.default_rng(5).normal(size=f.shape[1])


def test_with_augmented_samples_it_solves_the_weighted_normal_equations() -> None:
    f, base, true = world(30, 50, signal=1.0)
    augmented = lit(f, base, true, 3)
    nothing = LinearProbe.corrected(CONSTANT, 50)
    fitted = nothing.fit(f, base, true, np.arange(30), 1, augmented)
    share = policy.AUGMENTED_SHARE
    rows = np.concatenate([f[:, None], augmented.features], axis=1).reshape(-1, 50)
    weight = np.tile([1 - share, *[share / 3] * 3], 30) / 30
    centered = rows - weight @ rows
    residual = np.repeat(true - true.mean(axis=0), 4, axis=0)
    gram = centered.T @ (weight[:, None] * centered)
    gram += fitted.alpha * np.trace(gram) * np.eye(50)
    expected = np.linalg.solve(gram, centered.T @ (weight[:, None] * residual)).T
    np.testing.assert_allclose(fitted.weight, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fitted.bias_deg, -expected @ (weight @ rows), rtol=1e-4, atol=1e-6)


def test_what_augmented_samples_move_is_not_relied_on_another_day() -> None:
    """On the day of the calibration light follows where the person looks, a little."""
    f, base, true = world(240, 50, signal=1.0)
    direction = light_direction(f)
    f += 0.02 * true[:, :1] * direction
    seen, unseen, targets = slice(0, 40), slice(40, None), np.arange(40)
    known = f[seen], base[seen], true[seen]
    nothing = LinearProbe.corrected(CONSTANT, 50)
    plain = nothing.fit(*known, targets, 1)
    robust = nothing.fit(*known, targets, 1, lit(*known, 6))
    other_day = f[unseen] + 3 * direction
    errors = [
        angular_error_deg(form.predict(other_day, base[unseen]), true[unseen]).mean()
        for form in (plain, robust)
    ]
    assert errors[1] < 0.6 * errors[0]


def test_held_out_errors_are_those_of_fits_without_the_target() -> None:
    f, base, true = world(24, 40, signal=1.0)
    targets = np.repeat(np.arange(12), 2)
    fitted = fit_probe(f, base, true, targets, GAIN_OFFSET, seed=1)
    total, times = np.zeros(24), np.zeros(24)
    for out in folds_by_target(targets, 1):
        correction = GAIN_OFFSET.fit(base[~out], true[~out], targets[~out])
        residual = true[~out] - correction.predict(base[~out])
        weight = ridge_by_the_book(f[~out], residual, fitted.alpha)
        answer = correction.predict(base[out]) + (f[out] - f[~out].mean(axis=0)) @ weight.T
        total[out] += angular_error_deg(answer, true[out])
        times += out
    np.testing.assert_allclose(fitted.held_out_deg, total / times, rtol=1e-6)
    plain = held_out_error(GAIN_OFFSET, base, true, targets, folds_by_target(targets, 1))
    np.testing.assert_allclose(fitted.correction_held_out_deg, plain)


def test_features_that_know_gaze_beat_the_correction_on_unseen_frames() -> None:
    f, base, true = world(260, 64, signal=1.0)
    seen, unseen = slice(0, 60), slice(60, None)
    fitted = fit_probe(f[seen], base[seen], true[seen], np.arange(60), GAIN_OFFSET, seed=1)
    corrected = angular_error_deg(fitted.correction.predict(base[unseen]), true[unseen]).mean()
    probed = angular_error_deg(fitted.predict(f[unseen], base[unseen]), true[unseen]).mean()
    assert probed < 0.4 * corrected
    # The validation said so beforehand, about as it is.
    assert fitted.held_out_deg.mean() == pytest.approx(probed, rel=0.25)


@pytest.mark.parametrize("targets", [9, 25])
def test_without_evidence_nothing_is_changed_at_all(targets: int) -> None:
    """Features that know nothing: most persons keep the correction, and nobody loses much."""
    unchanged, ratios = 0, []
    for seed in range(20):
        _, base, true = world(targets + 200, 4, signal=0.0, seed=seed)
        f = np.random.default_rng(seed).normal(size=(targets + 200, 256))
        seen, unseen = slice(0, targets), slice(targets, None)
        fitted = fit_probe(f[seen], base[seen], true[seen], np.arange(targets), GAIN_OFFSET, seed=1)
        corrected = fitted.correction.predict(base[unseen])
        predictions = fitted.predict(f[unseen], base[unseen])
        if fitted.alpha == float("inf"):
            unchanged += 1
            assert not fitted.weight.any()
            assert not fitted.bias_deg.any()
            np.testing.assert_array_equal(predictions, corrected)
            np.testing.assert_array_equal(fitted.held_out_deg, fitted.correction_held_out_deg)
        errors = [angular_error_deg(some, true[unseen]).mean() for some in (predictions, corrected)]
        ratios.append(errors[0] / errors[1])
    assert unchanged >= 14
    assert np.mean(ratios) < 1.02
    assert max(ratios) < 1.15


def test_alphas_do_not_depend_on_the_features_size() -> None:
    f, base, true = world(40, 30, signal=0.5)
    large, _, _ = world(40, 30, signal=0.5, scale=1000.0)
    one = fit_probe(f, base, true, np.arange(40), GAIN_OFFSET, seed=1)
    other = fit_probe(large, base, true, np.arange(40), GAIN_OFFSET, seed=1)
    assert one.alpha == other.alpha
    np.testing.assert_allclose(one.weight, 1000 * other.weight, rtol=1e-6)


def test_towards_the_labels_the_base_is_not_needed() -> None:
    f, base, true = world(60, 40, signal=1.0)
    fitted = fit_probe(f, base, true, np.arange(60), CONSTANT, seed=1)
    other = fit_probe(f, np.zeros_like(base), true, np.arange(60), CONSTANT, seed=1)
    np.testing.assert_allclose(fitted.weight, other.weight)
    assert angular_error_deg(fitted.predict(f, base), true).mean() < 3


def test_a_svr_s_residual_can_be_probed_too() -> None:
    f, base, true = world(30, 40, signal=1.0)
    fitted = fit_probe(f, base, true, np.arange(30), SVR, seed=1)
    assert fitted.correction.name == "svr"
    assert fitted.held_out_deg.mean() <= fitted.correction_held_out_deg.mean()


def test_features_that_are_all_the_same_change_nothing() -> None:
    _, base, true = world(12, 8, signal=0.0)
    fitted = fit_probe(np.ones((12, 8)), base, true, np.arange(12), GAIN_OFFSET, seed=1)
    assert fitted.alpha == float("inf")
    assert not fitted.weight.any()


def test_the_best_alpha_is_taken_not_the_nearest_to_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    f, base, true = world(80, 60, signal=0.3)

    def fitted_with(alphas: tuple[float, ...]) -> LinearProbe:
        monkeypatch.setattr(policy, "ALPHAS", alphas)
        return fit_probe(f, base, true, np.arange(80), GAIN_OFFSET, seed=1)

    chosen = fitted_with(ALPHAS)
    alone = [fitted_with((alpha,)).held_out_deg.mean() for alpha in ALPHAS]
    assert chosen.alpha == ALPHAS[int(np.argmin(alone))]
    assert len(set(np.round(alone, 6))) > 5
