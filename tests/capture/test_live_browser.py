"""The live page in a real browser; a demo person before its camera looks at its targets."""

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from capture_browser import CHROMIUM, GEOMETRY, DemoPerson, chromium, opened

from clone import Clone, empty_clone
from conftest import REPOSITORY, Project
from custom_gaze.capture import live
from custom_gaze.config.paths import Paths
from custom_gaze.data.session_file import read_session_file
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.inference import predict
from gaze_files import write_network

pytest_plugins = ["import_fixtures"]
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"
)
MOVING = "window.pretendCamera.moving = true;"
FLAWS = (REPOSITORY / "tests" / "evaluation" / "page_flaws.js").read_text()


def until(page: Any, selector: str, words: str, seconds: float = 200.0) -> str:
    """Wait for an element's text to match; the page's own policy forbids Playwright's way."""
    end = time.monotonic() + seconds
    while not re.search(words, text := page.inner_text(selector)):
        assert time.monotonic() < end, f"{text!r}, and {page.inner_text('main')}"
        page.wait_for_timeout(100)
    return str(text)


def measured(page: Any) -> dict[str, list[str]]:
    """The result's rows by model."""
    rows = page.query_selector_all("#rows tr")
    return {
        row.query_selector("th").inner_text(): [
            cell.inner_text() for cell in row.query_selector_all("td")
        ]
        for row in rows
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def ready(project: Project, adding: None) -> Project:
    """A project with a detector and a small network."""
    (project.paths.root / ".dvc").mkdir()
    project.paths.faces.mkdir(parents=True)
    (project.paths.faces / "face_detection.onnx").write_bytes(embedded_detector())
    write_network(project.paths.model)
    return project


@pytest.fixture
def address(ready: Project) -> Iterator[str]:
    """Of the page that `live` serves in a thread."""
    told: queue.Queue[str] = queue.Queue()
    ended = threading.Event()

    def work() -> None:
        live.run(ready.params, Paths(), None, lambda line: None, told.put)
        ended.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield told.get(timeout=60)
    assert ended.wait(60)  # the test's last click ends the command


@pytest.mark.long
def test_a_round_tells_the_error_that_predict_finds_in_the_session_it_kept(
    ready: Project, address: str, browser: Any
) -> None:
    person = DemoPerson()
    page = opened(browser, address, person.frame)
    assert "another training" not in page.inner_text("main")
    until(page, "#status", "One face")
    assert page.is_disabled("#beside")  # there is no base to stand beside
    assert "stands alone" in page.inner_text("#alone")
    until(page, "#numbers", r"\d+ ms from a frame to its dot")
    page.check("#heat")
    page.click("#own summary")
    page.fill("#width", "34")
    page.fill("#distance", "60")
    page.press("#distance", "Tab")
    until(page, "#screen-known", "as you measured it: 1,280 × 720")
    page.focus("#validate")
    page.keyboard.press("Enter")
    until(page, "#progress", "Measured", 400)
    page.wait_for_selector("#result-title:focus", timeout=20_000)  # it is read out
    (row,) = measured(page).values()
    page.fill("#session", "today")
    page.click("#keep button")
    until(page, "#progress", "Kept: .* as session today")
    for width in (1400, 400):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(300)
            assert page.evaluate(FLAWS) == [], (width, scheme)
    page.click("#end")
    until(page, "#alert", "The command has ended")
    page.context.close()

    assert read_session_file(ready.paths.sessions / "today").geometry == GEOMETRY
    found = predict.run("today", ready.params, ready.paths)
    assert len(found.predictions) >= 45
    targets = {(one.target_x_px, one.target_y_px) for one in found.predictions}
    assert len(targets) == 9
    assert float(row[0].rstrip("°")) == pytest.approx(found.mean_error_deg, abs=0.02)
    errors_px = [one.error_px for one in found.predictions]
    mean_px = sum(errors_px) / len(errors_px)
    assert float(row[2].replace(",", "")) == pytest.approx(mean_px, abs=1.0)
    assert float(row[3]) == pytest.approx(mean_px * 34 / 1280, abs=0.1)


def test_a_refused_camera_is_said_and_the_page_goes_on_when_it_is_allowed(
    ready: Project, address: str, browser: Any
) -> None:
    person = DemoPerson()
    page = opened(browser, "about:blank", person.frame)
    page.add_init_script("window.pretendCamera.fail = 'NotAllowedError'")
    page.goto(address)
    until(page, "#alert", "does not let this page use the camera")
    page.click("#validate")
    until(page, "#alert", "First a camera is needed")
    page.evaluate("window.pretendCamera.fail = null")
    page.click("#again")
    until(page, "#status", "One face")
    assert not page.is_visible("#alert")
    page.evaluate("window.pretendCamera.unplug()")
    until(page, "#alert", "The camera is gone")
    page.click("#again")
    page.click("#language")
    until(page, "#status", "Ein Gesicht")
    page.click("#validate")
    until(page, "#progress", "Ziel 1 von 9")
    page.evaluate("document.exitFullscreen()")
    until(page, "#progress", "Vorzeitig verlassen")
    other = opened(browser, address, person.frame)  # a second tab sees as much
    until(other, "#status", "One face")
    until(other, "#numbers", r"\d+ ms from a frame to its dot")
    page.click("#end")
    until(other, "#alert", "The command has ended")
    other.context.close()
    page.context.close()


class Command:
    """A command that serves a page."""

    def __init__(self, clone: Clone, *words: str) -> None:
        path = f"{clone.programs}{os.pathsep}{os.environ['PATH']}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "custom_gaze", *words, "--no-open"],
            cwd=clone.root,
            env={**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "true"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        self.url = found[0]


@pytest.mark.long
def test_from_an_empty_folder_to_a_recalibrated_gaze(browser: Any, tmp_path: Path) -> None:
    clone, person = empty_clone(tmp_path / "project"), DemoPerson()
    clone.run("git", "add", "--all")
    clone.run("git", "commit", "--quiet", "-m", "start")

    capturing = Command(clone, "capture", "day1", "--grid", "5x4", "--frames-per-target", "2")
    page = opened(browser, capturing.url, person.frame, MOVING)
    page.wait_for_selector("#check-face.good", timeout=60_000)
    page.check("#by-width")
    page.fill("#width", "34")
    page.fill("#distance", "60")
    page.wait_for_timeout(1500)
    page.click("#start")
    page.wait_for_selector("#finish:not([hidden]).main", timeout=240_000)
    page.click("#finish")
    page.wait_for_selector("#done-next:not([hidden])", timeout=60_000)
    assert capturing.process.wait(30) == 0
    page.context.close()
    clone.run("custom-gaze", "run", "day1", "-S", "train.method=probe")

    watching = Command(clone, "live")
    page = opened(browser, watching.url, person.frame, MOVING)
    until(page, "#status", "One face")
    assert page.is_checked("#mirror")  # as day1 was captured
    assert page.input_value("#distance", timeout=1000) == "60"  # its screen is remembered
    page.click("#validate")
    until(page, "#progress", "Measured", 400)
    rows = {name: float(cells[0].rstrip("°")) for name, cells in measured(page).items()}
    assert set(rows) == {"personal model", "corrected base", "base network"}
    assert rows["personal model"] < 6.0  # the person looks 30° to the side at most
    assert rows["personal model"] < rows["base network"]

    page.click("#recalibrate")
    until(page, "#progress", "Recalibrating", 240)
    said = until(page, "#progress", "Recalibrated in|Not recalibrated", 900)
    assert said.startswith("Recalibrated in"), page.inner_text("#alert")
    before, after = (float(cells[0].rstrip("°")) for cells in measured(page).values())
    assert after < max(before, 4.0) + 0.5
    page.click("#end")
    assert watching.process.wait(30) == 0
    page.context.close()

    params = yaml.safe_load((clone.root / "params.yaml").read_text())
    first, new = params["sessions"]
    assert first == "day1"
    assert new.startswith("live-")
    assert params["train"]["method"] == "probe"
    figures = json.loads((clone.root / "reports" / "metrics.json").read_text())
    assert figures["targets"] > 0
