"""The outcome of bench/accuracy.py as a table in Markdown, as JSON and as a plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from numpy.typing import NDArray

from accuracy_results import OTHER, SAME, Interval, Measures, Outcome
from custom_gaze.common.files import whole_file
from custom_gaze.evaluation.metrics import mean_interval

TITLES = {SAME: "same session, held-out targets", OTHER: "another session"}
BEST_CORRECTION = "best_correction"
NAMES = {
    "constant": "mean of the targets",
    "centre": "screen's centre",
    "base": "base as it is",
    "gain_offset": "gain and offset",
    "quadratic": "quadratic",
    "svr": "SVR",
    "best_correction": "best correction",
    "corrected_base": "corrected base",
    "probe": "linear probe",
    "fine_tuned": "fine-tuned",
    "fine_tuned_from_probe": "fine-tuned from linear probe",
    "auto": "auto (exported)",
}
COLOURS = {
    "centre": "#9aa5b1",
    "base": "#5f6b7a",
    "gain_offset": "#7fb3d8",
    "quadratic": "#3d86c6",
    "svr": "#7d6bb5",
    "best_correction": "#1b4f8a",
    "corrected_base": "#2f6fb0",
    "probe": "#2a9d6f",
    "fine_tuned": "#d1495b",
    "fine_tuned_from_probe": "#e08e45",
    "auto": "#222222",
}
STRONG = ("best_correction", "fine_tuned", "auto")  # drawn with their intervals
LABEL_STEP = 0.05  # of the plot's height, between two lines' names
COMPARED = ("fine_tuned", "auto")  # with the best correction, person by person
WORSE_BY = 1.05  # from here on a person counts as one for whom a method is worse


@dataclass(frozen=True)
class Compared:
    """A method against the best correction: their mean errors' ratio, and for how many of the
    persons it is worse by more than 5 %."""

    ratio: float
    persons_worse: int


@dataclass(frozen=True)
class Side:
    """What was measured on the same kind of sessions.

    Attributes:
        persons: who has such sessions.
        error_deg: by method and k; over persons, or over targets where there is one person.
        compared: by method and k.
        slope: (mean, least, most) over persons of the base's yaw and pitch against the truth.
    """

    persons: tuple[str, ...]
    error_deg: dict[str, dict[int, Interval]]
    compared: dict[str, dict[int, Compared]]
    slope: dict[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Summary:
    """One base network's figures; every person has every k.

    Attributes:
        persons, targets: measured ones, and the k.
        sides: by SAME and OTHER, as far as they were measured.
        corrections: by k, how often the best correction was which one.
    """

    persons: tuple[str, ...]
    targets: tuple[int, ...]
    sides: dict[str, Side]
    corrections: dict[int, dict[str, int]]


def summary(outcomes: Sequence[Outcome]) -> Summary:
    """The figures over persons of one base network's results."""
    ks = tuple(sorted({outcome.k for outcome in outcomes}))
    persons = tuple(dict.fromkeys(outcome.person for outcome in outcomes))
    present = {side for outcome in outcomes for side in outcome.tested}
    return Summary(
        persons,
        ks,
        {
            side: _side([o for o in outcomes if side in o.tested], side, ks)
            for side in TITLES
            if side in present
        },
        {k: _corrections([o for o in outcomes if o.k == k]) for k in ks},
    )


def _side(outcomes: Sequence[Outcome], side: str, ks: Sequence[int]) -> Side:
    tested = {k: [o.tested[side] for o in outcomes if o.k == k] for k in ks}
    methods = list(tested[ks[0]][0].error_deg)
    errors = {
        m: {k: _over_persons([t.error_deg[m] for t in tested[k]]) for k in ks} for m in methods
    }
    compared = {
        method: {k: _compared(tested[k], method) for k in ks}
        for method in COMPARED
        if {method, BEST_CORRECTION} <= set(methods)
    }
    slopes = np.array([each.slope for each in tested[ks[0]]])
    names = tuple(dict.fromkeys(outcome.person for outcome in outcomes))
    return Side(names, errors, compared, _slopes(slopes))


def _compared(tested: Sequence[Measures], method: str) -> Compared:
    ours, theirs = (
        np.array([each.error_deg[name].mean for each in tested])
        for name in (method, BEST_CORRECTION)
    )
    worse = int((ours > WORSE_BY * theirs).sum())
    return Compared(round(float(ours.mean() / theirs.mean()), 3), worse)


def _over_persons(errors_deg: Sequence[Interval]) -> Interval:
    """Of persons' mean errors, each one observation; of one person the interval over targets."""
    if len(errors_deg) == 1:
        low, high = errors_deg[0].low, errors_deg[0].high
        mean = errors_deg[0].mean
    else:
        means = np.array([each.mean for each in errors_deg])
        mean = float(means.mean())
        low, high = mean_interval(means, range(len(means))) or (None, None)
    rounded = (None if end is None else round(end, 3) for end in (low, high))
    return Interval(mean=round(mean, 3), low=next(rounded), high=next(rounded))


def _slopes(values: NDArray[np.float64]) -> dict[str, tuple[float, float, float]]:
    """(mean, smallest, largest) over persons of (P, 2) slopes."""
    some = (values.mean(axis=0), values.min(axis=0), values.max(axis=0))
    means, least, most = (np.round(each, 3).tolist() for each in some)
    return {axis: (means[n], least[n], most[n]) for n, axis in enumerate(("yaw", "pitch"))}


def _corrections(outcomes: Sequence[Outcome]) -> dict[str, int]:
    said = [outcome.remarks.get(BEST_CORRECTION) for outcome in outcomes]
    names = [remark.correction for remark in said if remark and remark.correction]
    return {name: names.count(name) for name in sorted(set(names))}


def markdown(sections: Mapping[str, Summary], facts: Sequence[str]) -> str:
    """The whole page: what was measured, then a section for each base network."""
    lines = ["# Accuracy after a calibration", ""]
    lines += [f"- {fact}" for fact in facts]
    for name, figures in sections.items():
        lines += ["", f"## Base network: {name}", ""]
        lines += _slope_lines(figures)
        for side, measured in figures.sides.items():
            lines += ["", f"Mean error in degrees, {TITLES[side]} ({_interval_of(measured)}):", ""]
            lines += _table(measured, figures.targets)
    return "\n".join(lines) + "\n"


def _interval_of(side: Side) -> str:
    count = len(side.persons)
    if count == 1:
        return "one person; 95 % interval over targets"
    return f"{count} persons; 95 % interval over persons" if count > 2 else f"{count} persons"


def _slope_lines(figures: Summary) -> list[str]:
    lines = []
    for side, measured in figures.sides.items():
        parts = [
            f"{axis} {mean:+.2f} ({low:+.2f} to {high:+.2f})"
            for axis, (mean, low, high) in measured.slope.items()
        ]
        what = TITLES[side].partition(",")[0]
        lines.append(f"- slope of its angles against the truth, {what}: {', '.join(parts)}")
    chosen = "; ".join(
        f"{k} targets: " + ", ".join(f"{NAMES[name]} {count}" for name, count in counts.items())
        for k, counts in figures.corrections.items()
        if counts
    )
    return [*lines, *([f"- best correction, persons by what was chosen: {chosen}"] * bool(chosen))]


def _table(side: Side, ks: Sequence[int]) -> list[str]:
    lines = [
        f"| method | {' | '.join(f'{k} targets' for k in ks)} |",
        f"|---|{'---|' * len(ks)}",
    ]
    for method, by_k in side.error_deg.items():
        cells = [_cell(by_k[k]) for k in ks]
        lines.append(f"| {NAMES.get(method, method)} | {' | '.join(cells)} |")
    total = len(side.persons)
    for method, ratios in side.compared.items():
        name = NAMES[method].partition(" (")[0]
        cells = [f"{ratios[k].ratio:.2f}" for k in ks]
        lines.append(f"| **{name} ÷ best correction** | {' | '.join(cells)} |")
        cells = [f"{ratios[k].persons_worse} of {total}" for k in ks]
        lines.append(f"| {name}: persons worse by more than 5 % | {' | '.join(cells)} |")
    return lines


def _cell(error: Interval) -> str:
    ends = "–" if error.low is None else f"{error.low:.2f}–{error.high:.2f}"
    return f"{error.mean:.2f} ({ends})"


def draw(sections: Mapping[str, Summary], path: Path) -> None:
    """Error against the number of targets: a row for each base network, a panel for each kind of
    session."""
    sides = list(next(iter(sections.values())).sides)
    figure = Figure(figsize=(6.5 * len(sides), 5 * len(sections)), layout="constrained")
    rows = figure.subplots(len(sections), len(sides), squeeze=False)
    for (name, figures), row in zip(sections.items(), rows, strict=True):
        highest = max(
            error.mean
            for side in figures.sides.values()
            for by_k in side.error_deg.values()
            for error in by_k.values()
        )
        for side, axes in zip(sides, row, strict=True):
            axes.set_ylim(0, 1.1 * highest)  # both alike
            axes.set_title(f"{name} base: {TITLES[side]}")
            _panel(axes, figures.sides[side], figures.targets)
        row[0].set_ylabel(f"mean error over {len(figures.persons)} persons (degrees)")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})


def _panel(axes: Axes, side: Side, ks: Sequence[int]) -> None:
    ends = {}
    for method, by_k in side.error_deg.items():
        errors = [(by_k[k].mean, by_k[k].low, by_k[k].high) for k in ks]
        mean, low, high = np.array(errors, float).T  # None becomes NaN
        colour, strong = COLOURS.get(method, "black"), method in STRONG
        style = "--" if method in ("centre", "base") else "-"
        width = 2.4 if strong else 1.2
        axes.plot(ks, mean, style, color=colour, linewidth=width, marker="o", markersize=4)
        if strong:
            axes.fill_between(ks, low, high, color=colour, alpha=0.13, linewidth=0)
        ends[method] = float(mean[-1])
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(ks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlim(ks[0] / 1.1, ks[-1] * 1.1)
    axes.set_xlabel("targets calibrated on")
    axes.grid(alpha=0.3)
    _label(axes, ends, ks[-1])


def _label(axes: Axes, ends: Mapping[str, float], last: int) -> None:
    """Each line's name beside its end, moved apart where lines end together."""
    top = axes.get_ylim()[1]
    names = sorted(ends, key=lambda method: ends[method])
    heights = spread_out([ends[method] / top for method in names], LABEL_STEP)
    for method, height in zip(names, heights, strict=True):
        colour = COLOURS.get(method, "black")
        axes.annotate(
            f"{NAMES.get(method, method)} {ends[method]:.1f}°",
            (last, ends[method]),
            (1.06, height),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=colour,
            fontweight="bold" if method in STRONG else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "lw": 0.6,
                "relpos": (0, 0.5),
                "shrinkB": 4,
            },
        )


def spread_out(heights: Sequence[float], step: float) -> list[float]:
    """Rising heights moved apart to `step` at least, neighbours about their common middle."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _bottom(groups[-1], step) < _top(groups[-2], step) + step:
            last = groups.pop()
            groups[-1] += last
    return [
        _bottom(group, step) + number * step for group in groups for number in range(len(group))
    ]


def _bottom(group: Sequence[float], step: float) -> float:
    """Where a group of labels begins, centred on its lines' ends."""
    return sum(group) / len(group) - step * (len(group) - 1) / 2


def _top(group: Sequence[float], step: float) -> float:
    return _bottom(group, step) + step * (len(group) - 1)
