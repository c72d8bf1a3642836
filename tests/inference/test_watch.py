import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import Project
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.config.specification import Preprocessing
from custom_gaze.data.sessions import load_frame, read_session
from custom_gaze.demo.session import write_session
from custom_gaze.faces.crops import gaze_crop
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.faces.finder import load_finder
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.inference import watch, watch_output
from gaze_files import expected_deg, write_network

FPS = 5.0


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four demo frames and one without a face, in the middle, as a real video file."""
    folder = tmp_path_factory.mktemp("demo")
    write_session(folder / "one", person=2051, grid=(2, 2), frames_per_target=1, purpose="tuning")
    session = read_session(folder / "one", ScreenGeometry())
    light = (1.0, 0.7, 0.9, 0.75)  # so that the network's predictions differ
    frames = [
        (load_frame(frame.image) * share).astype(np.uint8)
        for frame, share in zip(session.frames, light, strict=True)
    ]
    frames.insert(2, np.full_like(frames[0], 90))
    path = folder / "demo.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (1280, 720))
    for frame in frames:
        writer.write(frame[..., ::-1].copy())
    writer.release()
    return path


@pytest.fixture
def ready(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a detector and a small network, on a machine without a display."""
    project.paths.faces.mkdir(parents=True)
    (project.paths.faces / "face_detection.onnx").write_bytes(embedded_detector())
    write_network(project.paths.model)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    return project


def decoded(path: Path) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    while (frame := capture.read())[0]:
        yield frame[1][..., ::-1].copy()
    capture.release()


def raw_angles(ready: Project, frames: list[np.ndarray]) -> list[np.ndarray]:
    """The network's own predictions, without smoothing; frames without a face are left out."""
    finder = load_finder(ready.paths.faces, 0.7)
    predictions = []
    for frame in frames:
        try:
            face = finder.find(frame)
        except InputError:
            continue
        predictions.append(expected_deg(gaze_crop(frame, face.box, Preprocessing(1.5, 64))))
    return predictions


def numbers(line: str) -> tuple[float, float, int, int]:
    words = line.replace("°", "").split()
    places = [words.index(name) + 1 for name in ("yaw", "pitch", "x", "y")]
    yaw, pitch, x, y = (float(words[place]) for place in places)
    return yaw, pitch, int(x), int(y)


def test_a_video_gives_a_smoothed_line_a_frame(ready: Project, video: Path) -> None:
    lines: list[str] = []
    result = watch.run(str(video), ready.params, ready.paths, say=lines.append)
    assert (result.frames, result.with_gaze) == (5, 4)
    assert lines[0] == (
        "no display here: one line a frame instead of a window; --output writes a video"
    )
    assert len(lines) == 6
    assert "no gaze: no face with a score" in lines[3]
    raw = raw_angles(ready, list(decoded(video)))
    smooth = raw[0]
    seen = [lines[1], lines[2], lines[4], lines[5]]
    for number, line in enumerate(seen):
        if number:
            smooth = 0.4 * raw[number] + 0.6 * smooth
        yaw, pitch, x, y = numbers(line)
        assert (yaw, pitch) == pytest.approx(tuple(smooth), abs=0.051)
        assert (x, y) == pytest.approx(
            (864 + smooth[0] / 0.0307, 558.5 + smooth[1] / 0.0307), abs=1.0
        )
    assert np.abs(raw[1] - raw[0]).max() > 0.5  # else smoothing could not be told
    assert [line.split()[0] for line in lines[1:]] == ["0.00", "0.20", "0.40", "0.60", "0.80"]


def test_a_model_trained_on_crops_by_a_mesh_that_is_not_there_is_a_warning(
    ready: Project, video: Path, tmp_path: Path
) -> None:
    write_network(ready.paths.model, 64, (2,), ["one"], 1.5, ScreenGeometry(), crop_from="mesh")
    lines: list[str] = []
    picture = tmp_path / "last.png"
    watch.run(str(video), ready.params, ready.paths, output=picture, say=lines.append)
    (line,) = lines
    assert line.startswith("warning: the model was trained on crops by a face mesh, models/faces ")


def test_mirrored_frames_are_turned_round(ready: Project, video: Path) -> None:
    lines: list[str] = []
    watch.run(str(video), ready.params, ready.paths, mirror=True, say=lines.append)
    (first,) = raw_angles(ready, [np.ascontiguousarray(next(decoded(video))[:, ::-1])])
    plain = raw_angles(ready, [next(decoded(video))])[0]
    assert numbers(lines[1])[:2] == pytest.approx(tuple(first), abs=0.051)
    assert np.abs(first - plain).max() > 0.5  # else turning them could not be told


@pytest.mark.parametrize("name", ["out.avi", "out.mp4"])
def test_the_annotated_video(ready: Project, video: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / "made" / name
    lines: list[str] = []
    result = watch.run(str(video), ready.params, ready.paths, output=output, say=lines.append)
    assert result.output == output
    assert not lines
    frames = list(decoded(output))
    assert len(frames) == 5
    assert frames[0].shape[0] == 560 + 2 * 12 + 48
    assert frames[0].shape[1] > 1700
    capture = cv2.VideoCapture(str(output))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(FPS)
    assert [path.name for path in output.parent.iterdir()] == [name]
    red = [
        ((frame[..., 0] > 200) & (frame[..., 1] < 150) & (frame[..., 2] < 160))[:560, 1010:].sum()
        for frame in frames
    ]
    assert min(red[0], red[1], red[3], red[4]) > 30
    assert red[2] < 10  # no gaze, no dot


def test_a_picture_of_the_last_frame(ready: Project, video: Path, tmp_path: Path) -> None:
    output = tmp_path / "last.png"
    watch.run(str(video), ready.params, ready.paths, output=output)
    shown = cv2.imread(str(output))[..., ::-1]
    last = list(decoded(video))[-1]
    small = cv2.resize(last, (996, 560), interpolation=cv2.INTER_AREA).astype(int)
    difference = np.abs(shown[12 : 12 + 560, 12 : 12 + 996].astype(int) - small).mean()
    assert difference < 4


def test_no_webcam_is_one_line_within_seconds(ready: Project) -> None:
    code = (
        "from pathlib import Path\n"
        "from custom_gaze.inference import watch\n"
        "from custom_gaze.common.errors import InputError\n"
        "from custom_gaze.config.params import load_params\n"
        "from custom_gaze.config.paths import Paths\n"
        "try: watch.run('57', load_params(Path('params.yaml')), Paths())\n"
        "except InputError as error: print(error)\n"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 20
    assert done.stdout.strip() == (
        "webcam 57: none here; connect one, allow access to it, or give --source a video file"
    )
    assert done.stderr == ""


def test_sources_that_are_none(
    ready: Project, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    with pytest.raises(InputError, match=r"nothing\.mp4: not found; give a video file"):
        watch.run("nothing.mp4", ready.params, ready.paths)
    with pytest.raises(InputError, match="webcam 2000: none here"):
        watch.run("2000", ready.params, ready.paths)
    broken = tmp_path / "broken.avi"
    broken.write_bytes(b"RIFF no video")
    with pytest.raises(InputError, match=r"broken\.avi: no video that OpenCV can read"):
        watch.run(str(broken), ready.params, ready.paths)
    assert capfd.readouterr().err == ""


def test_a_video_without_frames_leaves_no_output(
    ready: Project, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch.Source, "frames", lambda self: iter(()))
    for name in ("out.avi", "out.png"):
        with pytest.raises(InputError, match="holds no frame OpenCV can read"):
            watch.run(str(video), ready.params, ready.paths, output=tmp_path / "x" / name)
    assert not (tmp_path / "x").exists() or not os.listdir(tmp_path / "x")


def test_an_output_that_cannot_be(ready: Project, video: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"give the output a name ending in \.avi"):
        watch.run(str(video), ready.params, ready.paths, output=tmp_path / "out.gif")
    (tmp_path / "file").write_text("")
    with pytest.raises(CustomGazeError, match="cannot be written"):
        watch.run(str(video), ready.params, ready.paths, output=tmp_path / "file" / "out.avi")


def test_ctrl_c_ends_a_live_watch_and_keeps_the_video(
    ready: Project, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = next(decoded(video))

    def frames(_: watch.Source) -> Iterator[tuple[float, np.ndarray]]:
        yield 0.0, frame
        yield 0.5, frame
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.Source, "frames", frames)
    with pytest.raises(KeyboardInterrupt):
        watch.run(str(video), ready.params, ready.paths, output=tmp_path / "cut.avi")
    assert not (tmp_path / "cut.avi").exists()
    monkeypatch.setattr(watch.cv2, "VideoCapture", lambda *_: cv2_capture(video))
    result = watch.run("0", ready.params, ready.paths, output=tmp_path / "live.avi")
    assert result.frames == 2
    assert len(list(decoded_plain(tmp_path / "live.avi"))) == 5  # 0.5 s at 10 pictures a second


REAL_CAPTURE = cv2.VideoCapture


def cv2_capture(path: Path) -> cv2.VideoCapture:
    return REAL_CAPTURE(str(path), cv2.CAP_FFMPEG)


def decoded_plain(path: Path) -> Iterator[np.ndarray]:
    capture = cv2_capture(path)
    while (frame := capture.read())[0]:
        yield frame[1]


def test_a_display_that_does_not_answer(ready: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":4711")
    assert watch_output.no_display() == "the display does not answer"
    monkeypatch.delenv("DISPLAY")
    assert watch_output.no_display() == "no display here"
    monkeypatch.setattr(watch_output.cv2, "getBuildInformation", lambda: "  GUI:     NONE\n")
    assert watch_output.no_display() == "this OpenCV was built without windows"
    monkeypatch.setattr(watch_output.cv2, "getBuildInformation", lambda: "  GUI:     COCOA\n")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert watch_output.no_display() is None
