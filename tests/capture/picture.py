"""Make docs/capture.png, the capture page with a demo person before the camera.

    PYTHONPATH=tests python tests/capture/picture.py docs/capture.png

With a folder instead: each state of the page, light and dark, as wide as a desktop and a phone.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from capture_browser import DemoPerson, Running, begin, chromium, opened
from PIL import Image

from custom_gaze.config.paths import Paths

COLOURS = 200  # of the picture's palette: small, and nobody sees the difference


def main(output: Path) -> None:
    person = DemoPerson()
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        paths = Paths(Path(folder))
        (paths.root / ".dvc").mkdir()
        running = Running("monday", paths)
        if output.suffix == ".png":
            page = at_work(browser, running, person, 1100, 700, "light")
            page.screenshot(path=output)
            small(output)
            return
        for width in (1400, 400):
            for scheme in ("light", "dark"):
                page = at_work(browser, running, person, width, 900, scheme)
                name = f"{scheme}-{width}"
                page.screenshot(path=output / f"{name}-begin.png", full_page=True)
                page.click("#language")
                page.click("#by-width")
                page.screenshot(path=output / f"{name}-german.png", full_page=True)
                page.click("#language")
                begin(page)
                page.wait_for_timeout(1500)
                page.screenshot(path=output / f"{name}-target.png")
                page.wait_for_selector("#round:not([hidden])", timeout=60_000)
                page.screenshot(path=output / f"{name}-round.png", full_page=True)
                other = opened(browser, running.url, person.frame)
                other.set_viewport_size({"width": width, "height": 900})
                other.emulate_media(color_scheme=scheme)
                other.wait_for_selector("#elsewhere:not([hidden])")
                other.screenshot(path=output / f"{name}-elsewhere.png", full_page=True)
                other.context.close()
                page.once("dialog", lambda dialog: dialog.accept())
                page.click("#clear")
                page.evaluate("window.pretendCamera.unplug()")
                page.wait_for_selector("#notice:not([hidden])")
                page.screenshot(path=output / f"{name}-unplugged.png", full_page=True)
                page.context.close()


def at_work(
    browser: Any, running: Running, person: DemoPerson, width: int, height: int, scheme: str
) -> Any:
    """The page with a face found in its preview."""
    size = {"width": width, "height": height}
    page = opened(browser, running.url, person.frame, viewport=size, color_scheme=scheme)
    page.wait_for_selector("#check-face.good", timeout=30_000)
    page.fill("#distance", "60")
    page.wait_for_timeout(1500)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    return page


def small(path: Path) -> None:
    """Write a PNG again with a palette."""
    with Image.open(path) as picture:
        reduced = picture.convert("RGB").quantize(
            COLOURS, method=Image.Quantize.MEDIANCUT, kmeans=2
        )
    reduced.save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
