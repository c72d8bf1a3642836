import csv
import dataclasses
import errno
import hashlib
import io
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.provenance import code_version
from custom_gaze.config.params import Params, PrepareParams
from custom_gaze.config.paths import Paths
from custom_gaze.config.specification import PREPROCESSING
from custom_gaze.data.crop_picture import crop_picture
from custom_gaze.data.prepared import LeftOut, read_manifest
from custom_gaze.data.session_file import Exclusion, SessionFile, write_session_file
from custom_gaze.data.sessions import load_frame
from custom_gaze.faces.crops import gaze_crop, gaze_crop_box
from custom_gaze.faces.finder import DETECTOR_FILE, MESH_FILE
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.stages import prepare
from synthetic_faces import expected_box, write_detector, write_mesh

FIRST_MS = 1766068421000
PARAMS = Params(sessions=("monday",))


def params(**changes) -> Params:
    return dataclasses.replace(PARAMS, prepare=dataclasses.replace(PARAMS.prepare, **changes))


@pytest.fixture
def paths(tmp_path):
    paths = Paths(tmp_path)
    write_detector(paths.faces / DETECTOR_FILE, decoded=True)
    (paths.sessions / "monday").mkdir(parents=True)
    return paths


def add_frame(paths: Paths, number: int, *cells: tuple[int, int], target=(864.0, 558.5)) -> Path:
    """One frame of 640 × 480, textured, with these cells of the 20 × 15 grid bright red."""
    rng = np.random.default_rng(number)
    frame = rng.integers(0, 60, (480, 640, 3)).astype(np.uint8)
    frame[:, :, 0] = 0
    frame[:, :, 1] = np.linspace(0, 255, 640).astype(np.uint8)
    for column, row in cells:
        frame[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32, 0] = 255
    image = paths.sessions / "monday" / f"img_{FIRST_MS + number}.jpg"
    Image.fromarray(frame).save(image, quality=100, subsampling=0)
    record = {"timestamp": FIRST_MS + number, "screen_x": target[0], "screen_y": target[1]}
    image.with_suffix(".json").write_text(json.dumps(record))
    return image


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "labels.csv").read_text())))


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_crops_are_what_the_apps_rule_cuts(paths):
    image = add_frame(paths, 1, (9, 7))
    result = prepare.run("monday", PARAMS, paths)
    assert (result.frames, result.used, result.left_out) == (1, 1, ())
    assert result.folder == paths.dataset / "monday"
    stored = Image.open(result.folder / image.name)
    assert (stored.format, stored.mode, stored.size) == ("JPEG", "RGB", (448, 448))
    assert {component[1:3] for component in stored.layer} == {(1, 1)}  # 4:4:4
    box = tuple(np.array(expected_box(9, 7)) * [640, 480, 640, 480])
    expected = gaze_crop(load_frame(image), box, PREPROCESSING)
    difference = np.abs(np.asarray(stored).astype(int) - expected)
    assert difference.max() <= 4  # of one JPEG at quality 100
    assert difference.mean() < 0.6


def test_labels_have_the_specifications_signs_and_round_trip(paths):
    targets = [(864.0, 558.5), (1675.2773, 20.574219), (0.1, 1116.9)]
    for number, target in enumerate(targets):
        add_frame(paths, number, (4 + number, 7), target=target)
    result = prepare.run("monday", PARAMS, paths)
    header = (result.folder / "labels.csv").read_text().splitlines()[0]
    assert header == (
        "filename,yaw,pitch,session,target_x,target_y,face_score,box_x1,box_y1,box_x2,box_y2"
    )
    read = rows(result.folder)
    assert [row["filename"] for row in read] == [f"img_{FIRST_MS + n}.jpg" for n in range(3)]
    assert {row["session"] for row in read} == {"monday"}
    for row, (x, y) in zip(read, targets, strict=True):
        assert (float(row["target_x"]), float(row["target_y"])) == (x, y)
        assert float(row["yaw"]) == (x - 864.0) * 0.0307
        assert float(row["pitch"]) == (y - 558.5) * 0.0307
    assert float(read[0]["yaw"]) == float(read[0]["pitch"]) == 0.0
    assert float(read[1]["yaw"]) > 24.9  # right is positive
    assert float(read[2]["pitch"]) > 17.1  # down is positive
    box = [float(read[1][key]) for key in ("box_x1", "box_y1", "box_x2", "box_y2")]
    expected = np.array(expected_box(5, 7)) * [640, 480, 640, 480]
    np.testing.assert_allclose(box, expected, atol=1e-2)
    assert 0.99 < float(read[1]["face_score"]) <= 1.0


def test_manifest_says_what_made_the_dataset(paths):
    add_frame(paths, 1, (9, 7))
    result = prepare.run("monday", params(margin=1.6, size_px=224, jpeg_quality=90), paths)
    manifest = json.loads((result.folder / "manifest.json").read_text())
    detector = (paths.faces / DETECTOR_FILE).read_bytes()
    assert manifest["format"] == 2
    assert manifest["code"] == code_version("stages.prepare")
    assert manifest["session"] == "monday"
    assert manifest["detector"] == {
        "kind": "RFB-320, decoded boxes",
        "sha256": hashlib.sha256(detector).hexdigest(),
        "min_score": 0.7,
    }
    assert manifest["mesh"] is None
    assert manifest["crop_from"] == "detector box"
    assert manifest["drawn"] is False
    assert manifest["preprocessing"]["margin"] == 1.6
    assert manifest["preprocessing"]["size_px"] == 224
    assert manifest["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert manifest["jpeg_quality"] == 90
    assert manifest["geometry"] == {
        "center_x_px": 864.0,
        "center_y_px": 558.5,
        "deg_per_pixel": 0.0307,
    }
    assert manifest["counts"] == {"frames": 1, "used": 1, "left_out": 0}
    with Image.open(result.folder / f"img_{FIRST_MS + 1}.jpg") as crop:
        assert crop.size == (224, 224)
    assert str(paths.root) not in (result.folder / "manifest.json").read_text()


def test_with_a_mesh_the_crop_follows_its_points(paths):
    image = add_frame(paths, 1, (9, 7))
    write_mesh(paths.faces / MESH_FILE)
    result = prepare.run("monday", PARAMS, paths)
    manifest = json.loads((result.folder / "manifest.json").read_text())
    mesh = (paths.faces / MESH_FILE).read_bytes()
    assert result.crop_from == manifest["crop_from"] == "mesh"
    assert manifest["mesh"] == {"sha256": hashlib.sha256(mesh).hexdigest()}
    (row,) = rows(result.folder)
    box = tuple(float(row[key]) for key in ("box_x1", "box_y1", "box_x2", "box_y2"))
    np.testing.assert_allclose(box, (288, 224, 320, 256), atol=3.0)  # the red cell
    crop = np.asarray(Image.open(result.folder / image.name))
    x1, _, x2, _ = gaze_crop_box(box, 640, 480, 1.5)
    share = float((crop[224, :, 0] > 128).mean())
    assert share == pytest.approx(32 / (x2 - x1), abs=0.02)


def test_every_frame_left_out_is_named_with_its_reason(paths):
    for number in range(12):
        add_frame(paths, number, (4 + number, 7))
    add_frame(paths, 20)
    add_frame(paths, 21, (3, 3), (15, 11))
    cut = add_frame(paths, 22, (9, 7))
    cut.write_bytes(cut.read_bytes()[:9000])
    add_frame(paths, 23, (9, 7)).with_suffix(".json").unlink()
    result = prepare.run("monday", PARAMS, paths)
    manifest = json.loads((result.folder / "manifest.json").read_text())
    reasons = {entry["filename"]: entry["reason"] for entry in manifest["left_out"]}
    assert [entry.filename for entry in result.left_out] == list(reasons)
    assert list(reasons) == [f"img_{FIRST_MS + number}.jpg" for number in (20, 21, 22, 23)]
    said = list(reasons.values())
    assert said[0] == "no face with a score of at least 0.7"
    assert said[1] == "2 faces of like size (scores 1.00, 1.00)"
    assert said[2].startswith("is damaged (")
    assert "cannot be used" not in said[2]
    assert str(paths.root) not in said[2]
    assert said[3] == f"has no img_{FIRST_MS + 23}.json beside it"
    assert manifest["counts"] == {"frames": 16, "used": 12, "left_out": 4}
    assert len(rows(result.folder)) == 12
    assert len(list(result.folder.glob("*.jpg"))) == 12


def test_too_many_unusable_frames_fail_with_the_commonest_reasons(paths):
    for number in range(6):
        add_frame(paths, number, (4 + number, 7))
    for number in range(10, 13):
        add_frame(paths, number)
    add_frame(paths, 20, (9, 7)).with_suffix(".json").unlink()
    add_frame(paths, 21, (9, 7)).with_suffix(".json").unlink()
    expected = (
        r"monday: 5 of 11 frames cannot be used \(allowed are 30%\): "
        rf"3 x no face with a score of at least 0\.7 \(first img_{FIRST_MS + 10}\.jpg\), "
        rf"2 x has no img_….json beside it \(first img_{FIRST_MS + 20}\.jpg\); "
        r"capture the session again .*raise prepare\.max_unusable_share"
    )
    with pytest.raises(InputError, match=expected):
        prepare.run("monday", PARAMS, paths)
    assert not (paths.dataset / "monday").exists()
    assert prepare.run("monday", params(max_unusable_share=0.5), paths).used == 6


def exclude(paths: Paths, **because: str) -> None:
    excluded = tuple(Exclusion(frame=f"{name}.jpg", because=why) for name, why in because.items())
    write_session_file(paths.sessions / "monday", SessionFile(excluded=excluded, geometry=None))


def test_excluded_frames_are_left_out_and_do_not_count_as_unusable(paths):
    images = [add_frame(paths, number, (4 + number, 7)) for number in range(8)]
    damaged = add_frame(paths, 8, (9, 7))
    damaged.write_bytes(damaged.read_bytes()[:9000])
    faceless = add_frame(paths, 9)
    gone = [*images[3:], damaged]  # a damaged one too: excluded is what is said of it
    exclude(paths, **{image.stem: f"closed {number}" for number, image in enumerate(gone)})
    result = prepare.run("monday", PARAMS, paths)  # 1 of 4 cannot be used, 6 of 10 are excluded
    assert (result.frames, result.used) == (10, 3)
    manifest = read_manifest(result.folder / "manifest.json", "monday")
    assert manifest.counts.frames == 10
    assert [entry.filename for entry in manifest.unusable] == [faceless.name]
    assert {entry.filename: entry.reason for entry in manifest.excluded} == {
        image.name: f"excluded: closed {number}" for number, image in enumerate(gone)
    }
    assert {path.name for path in result.folder.glob("*.jpg")} == {i.name for i in images[:3]}
    exclude(paths, **{image.stem: "blinks" for image in images[1:]})  # 2 of 3 cannot be used
    with pytest.raises(InputError, match=r"2 of 3 frames cannot be used .*: 1 x .*, 1 x "):
        prepare.run("monday", PARAMS, paths)


def test_suspects_are_in_the_manifest_until_they_are_excluded(paths):
    images = [add_frame(paths, number, (4 + number, 7)) for number in range(4)]
    images[2].write_bytes(images[1].read_bytes() + b"\0")  # the webcam hung
    target = {"screen_x": 10.0, "screen_y": 20.0}
    images[2].with_suffix(".json").write_text(json.dumps(target))
    result = prepare.run("monday", PARAMS, paths)
    suspects = read_manifest(result.folder / "manifest.json", "monday").suspects
    assert suspects == result.suspects
    assert [entry.filename for entry in suspects] == [images[1].name, images[2].name]
    assert (
        suspects[1].why == f"shows the same picture as {images[1].name}, which has another target"
    )
    exclude(paths, **{images[2].stem: suspects[1].why})
    assert prepare.run("monday", PARAMS, paths).suspects == ()


def test_an_excluded_frame_leaves_its_double_to_be_used(paths):
    first, second = add_frame(paths, 1, (9, 7)), add_frame(paths, 2, (9, 7))
    second.write_bytes(first.read_bytes())
    exclude(paths, **{first.stem: "the webcam hung"})
    prepare.run("monday", PARAMS, paths)
    assert [row["filename"] for row in rows(paths.dataset / "monday")] == [second.name]


def test_an_exclusion_of_no_frame_of_the_session_is_refused(paths):
    add_frame(paths, 1, (9, 7))
    exclude(paths, img_7="closed", img_8="closed")
    expected = "monday.yaml: excludes img_7.jpg and 1 more, .*session include monday img_7.jpg"
    with pytest.raises(InputError, match=expected):
        prepare.run("monday", PARAMS, paths)


def test_labels_are_for_the_session_s_own_screen(paths):
    add_frame(paths, 1, (9, 7), target=(1280.0, 720.0))
    own = ScreenGeometry(1280.0, 720.0, 0.0229)
    write_session_file(paths.sessions / "monday", SessionFile(excluded=(), geometry=own))
    result = prepare.run("monday", PARAMS, paths)
    (row,) = rows(result.folder)
    assert (float(row["yaw"]), float(row["pitch"])) == (0.0, 0.0)
    assert read_manifest(result.folder / "manifest.json", "monday").geometry == own


def test_the_share_itself_is_still_allowed(paths):
    for number in range(7):
        add_frame(paths, number, (4 + number, 7))
    for number in range(10, 13):
        add_frame(paths, number)
    assert prepare.run("monday", PARAMS, paths).used == 7  # 3 of 10, max_unusable_share 0.3


def test_no_usable_frame_fails_whatever_the_share(paths):
    add_frame(paths, 1)
    add_frame(paths, 2, (3, 3), (15, 11))
    with pytest.raises(InputError, match=r"no frame can be used: 1 x no face .*, 1 x 2 faces of"):
        prepare.run("monday", params(max_unusable_share=1.0), paths)


def test_a_failure_leaves_the_earlier_dataset_as_it_was(paths, monkeypatch):
    for number in range(4):
        add_frame(paths, number, (4 + number, 7))
    folder = prepare.run("monday", PARAMS, paths).folder
    before = content(folder)

    def full(self: Path, _: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(CustomGazeError, match=r"monday: cannot be written \(No space left"):
            prepare.run("monday", PARAMS, paths)
    assert content(folder) == before
    for number in range(10, 20):
        add_frame(paths, number)
    with pytest.raises(InputError, match="10 of 14 frames"):
        prepare.run("monday", PARAMS, paths)
    assert content(folder) == before
    assert [path.name for path in paths.dataset.iterdir()] == ["monday"]  # no temporary folders


def test_a_new_run_replaces_what_is_no_longer_there(paths):
    gone = add_frame(paths, 1, (4, 7))
    add_frame(paths, 2, (5, 7))
    prepare.run("monday", PARAMS, paths)
    gone.unlink()
    gone.with_suffix(".json").unlink()
    folder = prepare.run("monday", PARAMS, paths).folder
    assert [path.name for path in folder.glob("*.jpg")] == [f"img_{FIRST_MS + 2}.jpg"]


def test_the_same_session_gives_the_same_bytes(paths, monkeypatch):
    for number in range(9):
        add_frame(paths, number, (4 + number, 7))
    add_frame(paths, 20)
    monkeypatch.setattr(prepare, "_cores", lambda: 4)
    first = content(prepare.run("monday", PARAMS, paths).folder)
    monkeypatch.setattr(prepare, "_cores", lambda: 1)
    # Nor does a limit that is not reached change anything: what follows stays as it is.
    assert content(prepare.run("monday", params(max_unusable_share=0.9), paths).folder) == first
    assert len(first) == 11


def test_who_may_not_read_a_frame_may_not_read_its_crop(paths, tmp_path):
    image, other = add_frame(paths, 1, (4, 7)), add_frame(paths, 2, (5, 7))
    image.chmod(0o600)
    image.parent.chmod(0o700)
    folder = prepare.run("monday", PARAMS, paths).folder
    picture = crop_picture(image, tmp_path / "me.png", PARAMS, paths)
    modes = [path.stat().st_mode & 0o777 for path in (folder, folder / image.name, picture.boxes)]
    assert modes == [0o700, 0o600, 0o600]
    assert (folder / other.name).stat().st_mode & 0o777 == other.stat().st_mode & 0o777 == 0o644


def test_the_raw_session_is_not_touched(paths):
    add_frame(paths, 1, (9, 7))
    before = content(paths.sessions)
    prepare.run("monday", PARAMS, paths)
    assert content(paths.sessions) == before


@pytest.mark.parametrize("name", ["../monday", "a b", "", "a/b"])
def test_an_id_that_is_none_is_refused(paths, name):
    with pytest.raises(InputError, match="is no session id"):
        prepare.run(name, PARAMS, paths)


def test_a_missing_session_or_detector_is_named(paths):
    with pytest.raises(InputError, match="tuesday: not found"):
        prepare.run("tuesday", PARAMS, paths)
    add_frame(paths, 1, (9, 7))
    (paths.faces / DETECTOR_FILE).write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"face_detection\.onnx: is no ONNX"):
        prepare.run("monday", PARAMS, paths)


def test_only_a_few_frames_are_under_way_at_once(monkeypatch):
    monkeypatch.setattr(prepare, "_cores", lambda: 3)
    pulled = 0
    lock = threading.Lock()
    running = most = 0

    def items():
        nonlocal pulled
        for item in range(200):
            pulled += 1
            yield item

    def work(item: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.001)
        with lock:
            running -= 1
        return item * item

    for index, result in enumerate(prepare._in_parallel(work, items())):
        assert result == index * index
        assert pulled <= index + 8
    assert index == 199
    assert 1 < most <= 3


def test_an_error_in_a_thread_ends_the_run(monkeypatch):
    monkeypatch.setattr(prepare, "_cores", lambda: 2)
    started = []

    def work(item: int) -> LeftOut:
        started.append(item)
        if item == 5:
            raise CustomGazeError("the disk is gone")
        return LeftOut(str(item), "")

    with pytest.raises(CustomGazeError, match="the disk is gone"):
        list(prepare._in_parallel(work, range(10_000)))
    assert len(started) < 30


# ------------------------------------------------------------------------------------ crop


def test_crop_picture_is_what_training_sees(paths, tmp_path):
    image = add_frame(paths, 1, (9, 7))
    folder = prepare.run("monday", PARAMS, paths).folder
    result = crop_picture(image, tmp_path / "out" / "me.png", PARAMS, paths)
    assert result.crop == tmp_path / "out" / "me.png"
    crop = Image.open(result.crop)
    assert (crop.format, crop.size) == ("PNG", (448, 448))
    stored = np.asarray(Image.open(folder / image.name))
    np.testing.assert_array_equal(np.asarray(crop), stored)


@pytest.mark.parametrize("with_mesh", [False, True])
def test_crop_picture_draws_the_boxes_on_the_frame(paths, tmp_path, with_mesh):
    image = add_frame(paths, 1, (9, 7))
    if with_mesh:
        write_mesh(paths.faces / MESH_FILE)
    result = crop_picture(image, tmp_path / "me.png", PARAMS, paths)
    assert result.boxes == tmp_path / "me_boxes.png"
    drawn = np.asarray(Image.open(result.boxes)).astype(int)
    changed = (drawn != load_frame(image)).any(axis=2)
    x1, y1, x2, y2 = gaze_crop_box(result.face.box, 640, 480, 1.5)
    red = (drawn == (255, 60, 60)).all(axis=2)
    down, along = np.nonzero(red)
    assert (along.min(), down.min(), along.max() + 1, down.max() + 1) == (x1, y1, x2, y2)
    assert red[y1, x1:x2].all()
    assert ((drawn == (60, 220, 60)).all(axis=2).any()) == with_mesh
    assert (drawn == (255, 210, 0)).all(axis=2).any()
    assert changed.mean() < 0.05


def test_crop_picture_refuses_what_it_cannot_do(paths, tmp_path):
    image = add_frame(paths, 1)
    with pytest.raises(InputError, match=r"\.jpg: no face with a score of at least 0\.7; choose"):
        crop_picture(image, tmp_path / "me.png", PARAMS, paths)
    with pytest.raises(InputError, match=r"me\.jpg: the crop is written as PNG"):
        crop_picture(image, tmp_path / "me.jpg", PARAMS, paths)
    with pytest.raises(InputError, match=r"nobody\.jpg"):
        crop_picture(tmp_path / "nobody.jpg", tmp_path / "me.png", PARAMS, paths)
    assert not (tmp_path / "me.png").exists()


def test_the_shipped_values_are_the_specifications():
    assert PrepareParams() == PrepareParams(0.7, 1.5, 448, 100, 0.3)
    assert (PREPROCESSING.margin, PREPROCESSING.size_px) == (1.5, 448)
