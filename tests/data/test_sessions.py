"""Reading and checking sessions: every way in which a frame can be bad, and the good ones."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from custom_gaze.common.errors import InputError
from custom_gaze.data import sessions
from custom_gaze.data.sessions import FrameError, is_turned, load_frame, read_session
from custom_gaze.geometry import ScreenGeometry
from session_frames import jpeg, put

GEOMETRY = ScreenGeometry()  # a screen of 1728 x 1117


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A session of three good frames."""
    for stamp in (10, 20, 30):
        put(tmp_path / "monday", stamp)
    return tmp_path / "monday"


def reasons(folder: Path) -> dict[str, str]:
    return {entry.filename: entry.reason for entry in read_session(folder, GEOMETRY).left_out}


def test_reads_frames_by_time_with_targets_and_eyes(folder: Path) -> None:
    eyes = {
        "left_eye": {"x": 918.5, "y": 406.4, "z": 0.0},
        "right_eye": {"x": 1098, "y": 401.2, "z": 0.0},
    }
    put(
        folder,
        9,
        {
            "screen_x": 1675.2773,
            "screen_y": 20.574219,
            "inference": {"Gaze": {**eyes, "yaw": -3.36, "landmarks": None}},
            "moondream_result": None,
            "never_heard_of": [1, 2],
        },
    )
    session = read_session(folder, GEOMETRY)
    assert session.id == "monday"
    assert [frame.timestamp_ms for frame in session.frames] == [9, 10, 20, 30]  # "10" < "9" as text
    first = session.frames[0]
    assert first.image == folder / "img_9.jpg"
    assert (first.target_x_px, first.target_y_px) == (1675.2773, 20.574219)
    assert first.eyes_px == ((918.5, 406.4), (1098.0, 401.2))
    assert session.frames[1].eyes_px is None
    assert session.left_out == ()


def test_older_spelling_of_the_target(folder: Path) -> None:
    put(folder, 40, {"target_x": 7, "target_y": 8.5})
    frame = read_session(folder, GEOMETRY).frames[-1]
    assert (frame.target_x_px, frame.target_y_px) == (7.0, 8.5)


@pytest.mark.parametrize(
    "inference",
    [
        None,
        "Gaze",
        [],
        {"HeadPose": {"yaw": 1.0}},
        {"FaceRects": []},
        {"Landmarks": [[1, 2]]},
        {"Gaze": None},
        {"Gaze": {"left_eye": {"x": 1.0, "y": 2.0}}},
        {"Gaze": {"left_eye": {"x": 1.0, "y": 2.0}, "right_eye": {"x": "3", "y": 4.0}}},
        {"Gaze": {"left_eye": {"x": 1.0, "y": 2.0}, "right_eye": {"x": float("nan"), "y": 4.0}}},
        {"Gaze": {"left_eye": {"x": True, "y": 2.0}, "right_eye": {"x": 3.0, "y": 4.0}}},
    ],
)
def test_other_inferences_are_tolerated(folder: Path, inference: Any) -> None:
    put(folder, 40, {"screen_x": 1.0, "screen_y": 2.0, "inference": inference})
    session = read_session(folder, GEOMETRY)
    assert len(session.frames) == 4
    assert session.frames[-1].eyes_px is None


def test_other_files_of_the_app_are_ignored(folder: Path) -> None:
    (folder / "reports").mkdir()
    (folder / "reports" / "img_1.jpg").write_bytes(b"no frame")
    for name in ("calibration.json", "dataset.csv", "._img_10.jpg", ".DS_Store"):
        (folder / name).write_bytes(b"\xff")
    session = read_session(folder, GEOMETRY)
    assert len(session.frames) == 3
    assert session.left_out == ()


def test_pairs_must_be_whole(folder: Path) -> None:
    (folder / "img_20.json").unlink()
    (folder / "img_30.jpg").unlink()
    (folder / "photo.JPG").write_bytes(jpeg(1))
    assert reasons(folder) == {
        "img_20.jpg": "has no img_20.json beside it",
        "img_30.json": "has no img_30.jpg beside it",
        "photo.JPG": "is not named img_<unix milliseconds>.jpg",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "img_40.json is empty"),
        ('{"screen_x": 1.0,', r"img_40.json is no valid JSON \(.*line 1 column"),
        (b"\xff\x00\xff", "img_40.json is no valid JSON"),
        ("[" * 100_000, "img_40.json is nested too deeply"),
        ("[1, 2]", "img_40.json holds no JSON object"),
        ("{}", r"img_40.json lacks the screen position \(screen_x, screen_y\)"),
        ('{"screen_x": 5}', "img_40.json lacks screen_y"),
        ('{"target_y": 5}', "img_40.json lacks target_x"),
        ('{"screen_x": 5, "target_y": 5}', "img_40.json lacks screen_y"),
        ('{"screen_x": NaN, "screen_y": 5}', "screen_x is nan, not a finite number"),
        ('{"screen_x": 5, "screen_y": -Infinity}', "screen_y is -inf, not a finite number"),
        ('{"screen_x": 1e999, "screen_y": 5}', "screen_x is inf, not a finite number"),
        ('{"screen_x": "5", "screen_y": 5}', "screen_x is '5', not a number"),
        ('{"screen_x": true, "screen_y": 5}', "screen_x is True, not a number"),
        ('{"screen_x": null, "screen_y": 5}', "screen_x is None, not a number"),
        (
            f'{{"screen_x": {"[" * 500}{"]" * 500}, "screen_y": 5}}',
            "screen_x is list, not a number",
        ),
        ('{"screen_x": 3457, "screen_y": 5}', "screen_x is 3457, far off the screen of 0 to 1728"),
        ('{"screen_x": 5, "screen_y": -1118}', "screen_y is -1118, far off .* 0 to 1117"),
        (f'{{"screen_x": 1{"0" * 400}, "screen_y": 5}}', r"screen_x is 10+\.\.\., far off"),
        ('{"screen_x": 1, "screen_y": 2, "target_x": 1, "target_y": 3}', "names two targets"),
    ],
)
def test_bad_json_is_left_out_and_named(folder: Path, text: str | bytes, reason: str) -> None:
    put(folder, 40, text)
    assert len(read_session(folder, GEOMETRY).frames) == 3
    found = reasons(folder)
    assert list(found) == ["img_40.jpg"]
    assert re.search(reason, found["img_40.jpg"]), found
    assert "\n" not in found["img_40.jpg"]


def test_points_a_little_off_the_screen_are_kept(folder: Path) -> None:
    put(folder, 40, {"screen_x": 3456, "screen_y": -1117})
    put(folder, 41, {"screen_x": 1, "screen_y": 2, "target_x": 1.0, "target_y": 2.0})
    assert reasons(folder) == {}


def test_the_screen_follows_from_the_geometry(folder: Path) -> None:
    put(folder, 40, {"screen_x": 5000.0, "screen_y": 100.0})
    assert list(reasons(folder)) == ["img_40.jpg"]
    wide = ScreenGeometry(center_x_px=1720.0, center_y_px=720.0)
    assert read_session(folder, wide).left_out == ()


def test_huge_json_and_image_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "img_10.json").open("ab") as file:
        file.truncate(sessions.MAX_JSON_BYTES + 1)
    with (folder / "img_20.jpg").open("ab") as file:
        file.truncate(sessions.MAX_IMAGE_BYTES + 1)
    assert reasons(folder) == {
        "img_10.jpg": "img_10.json is larger than 4 MiB",
        "img_20.jpg": "is larger than 64 MiB",
    }


def test_links_out_of_the_folder_and_odd_files_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"screen_x": 1, "screen_y": 2}')
    (tmp_path / "other.jpg").write_bytes(jpeg(99))
    for name, outside in (("img_10.json", "secret.json"), ("img_20.jpg", "other.jpg")):
        (folder / name).unlink()
        (folder / name).symlink_to(tmp_path / outside)
    put(folder, 40)
    (folder / "img_40.jpg").unlink()
    os.mkfifo(folder / "img_40.jpg")  # opening it would wait for ever
    put(folder, 50)
    (folder / "img_50.jpg").unlink()
    (folder / "img_50.jpg").symlink_to("img_50.jpg")
    put(folder, 60)
    (folder / "img_60.jpg").rename(folder / "kept.bin")
    (folder / "img_60.jpg").symlink_to("kept.bin")  # a link that stays inside is fine
    assert reasons(folder) == {
        "img_10.jpg": "img_10.json is a link that leaves the session's folder",
        "img_20.jpg": "is a link that leaves the session's folder",
        "img_40.jpg": "is no regular file",
        "img_50.jpg": "is a link that leaves the session's folder",
    }
    stamps = [frame.timestamp_ms for frame in read_session(folder, GEOMETRY).frames]
    assert stamps == [30, 60]


def test_the_later_of_two_equal_images_is_left_out(folder: Path) -> None:
    put(folder, 9, image=jpeg(30))
    put(folder, 40, '{"screen_x": "bad", "screen_y": 1}', image=jpeg(5))
    put(folder, 50, image=jpeg(5))  # its twin is unusable, so this one stays
    found = reasons(folder)
    assert found["img_30.jpg"] == "is the same image as img_9.jpg, byte for byte"
    assert set(found) == {"img_30.jpg", "img_40.jpg"}


def test_no_session_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: not found; a session is a folder"):
        read_session(tmp_path / "nowhere", GEOMETRY)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file: is no folder"):
        read_session(tmp_path / "file", GEOMETRY)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "holiday.jpg").write_bytes(jpeg(1))
    with pytest.raises(InputError, match=r"no calibration session; .* img_<unix millisec.*>.jpg$"):
        read_session(tmp_path / "app", GEOMETRY)
    (tmp_path / "app" / "calibration_data").mkdir()
    with pytest.raises(InputError, match=r"did you mean .*app/calibration_data\?$"):
        read_session(tmp_path / "app", GEOMETRY)


def test_no_usable_frame(tmp_path: Path) -> None:
    put(tmp_path / "bad", 1, "{}")
    put(tmp_path / "bad", 2, "{}")
    with pytest.raises(
        InputError, match=r"not one usable frame; img_1.jpg: img_1.json lacks .* \(2 files in all\)"
    ):
        read_session(tmp_path / "bad", GEOMETRY)


def test_load_frame_is_rgb_and_ignores_the_exif_orientation(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), (200, 100, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees"
    image.save(tmp_path / "a.jpg", quality=100, exif=exif)
    pixels = load_frame(tmp_path / "a.jpg")
    assert pixels.dtype == np.uint8
    assert pixels.shape == (20, 40, 3)
    assert np.abs(pixels.astype(int) - (200, 100, 20)).max() <= 2
    pixels[0, 0] = 0  # the array is the caller's own
    image.convert("L").save(tmp_path / "grey.jpg")
    assert load_frame(tmp_path / "grey.jpg").shape == (20, 40, 3)
    assert is_turned(tmp_path / "a.jpg")
    assert not is_turned(tmp_path / "grey.jpg")
    exif[0x0112] = 1  # upright
    image.save(tmp_path / "a.jpg", exif=exif)
    assert not is_turned(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"not an image at all", "is no JPEG image"),
        (jpeg(1)[:4], "is no JPEG image"),
        (jpeg(1)[:300], "is damaged"),
        (jpeg(1)[: len(jpeg(1)) // 2], "is damaged"),
        (jpeg(1)[:-40], "is damaged"),
    ],
)
def test_damaged_images(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "img_1.jpg"
    path.write_bytes(content)
    with pytest.raises(FrameError, match=f"img_1.jpg: {reason}.*; this frame cannot be") as caught:
        load_frame(path)
    assert caught.value.reason.startswith(reason)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_other_formats_and_bombs_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", "PNG")
    with pytest.raises(FrameError, match="is no JPEG image"):
        load_frame(tmp_path / "a.jpg")
    for side, reason in ((8000, "8000 x 8000 pixels, far too"), (60_000, "far too many pixels")):
        small = bytearray(jpeg(1))
        at = small.index(b"\xff\xc0") + 5  # the frame header's height, then its width
        small[at : at + 4] = side.to_bytes(2, "big") * 2
        (tmp_path / "b.jpg").write_bytes(small)
        with pytest.raises(FrameError, match=reason):
            load_frame(tmp_path / "b.jpg")
        assert not is_turned(tmp_path / "b.jpg")
    with pytest.raises(FrameError, match=r"cannot be read \(File name too long\)"):
        load_frame(tmp_path / ("x" * 300))
    with pytest.raises(FrameError, match=r"c\.jpg: is not there"):
        load_frame(tmp_path / "c.jpg")
