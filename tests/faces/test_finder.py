import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from custom_gaze.common.errors import InputError
from custom_gaze.faces.crops import mesh_crop_box
from custom_gaze.faces.detectors import (
    DetectorKind,
    embedded_detector,
    load_detector,
    rfb_priors,
)
from custom_gaze.faces.eye_points import load_eye_finder
from custom_gaze.faces.finder import (
    DETECTOR_FILE,
    MESH_FILE,
    FaceFinder,
    box_around,
    load_finder,
    load_mesh,
)
from synthetic_faces import (
    expected_box,
    prior,
    write_centerface,
    write_detector,
    write_gaze_network,
    write_mesh,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"
CELL_PX = 32  # a cell of the synthetic detector in a frame of 640 x 480


def frame_with(*cells: tuple[int, int], size: tuple[int, int] = (640, 480)) -> np.ndarray:
    """A dark frame with these cells of the 20 × 15 grid white."""
    width, height = size
    frame = np.zeros((height, width, 3), dtype=np.uint8)
    for column, row in cells:
        left, right = column * width // 20, (column + 1) * width // 20
        frame[row * height // 15 : (row + 1) * height // 15, left:right] = 255
    return frame


@pytest.fixture(scope="module")
def centerface(tmp_path_factory):
    path = tmp_path_factory.mktemp("centerface") / "renamed.onnx"
    path.write_bytes(embedded_detector())
    return path


@pytest.fixture(scope="module")
def astronaut():
    from skimage import data

    return np.ascontiguousarray(data.astronaut())


# -------------------------------------------------------------------------------- RFB-320


@pytest.mark.parametrize(
    ("decoded", "kind"), [(True, DetectorKind.RFB_DECODED), (False, DetectorKind.RFB_RAW)]
)
@pytest.mark.parametrize("cell", [(4, 3), (13, 10), (0, 0), (19, 14)])
def test_both_rfb_variants_find_the_same_face_in_frame_pixels(tmp_path, decoded, kind, cell):
    detector = load_detector(write_detector(tmp_path / "d.onnx", decoded))
    assert detector.kind is kind
    faces = detector.detect(frame_with(cell, size=(1280, 720)), 0.7)
    assert len(faces) == 1
    expected = np.array(expected_box(*cell)) * [1280, 720, 1280, 720]
    np.testing.assert_allclose(faces[0].box, expected, atol=1e-2)
    assert faces[0].score > 0.99


def test_rfb_input_is_rgb_scaled_as_the_app_scales_it(tmp_path):
    """The score is a function of (red - 127) / 128 alone, so it tells scale and channel order."""
    detector = load_detector(write_detector(tmp_path / "d.onnx", decoded=True))
    frame = np.full((480, 640, 3), (143, 255, 0), dtype=np.uint8)  # (143 - 127) / 128 = 1/8
    face = detector.detect(frame, 0.7)[0]  # logits ∓6/8
    assert face.score == pytest.approx(1 / (1 + np.exp(-1.5)), abs=1e-5)


def test_min_score_is_a_limit_that_itself_counts(tmp_path):
    detector = load_detector(write_detector(tmp_path / "d.onnx", decoded=True))
    frame = frame_with((4, 3)) // 2
    (face,) = detector.detect(frame, 0.0)[:1]
    assert len(detector.detect(frame, face.score)) == 1
    assert detector.detect(frame, float(np.nextafter(np.float32(face.score), 1))) == []


def test_overlapping_boxes_are_one_face_and_the_best_comes_first(tmp_path):
    detector = load_detector(write_detector(tmp_path / "d.onnx", decoded=True))
    frame = frame_with((4, 3), (5, 3), (14, 10))  # priors 16 pixels apart, 48 wide
    frame[frame[..., 0] == 255] = 160
    frame[10 * CELL_PX : 11 * CELL_PX, 14 * CELL_PX : 15 * CELL_PX] = 255
    faces = detector.detect(frame, 0.7)
    assert len(faces) == 2
    expected = np.array(expected_box(14, 10)) * [640, 480, 640, 480]
    np.testing.assert_allclose(faces[0].box, expected, atol=1e-2)
    assert faces[0].score > faces[1].score > 0.7


def test_priors_are_the_published_ones():
    counted = np.array([prior(index) for index in range(4420)])
    np.testing.assert_allclose(rfb_priors(), counted, atol=1e-7)
    # Rows of the stride-32 map are an eighth of the frame apart though 240 / 32 is 7.5.
    assert rfb_priors()[3600 + 600 + 20, 1] - rfb_priors()[3600 + 600, 1] == pytest.approx(0.125)


def test_detection_is_safe_and_equal_in_threads(tmp_path):
    detector = load_detector(write_detector(tmp_path / "d.onnx", decoded=False))
    frames = [frame_with((i % 20, i % 15)) for i in range(24)]
    alone = [detector.detect(frame, 0.7) for frame in frames]
    barrier = threading.Barrier(4)

    def detect(index: int):
        if index < 4:
            barrier.wait(timeout=20)
        return detector.detect(frames[index], 0.7)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detect, range(24))) == alone


# ----------------------------------------------------------------------------- CenterFace


def test_centerface_finds_the_astronaut(centerface, astronaut):
    detector = load_detector(centerface)
    assert detector.kind is DetectorKind.CENTERFACE
    assert detector.sha256 == hashlib.sha256(embedded_detector()).hexdigest()
    faces = detector.detect(astronaut, 0.7)
    assert len(faces) == 1
    x1, y1, x2, y2 = faces[0].box
    # Her eyes are near (205, 107) and (244, 107), her mouth near (222, 150), her chin at 175.
    assert 165 < x1 < 195
    assert 55 < y1 < 95
    assert 250 < x2 < 285
    assert 160 < y2 < 190


@pytest.mark.parametrize(
    ("frame_size", "seen_size"),
    [((1280, 720), (384, 224)), ((640, 480), (288, 224)), ((480, 640), (224, 288))],
)
def test_centerface_outputs_are_decoded_as_published(tmp_path, frame_size, seen_size):
    """Size and offset come as (y, x) in cells of 4 pixels, size as its logarithm."""
    path = write_centerface(tmp_path / "c.onnx", size=(20.0, 28.0), offset=(0.3, -0.2))
    detector = load_detector(path)
    assert detector.kind is DetectorKind.CENTERFACE
    width, height = frame_size
    scale_x, scale_y = width / seen_size[0], height / seen_size[1]
    column, row = 31, 22
    frame = np.zeros((height, width, 3), dtype=np.uint8)
    top, left = round(row * 4 * scale_y), round(column * 4 * scale_x)
    bottom, right = round((row + 1) * 4 * scale_y), round((column + 1) * 4 * scale_x)
    frame[top:bottom, left:right] = (255, 60, 255)
    faces = detector.detect(frame, 0.5)
    assert len(faces) == 1
    center_x, center_y = (column + 0.5 + 0.3) * 4, (row + 0.5 - 0.2) * 4
    expected = np.array([center_x - 40, center_y - 56, center_x + 40, center_y + 56])
    expected *= [scale_x, scale_y, scale_x, scale_y]
    np.testing.assert_allclose(faces[0].box, expected, atol=1e-2)


def test_centerface_sees_its_pixels_from_0_to_255_in_rgb(tmp_path):
    detector = load_detector(write_centerface(tmp_path / "c.onnx", (20.0, 20.0), (0.0, 0.0)))
    frame = np.full((480, 640, 3), (204, 255, 0), dtype=np.uint8)
    assert detector.detect(frame, 0.5)[0].score == pytest.approx(0.8, abs=1e-5)


@pytest.mark.parametrize("size", [(1280, 720), (640, 480), (480, 640), (1920, 1080)])
def test_centerface_boxes_follow_the_face_in_any_frame(centerface, astronaut, size):
    """The same face, twice its size at another place in another frame: the box moves with it."""
    from PIL import Image

    detector = load_detector(centerface)
    (plain,) = detector.detect(astronaut, 0.7)
    frame = np.full((size[1], size[0], 3), 90, dtype=np.uint8)
    head = astronaut[40:210, 130:310]
    large = np.asarray(Image.fromarray(head).resize((360, 340), Image.BICUBIC))
    left, top = size[0] - 400, size[1] - 380
    frame[top : top + 340, left : left + 360] = large
    (moved,) = detector.detect(frame, 0.7)
    back = (np.array(moved.box) - [left, top, left, top]) / 2 + [130, 40, 130, 40]
    # A detector is not exact, but to a tenth of the face's 120 pixels it is.
    np.testing.assert_allclose(back, plain.box, atol=12.0)


def test_centerface_looks_again_for_a_person_far_away(centerface, astronaut):
    from PIL import Image

    small = np.asarray(Image.fromarray(astronaut).resize((200, 200), Image.BILINEAR))
    frame = np.full((720, 1280, 3), 90, dtype=np.uint8)
    frame[300:500, 900:1100] = small  # a face 36 pixels wide
    faces = load_detector(centerface).detect(frame, 0.7)
    assert len(faces) == 1
    x1, y1, x2, y2 = faces[0].box
    assert (x1 + x2) / 2 == pytest.approx(900 + 224 * 200 / 512, abs=6)
    assert (y1 + y2) / 2 == pytest.approx(300 + 122 * 200 / 512, abs=8)


def test_centerface_finds_nobody_in_an_empty_frame(centerface):
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    assert load_detector(centerface).detect(noise, 0.5) == []


# ------------------------------------------------------------------------- what is refused


def not_onnx(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>404</html>", "a web page or XML, not ONNX"),
        (b"\xff\xd8\xff\xe0 JFIF", "a JPEG image, not ONNX"),
        (b"PK\x03\x04 archive/data.pkl", "a zip archive or PyTorch file, not ONNX"),
        (b"\x80\x02}q\x00.", "pickle or old PyTorch file, not ONNX"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        (b"hello", "no ONNX, or one that is damaged"),
    ],
)
@pytest.mark.parametrize("check", [load_detector, load_mesh])
def test_what_is_no_onnx_is_named(tmp_path, content, said, check):
    with pytest.raises(InputError, match=f"x.onnx: is .*{said}|x.onnx: {said}") as caught:
        check(not_onnx(tmp_path / "x.onnx", content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_detector_cut_short_is_refused(tmp_path, share):
    content = embedded_detector()
    path = not_onnx(tmp_path / "x.onnx", content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"x\.onnx: .*(damaged or cut short|cannot load|no face)"):
        load_detector(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.onnx: not found"):
        load_detector(tmp_path / "nothing.onnx")
    with pytest.raises(InputError, match=": is a folder, not a file"):
        load_detector(tmp_path)


def test_other_networks_are_named_for_what_they_are(tmp_path):
    mesh = write_mesh(tmp_path / "mesh.onnx")
    gaze = write_gaze_network(tmp_path / "gaze.onnx")
    rfb = write_detector(tmp_path / "rfb.onnx", decoded=True)
    with pytest.raises(InputError, match=r"no face detector .* a face mesh: .*1x192x192x3"):
        load_detector(mesh)
    with pytest.raises(InputError, match=r"no face detector .* a gaze network: .*1x3x448x448"):
        load_detector(gaze)
    with pytest.raises(InputError, match=r"no face mesh, but input input 1x3x240x320, outputs"):
        load_mesh(rfb)
    with pytest.raises(InputError, match=r"no face mesh, but a gaze network"):
        load_mesh(gaze)


def test_a_mesh_of_another_number_of_points_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no face mesh, but .*1x1x1x1434"):
        load_mesh(write_mesh(tmp_path / "attention.onnx", points=478))


@pytest.mark.parametrize(
    "wrong",
    [
        {"decoded": True, "softmax": False},
        {"decoded": True, "size_unit": -1.0},
        {"decoded": True, "size_unit": 320.0, "center_unit": 320.0},
    ],
    ids=["logits for scores", "boxes turned inside out", "boxes in pixels"],
)
def test_rfb_shapes_with_other_numbers_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match="its numbers are no scores and boxes of that kind"):
        load_detector(write_detector(tmp_path / "x.onnx", **wrong))


def test_a_graph_that_onnxruntime_refuses_is_refused(tmp_path):
    path = write_detector(tmp_path / "x.onnx", decoded=False)
    model = onnx.load(path)
    model.graph.node[0].op_type = "NoSuchOperator"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(
        InputError, match=r"NoSuchOperator 'red' is no operator that a gaze network"
    ):
        load_detector(path)


def test_weights_outside_the_file_are_refused_and_not_read(tmp_path):
    path = write_detector(tmp_path / "x.onnx", decoded=False)
    model = onnx.load(path)
    tensor = next(entry for entry in model.graph.initializer if entry.name == "bias")
    onnx.external_data_helper.set_external_data(tensor, "../../etc/passwd")
    tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="keeps weights outside the file"):
        load_detector(path)


def test_weights_outside_the_file_are_found_in_constants_too(tmp_path):
    path = write_detector(tmp_path / "x.onnx", decoded=False)
    model = onnx.load(path)
    values = numpy_helper.from_array(np.zeros(400, np.float32))
    constant = onnx.helper.make_node("Constant", [], ["c"], value=values)
    onnx.external_data_helper.set_external_data(constant.attribute[0].t, "elsewhere")
    model.graph.node.append(constant)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="keeps weights outside the file"):
        load_detector(path)


# ------------------------------------------------------------------------------- the mesh


def test_mesh_box_comes_back_in_frame_pixels(tmp_path):
    mesh = load_mesh(write_mesh(tmp_path / "m.onnx"))
    frame = np.zeros((480, 640, 3), dtype=np.uint8)
    frame[150:290, 200:300, 0] = 255
    frame[:, :, 2] = 255  # were blue taken for red, the box would be the whole crop
    # Grown from 120x160 to 150x200 pixels: (175, 120) … (325, 320), so x and y scale differently.
    box = box_around(mesh.points(frame, (190.0, 140.0, 310.0, 300.0)))
    np.testing.assert_allclose(box, (200, 150, 300, 290), atol=0.5)


@pytest.mark.parametrize(
    "face",
    [
        (100.6, 50.2, 180.9, 150.8),
        (-30.0, 20.0, 90.0, 200.0),
        (500.3, 300.7, 700.9, 470.2),
        (10.0, -40.0, 639.0, 600.0),
    ],
)
def test_mesh_sees_exactly_the_grown_clipped_truncated_box(tmp_path, face):
    """On an even frame the synthetic mesh's box is the crop it was shown."""
    mesh = load_mesh(write_mesh(tmp_path / "m.onnx"))
    frame = np.full((480, 640, 3), 255, dtype=np.uint8)
    seen = mesh_crop_box(face, 640, 480)
    np.testing.assert_allclose(box_around(mesh.points(frame, face)), seen, atol=0.05)


def test_a_box_outside_the_frame_has_no_mesh(tmp_path):
    mesh = load_mesh(write_mesh(tmp_path / "m.onnx"))
    with pytest.raises(InputError, match="outside the frame"):
        mesh.points(np.zeros((480, 640, 3), np.uint8), (700.0, 10.0, 760.0, 70.0))


def test_points_that_make_no_box_are_named(tmp_path):
    model = onnx.load(write_mesh(tmp_path / "m.onnx"))
    for tensor in model.graph.initializer:
        if tensor.name == "root3":
            tensor.CopyFrom(numpy_helper.from_array(np.array(0, np.float32), "root3"))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    mesh = load_mesh(tmp_path / "m.onnx")
    with pytest.raises(InputError, match="the face mesh found no face in the detector's box"):
        mesh.points(np.full((480, 640, 3), 255, np.uint8), (100.0, 100.0, 200.0, 200.0))


@pytest.mark.skipif(not (SHARED / MESH_FILE).is_file(), reason="a real face mesh is not at hand")
def test_a_real_mesh_lies_on_the_portraits_face(centerface, astronaut):
    """The box of its points, and its eyes where CenterFace, which knows nothing of it, has them."""
    finder = FaceFinder(load_detector(centerface), load_mesh(SHARED / MESH_FILE), 0.7)
    found = finder.find(astronaut)
    np.testing.assert_allclose(found.box, (180.2, 69.0, 269.7, 177.5), atol=1.0)
    eyes = load_eye_finder().find(astronaut, found.detected)
    np.testing.assert_allclose(found.eyes, eyes, atol=3.0)


# ----------------------------------------------------------------------------- the finder


@pytest.fixture
def models(tmp_path):
    write_detector(tmp_path / DETECTOR_FILE, decoded=True)
    return tmp_path


def test_without_a_mesh_the_crop_is_made_from_the_detectors_box(models):
    finder = load_finder(models, 0.7)
    found = finder.find(frame_with((9, 7)))
    assert finder.crop_from == "detector box"
    assert found.box == found.detected
    expected = np.array(expected_box(9, 7)) * [640, 480, 640, 480]
    np.testing.assert_allclose(found.box, expected, atol=1e-2)


def test_with_a_mesh_the_crop_is_made_from_its_points(models):
    write_mesh(models / MESH_FILE)
    finder = load_finder(models, 0.7)
    found = finder.find(frame_with((9, 7)))
    assert finder.crop_from == "mesh"
    # The white cell, not the detector's box three times its size.
    np.testing.assert_allclose(found.box, (288, 224, 320, 256), atol=0.7)
    expected = np.array(expected_box(9, 7)) * [640, 480, 640, 480]
    np.testing.assert_allclose(found.detected, expected, atol=1e-2)


def test_no_face_and_two_faces_are_refused_with_the_reason(models):
    finder = load_finder(models, 0.7)
    with pytest.raises(InputError, match=r"^no face with a score of at least 0\.7$"):
        finder.find(frame_with())
    with pytest.raises(InputError, match=r"^2 faces of like size \(scores 1\.00, 1\.00\)$"):
        finder.find(frame_with((4, 3), (14, 10)))


@pytest.mark.parametrize(("second", "refused"), [((49, 80), False), ((51, 51), True)])
def test_a_second_face_counts_from_half_the_size(models, second, refused, monkeypatch):
    from custom_gaze.faces.detectors import Detector, Face

    width, height = second
    faces = [Face((0, 0, 100, 130), 0.8), Face((300, 0, 300 + width, height), 0.75)]
    monkeypatch.setattr(Detector, "detect", lambda *_: faces)
    finder = load_finder(models, 0.7)
    frame = np.zeros((480, 640, 3), np.uint8)
    if refused:
        with pytest.raises(InputError, match="2 faces of like size"):
            finder.find(frame)
    else:
        assert finder.find(frame).detected == (0, 0, 100, 130)


def test_a_missing_detector_names_the_command(tmp_path):
    with pytest.raises(InputError, match=r"face_detection\.onnx: not found; run `custom-gaze fe"):
        load_finder(tmp_path, 0.7)


# ------------------------------------------------------------------------ published files


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published RFB-320 files are not at hand")
def test_the_published_rfb_files_agree_to_a_thousandth_of_a_pixel(astronaut):
    decoded = load_detector(SHARED / "face_detection.onnx")
    raw = load_detector(SHARED / "face_detection_raw.onnx")
    assert (decoded.kind, raw.kind) == (DetectorKind.RFB_DECODED, DetectorKind.RFB_RAW)
    (one,), (other,) = decoded.detect(astronaut, 0.7), raw.detect(astronaut, 0.7)
    np.testing.assert_allclose(one.box, other.box, atol=1e-3)
    assert one.score == pytest.approx(other.score, abs=1e-5)
    assert one.score > 0.99


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published RFB-320 files are not at hand")
def test_our_priors_equal_those_inside_the_published_file():
    model = onnx.load(SHARED / "face_detection.onnx")
    inside = [
        numpy_helper.to_array(node.attribute[0].t)[0]
        for node in model.graph.node
        if node.op_type == "Constant" and node.attribute[0].t.dims == [1, 4420, 2]
    ]
    assert any(np.array_equal(values, rfb_priors()[:, :2]) for values in inside)
    assert any(np.array_equal(values, rfb_priors()[:, 2:]) for values in inside)
