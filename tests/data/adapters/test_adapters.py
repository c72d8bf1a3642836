"""Published data sets as sessions: small made-up files of each format, good and hostile ones."""

import contextlib
import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from custom_gaze.common.errors import InputError
from custom_gaze.data.adapters import foreign
from custom_gaze.data.adapters.foreign import ForeignSession, Options
from custom_gaze.data.adapters.formats import APP, FORMATS, format_of, read_foreign
from custom_gaze.data.adapters.matfile import single_numbers
from custom_gaze.data.adapters.writing import write_session
from custom_gaze.data.sessions import load_frame, read_session
from custom_gaze.geometry import ScreenGeometry

NOTHING = Options()
SCREEN = {"width_pixel": 1440, "height_pixel": 900, "width_mm": 286.0, "height_mm": 179.0}


def picture(path: Path, seed: int = 0) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path.read_bytes()


def mpii_line(name: str, x: object, y: object, face_mm: str = "0 0 600") -> str:
    return f"{name} {x} {y} {'1 ' * 12}{'0.5 ' * 6}{face_mm} 30 40 0 left"


@pytest.fixture
def mpii(tmp_path: Path) -> Path:
    person = tmp_path / "p03"
    lines = []
    for number, (day, x, y) in enumerate(((1, 0, 0), (1, 1440, 450), (2, 720, 900))):
        picture(person / f"day0{day}" / f"000{number}.jpg", number)
        lines.append(mpii_line(f"day0{day}/000{number}.jpg", x, y))
    (person / "p03.txt").write_text("\n".join(lines) + "\n")
    (person / "Calibration").mkdir()
    savemat(person / "Calibration" / "screenSize.mat", SCREEN)
    return person


@pytest.fixture
def gazecapture(tmp_path: Path) -> Path:
    folder = tmp_path / "00002"
    names = [f"{number:05}.jpg" for number in range(4)]
    for number, name in enumerate(names):
        picture(folder / "frames" / name, number)
    dots = {"XCam": [1.5, -2.0, 0.0, 0.25], "YCam": [-3.0, -8.5, 4.0, 0.5]}
    dots |= {"Time": [0.6, 1.2, 0.2, 2.0], "DotNum": [0, 0, 1, 1]}
    write = {"frames": names, "dotInfo": dots, "info": {"DeviceName": "iPhone 6"}}
    for name, content in write.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def columbia(tmp_path: Path) -> Path:
    folder = tmp_path / "0007"
    for number, name in enumerate(("0P_10V_-15H", "-30P_0V_0H", "15P_-10V_5H")):
        picture(folder / f"0007_2m_{name}.jpg", number)
    return folder


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Eight frames whose brightness is thirty times their number."""
    path = tmp_path / "clip" / "webcam.avi"
    path.parent.mkdir()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (64, 48))
    for number in range(8):
        writer.write(np.full((48, 64, 3), (0, 0, 30 * number), np.uint8))
    writer.release()
    return path


def angles_deg(session: ForeignSession) -> list[list[float]]:
    assert session.geometry is not None
    targets = [frame.target_px for frame in session.frames]
    assert np.min(targets) >= 0
    return session.geometry.to_degrees(targets).tolist()


def written(session: ForeignSession, folder: Path) -> Path:
    folder.mkdir()
    assert write_session(session, folder) == ()
    return folder


def test_each_format_is_known_by_what_is_in_the_folder(
    mpii: Path, gazecapture: Path, columbia: Path, video: Path, tmp_path: Path
) -> None:
    (video.parent / "targets.csv").write_text("x,y\n")
    app = tmp_path / "calibration_data"
    picture(app / "img_17.jpg")
    (app / "dataset.csv").write_text("a,b\n")  # the app's own side file makes it no table
    known = {mpii: "mpiifacegaze", mpii / "day01": "mpiifacegaze", gazecapture: "gazecapture"}
    known |= {columbia: "columbia", video.parent: "csv", video.parent / "targets.csv": "csv"}
    known |= {app: APP, tmp_path: APP, tmp_path / "nowhere": APP, Path("x" * 300): APP}
    assert {path: format_of(path) for path in known} == known
    assert set(known.values()) == set(FORMATS)


def test_mpiifacegaze_gives_pixels_and_the_screen_in_millimetres(mpii: Path) -> None:
    session = read_foreign(mpii, "mpiifacegaze", NOTHING)
    assert [frame.target_px for frame in session.frames] == [(0, 0), (1440, 450), (720, 900)]
    # 286 mm / 1440 px seen from |(30, 40, 0) - (0, 0, 600)| = 602.08 mm
    assert session.geometry == ScreenGeometry(720.0, 450.0, 0.0189)
    assert session.left_out == ()
    days = [frame.timestamp_ms // 86_400_000 for frame in session.frames]
    assert days == [1, 1, 2]
    one = read_foreign(mpii / "day02", "mpiifacegaze", NOTHING)
    assert one.frames == session.frames[2:]


def test_mpiifacegaze_names_what_it_leaves_out(mpii: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"")
    lines = [mpii_line("day01/9999.jpg", 1, 2), mpii_line("day01/0000.jpg", "nan", 2)]
    lines += [mpii_line("../secret.jpg", 1, 2), "day01/0001.jpg 3 4", "", mpii_line("/etc/x", 1, 2)]
    with (mpii / "p03.txt").open("a") as file:
        file.write("\n".join(lines))
    session = read_foreign(mpii, "mpiifacegaze", NOTHING)
    assert len(session.frames) == 3
    reasons = [(entry.filename, entry.reason) for entry in session.left_out]
    assert reasons[:2] == [
        ("day01/9999.jpg", "is not there"),
        ("day01/0000.jpg", "its line has 'nan', not a number"),
    ]
    assert "is no path inside this folder" in reasons[2][1]
    assert reasons[3] == ("day01/0001.jpg", "its line has 3 words, not 28")
    assert len(reasons) == 5


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda mat: mat.unlink(), r"screenSize.mat: not found; the screen's size belongs"),
        (lambda mat: mat.write_bytes(b"\x89HDF\r\n\x1a\n"), "no MAT-file of version 5"),
        (lambda mat: mat.write_bytes(mat.read_bytes()[:150]), "screenSize.mat: damaged; take"),
        (lambda mat: mat.write_bytes(mat.read_bytes() + bytes(1 << 16)), "more than the 65536"),
        (lambda mat: savemat(mat, {**SCREEN, "width_mm": "wide"}), "no single number width_mm"),
        (lambda mat: savemat(mat, {**SCREEN, "width_mm": [1.0, 2.0]}), "no single number width_mm"),
        (lambda mat: savemat(mat, {**SCREEN, "width_mm": np.nan}), "width_mm is nan, no size"),
        (lambda mat: savemat(mat, {"width_mm": 286.0}), "no single number width_pixel"),
        (lambda mat: savemat(mat, {**SCREEN, "width_mm": 9000.0}), "its screen and distances are"),
    ],
)
def test_a_screen_size_that_is_none_is_refused(
    spoil: Callable[[Path], Any], message: str, mpii: Path
) -> None:
    spoil(mpii / "Calibration" / "screenSize.mat")
    with pytest.raises(InputError, match=message):
        read_foreign(mpii, "mpiifacegaze", NOTHING)


@pytest.mark.parametrize("compressed", [False, True])
def test_single_numbers_are_what_scipy_wrote(compressed: bool, tmp_path: Path) -> None:
    """Of every type, and among variables that are none; every byte changed in turn, it is read or
    refused. loadmat ends the process on some of these."""
    types = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
    numbers = {f"of_{name}": np.array(41, name) for name in types} | {"minus": -2.5}
    others = {"text": "41", "row": [1.0, 2.0], "cells": np.array([1, "a"], object), "none": []}
    others |= {"complex": 1 + 2j, "inner": {"of_f8": 3.0}}
    savemat(tmp_path / "x.mat", {**numbers, **others}, do_compression=compressed)
    whole = (tmp_path / "x.mat").read_bytes()
    assert single_numbers(whole) == {name: float(value) for name, value in numbers.items()}
    for place in range(len(whole)):
        changed = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        for damaged in (changed, whole[:place]):
            with contextlib.suppress(ValueError):
                single_numbers(damaged)


def test_gazecapture_gives_the_camera_s_angles(gazecapture: Path) -> None:
    """Right of the camera is right, and below it, where YCam is negative, is down."""
    session = read_foreign(gazecapture, "gazecapture", Options(distance_cm=25.0))
    yaw, pitch = np.array(angles_deg(session)).T
    degree_cm = np.degrees(np.arctan(0.01 / 25.0)) * 100
    assert yaw == pytest.approx(np.array([1.5, -2.0, 0.25]) * degree_cm)
    assert pitch == pytest.approx(np.array([3.0, 8.5, -0.5]) * degree_cm)
    assert [(entry.filename, entry.reason) for entry in session.left_out] == [
        ("00002.jpg", "is of the first 0.5 s of its dot")
    ]
    assert session.notes == ()


@pytest.mark.parametrize(("device", "distance_cm"), [("iPhone 6", 30), ("iPad Air 2", 40)])
def test_gazecapture_says_which_distance_it_takes_for_granted(
    device: str, distance_cm: int, gazecapture: Path
) -> None:
    (gazecapture / "info.json").write_text(json.dumps({"DeviceName": device}))
    session = read_foreign(gazecapture, "gazecapture", NOTHING)
    assert f"{distance_cm} cm taken for {device}" in session.notes[0]
    assert session.geometry is not None
    assert session.geometry.deg_per_pixel == pytest.approx(
        np.degrees(np.arctan(0.01 / distance_cm))
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("frames", "[", "frames.json: no valid JSON"),
        ("frames", "[" * 100_000, "frames.json: no valid JSON"),
        ("frames", "{}", "frames.json: has no list of frames"),
        ("dotInfo", "[]", "dotInfo.json: has no list of XCam"),
        ("frames", '["00000.jpg"]', "frames.json names 1 frames, and dotInfo.json has XCam, YCam"),
        ("frames", '["../../x", 7, null, "9.jpg"]', "not one picture with a usable label; ../../x"),
    ],
)
def test_gazecapture_files_that_are_none_are_refused(
    name: str, content: str, message: str, gazecapture: Path
) -> None:
    (gazecapture / f"{name}.json").write_text(content)
    with pytest.raises(InputError, match=message) as refused:
        read_foreign(gazecapture, "gazecapture", NOTHING)
    assert "\n" not in str(refused.value)


def test_columbia_gives_exact_angles_from_names(columbia: Path) -> None:
    """V is upwards and H to the person's left; right and down are positive here."""
    (columbia / "readme.txt").write_text("")
    session = read_foreign(columbia, "columbia", NOTHING)
    names = [frame.name for frame in session.frames]
    assert names == ["0007_2m_-30P_0V_0H.jpg", "0007_2m_0P_10V_-15H.jpg", "0007_2m_15P_-10V_5H.jpg"]
    assert angles_deg(session) == [[0, 0], [15, -10], [-5, 10]]
    assert [entry.filename for entry in session.left_out] == ["readme.txt"]
    picture(columbia / "0008_2m_0P_0V_0H.jpg")
    with pytest.raises(InputError, match="of 2 persons; a session is of one"):
        read_foreign(columbia, "columbia", NOTHING)


def test_a_table_of_degrees_comes_out_as_it_went_in(tmp_path: Path) -> None:
    wanted = [[-3.36, 13.56], [22.25, -9.1], [0.1, 0.2]]
    lines = ["Yaw,FILE,pitch,weather"]
    for number, (yaw, pitch) in enumerate(wanted):
        picture(tmp_path / "faces" / f"{number}.png", number)
        lines.append(f"{yaw}, faces/{number}.png ,{pitch},fine")
    (tmp_path / "labels.csv").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    session = read_foreign(tmp_path, "csv", NOTHING)
    assert np.array(angles_deg(session)) == pytest.approx(np.array(wanted), abs=1e-12)
    assert session.notes == ("columns that are not read: weather",)
    folder = written(session, tmp_path / "one")
    assert session.geometry is not None
    frames = read_session(folder, session.geometry).frames
    read = session.geometry.to_degrees([(f.target_x_px, f.target_y_px) for f in frames])
    assert read == pytest.approx(np.array(wanted), abs=1e-12)
    original = np.asarray(Image.open(tmp_path / "faces" / "1.png"), int)
    assert np.abs(load_frame(frames[1].image).astype(int) - original).mean() < 5


def test_a_table_of_a_video_takes_the_frames_it_names(video: Path, tmp_path: Path) -> None:
    table = tmp_path / "targets.csv"
    table.write_text("frame,x,y\n5,500,50\n2,200.5,20\n8,800,80\n5,500,50\n")
    session = read_foreign(table, "csv", Options(video=video))
    assert session.geometry is None  # that of params.yaml
    (tmp_path / "one").mkdir()
    left_out = write_session(session, tmp_path / "one")
    assert [(e.filename, e.reason) for e in left_out] == [
        ("line 4, webcam.avi", "webcam.avi has no frame 8 to be read")
    ]
    read = read_session(tmp_path / "one", ScreenGeometry())
    assert [(f.target_x_px, f.target_y_px) for f in read.frames] == [(500, 50), (200.5, 20)]
    brightness = [load_frame(frame.image)[..., 0].mean() for frame in read.frames]
    assert brightness == pytest.approx([150, 60], abs=3)
    assert "is the same image as" in read.left_out[0].reason


def test_line_i_of_a_table_without_frame_numbers_is_frame_i(video: Path, tmp_path: Path) -> None:
    """A line that is left out moves none of those behind it."""
    table = video.parent / "targets.csv"
    table.write_text("file,x,y\nwebcam.avi,0,0\nwebcam.avi,here,0\nwebcam.avi,2,0\n")
    session = read_foreign(table, "csv", NOTHING)
    assert [frame.video_frame for frame in session.frames] == [0, 2]
    assert [entry.filename for entry in session.left_out] == ["line 3"]
    folder = written(session, tmp_path / "one")
    bright = [
        load_frame(f.image)[..., 0].mean() for f in read_session(folder, ScreenGeometry()).frames
    ]
    assert bright == pytest.approx([0, 60], abs=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no line behind its header"),
        ("file,x,y\n", "has no line behind its header"),
        ("file,x\na.jpg,1\n", "neither x, y nor yaw, pitch"),
        ("file,x,y,yaw,pitch\na.jpg,1,2,3,4\n", "both x, y and yaw, pitch"),
        ("file,x,y,x\na.jpg,1,2,3\n", "names x twice"),
        ("x,y\n1,2\n", "has no column `file`; add it, or name the video: --video FILE"),
        ("file,x,y\na.jpg,1,2\n", r"not one picture.*line 2: its file is not there"),
        ("file,x,y\na.jpg,1\n", "line 2: has 2 cells, not 3"),
        ("file,x,y\na.jpg,1e9,2\n", "line 2: x is '1e9', but must be a number from -1e"),
        ("file,yaw,pitch\na.jpg,0,181\n", "line 2: pitch is '181', but must be a number"),
        ("file,x,y\n../../etc/passwd,1,2\n", "is no path inside this folder"),
        ("file,frame,x,y\nwebcam.avi,-1,1,2\n", "line 2: frame is '-1', not a whole number"),
        ("file,x,y\na\0.jpg,1,2\n", "is no path inside this folder|no line of a table"),
    ],
)
def test_a_table_that_is_none_is_refused(text: str, message: str, video: Path) -> None:
    table = video.parent / "targets.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=message) as refused:
        read_foreign(table, "csv", NOTHING)
    assert "\n" not in str(refused.value)


def test_a_list_of_other_files_is_no_video(video: Path, tmp_path: Path) -> None:
    """FFmpeg would open what an m3u8 or a concat script names: other files, other machines."""
    (tmp_path / "targets.csv").write_text("x,y\n1,2\n")
    scripts = (f"#EXTM3U\n#EXTINF:1,\n{video}\n", f"ffconcat version 1.0\nfile {video}\n", "")
    for script in scripts:
        posing = tmp_path / "posing.mp4"
        posing.write_text(script)
        session = read_foreign(tmp_path, "csv", Options(video=posing))
        with pytest.raises(InputError, match="posing.mp4: is no MP4, MOV, AVI, MKV or WebM"):
            write_session(session, tmp_path)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(b"\0\0\0\x18ftypisom" + os.urandom(500))
    with pytest.raises(InputError, match="cut.mp4: no video that OpenCV can read"):
        write_session(read_foreign(tmp_path, "csv", Options(video=cut)), tmp_path)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(InputError, match="pipe.mp4: is no regular file"):
        read_foreign(tmp_path, "csv", Options(video=tmp_path / "pipe.mp4"))


def test_a_written_session_is_the_app_s(mpii: Path, tmp_path: Path) -> None:
    """Byte for byte where it is a JPEG, no more open than it was; two writings are the same."""
    secret = mpii / "day01" / "0001.jpg"
    secret.chmod(0o600)
    session = read_foreign(mpii, "mpiifacegaze", NOTHING)
    one, two = (written(session, tmp_path / name) for name in ("one", "two"))
    assert session.geometry is not None
    read = read_session(one, session.geometry)
    assert [frame.image.read_bytes() for frame in read.frames] == [
        frame.file.read_bytes() for frame in session.frames
    ]
    assert [(f.target_x_px, f.target_y_px) for f in read.frames] == [
        (0, 0),
        (1440, 450),
        (720, 900),
    ]
    assert read.frames[1].image.stat().st_mode & 0o077 == 0
    record = json.loads((one / f"img_{read.frames[1].timestamp_ms}.json").read_text())
    assert record == {
        "timestamp": read.frames[1].timestamp_ms,
        "screen_x": 1440.0,
        "screen_y": 450.0,
        "inference": None,
        "moondream_result": None,
        "source": "day01/0001.jpg",
    }
    assert {f.name: f.read_bytes() for f in one.iterdir()} == {
        f.name: f.read_bytes() for f in two.iterdir()
    }


def test_pictures_that_are_none_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    picture(folder / "good.png")
    (folder / "text.png").write_text("hello")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:-200])
    (folder / "bomb.png").write_bytes(png_of(100_000, 100_000))
    os.mkfifo(folder / "pipe.jpg")
    names = ("good.png", "text.png", "cut.png", "bomb.png")
    (folder / "labels.csv").write_text("file,x,y\n" + "".join(f"{name},1,2\n" for name in names))
    (tmp_path / "one").mkdir()
    left_out = write_session(read_foreign(folder, "csv", NOTHING), tmp_path / "one")
    assert [(e.filename, e.reason.partition(" (")[0]) for e in left_out] == [
        ("line 3, text.png", "is no JPEG, PNG, BMP, WEBP"),
        ("line 4, cut.png", "is damaged"),
        ("line 5, bomb.png", "has far too many pixels"),
    ]
    assert len(list((tmp_path / "one").iterdir())) == 2
    (folder / "labels.csv").write_text("file,x,y\ntext.png,1,2\npipe.jpg,1,2\n")
    with pytest.raises(InputError, match="line 2, text.png: is no JPEG.*so is every other picture"):
        write_session(read_foreign(folder, "csv", NOTHING), tmp_path / "one")


def png_of(width: int, height: int) -> bytes:
    """A PNG's beginning that claims a size."""
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    checked = header + zlib.crc32(header).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + checked + b"\0\0\0\0IDAT" + bytes(4)


def test_options_belong_to_formats_and_paths_have_to_be_there(
    columbia: Path, gazecapture: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="--distance-cm: is nothing for an import from columbia"):
        read_foreign(columbia, "columbia", Options(distance_cm=50.0))
    with pytest.raises(InputError, match="--distance-cm is 2; choose 15 … 500"):
        read_foreign(gazecapture, "gazecapture", Options(distance_cm=2.0))
    with pytest.raises(InputError, match="nowhere: not found"):
        read_foreign(tmp_path / "nowhere", "columbia", NOTHING)
    with pytest.raises(InputError, match="is no GazeCapture as --from gazecapture needs it"):
        read_foreign(columbia, "gazecapture", NOTHING)


def test_a_set_too_large_for_a_session_is_refused(
    mpii: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "MOST_FRAMES", 2)
    with pytest.raises(InputError, match=r"p03.txt: has 3 frames, more than the 2 of a session"):
        read_foreign(mpii, "mpiifacegaze", NOTHING)
    shutil.rmtree(mpii)
