"""The report's page in a real browser: as wide as a desktop and a phone, in light and in dark."""

import base64
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import enter, filled, make_project
from custom_gaze.data.splits import CROSS_SESSION, TEST
from custom_gaze.evaluation.learning_curve import CurvePoint, LearningCurve
from custom_gaze.evaluation.page import write
from custom_gaze.evaluation.page.content import Page, page_of
from custom_gaze.evaluation.page.curves import curve_chart, curve_sentences
from custom_gaze.evaluation.page.eyes import Arrow, Eyes
from custom_gaze.evaluation.page.screens import screen_of
from custom_gaze.faces.crops import jpeg
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.stages import evaluate

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"
)
WIDTHS, SCHEMES = (1400, 400), ("light", "dark")
GEOMETRY = ScreenGeometry()

# What a reader would see as broken, as sentences.
FLAWS = (Path(__file__).parent / "page_flaws.js").read_text()
DECODED = """
async () => {
  const widths = [];
  for (const image of document.querySelectorAll('svg image, img')) {
    const copy = new Image();
    copy.src = image.getAttribute('href') ?? image.src;
    await copy.decode().catch(() => {});
    widths.push(copy.naturalWidth);
  }
  return widths;
}
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, chosen_once: Path) -> Path:
    """A folder with the page of a real evaluation, and one of everything that can stand on it."""
    folder = tmp_path_factory.mktemp("pages")
    project = filled(make_project(folder / "project"), chosen_once)
    caught: list[tuple[Any, ...]] = []
    with pytest.MonkeyPatch.context() as patch:
        enter(project, patch)
        patch.setattr(evaluate, "write_pages", lambda *arguments: caught.append(arguments))
        evaluate.run(project.params, project.paths)
        evaluation, comparison, *_ = caught[0]
        page = page_of(evaluation, comparison, [], GEOMETRY, [])
    (folder / "real.html").write_text(write.rendered(page))
    (folder / "full.html").write_text(write.rendered(with_everything(page)))
    return folder


def with_everything(page: Page) -> Page:
    """The page at its fullest: long names, far predictions, faces, warnings, a curve."""
    strip = np.full((200, 480, 3), 120, np.uint8)
    arrow = Arrow(100.0, 90.0, 160.0, 60.0, "160,60 150,62 155,70")
    eyes = Eyes(base64.b64encode(jpeg(strip, 80)).decode(), [arrow, arrow], [arrow, arrow])
    long_id = "monday-evening-with-glasses-and-the-lamp-on"
    reason = (
        "the eyes seem to look elsewhere, 12.3° from the target; usual are 2.1° in this session"
    )
    far = screen_of(
        [[100.0, 100.0], [1700.0, 1100.0], [864.0, 30.0]],
        [[-3000.0, 90.0], [5000.0, 5000.0], [900.0, -900.0]],
        GEOMETRY,
    )
    points = tuple(CurvePoint(n, 30.0 / n, 25.0 / n, 35.0 / n) for n in (6, 12, 25, 100))
    curves = [
        LearningCurve(TEST, points, CurvePoint(125, 0.25, 0.2, 0.3)),
        LearningCurve(CROSS_SESSION, points, None),
    ]
    worst = [
        dataclasses.replace(
            frame, session=long_id, eyes=eyes, screen=far, why=reason, error_deg=123.4
        )
        for frame in page.worst
    ]
    rows = [(long_id, f"img_{1767600322684 + n}.jpg", reason) for n in range(12)]
    views = [dataclasses.replace(view, screen=far) for view in page.tested[0].views]
    return dataclasses.replace(
        page,
        sessions=", ".join([long_id] * 3),
        experiment="brave-owl-of-the-evening",
        warnings=["The base network has random weights: " + reason],
        worst=worst,
        tested=[dataclasses.replace(page.tested[0], views=views), *page.tested[1:]],
        curve=curve_chart(curves),
        curve_sentences=curve_sentences(curves),
        session_lines=[
            dataclasses.replace(line, session=long_id, low=1.0, high=99.0) if n else line
            for n, line in enumerate(page.session_lines)
        ],
        suspects=rows,
        excluded=rows[:2],
        unusable=rows[:3],
        real_dot=True,
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.mark.parametrize("name", ["real", "full"])
def test_nothing_is_broken_at_any_width_in_light_and_in_dark(
    pages: Path, browser: Any, name: str
) -> None:
    url = (pages / f"{name}.html").as_uri()
    papers = set()
    for width in WIDTHS:
        for scheme in SCHEMES:
            tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            asked: list[str] = []
            tab.on("request", lambda request, asked=asked: asked.append(request.url))
            tab.goto(url)
            tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert tab.evaluate(FLAWS) == [], (width, scheme)
            widths = tab.evaluate(DECODED)
            assert len(widths) == (6 if name == "full" else 0)
            assert all(widths)
            assert {address for address in asked if not address.startswith("data:")} == {url}
            papers.add(tab.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
            tab.close()
    assert len(papers) == 2  # light and dark are two looks
    assert (pages / f"{name}.html").stat().st_size < 2_000_000


@pytest.mark.parametrize(
    ("broken", "flaw"),
    [
        ("body { min-width: 1500px }", "the page is 1500 wide"),
        (
            "th, td { white-space: normal; overflow-wrap: anywhere; max-width: 3em }",
            "a broken word",
        ),
        ("p, td { color: #888 } html { background: #999 }", "contrast"),
        (".scroll { overflow-x: visible }", "a box that scrolls"),
        ("svg text { font-size: 900px }", "letters cut by their picture"),
    ],
)
def test_what_is_broken_is_found(pages: Path, browser: Any, broken: str, flaw: str) -> None:
    """The test above is worth as much as what it finds."""
    tab = browser.new_page(viewport={"width": 400, "height": 900}, color_scheme="light")
    tab.goto((pages / "full.html").as_uri())
    tab.add_style_tag(content=broken)
    assert any(flaw in said for said in tab.evaluate(FLAWS))
    tab.close()
