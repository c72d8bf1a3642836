"""The command itself: a real stream, Ctrl-C, the same command again, a session under real DVC."""

import base64
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from capture_browser import CHROMIUM, DemoPerson, begin, chromium, opened, until

from clone import empty_clone
from conftest import REPOSITORY
from custom_gaze.config.paths import Paths
from project_files import run

pytest_plugins = ["import_fixtures"]
pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"
    ),
    pytest.mark.long,
]


def command(paths: Paths, *options: str, grid: str = "2x2") -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "custom_gaze", "capture", "mon", "--grid", grid, "--no-open"]
    return subprocess.Popen(
        [*words, "--frames-per-target", "1", *options],
        cwd=paths.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def address(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("capture: http://127.0.0.1:"), process.communicate()
    return line.split()[1]


def test_the_command_with_a_real_stream_and_ctrl_c(paths: Paths, tmp_path: Path) -> None:
    """Chromium's own fake camera plays two frames in turns; DVC is the real one."""
    person = DemoPerson()
    shutil.copy(REPOSITORY / "params.yaml", paths.root)
    film = tmp_path / "film.mjpeg"
    film.write_bytes(b"".join(base64.b64decode(person.frame(t)) for t in ("", "0 600 300") * 8))
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with chromium(*flags, f"--use-file-for-fake-video-capture={film}") as browser:
        process = command(paths, "--no-mirror")
        page = opened(browser, address(process), person.frame, pretend=False)
        begin(page)
        until(page, "document.getElementById('progress').value >= 1")
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=20)
        assert (process.returncode, out) == (130, "")
        assert said.splitlines()[-1] == "custom-gaze: interrupted; the same command goes on"
        page.wait_for_selector("#done:not([hidden])", timeout=20_000)
        page.context.close()

        refused = command(paths, "--mirror")
        assert "is not mirrored; go on without" in refused.communicate(timeout=60)[1]
        assert refused.returncode == 2

        process = command(paths)
        page = opened(browser, address(process), person.frame, pretend=False)
        page.wait_for_selector("#check-face.good", timeout=30_000)
        assert page.is_hidden("#screen-step")
        page.click("#start")
        page.wait_for_selector("#round:not([hidden]), #notice:not([hidden])", timeout=60_000)
        page.click("#finish")
        page.wait_for_selector("#done-next:not([hidden])", timeout=60_000)
        page.context.close()
    out, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "usable frames of" in out
    assert out.splitlines()[-1] == "next: custom-gaze doctor mon && custom-gaze run mon"
    staged = run("git", "diff", "--cached", "--name-only", cwd=paths.root).split()
    assert {"data/sessions/mon.dvc", "data/sessions/mon.yaml"} <= set(staged)
    assert not [name for name in staged if "img_" in name or "capture.json" in name]


def test_from_the_page_to_a_network_that_knows_where_the_person_looks(tmp_path: Path) -> None:
    """A demo person who looks at the page's targets: the labels are right, or nothing is learnt."""
    clone = empty_clone(tmp_path / "project")
    clone.run("git", "add", "--all")
    clone.run("git", "commit", "--quiet", "-m", "begin")
    person = DemoPerson()
    with chromium() as browser:
        process = command(Paths(clone.root), grid="5x5")
        page = opened(browser, address(process), person.frame)
        begin(page)
        page.wait_for_selector("#round:not([hidden])", timeout=300_000)
        page.click("#finish")
        page.wait_for_selector("#done-next:not([hidden])", timeout=60_000)
        page.context.close()
    out, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "25 usable frames of 25 targets" in out
    quick = ("-S", "augment.samples=1", "-S", "train.method=probe")
    clone.run("custom-gaze", "run", "mon", *quick)
    figures = json.loads((clone.root / "reports" / "figures.json").read_text())
    constant_deg = figures["train"]["constant_deg"]
    assert 8 < constant_deg < 16  # of a screen of 34 cm from 60 cm
    assert figures["choice"]["held_out_probe_deg"] < 0.85 * constant_deg
    assert figures["test"]["error_deg"] < 0.85 * figures["test"]["constant_deg"]
    clone.run("git", "add", "--all")
    assert not clone.run("git", "ls-files", "data/sessions/mon").stdout.split()
