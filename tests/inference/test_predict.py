import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Project
from custom_gaze.common.errors import InputError
from custom_gaze.config.specification import Preprocessing
from custom_gaze.data.sessions import load_frame, read_session
from custom_gaze.demo.session import write_session
from custom_gaze.faces.crops import gaze_crop
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.faces.eye_points import load_eye_finder
from custom_gaze.faces.finder import load_finder
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.inference import drawing, predict, predict_output, predictor
from custom_gaze.inference.drawing import GAZE, TARGET, Dot, Picture, Point, compose
from gaze_files import expected_deg, write_network

GEOMETRY = ScreenGeometry()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of 2 x 2 targets of a simulated person."""
    folder = tmp_path_factory.mktemp("demo") / "one"
    write_session(folder, person=2050, grid=(2, 2), frames_per_target=1, purpose="tuning")
    return folder


@pytest.fixture
def ready(project: Project, demo: Path) -> Project:
    """A project with that session, a detector and a small network."""
    shutil.copytree(demo, project.paths.sessions / "one")
    project.paths.faces.mkdir(parents=True)
    (project.paths.faces / "face_detection.onnx").write_bytes(embedded_detector())
    write_network(project.paths.model, sessions=["one"], margin=1.5, geometry=GEOMETRY)
    return project


def blank(path: Path) -> None:
    Image.new("RGB", (640, 480), (90, 90, 90)).save(path, "JPEG")


def test_a_session_as_training_would_see_it(ready: Project) -> None:
    result = predict.run("one", ready.params, ready.paths)
    session = read_session(ready.paths.sessions / "one", GEOMETRY)
    finder = load_finder(ready.paths.faces, 0.7)
    assert [row.filename for row in result.predictions] == [f.image.name for f in session.frames]
    errors = []
    for row, frame in zip(result.predictions, session.frames, strict=True):
        pixels = load_frame(frame.image)
        crop = gaze_crop(pixels, finder.find(pixels).box, Preprocessing(1.5, 64))
        wanted = expected_deg(crop)
        assert (row.yaw_deg, row.pitch_deg) == pytest.approx(tuple(wanted), abs=1e-4)
        assert row.x_px == pytest.approx(864 + row.yaw_deg / 0.0307)
        assert row.y_px == pytest.approx(558.5 + row.pitch_deg / 0.0307)
        assert (row.target_x_px, row.target_y_px) == (frame.target_x_px, frame.target_y_px)
        away = np.hypot(row.x_px - frame.target_x_px, row.y_px - frame.target_y_px)
        assert row.error_px == pytest.approx(away)
        assert row.error_deg == pytest.approx(away * 0.0307)
        errors.append(row.error_deg)
    assert result.mean_error_deg == pytest.approx(np.mean(errors))
    assert result.trained_on == "one"


def test_a_model_trained_on_crops_by_a_mesh_that_is_not_there_is_a_warning(ready: Project) -> None:
    assert predict.run("one", ready.params, ready.paths).other_faces == ""
    crops = 1.5, GEOMETRY
    write_network(ready.paths.model, 64, (2,), ["one"], *crops, crop_from="detector box")
    assert predict.run("one", ready.params, ready.paths).other_faces == ""
    write_network(ready.paths.model, 64, (2,), ["one"], *crops, crop_from="mesh")
    result = predict.run("one", ready.params, ready.paths)
    said = "warning: the model was trained on crops by a face mesh, models/faces has none: expect"
    assert predict_output.as_text(result).splitlines()[-1].startswith(said)
    assert json.loads(predict_output.as_json(result))["other_faces"] == result.other_faces


def test_the_models_own_crop_and_geometry_win(ready: Project) -> None:
    before = predict.run("one", ready.params, ready.paths).predictions[0]
    other = ScreenGeometry(500.0, 400.0, 0.05)
    write_network(ready.paths.model, sessions=["two"], margin=2.5, geometry=other)
    result = predict.run("one", ready.params, ready.paths)
    row = result.predictions[0]
    assert row.x_px == pytest.approx(500 + row.yaw_deg / 0.05)
    assert row.error_deg == pytest.approx(0.05 * row.error_px)
    assert abs(row.yaw_deg - before.yaw_deg) > 0.05  # another crop
    assert result.trained_on is None


def test_text(ready: Project) -> None:
    blank(ready.paths.sessions / "one" / "img_99.jpg")
    text = predict_output.as_text(predict.run("one", ready.params, ready.paths))
    lines = text.splitlines()
    assert lines[0].split("  ")[0].startswith("frame")
    assert "error °" in lines[0]
    assert sum(line.startswith("img_") for line in lines) == 4
    assert "no prediction: img_99.jpg: no face with a score of at least 0.7" in lines
    assert any(line.startswith("mean error ") and "over 4 frames" in line for line in lines)
    assert "the network was trained on one" in text


def test_json_holds_every_number(ready: Project) -> None:
    result = predict.run("one", ready.params, ready.paths)
    content = json.loads(predict_output.as_json(result))
    assert content["mean_error_deg"] == result.mean_error_deg
    assert content["predictions"][2]["yaw_deg"] == result.predictions[2].yaw_deg
    assert content["geometry"]["deg_per_pixel"] == 0.0307
    assert content["picture"] is None


def test_one_image_finds_its_label(ready: Project) -> None:
    session = read_session(ready.paths.sessions / "one", GEOMETRY)
    frame = session.frames[1]
    result = predict.run(str(frame.image), ready.params, ready.paths)
    (row,) = result.predictions
    assert row.target_x_px == frame.target_x_px
    assert result.trained_on == "one"


def test_a_folder_of_images_without_labels(ready: Project, tmp_path: Path, demo: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    image = next(iter(sorted(demo.glob("*.jpg"))))
    shutil.copy(image, folder / "me.jpg")
    blank(folder / "wall.jpeg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    (folder / "linked.jpg").symlink_to(image)
    result = predict.run(str(folder), ready.params, ready.paths)
    (row,) = result.predictions
    assert (row.filename, row.error_deg, result.mean_error_deg) == ("me.jpg", None, None)
    reasons = {entry.filename: entry.reason for entry in result.without_prediction}
    assert reasons["linked.jpg"] == "is a link that leaves its folder"
    assert "no face" in reasons["wall.jpeg"]
    assert reasons["broken.jpg"].startswith("is ")
    assert "target" not in predict_output.as_text(result)


def test_a_label_that_cannot_be_used_is_named(ready: Project) -> None:
    folder = ready.paths.sessions / "one"
    path = sorted(folder.glob("*.json"))[0]
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "screen_x": "left"}))
    result = predict.run("one", ready.params, ready.paths)
    row = next(row for row in result.predictions if row.filename == path.stem + ".jpg")
    assert row.error_deg is None
    assert "screen_x is 'left', not a number" in row.note
    assert "no label: " + row.filename in predict_output.as_text(result)
    assert "over 3 frames" in predict_output.as_text(result)


def test_nothing_to_see(ready: Project, tmp_path: Path) -> None:
    blank(tmp_path / "wall.jpg")
    with pytest.raises(InputError, match=r"wall\.jpg: no face .*choose an image"):
        predict.run(str(tmp_path / "wall.jpg"), ready.params, ready.paths)
    blank(tmp_path / "wall2.jpg")
    with pytest.raises(InputError, match="none of 2 images has a prediction"):
        predict.run(str(tmp_path), ready.params, ready.paths)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nobody", r"nobody: no such file or folder, and no session .*\(one\)"),
        ("models", "no JPEG"),
    ],
)
def test_no_such_thing(ready: Project, target: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        predict.run(target, ready.params, ready.paths)


def test_the_picture_shows_target_and_answer(ready: Project, tmp_path: Path) -> None:
    frame = read_session(ready.paths.sessions / "one", GEOMETRY).frames[0]
    output = tmp_path / "out.png"
    result = predict.run(str(frame.image), ready.params, ready.paths, output=output)
    drawn = np.asarray(Image.open(io.BytesIO(output.read_bytes())).convert("RGB")).astype(int)
    assert result.picture == output
    bare = compose(
        [load_frame(frame.image)],
        [Dot((result.predictions[0].x_px, result.predictions[0].y_px), None)],
        GEOMETRY,
        "",
    )
    assert drawn.shape == bare.shape
    changed = np.abs(drawn - bare).max(axis=2) > 40
    assert 300 < changed[:, : bare.shape[1] // 2].sum() < 0.05 * changed.size  # box and arrows
    assert (np.abs(drawn - TARGET).max(axis=2) < 8).sum() > 40
    assert (np.abs(drawn - GAZE).max(axis=2) < 8).sum() > 40
    with pytest.raises(InputError, match=r"out\.jpg: the picture is written as PNG"):
        predict.run("one", ready.params, ready.paths, output=tmp_path / "out.jpg")
    predict.run("one", ready.params, ready.paths, output=output)
    assert Image.open(output).size[1] == bare.shape[0]  # a mosaic of all four, as high


def place_of(color: tuple[int, int, int], picture: np.ndarray) -> tuple[float, float]:
    y, x = np.nonzero(np.abs(picture.astype(int) - color).max(axis=2) < 8)
    return float(x.mean()), float(y.mean())


def test_the_dot_is_where_the_answer_is() -> None:
    frame = np.zeros((90, 160, 3), np.uint8)
    places = []
    for x_px in (864.0, 864.0 + 400.0):
        drawn = compose([frame], [Dot((x_px, 300.0), None)], GEOMETRY, "")
        places.append(place_of(GAZE, drawn[:560]))
    shrink = 560 * (1 - 2 * 0.09) / 1117
    assert places[1][0] - places[0][0] == pytest.approx(400 * shrink, abs=0.6)
    assert places[1][1] == pytest.approx(places[0][1], abs=0.3)


def test_what_lies_beside_the_panel_is_counted_and_no_dot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dot at the border would be a prediction there: outside are arrowheads and a number."""
    said: list[str] = []
    draw = drawing._text

    def listening(canvas: Picture, at: Point, text: str, *rest: Any) -> Picture:
        said.append(text)
        return draw(canvas, at, text, *rest)

    monkeypatch.setattr(drawing, "_text", listening)
    frame = np.zeros((90, 160, 3), np.uint8)
    far = [Dot((3000.0, 300.0 + 100 * n), (1600.0, 300.0)) for n in range(3)]
    drawn = compose([frame], [*far, Dot((-900.0, 500.0), None)], GEOMETRY, "")
    assert {"3 outside", "1 outside"} <= set(said)
    panel = drawn[12:572, -drawn.shape[1] // 2 :].astype(int)
    _, x = np.nonzero(np.abs(panel - GAZE).max(axis=2) < 8)
    assert x.max() > panel.shape[1] - 12 - 14  # an arrowhead's tip at the panel's margin
    compose([frame], [Dot((800.0, 300.0), (800.0, 310.0))], GEOMETRY, "")
    assert not [text for text in said[-3:] if "outside" in text]


@pytest.mark.parametrize(
    ("outputs", "size_px", "message"),
    [
        ((3,), 64, "the app reads one output of two values"),
        ((2, 2), 64, "or two of equally many bins"),
        ((28, 28), 64, "28 bins of an MPIIGaze model"),
        ((90, 90, 90), 64, "the app reads one output of two values"),
        ((2,), 16, "no gaze network, but input input 1x3x16x16"),
    ],
)
def test_networks_the_app_could_not_read(
    ready: Project, outputs: tuple[int, ...], size_px: int, message: str
) -> None:
    path = write_network(ready.paths.root / "other.onnx", size_px, outputs)
    with pytest.raises(InputError, match=message) as caught:
        predict.run("one", ready.params, ready.paths, model=path)
    assert "\n" not in str(caught.value)


def test_a_stock_network_is_read_by_its_bins(ready: Project) -> None:
    path = write_network(ready.paths.root / "stock.onnx", outputs=(90, 90))
    model = predictor.load_gaze_model(path, ready.params)
    angles = model.angles_deg(np.zeros((64, 64, 3), np.uint8))
    assert angles.tolist() == pytest.approx([-2.0, -2.0])  # the middle of -180 … 176
    assert model.spec == Preprocessing(1.5, 64)
    assert model.sessions is None


def test_other_files_in_the_models_place(ready: Project) -> None:
    ready.paths.model.write_bytes(b"<html>")
    with pytest.raises(InputError, match="a web page or XML, not ONNX"):
        predict.run("one", ready.params, ready.paths)
    ready.paths.model.unlink()
    with pytest.raises(InputError, match=r"custom_gaze\.onnx: not found; run `dvc repro`"):
        predict.run("one", ready.params, ready.paths)
    write_network(ready.paths.model, margin=9.0)
    with pytest.raises(InputError, match="another preprocessing"):
        predict.run("one", ready.params, ready.paths)


def test_answers_that_are_no_angles(ready: Project) -> None:
    write_network(ready.paths.model, scale=1000.0)
    with pytest.raises(InputError, match="no angles"):
        predict.run("one", ready.params, ready.paths)


def test_the_eyes_are_found_where_they_are(demo: Path) -> None:
    finder = load_eye_finder()
    for frame in read_session(demo, GEOMETRY).frames:
        pixels = load_frame(frame.image)
        face = finder.detector.detect(pixels, 0.7)[0].box
        found = finder.find(pixels, face)
        assert frame.eyes_px is not None
        assert found is not None
        distance = frame.eyes_px[1][0] - frame.eyes_px[0][0]
        for here, there in zip(found, frame.eyes_px, strict=True):
            assert np.hypot(here[0] - there[0], here[1] - there[1]) < 0.15 * distance
    grey = np.full((200, 200, 3), 127, np.uint8)
    assert finder.find(grey, (50.0, 50.0, 150.0, 150.0)) is None
    assert finder.find(grey, (500.0, 500.0, 600.0, 600.0)) is None
