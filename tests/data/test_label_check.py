"""Labels judged by the session's other targets: the closed form against refitting."""

import numpy as np
import pytest

from custom_gaze.data import label_check


def test_leaving_a_target_out_is_what_refitting_gives() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(24, 40)).astype(np.float32)
    targets = np.repeat(np.arange(8), 3)
    answers = rng.normal(size=(24, 2)) * 8 + 5
    check = label_check.leave_one_target_out(features, answers, targets)
    # The same by hand: without a target, ridge regression with a constant, for each penalty.
    scaled = features - features.mean(axis=0)
    scaled = scaled / np.sqrt((scaled**2).sum() / len(scaled))
    wide = np.concatenate([scaled, np.full((24, 1), np.sqrt(label_check.INTERCEPT))], axis=1)
    best = np.inf
    for penalty in label_check.PENALTIES:
        by_hand = np.empty((24, 2))
        for target in range(8):
            fit, held = targets != target, targets == target
            dual = wide[fit] @ wide[fit].T + penalty * np.eye(fit.sum())
            by_hand[held] = wide[held] @ wide[fit].T @ np.linalg.solve(dual, answers[fit])
        errors = np.hypot(*(by_hand - answers).T)
        if errors.mean() < best:
            best, wanted = errors.mean(), by_hand
    assert np.allclose(check.predicted_deg, wanted, atol=1e-3)
    assert check.errors_deg.mean() == pytest.approx(best, abs=1e-4)
    guessed = [answers[targets != target].mean(axis=0) for target in targets]
    assert check.guess_deg == pytest.approx(np.hypot(*(np.array(guessed) - answers).T).mean())
    assert not check.useful  # noise tells nothing
