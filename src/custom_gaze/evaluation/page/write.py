"""The page's templates filled in, and written."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from custom_gaze.common.files import write_text
from custom_gaze.common.look import DARK, FAMILY, LIGHT
from custom_gaze.config.paths import Paths
from custom_gaze.evaluation.comparisons import Comparison
from custom_gaze.evaluation.learning_curve import learning_curves
from custom_gaze.evaluation.page.content import Page, page_of, worst_of
from custom_gaze.evaluation.page.eyes import Eyes, eyes_of
from custom_gaze.evaluation.results import Evaluation

TEMPLATES = Path(__file__).parent


def write_pages(
    evaluation: Evaluation, comparison: Comparison, show_faces: bool, seed: int, paths: Paths
) -> None:
    """Write reports/report.html and its copy for others, which never shows a face.

    Args:
        evaluation, comparison: what was found.
        show_faces: whether the first shows the eyes of the worst frames.
        seed: of the learning curve's draws.
        paths: where the crops lie, and where the pages go.

    Raises:
        InputError: a crop cannot be read.
        CustomGazeError: a page cannot be written.
    """
    specification = evaluation.provenance.model.specification
    tested = {each.name: each.features for each in comparison.tested()}
    curves = learning_curves(comparison.known_features, tested, seed)
    plain = page_of(evaluation, comparison, curves, specification.geometry, [])
    write_text(paths.shared_report, rendered(plain))
    shown = plain
    if show_faces:
        eyes = _eyes(evaluation, comparison, paths)
        worst = [dataclasses.replace(w, eyes=e) for w, e in zip(plain.worst, eyes, strict=True)]
        shown = dataclasses.replace(plain, worst=worst)
    write_text(paths.report, rendered(shown))


def rendered(page: Page) -> str:
    """The page as HTML: one file, pictures inside, no script and no network."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    look = {"light": dataclasses.asdict(LIGHT), "dark": dataclasses.asdict(DARK)}
    return templates.get_template("page.html.j2").render(page=page, family=FAMILY, **look)


def _eyes(evaluation: Evaluation, comparison: Comparison, paths: Paths) -> Sequence[Eyes | None]:
    """Those of the worst frames."""
    of_frame = {
        (sample.session, sample.filename): (sample, angles)
        for group in comparison.tested()
        for sample, angles in zip(group.samples, group.exported_deg, strict=True)
    }
    found = [of_frame[row.session, row.filename] for row in worst_of(evaluation.predictions)]
    spec = evaluation.provenance.model.specification.preprocessing
    return eyes_of([sample for sample, _ in found], [angles for _, angles in found], spec, paths)
