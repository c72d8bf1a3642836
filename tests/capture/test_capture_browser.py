"""The capture page in a real browser, with a demo person before its camera."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from capture_browser import CHROMIUM, DemoPerson, Running, begin, chromium, opened

from conftest import REPOSITORY
from custom_gaze.capture.record import read_record
from custom_gaze.config.paths import Paths
from custom_gaze.data.session_file import read_session_file
from custom_gaze.data.sessions import load_frame, read_session

pytest_plugins = ["import_fixtures"]
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"
)
FLAWS = (REPOSITORY / "tests" / "evaluation" / "page_flaws.js").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def person() -> DemoPerson:
    return DemoPerson()


def test_the_whole_way_from_the_empty_page_to_the_session(
    browser: Any, person: DemoPerson, paths: Paths, adding: None
) -> None:
    """One eyelid closes at the first showing of one target, which is then shown again."""
    running = Running("mon", paths)
    first: list[str] = []

    def closed(target: str, times: int) -> float:
        first.append(target)
        return 1.0 if target == next(t for t in first if t) and times == 1 else 0.0

    shown: list[str] = []
    person.asked.clear()
    person.closed = lambda target, times: closed(target, times) if target else 0.0
    asked: list[str] = []
    page = opened(browser, running.url, lambda t: (shown.append(t), person.frame(t))[1])
    page.on("request", lambda request: asked.append(request.url))
    assert page.evaluate(FLAWS) == []
    begin(page)
    page.wait_for_selector("#finish:not([hidden]).main", timeout=30_000)
    blinked = next(t for t in shown if t)
    assert shown.count(blinked) == 2  # it came again, behind the others
    assert shown[-2] == blinked
    assert page.inner_text("#start-title") == "All 4 targets are done: 4 frames"
    page.click("#finish")
    page.wait_for_selector("#done-next:not([hidden])", timeout=20_000)
    assert page.inner_text("#command") == "custom-gaze run mon"
    page.context.close()

    result = running.result()
    assert (result.frames, result.imported.frames, result.imported.targets) == (4, 4, 4)
    own = running.url.split("#")[0]
    assert [url for url in asked if not url.startswith((own, "blob:"))] == []
    folder = paths.sessions / "mon"
    geometry = read_session_file(folder).geometry
    assert geometry is not None
    assert (geometry.center_x_px, geometry.center_y_px) == (640, 360)
    assert geometry.deg_per_pixel == pytest.approx(0.0254, abs=1e-4)  # 34 cm / 1280 from 60 cm
    session = read_session(folder, geometry)
    assert {(f.target_x_px, f.target_y_px) for f in session.frames} == {
        (x, y) for x in (38.4, 1241.6) for y in (21.6, 698.4)
    }
    for frame in session.frames:
        text = json.loads(frame.image.with_suffix(".json").read_text())
        assert list(text) == ["timestamp", "screen_x", "screen_y", "inference", "moondream_result"]
        assert load_frame(frame.image).shape == (720, 1280, 3)
        corner = load_frame(frame.image)[3:12, -12:-3].astype(int)
        assert (corner.max(axis=-1) - corner.min(axis=-1)).min() > 60  # the speck: mirrored
    record = read_record(folder)
    assert record is not None
    assert record.mirrored
    assert record.cameras[0].width_px == 1280
    assert sorted(n for t in record.targets for n in t.frames) == [
        f.timestamp_ms for f in session.frames
    ]
    assert not (paths.captures / "mon").exists()
