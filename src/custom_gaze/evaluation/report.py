"""The closing table: what was measured, and on what; the page's tables have its cells."""

from collections.abc import Iterator

from custom_gaze.common.console import aligned
from custom_gaze.common.untrusted import printable
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.paths import Paths
from custom_gaze.data.splits import CROSS_SESSION, TEST, TRAIN
from custom_gaze.evaluation.headline import Headline
from custom_gaze.evaluation.results import (
    TESTED_AS,
    Choice,
    Figures,
    Metrics,
    read_metrics,
)

UNTRAINED_BASE = (
    "The base network has random weights: no network that knows eyes was given, so the figures "
    "show that the pipeline works and not what calibration can reach."
)
NONE = "–"  # in a table, where there is no figure
MEASURED_ON = {
    TEST: f"{TESTED_AS[TEST]}, same session",
    CROSS_SESSION: TESTED_AS[CROSS_SESSION],
    TRAIN: "frames it was trained on",
}
COLUMNS = {**TESTED_AS, TRAIN: "trained on"}  # the same, in the terminal
# What is measured beside the exported file, by its key in the metrics; first what a user has
# without training. The corrected base, a candidate, is among the metrics and not here: it is the
# best correction without the support vector regressor, and mostly the same.
COMPARED = {
    "constant_deg": "constant",
    "base_deg": "base as it is",
    "best_correction_deg": "best correction",
    **{each.metric: each.label for each in (Candidate.PROBE, Candidate.FINETUNE)},
}
HEADER = (
    *("measured on", "frames", "targets", *COMPARED.values()),
    *("exported", "95 % interval", "pixels"),
)


def closing_table(paths: Paths) -> str:
    """The errors measured and the model's path, as text for the end of a run.

    Raises:
        InputError: nothing was evaluated yet, or figures.json is damaged.
    """
    metrics = read_metrics(paths.figures)
    # A column for each group of frames: the other way round it is too wide for a terminal.
    _, *rows = zip(HEADER, *error_rows(metrics), strict=True)
    lines = [
        aligned((HEADER[0], *(COLUMNS[name] for name in metrics.groups())), rows),
        "",
        f"error     {headline_line(metrics.headline)}",
        f"exported  {exported_line(metrics.choice)}",
    ]
    return "\n".join([*lines, f"model     {paths.model}", f"report    {paths.report}"])


def headline_line(headline: Headline) -> str:
    """The headline in one line."""
    low, high = headline.low_deg, headline.high_deg
    interval = "" if low is None else f" (95 %: {low:.2f}–{high:.2f}°)"
    error = f"{headline.error_deg:.2f}°{interval}, {headline.error_px:.0f} pixels"
    return f"{error}, {headline.measured_on}"


def exported_line(choice: Choice) -> str:
    return f"{choice.exported.label}: {printable(choice.reason, 1000)}"


def error_rows(metrics: Metrics) -> list[tuple[str, ...]]:
    return [(MEASURED_ON[name], *_cells(figures)) for name, figures in metrics.groups().items()]


def _cells(figures: Figures) -> tuple[str, ...]:
    """What HEADER has behind its first column."""
    compared = (getattr(figures, key) for key in COMPARED)
    low, high = figures.low_deg, figures.high_deg
    return (
        *(str(figures.frames), str(figures.targets)),
        *(NONE if error is None else f"{error:.2f}°" for error in compared),
        f"{figures.error_deg:.2f}°",
        NONE if low is None else f"{low:.2f}–{high:.2f}°",
        f"{figures.error_px:.0f}",
    )


def choice_rows(choice: Choice) -> Iterator[tuple[str, str]]:
    """What the choice was made by: no test target is among these."""
    for candidate in Candidate:
        if (error := getattr(choice, candidate.held_out)) is not None:
            yield candidate.label, f"{error:.2f}°"
