"""The closing table and reports/report.html: what was measured, on what, with what."""

import base64
from collections.abc import Iterator
from pathlib import Path

from custom_gaze.common.console import aligned
from custom_gaze.common.files import write_text
from custom_gaze.common.untrusted import printable
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.paths import Paths
from custom_gaze.data.splits import CROSS_SESSION, TEST, TRAIN
from custom_gaze.evaluation.headline import Headline
from custom_gaze.evaluation.page import PAGE
from custom_gaze.evaluation.results import (
    TESTED_AS,
    Choice,
    Evaluation,
    Figures,
    Metrics,
    Provenance,
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
    lines = [
        aligned(HEADER, _error_rows(metrics)),
        "",
        f"error     {headline_line(metrics.headline)}",
        f"exported  {_exported(metrics.choice)}",
    ]
    return "\n".join([*lines, f"model     {paths.model}", f"report    {paths.report}"])


def headline_line(headline: Headline) -> str:
    """The headline in one line."""
    low, high = headline.low_deg, headline.high_deg
    interval = "" if low is None else f" (95 %: {low:.2f}–{high:.2f}°)"
    error = f"{headline.error_deg:.2f}°{interval}, {headline.error_px:.0f} pixels"
    return f"{error}, {headline.measured_on}"


def _exported(choice: Choice) -> str:
    return f"{choice.exported.label}: {printable(choice.reason, 1000)}"


def _error_rows(metrics: Metrics) -> list[tuple[str, ...]]:
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


def write_html(evaluation: Evaluation, paths: Paths) -> None:
    """Write reports/report.html: one file, pictures inside, no script and no network."""
    from jinja2 import Environment

    metrics, provenance = evaluation.metrics, evaluation.provenance
    page = Environment(autoescape=True, keep_trailing_newline=True).from_string(PAGE)
    content = page.render(
        warning=UNTRAINED_BASE if provenance.model.base.kind == "random" else "",
        header=HEADER,
        errors=_error_rows(metrics),
        exported=_exported(metrics.choice),
        held_out=list(_held_out_rows(metrics.choice)),
        sessions=[
            (each.session, TESTED_AS[each.group], *_cells(each.figures))
            for each in evaluation.sessions
        ],
        pictures=[
            ("Targets and the model's predictions on the screen", _base64(paths.screen_plot)),
            ("Mean error of each target", _base64(paths.error_plot)),
            ("Loss per epoch: frames trained on, and held-out targets", _base64(paths.loss_plot)),
        ],
        left_out=[
            (manifest.session, entry.filename, entry.reason)
            for manifest in provenance.manifests
            for entry in manifest.left_out
        ],
        made_with=_made_with(provenance),
    )
    write_text(paths.report, content)


def _held_out_rows(choice: Choice) -> Iterator[tuple[str, str]]:
    """What the choice was made by: no test target is among these."""
    for candidate in Candidate:
        if (error := getattr(choice, candidate.held_out)) is not None:
            yield candidate.label, f"{error:.2f}°"


def _base64(picture: Path) -> str:
    return base64.b64encode(picture.read_bytes()).decode()


def _made_with(provenance: Provenance) -> list[tuple[str, str]]:
    model, manifest = provenance.model, provenance.manifests[0]
    return [
        ("base network", f"{model.trunk}, {model.base.kind}, {model.base.source}"),
        ("exported", model.method.label),
        ("best correction", provenance.correction),
        ("face detector", f"{manifest.detector.kind}, {manifest.detector.sha256[:12]}"),
        ("crop from", manifest.crop_from),
        ("frames trained on", str(provenance.train_frames)),
        ("code that trained", model.code_version),
        ("model (SHA-256)", provenance.model_sha256),
        ("dataset (SHA-256 of its index)", provenance.dataset_sha256),
    ]
