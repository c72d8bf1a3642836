"""What stands on the report's page: plain values, in the order in which they are read.

Of all outputs this page and its copy alone carry a date, for a page that is looked at next month
has to say of when it is. Nothing depends on them, so an evaluation made again writes another page
and changes nothing else.
"""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from custom_gaze.data.index import Sample, labels_deg, targets_of
from custom_gaze.data.known_accuracy import another_day, drawn_base
from custom_gaze.data.splits import TEST, points_px
from custom_gaze.evaluation import report
from custom_gaze.evaluation.capture_next import Suggestion, capture_next
from custom_gaze.evaluation.comparisons import Comparison, Predictions
from custom_gaze.evaluation.headline import Headline
from custom_gaze.evaluation.learning_curve import LearningCurve
from custom_gaze.evaluation.page.charts import Chart
from custom_gaze.evaluation.page.curves import curve_chart, curve_sentences, loss_chart
from custom_gaze.evaluation.page.eyes import Eyes
from custom_gaze.evaluation.page.screens import Screen, mean_errors, screen_of
from custom_gaze.evaluation.page.sessions import SessionLine, session_lines, trained_frames
from custom_gaze.evaluation.results import TESTED_AS, Evaluation, PredictionRow
from custom_gaze.geometry import ScreenGeometry

DISTANCE_CM = 60.0  # of the eyes, for centimetres where nobody told the screen's width
LARGEST_DOT_PX = 340.0  # radius; a larger one would be the page
WORST = 6
TABLE = list[tuple[str, ...]]
KINDS = (  # before and after: the key in the comparison, the name, and the colour's
    ("base_deg", "base network as it is", "base"),
    ("best_correction_deg", "its best correction", "corrected"),
    ("", "yours", "gaze"),
)


@dataclass(frozen=True)
class Bar:
    """An error beside others; `share` of the largest one."""

    label: str
    kind: str
    error_deg: float
    share: float


@dataclass(frozen=True)
class View:
    """One screen with its predictions, of a kind."""

    label: str
    kind: str
    error_deg: float
    screen: Screen


@dataclass(frozen=True)
class Tested:
    """The same frames predicted by the base, its correction and the exported file."""

    name: str
    frames: int
    targets: int
    views: list[View]


@dataclass(frozen=True)
class WorstFrame:
    """One of the largest errors; `why` where the frame is suspect."""

    session: str
    filename: str
    tested_as: str
    error_deg: float
    error_px: float
    why: str
    screen: Screen
    eyes: Eyes | None


@dataclass(frozen=True)
class Where:
    """The screen with each tested target's error to scale, and places worth a target."""

    screen: Screen
    errors: list[tuple[float, float, float]]  # x, y, mean error, in pixels
    suggestions: list[Suggestion]


@dataclass(frozen=True)
class Page:
    """All of it; what there is not is empty or None."""

    sessions: str
    made: str
    experiment: str
    warnings: list[str]
    headline: Headline
    headline_cm: float
    distance_cm: float
    bars: list[Bar]
    dot: Screen
    real_dot: bool
    tested: list[Tested]
    worst: list[WorstFrame]
    where: Where
    curve: Chart | None
    curve_sentences: list[str]
    session_lines: list[SessionLine]
    suspects: TABLE
    excluded: TABLE
    unusable: TABLE
    errors: tuple[tuple[str, ...], TABLE]
    exported: str
    choice: TABLE
    loss: Chart | None
    loss_title: str
    made_with: TABLE


def page_of(
    evaluation: Evaluation,
    comparison: Comparison,
    curves: Sequence[LearningCurve],
    geometry: ScreenGeometry,
    eyes: Sequence[Eyes | None],
) -> Page:
    """The page of an evaluation.

    Args:
        evaluation, comparison: what was found.
        curves: what more targets would bring, by tested group.
        geometry: of the targets' screen.
        eyes: of the worst frames (`worst_of`), or nothing.
    """
    metrics, provenance = evaluation.metrics, evaluation.provenance
    headline = metrics.headline
    pixel_cm = DISTANCE_CM * math.tan(math.radians(geometry.deg_per_pixel))
    asked_px = points_px([*comparison.known, *of_group(comparison, TEST)])
    return Page(
        sessions=", ".join(provenance.model.sessions),
        made=made_on(),
        experiment=os.environ.get("DVC_EXP_NAME", ""),
        warnings=_warnings(evaluation, len(set(targets_of(comparison.known)))),
        headline=headline,
        headline_cm=headline.error_px * pixel_cm,
        distance_cm=DISTANCE_CM,
        bars=_bars(evaluation),
        dot=screen_of([], [], geometry),
        real_dot=headline.error_px <= LARGEST_DOT_PX,
        tested=[_tested(group, geometry) for group in comparison.tested()],
        worst=_worst(evaluation, geometry, eyes),
        where=_where(evaluation.predictions, asked_px, geometry),
        curve=curve_chart(curves),
        curve_sentences=curve_sentences(curves),
        session_lines=session_lines(comparison, provenance.train_frames, geometry),
        suspects=[
            (manifest.session, entry.filename, entry.why)
            for manifest in provenance.manifests
            for entry in manifest.suspects
        ],
        excluded=[
            (manifest.session, entry.filename, entry.reason)
            for manifest in provenance.manifests
            for entry in manifest.excluded
        ],
        unusable=[
            (manifest.session, entry.filename, entry.reason)
            for manifest in provenance.manifests
            for entry in manifest.unusable
        ],
        errors=(report.HEADER, _error_rows(evaluation)),
        exported=report.exported_line(metrics.choice),
        choice=list(report.choice_rows(metrics.choice)),
        loss=loss_chart(evaluation.log),
        loss_title=_loss_title(evaluation),
        made_with=_made_with(evaluation, comparison),
    )


def worst_of(rows: Sequence[PredictionRow]) -> list[PredictionRow]:
    """The tested frames with the largest errors, the worst first."""
    return sorted(rows, key=lambda row: -row.error_deg)[:WORST]


def _warnings(evaluation: Evaluation, calibrated_on: int) -> list[str]:
    found = []
    if evaluation.provenance.model.base.kind == "random":
        found.append(report.UNTRAINED_BASE)
    provenance = evaluation.provenance
    known = drawn_base(provenance.model.base.kind, (each.drawn for each in provenance.manifests))
    found += [f"{known[0].upper()}{known[1:]}."] if known else []
    if evaluation.metrics.headline.few:
        found.append(
            f"Only {evaluation.metrics.headline.targets} targets were left to test on: take the "
            "figure as a hint, and capture more."
        )
    if evaluation.metrics.cross_session is None:
        found.append(another_day(calibrated_on))
    return found


def _bars(evaluation: Evaluation) -> list[Bar]:
    """What the headline is to be compared with, on the same frames."""
    headline, test = evaluation.metrics.headline, evaluation.metrics.test
    on_test = headline.measured == TESTED_AS[TEST]
    found = [
        ("base network as it is", "base", test.base_deg if on_test else None),
        ("its best correction", "corrected", headline.correction_deg),
        ("yours", "gaze", headline.error_deg),
    ]
    known = [(label, kind, error) for label, kind, error in found if error is not None]
    largest = max(error for _, _, error in known) or 1.0
    return [Bar(label, kind, error, error / largest) for label, kind, error in known]


def _tested(group: Predictions, geometry: ScreenGeometry) -> Tested:
    targets = points_px(group.samples)
    true_deg = labels_deg(group.samples)
    views = []
    for key, label, kind in KINDS:
        if key and key not in group.compared_deg:
            continue
        angles = group.compared_deg[key] if key else group.exported_deg
        screen = screen_of(targets, geometry.to_pixels(angles), geometry)
        error = float(np.hypot(*(np.asarray(angles, np.float64) - true_deg).T).mean())
        views.append(View(label, kind, error, screen))
    count = len({sample.target for sample in group.samples})
    return Tested(TESTED_AS[group.name], len(group.samples), count, views)


def _worst(
    evaluation: Evaluation, geometry: ScreenGeometry, eyes: Sequence[Eyes | None]
) -> list[WorstFrame]:
    worst = worst_of(evaluation.predictions)
    why = {
        (manifest.session, entry.filename): entry.why
        for manifest in evaluation.provenance.manifests
        for entry in manifest.suspects
    }
    seen = eyes or [None] * len(worst)
    return [
        WorstFrame(
            *(row.session, row.filename, TESTED_AS[row.tested_as]),
            *(row.error_deg, row.error_deg / geometry.deg_per_pixel),
            why.get((row.session, row.filename), ""),
            screen_of(
                [(row.target_x, row.target_y)], [(row.predicted_x, row.predicted_y)], geometry
            ),
            mine,
        )
        for row, mine in zip(worst, seen, strict=True)
    ]


def of_group(comparison: Comparison, name: str) -> list[Sample]:
    """The frames of one group."""
    return [s for group in comparison.groups if group.name == name for s in group.samples]


def _where(
    rows: Sequence[PredictionRow], asked_px: NDArray[np.float64], geometry: ScreenGeometry
) -> Where:
    places = [(row.target_x, row.target_y) for row in rows]
    errors = [row.error_deg / geometry.deg_per_pixel for row in rows]
    return Where(
        screen_of(asked_px, asked_px, geometry),
        mean_errors([row.target for row in rows], places, errors),
        capture_next(asked_px, rows, geometry),
    )


def _error_rows(evaluation: Evaluation) -> TABLE:
    """The closing table's, of which the row of trained frames says of how many it is a sample."""
    measured, trained = evaluation.metrics.train.frames, evaluation.provenance.train_frames
    *rows, last = report.error_rows(evaluation.metrics)
    return [*rows, (trained_frames(measured, trained), *last[1:])]


def _loss_title(evaluation: Evaluation) -> str:
    log = evaluation.log
    for row in np.flatnonzero(log.exported):  # one at most
        return f"Exported is epoch {int(log.epoch[row])}, marked with a disc."
    return "Of the fine-tuned candidate, which is not exported."


def _made_with(evaluation: Evaluation, comparison: Comparison) -> TABLE:
    provenance = evaluation.provenance
    model, manifest = provenance.model, provenance.manifests[0]
    share = model.inner_share
    baseline = os.environ.get("DVC_EXP_BASELINE_REV", "")
    entries = [
        ("evaluated in experiment", os.environ.get("DVC_EXP_NAME", "")),
        ("which started from commit", baseline[:12]),
        ("sessions trained on", ", ".join(model.sessions)),
        ("captured", captured(comparison.known)),
        ("frames trained on", str(provenance.train_frames)),
        ("base network", f"{model.trunk}, {model.base.kind}, {model.base.source}"),
        ("exported", model.method.label),
        ("looks at", f"the inner {share:.0%} of the crop's side" if share < 1 else ""),
        ("best correction", provenance.correction),
        ("face detector", f"{manifest.detector.kind}, {manifest.detector.sha256[:12]}"),
        ("face mesh", manifest.mesh.sha256[:12] if manifest.mesh else ""),
        ("crop from", manifest.crop_from),
        ("code that trained", model.code_version),
        ("model (SHA-256)", provenance.model_sha256),
        ("dataset (SHA-256 of its index)", provenance.dataset_sha256),
    ]
    return [(name, value) for name, value in entries if value]


def made_on() -> str:
    """Now, as the page says it."""
    return datetime.now().astimezone().strftime("%-d %B %Y, %H:%M %Z")


def captured(samples: Sequence[Sample]) -> str:
    """The day or days on which frames were captured, by their names, which are times."""
    found = [re.search("[0-9]{12,14}", sample.filename) for sample in samples]
    seconds = sorted(int(match[0]) / 1000 for match in found if match)
    days = [
        datetime.fromtimestamp(moment, timezone.utc).strftime("%-d %B %Y")
        for moment in (seconds[:1] + seconds[-1:])
    ]
    return " to ".join(dict.fromkeys(days))
