"""What the page may do, without a page: frames kept whole, what was begun gone on with."""

import json
import os
import resource
import signal
from pathlib import Path

import pytest

from custom_gaze.capture.desk import SILENT_S, Desk, Options, OtherTab
from custom_gaze.capture.folder import CaptureFolder, capturing
from custom_gaze.capture.looking import Seen, Watcher
from custom_gaze.capture.record import Camera, CapturedScreen, read_record
from custom_gaze.capture.targets import Pattern
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.config.paths import Paths
from custom_gaze.data.sessions import read_session
from session_frames import jpeg

CAMERA = Camera(label="Webcam", width_px=32, height_px=24, frames_per_second=30.0)
SCREEN = CapturedScreen(
    width_px=1280,
    height_px=720,
    pixel_ratio=1.0,
    width_cm=34.0,
    width_from="card",
    distance_cm=60.0,
    distance_from="face",
)
OPTIONS = Options(Pattern(grid=(2, 2)), 2, None)
OPEN = Seen("", 32, 24, (8, 6, 24, 20), ((12, 10), (20, 10)), 16.0, 100.0, 1.0, 1.0)
CLOSED = Seen("", 32, 24, (8, 6, 24, 20), ((12, 10), (20, 10)), 16.0, 100.0, 1.0, 0.4)
NOBODY = Seen("no face", 32, 24)


class Told(Watcher):
    """Sees what the test says."""

    def __init__(self) -> None:
        self.sees = OPEN

    def look(self, content: bytes) -> Seen:
        return self.sees


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


def desk_at(paths: Paths, options: Options = OPTIONS) -> tuple[Desk, Told]:
    watcher = Told()
    return Desk("mon", CaptureFolder(paths.captures / "mon"), watcher, options), watcher


def test_frames_are_kept_as_the_app_writes_them(paths: Paths) -> None:
    desk, watcher = desk_at(paths)
    with pytest.raises(InputError, match="not measured yet"):
        desk.keep(jpeg(1), 0, False)
    desk.begin(SCREEN, CAMERA)
    assert desk.keep(jpeg(1), 0, False)[0] == "kept"
    assert desk.keep(jpeg(1), 0, False)[0] == "still picture"
    watcher.sees = CLOSED
    assert desk.keep(jpeg(2), 0, False)[0] == "closed eyes"
    assert desk.keep(jpeg(2), 0, True)[0] == "kept"  # looking down
    assert desk.keep(jpeg(3), 0, True)[0] == "full"
    watcher.sees = NOBODY
    assert desk.keep(jpeg(3), 1, True)[0] == "no face"
    with pytest.raises(InputError, match="no target 4"):
        desk.keep(jpeg(3), 4, False)

    record = read_record(paths.captures / "mon")
    assert record is not None
    first, second = record.targets[0].frames
    assert second > first > 1_700_000_000_000
    assert (record.frames, record.rounds, record.mirrored) == (2, 1, True)
    session = read_session(paths.captures / "mon", SCREEN.screen().geometry())
    assert [frame.timestamp_ms for frame in session.frames] == [first, second]
    assert session.frames[0].image.read_bytes() == jpeg(1)
    assert json.loads((paths.captures / "mon" / f"img_{first}.json").read_text()) == {
        "timestamp": first,
        "screen_x": record.targets[0].x_px,
        "screen_y": record.targets[0].y_px,
        "inference": None,
        "moondream_result": None,
    }


def test_what_was_begun_is_gone_on_with(paths: Paths) -> None:
    desk, _ = desk_at(paths)
    desk.begin(SCREEN, CAMERA)
    desk.keep(jpeg(1), 2, False)
    lone = paths.captures / "mon" / "img_5.jpg"  # a kill between a frame and its JSON file
    lone.write_bytes(jpeg(9))

    again, _ = desk_at(paths, Options(Pattern(count=50), 7, None))
    assert not lone.exists()
    assert (again.frames_per_target, again.last_screen) == (2, SCREEN)
    assert again.record is not None
    assert [len(target.frames) for target in again.record.targets] == [0, 0, 1, 0]
    assert again.keep(jpeg(1), 2, False)[0] == "still picture"
    other = CAMERA.model_copy(update={"label": "Another"})
    again.begin(SCREEN, other)
    assert again.record.cameras == (CAMERA, other)
    with pytest.raises(InputError, match="begun on a screen of 1280 × 720"):
        again.begin(SCREEN.model_copy(update={"width_px": 1920}), CAMERA)
    with pytest.raises(InputError, match="so far is mirrored; go on without"):
        desk_at(paths, Options(OPTIONS.pattern, 2, False))
    desk_at(paths, Options(OPTIONS.pattern, 2, True))

    again.more()
    assert again.record.rounds == 2
    again.clear()
    assert again.record is None
    assert not (paths.captures / "mon").exists()
    assert again.last_screen == SCREEN
    with pytest.raises(InputError, match="not measured yet"):
        again.finish()


def test_a_record_that_was_changed_by_hand_is_refused(paths: Paths) -> None:
    desk, _ = desk_at(paths)
    desk.begin(SCREEN, CAMERA)
    path = paths.captures / "mon" / "capture.json"
    path.write_text(path.read_text().replace('"mirrored": true', '"mirrored": "x"'))
    with pytest.raises(InputError, match="capture.json: mirrored: .*begin this session anew"):
        desk_at(paths)


def test_one_tab_at_a_time(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("custom_gaze.capture.desk.time.monotonic", lambda: now)
    desk, _ = desk_at(paths)
    desk.claim("one", False)
    with pytest.raises(OtherTab):
        desk.claim("two", False)
    desk.heard("one")
    desk.claim("two", True)
    with pytest.raises(OtherTab):
        desk.heard("one")
    desk.release("one")  # closing the tab that has lost it changes nothing
    desk.heard("two")
    now += SILENT_S + 1  # as after a crash of the browser
    desk.claim("three", False)
    desk.release("three")
    desk.claim("four", False)


def test_one_command_at_a_time(paths: Paths) -> None:
    with capturing("mon", paths):
        with (
            pytest.raises(InputError, match="another `custom-gaze capture mon` is running"),
            capturing("mon", paths),
        ):
            pass
        with capturing("tue", paths):
            pass
    with capturing("mon", paths):
        pass


def test_a_full_disk_leaves_no_half_frame(paths: Paths) -> None:
    desk, _ = desk_at(paths)
    desk.begin(SCREEN, CAMERA)
    desk.keep(jpeg(1), 0, False)
    before = sorted(os.listdir(paths.captures / "mon"))
    record_bytes = (paths.captures / "mon" / "capture.json").stat().st_size
    small = jpeg(2, (8, 8))
    assert len(small) < record_bytes
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for most in (10, record_bytes):  # for the frame, and for the record after it
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
            with pytest.raises(CustomGazeError, match="cannot be written .File too large"):
                desk.keep(small, 0, False)
            assert sorted(os.listdir(paths.captures / "mon")) == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert desk.keep(jpeg(2), 0, False)[0] == "kept"
