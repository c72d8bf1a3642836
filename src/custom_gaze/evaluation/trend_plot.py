"""reports/history.png: the error of every calibration on one session, one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from custom_gaze.common.look import LIGHT
from custom_gaze.evaluation.metrics import Measure
from custom_gaze.evaluation.plots import save

MOST_NAMED = 40  # more names than that would lie over each other
MOST_LETTERS = 22  # of a name


@dataclass(frozen=True)
class TrendPoint:
    """One calibration. `figures` are on the session that all are measured on, None where they are
    not known; `test_error_deg` is on its own held-out targets."""

    name: str
    when: datetime
    figures: Measure | None
    trained_on: bool  # whether it was trained on that session
    test_error_deg: float | None
    is_live: bool


def draw_trend(points: Sequence[TrendPoint], session: str, path: Path) -> None:
    """Draw the points in their order, with 95 % intervals over targets.

    Raises:
        CustomGazeError: the picture cannot be written.
    """
    figure = Figure(figsize=(max(7.0, min(16.0, 3 + 0.4 * len(points))), 5.4), layout="constrained")
    figure.set_facecolor(LIGHT.paper)
    axes = figure.subplots()
    axes.set_facecolor(LIGHT.screen)
    compared = [(x, p.figures) for x, p in enumerate(points) if p.figures and not p.trained_on]
    trained = [(x, p.figures) for x, p in enumerate(points) if p.figures and p.trained_on]
    for found, color, face, label, line in (
        (compared, LIGHT.gaze, LIGHT.gaze, f"on {session}, not trained on it", "-"),
        (trained, LIGHT.base, LIGHT.screen, f"on {session}, trained on it: not comparable", ""),
    ):
        if found:
            axes.errorbar(
                [x for x, _ in found],
                [each.error_deg for _, each in found],
                yerr=np.array([_reach(each) for _, each in found]).T,
                fmt="o",
                linestyle=line,
                linewidth=1,
                capsize=3,
                color=color,
                markerfacecolor=face,
                label=label,
                zorder=3,
            )
    tested = [(x, p.test_error_deg) for x, p in enumerate(points) if p.test_error_deg is not None]
    if tested:
        axes.plot(*zip(*tested, strict=True), "_", color=LIGHT.target, markersize=10)
        axes.lines[-1].set_label("on its own held-out targets")
    for x, point in enumerate(points):
        if point.is_live:
            axes.axvline(x, color=LIGHT.corrected, linewidth=8, alpha=0.25, zorder=0, label="live")
    axes.set(
        ylabel="mean error (degrees), 95 % interval",
        title=f"Every calibration on one session: {session}",
        xlim=(-0.6, len(points) - 0.4),
    )
    axes.set_ylim(bottom=0)
    every = max(1, -(-len(points) // MOST_NAMED))
    axes.set_xticks(
        range(0, len(points), every),
        [_label(point) for point in points[::every]],
        rotation=50 if len(points) > 6 else 0,
        ha="right" if len(points) > 6 else "center",
        fontsize=8,
    )
    axes.grid(axis="y", color=LIGHT.grid)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    save(figure, path)


def _reach(figures: Measure) -> tuple[float, float]:
    """How far the interval reaches below and above the mean; nowhere where there is none."""
    if figures.low_deg is None or figures.high_deg is None:
        return 0.0, 0.0
    return figures.error_deg - figures.low_deg, figures.high_deg - figures.error_deg


def _label(point: TrendPoint) -> str:
    name = point.name
    short = name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"
    return f"{short}\n{point.when:%d %b %Y}"
