import numpy as np
import pytest

from custom_gaze.inference.smoothing import LONGEST_GAP_S, SHARE, Exponential, OneEuro

RUNS, JUMP_DEG, NOISE_DEG, SECONDS = 20, 15.0, 1.0, 6


def jitter_and_delay(name: str, fps: int) -> tuple[float, float]:
    """Of fixations with noise and a jump between them: the root mean square of what is left of the
    noise in degrees, and the seconds until the jump's end is reached within 1°."""
    rng, found = np.random.default_rng(1), []
    for _ in range(RUNS):
        true = np.zeros((fps * SECONDS, 2))
        true[len(true) // 2 :, 0] = JUMP_DEG
        noisy = true + NOISE_DEG * rng.standard_normal(true.shape)
        euro, exponential = OneEuro(), Exponential()
        shown = np.array(
            [
                euro(step / fps, one) if name == "one euro" else exponential(one)
                for step, one in enumerate(noisy)
            ]
        )
        rest, after = slice(len(true) // 4, len(true) // 2), slice(len(true) // 2, None)
        jitter = np.sqrt(((shown - true)[rest] ** 2).sum(axis=1).mean())
        there = np.abs(shown[after, 0] - JUMP_DEG) < 1.0
        found.append((jitter, np.argmax(there) / fps))
    jitter, delay = np.mean(found, axis=0)
    return float(jitter), float(delay)


@pytest.mark.parametrize("fps", [12, 25])
def test_one_euro_is_steadier_than_the_app_s_smoothing_and_no_later(fps: int) -> None:
    jitter, delay = jitter_and_delay("one euro", fps)
    app_jitter, app_delay = jitter_and_delay("exponential", fps)
    assert jitter < 0.9 * app_jitter
    assert delay <= app_delay


def test_one_euro_s_first_steps_are_the_paper_s() -> None:
    filtered = OneEuro(rest_hz=1.0, rise=0.1, speed_hz=2.0)
    assert filtered(0.0, (1.0, 2.0)).tolist() == [1.0, 2.0]

    def share(cutoff_hz: float) -> float:
        return 1 / (1 + 1 / (2 * np.pi * cutoff_hz * 0.1))

    speed = share(2.0) * np.array([30.0, 40.0])  # degrees a second, from rest
    part = share(1.0 + 0.1 * np.hypot(*speed))
    expected = part * np.array([4.0, 6.0]) + (1 - part) * np.array([1.0, 2.0])
    assert filtered(0.1, (4.0, 6.0)) == pytest.approx(expected)


def test_a_gap_or_a_time_that_does_not_advance_begins_anew() -> None:
    filtered = OneEuro()
    filtered(0.0, (0.0, 0.0))
    assert filtered(0.1, (10.0, 0.0))[0] < 9.0
    assert filtered(0.1, (10.0, 5.0)).tolist() == [10.0, 5.0]
    assert filtered(0.2 + LONGEST_GAP_S, (-7.0, 1.0)).tolist() == [-7.0, 1.0]


def test_the_app_s_smoothing() -> None:
    smooth = Exponential()
    assert smooth((10.0, -4.0)).tolist() == [10.0, -4.0]
    assert smooth((20.0, -4.0)).tolist() == pytest.approx([10 + 10 * SHARE, -4.0])
