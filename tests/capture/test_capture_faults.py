"""What happens to a capture: no camera, a cable pulled, tabs, a full disk, Ctrl-C."""

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from capture_browser import (
    CHROMIUM,
    DemoPerson,
    Running,
    begin,
    chromium,
    empty_room,
    opened,
    until,
)

from custom_gaze.common.errors import InputError
from custom_gaze.config.paths import Paths

pytest_plugins = ["import_fixtures"]
pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"
    ),
    pytest.mark.long,
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def person() -> DemoPerson:
    return DemoPerson()


def ended(page: Any, running: Running) -> Any:
    """End the command by the page's button; what it gave."""
    page.click("#end")
    page.wait_for_selector("#done:not([hidden])")
    page.context.close()
    return running.result()


def kept(page: Any, number: int) -> None:
    """Wait until so many targets of the round are done."""
    until(page, f"document.getElementById('progress').value >= {number}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NotAllowedError", "does not let this page use the camera"),
        ("NotFoundError", "No camera was found"),
        ("NotReadableError", "another program may be using it"),
    ],
)
def test_a_camera_that_gives_nothing(
    browser: Any, person: DemoPerson, paths: Paths, name: str, words: str
) -> None:
    running = Running("mon", paths)
    page = opened(browser, running.url, person.frame, f"window.pretendCamera.fail = '{name}';")
    page.wait_for_selector("#notice:not([hidden])")
    assert words in page.inner_text("#notice")
    assert page.is_disabled("#start")
    page.evaluate("window.pretendCamera.fail = null")
    page.click("#try-again")
    page.wait_for_selector("#check-face.good", timeout=20_000)
    assert page.is_hidden("#notice")
    result = ended(page, running)
    assert (result.frames, result.imported) == (0, None)
    assert not (paths.captures / "mon").exists()


def test_a_cable_pulled_a_tab_closed_and_one_more_round(
    browser: Any, person: DemoPerson, paths: Paths, adding: None
) -> None:
    running = Running("mon", paths)
    page = opened(browser, running.url, person.frame)
    begin(page)
    kept(page, 1)
    page.evaluate("window.pretendCamera.unplug()")
    page.wait_for_selector("#notice:not([hidden])", timeout=20_000)
    assert "was it unplugged?" in page.inner_text("#notice")
    assert page.is_disabled("#start")
    page.click("#try-again")
    page.wait_for_selector("#check-face.good", timeout=20_000)
    page.click("#start")
    kept(page, 2)
    page.keyboard.press("Space")
    page.wait_for_selector("#notice:not([hidden])")
    assert page.inner_text("#notice") == "Paused."
    page.context.close()

    page = opened(browser, running.url, person.frame)
    page.wait_for_selector("#check-face.good", timeout=20_000)
    assert page.is_hidden("#screen-step")
    assert "of 4 targets are done" in page.inner_text("#start-title")
    page.click("#start")
    page.wait_for_selector("#round:not([hidden])", timeout=60_000)
    page.click("#round")
    until(page, "document.getElementById('start-title').textContent.startsWith('All 8')")
    page.click("#finish")
    page.wait_for_selector("#done-next:not([hidden])", timeout=30_000)
    page.context.close()
    result = running.result()
    assert (result.imported.frames, result.imported.targets) == (8, 4)  # corners, twice


def test_two_tabs_and_two_commands(browser: Any, person: DemoPerson, paths: Paths) -> None:
    running = Running("mon", paths)
    with pytest.raises(InputError, match="another `custom-gaze capture mon` is running"):
        Running("mon", paths)
    one = opened(browser, running.url, person.frame)
    one.wait_for_selector("#check-face.good", timeout=20_000)
    two = opened(browser, running.url, person.frame)
    two.wait_for_selector("#elsewhere:not([hidden])")
    assert two.is_hidden("#work")
    two.click("#here")
    two.wait_for_selector("#check-face.good", timeout=20_000)
    one.wait_for_selector("#elsewhere:not([hidden])", timeout=20_000)
    assert one.is_hidden("#work")
    ended(two, running)
    one.click("#here")
    one.wait_for_selector("#done:not([hidden])")
    assert "the same command goes on" in one.inner_text("#done-text")
    one.context.close()


def test_nobody_there_and_a_full_disk(browser: Any, person: DemoPerson, paths: Paths) -> None:
    running = Running("mon", paths)
    gone = [False]
    page = opened(
        browser, running.url, lambda t: empty_room() if gone[0] and t else person.frame(t)
    )
    gone[0] = True
    begin(page)
    page.wait_for_selector("#notice:not([hidden])", timeout=60_000)
    assert "no face was found for two dots" in page.inner_text("#notice")
    gone[0] = False
    page.wait_for_selector("#check-face.good", timeout=20_000)
    before = sorted(os.listdir(paths.captures / "mon"))
    with largest_file(2000):
        page.click("#start")
        page.wait_for_selector("#notice:not([hidden])", timeout=60_000)
        assert "cannot be written" in page.inner_text("#notice")
        assert sorted(os.listdir(paths.captures / "mon")) == before
    page.click("#start")
    page.wait_for_selector("#round:not([hidden])", timeout=60_000)
    result = ended(page, running)
    assert (result.frames, result.imported) == (4, None)
    assert len(list((paths.captures / "mon").glob("img_*.jpg"))) == 4


@contextlib.contextmanager
def largest_file(most_bytes: int) -> Iterator[None]:
    """No file of this process may have more, as on a full disk."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
