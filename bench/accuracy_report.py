"""The outcome of bench/accuracy.py as a table in Markdown, as JSON and as a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from custom_gaze.common.files import whole_file
from custom_gaze.evaluation.metrics import mean_interval

DAYS = {"same_day": "same day, held-out targets", "other_day": "another day"}
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

Result = Mapping[str, Any]  # one result file: one base network, person and k


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """Figures over persons of one base network's results; every person has every k.

    `error_deg[day][method][k]` is [mean, low, high], the 95 % interval over persons; both
    ends are None with fewer than three of them.
    """
    ks = sorted({result["k"] for result in results})
    persons = sorted({result["person"] for result in results})
    by = {(result["person"], result["k"]): result for result in results}
    first = [by[person, ks[0]] for person in persons]
    methods = list(first[0]["error_deg"]["same_day"])
    errors: dict[str, Any] = {day: {method: {} for method in methods} for day in DAYS}
    compared = [method for method in COMPARED if method in methods]
    ratios: dict[str, Any] = {method: {day: {} for day in DAYS} for method in compared}
    for day in DAYS:
        for k in ks:
            of = {
                method: np.array([by[p, k]["error_deg"][day][method] for p in persons])
                for method in methods
            }
            for method in methods:
                errors[day][method][str(k)] = interval_over_persons(of[method])
            for method in compared:
                ours, theirs = of[method], of["best_correction"]
                ratios[method][day][str(k)] = {
                    "ratio": round(float(ours.mean() / theirs.mean()), 3),
                    "persons_worse": int((ours > WORSE_BY * theirs).sum()),
                }
    slopes = {day: np.array([result["slope"][day] for result in first]) for day in DAYS}
    return {
        "persons": persons,
        "targets": ks,
        "error_deg": errors,
        **{f"{method}_over_best_correction": ratios[method] for method in compared},
        "slope": {day: _slopes(values) for day, values in slopes.items()},
        "corrections_chosen": {
            str(k): _counts([by[p, k]["notes"]["best_correction"]["correction"] for p in persons])
            for k in ks
        },
    }


def interval_over_persons(errors_deg: np.ndarray) -> list[float | None]:
    """[mean, low, high] of persons' mean errors (P,): each person is one observation."""
    low, high = mean_interval(errors_deg, range(len(errors_deg))) or (None, None)
    return [
        value if value is None else round(float(value), 3)
        for value in (errors_deg.mean(), low, high)
    ]


def _slopes(values: np.ndarray) -> dict[str, list[float]]:
    """[mean, smallest, largest] over persons of (P, 2) slopes."""
    return {
        axis: [round(float(some(values[:, number])), 3) for some in (np.mean, np.min, np.max)]
        for number, axis in enumerate(("yaw", "pitch"))
    }


def _counts(names: Sequence[str]) -> dict[str, int]:
    return {name: names.count(name) for name in sorted(set(names))}


def markdown(sections: Mapping[str, dict[str, Any]], facts: Sequence[str]) -> str:
    """The whole page: what was measured, then a section for each base network."""
    lines = ["# Accuracy on unseen simulated persons", ""]
    lines += [f"- {fact}" for fact in facts]
    for name, figures in sections.items():
        lines += ["", f"## Base network: {name}", ""]
        lines += _slope_lines(figures)
        for day, title in DAYS.items():
            lines += ["", f"Mean error in degrees, {title} (95 % interval over persons):", ""]
            lines += _table(figures, day)
    return "\n".join(lines) + "\n"


def _slope_lines(figures: dict[str, Any]) -> list[str]:
    lines = []
    for day, title in DAYS.items():
        parts = [
            f"{axis} {mean:+.2f} ({low:+.2f} to {high:+.2f})"
            for axis, (mean, low, high) in figures["slope"][day].items()
        ]
        what = title.partition(",")[0]
        lines.append(f"- slope of its angles against the truth, {what}: {', '.join(parts)}")
    chosen = "; ".join(
        f"{k} targets: " + ", ".join(f"{NAMES[name]} {count}" for name, count in counts.items())
        for k, counts in figures["corrections_chosen"].items()
    )
    return [*lines, f"- best correction, persons by what was chosen: {chosen}"]


def _table(figures: dict[str, Any], day: str) -> list[str]:
    ks = [str(k) for k in figures["targets"]]
    lines = [
        f"| method | {' | '.join(f'{k} targets' for k in ks)} |",
        f"|---|{'---|' * len(ks)}",
    ]
    for method, by_k in figures["error_deg"][day].items():
        cells = [_cell(*by_k[k]) for k in ks]
        lines.append(f"| {NAMES.get(method, method)} | {' | '.join(cells)} |")
    total = len(figures["persons"])
    for method in COMPARED:
        if f"{method}_over_best_correction" not in figures:
            continue
        name = NAMES[method].partition(" (")[0]
        ratios = figures[f"{method}_over_best_correction"][day]
        cells = [f"{ratios[k]['ratio']:.2f}" for k in ks]
        lines.append(f"| **{name} ÷ best correction** | {' | '.join(cells)} |")
        cells = [f"{ratios[k]['persons_worse']} of {total}" for k in ks]
        lines.append(f"| {name}: persons worse by more than 5 % | {' | '.join(cells)} |")
    return lines


def _cell(mean: float, low: float | None, high: float | None) -> str:
    return f"{mean:.2f} ({'–' if low is None else f'{low:.2f}–{high:.2f}'})"


def draw(sections: Mapping[str, dict[str, Any]], path: Path) -> None:
    """Error against the number of targets: a row for each base network, a panel for each day."""
    figure = Figure(figsize=(13, 5 * len(sections)), layout="constrained")
    rows = figure.subplots(len(sections), len(DAYS), squeeze=False)
    for (name, figures), row in zip(sections.items(), rows, strict=True):
        highest = max(
            mean
            for by_method in figures["error_deg"].values()
            for by_k in by_method.values()
            for mean, _, _ in by_k.values()
        )
        for (day, title), axes in zip(DAYS.items(), row, strict=True):
            axes.set_ylim(0, 1.1 * highest)  # both days alike
            axes.set_title(f"{name} base: {title}")
            _panel(axes, figures, day)
        row[0].set_ylabel(f"mean error over {len(figures['persons'])} persons (degrees)")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})


def _panel(axes: Axes, figures: dict[str, Any], day: str) -> None:
    ks = figures["targets"]
    ends = {}
    for method, by_k in figures["error_deg"][day].items():
        mean, low, high = np.array([by_k[str(k)] for k in ks], float).T  # None becomes NaN
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
