"""How often a 95 % interval of few targets covers the mean error: several ways to make one.

    python bench/interval_coverage.py [--sessions 500]

Sessions of n targets with two frames each are drawn, whose true mean error is known. Gaze errors
are lengths, so they are skewed: a Rayleigh distribution is what equal noise in yaw and pitch gives,
gamma and lognormal ones have the longer tails of targets that a model predicts badly. Frames of a
target share most of their error. Printed is the share of sessions whose interval holds the true
mean; for `log-t`, which the reports use, also its median width over the mean.
"""

import argparse
import platform
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from custom_gaze.evaluation.metrics import mean_interval

COUNTS = (3, 5, 8, 10, 16, 25)
DRAWS = 600  # bootstrap
FRAME_SIGMA = 0.3  # of a frame's share in the error of its target, lognormal with mean 1
TAIL = 0.025

Interval = tuple[float, float]
# A target's error by how skewed it is: the distribution, its mean.
ERRORS: dict[str, tuple[Callable[[np.random.Generator, int], NDArray[np.float64]], float]] = {
    "Rayleigh": (lambda rng, n: rng.rayleigh(1.0, n), float(np.sqrt(np.pi / 2))),
    "gamma 2": (lambda rng, n: rng.gamma(2.0, 1.0, n), 2.0),
    "gamma 1": (lambda rng, n: rng.gamma(1.0, 1.0, n), 1.0),
    "lognormal 0.8": (lambda rng, n: rng.lognormal(0.0, 0.8, n), float(np.exp(0.32))),
}


def percentile(means: NDArray[np.float64], rng: np.random.Generator) -> Interval:
    """Percentiles of the cluster bootstrap, their tails expanded (Hesterberg 2015, section 5.3)."""
    count = len(means)
    tail = float(norm.cdf(-((count / (count - 1)) ** 0.5) * t.ppf(1 - TAIL, count - 1)))
    low, high = np.quantile(_resampled(means, rng), [tail, 1 - tail])
    return float(low), float(high)


def bias_corrected(means: NDArray[np.float64], rng: np.random.Generator) -> Interval:
    """BCa (Efron 1987): percentiles shifted by the bootstrap's bias and the skewness."""
    drawn = _resampled(means, rng)
    below = (drawn < means.mean()).mean() + 0.5 * (drawn == means.mean()).mean()
    bias = norm.ppf(np.clip(below, 1e-3, 1 - 1e-3))
    left_out = (means - means.mean()) / (len(means) - 1)  # the jackknife's deviations
    skew = (left_out**3).sum() / (6 * max((left_out**2).sum() ** 1.5, 1e-12))
    ends = [bias + (bias + z) / (1 - skew * (bias + z)) for z in norm.ppf([TAIL, 1 - TAIL])]
    low, high = np.quantile(drawn, norm.cdf(ends))
    return float(low), float(high)


def plain_t(means: NDArray[np.float64], rng: np.random.Generator) -> Interval:
    """Student's t on the targets' means."""
    count = len(means)
    half = float(t.ppf(1 - TAIL, count - 1) * means.std(ddof=1) / count**0.5)
    return float(means.mean()) - half, float(means.mean()) + half


def _resampled(means: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    drawn = means[rng.integers(0, len(means), (DRAWS, len(means)))]
    return np.asarray(drawn.mean(axis=1), np.float64)


OTHERS = {"percentile": percentile, "BCa": bias_corrected, "t": plain_t}


def coverage(name: str, count: int, sessions: int) -> dict[str, float]:
    """The share of `sessions` of `count` targets whose interval covers the true mean, by method;
    under "width" the median width of log-t's over the true mean."""
    draw, mean = ERRORS[name]
    rng = np.random.default_rng([count, sessions])
    hits = dict.fromkeys(("log-t", *OTHERS), 0)
    widths = []
    for _ in range(sessions):
        frames = rng.lognormal(-(FRAME_SIGMA**2) / 2, FRAME_SIGMA, (count, 2))
        errors = draw(rng, count)[:, None] * frames
        found = {way: interval(errors.mean(axis=1), rng) for way, interval in OTHERS.items()}
        found["log-t"] = mean_interval(errors.ravel(), [n // 2 for n in range(2 * count)]) or (0, 0)
        for way, (low, high) in found.items():
            hits[way] += low <= mean <= high
        widths.append((found["log-t"][1] - found["log-t"][0]) / mean)
    shares = {way: hit / sessions for way, hit in hits.items()}
    return {**shares, "width": float(np.median(widths))}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=500, metavar="N", help="default: 500")
    sessions = parser.parse_args(argv).sessions
    print(f"{platform.machine()}, Python {platform.python_version()}, {sessions} sessions a cell\n")
    ways = ("log-t", *OTHERS)
    print(f"| errors | targets | {' | '.join(ways)} | log-t's width |")
    print(f"|---|---|{'---|' * (len(ways) + 1)}")
    for name in ERRORS:
        for count in COUNTS:
            found = coverage(name, count, sessions)
            cells = " | ".join(f"{100 * found[way]:.0f} %" for way in ways)
            print(f"| {name} | {count} | {cells} | {found['width']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
