"""Seeds, persons, sessions and sheets of the demo world."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.look import DARK, rgb
from custom_gaze.config.paths import Paths
from custom_gaze.data.sessions import load_frame, read_session
from custom_gaze.demo.seeds import PERSON_SEEDS, check_person_seed
from custom_gaze.demo.session import grid_targets, parse_grid, plan_frames, write_session
from custom_gaze.demo.sheet import persons_sheet, sessions_sheet, sheet
from custom_gaze.demo.world.conditions import Moment, draw_conditions, draw_moment
from custom_gaze.demo.world.head import HeadPose
from custom_gaze.demo.world.person import draw_person
from custom_gaze.demo.world.render import Scene
from custom_gaze.faces.detectors import embedded_detector, load_detector
from custom_gaze.geometry import ScreenGeometry

GEOMETRY = ScreenGeometry()
RFB = Path(__file__).parents[3] / "shared" / "models" / "face_detection.onnx"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of 3 x 2 targets with one frame each, written once for the tests that read it."""
    folder = tmp_path_factory.mktemp("demo") / "one"
    assert write_session(folder, person=7, day=1, seed=3, grid=(3, 2), frames_per_target=1) == 6
    return folder


def content(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_no_person_serves_two_purposes() -> None:
    ranges = list(PERSON_SEEDS.values())
    for index, one in enumerate(ranges):
        for other in ranges[index + 1 :]:
            assert one.stop <= other.start or other.stop <= one.start
    for purpose, allowed in PERSON_SEEDS.items():
        for seed in (allowed.start, allowed.stop - 1):
            assert check_person_seed(seed, purpose) == seed


@pytest.mark.parametrize(
    ("seed", "purpose", "message"),
    [
        (0, "demo", "person seed 0 is not one for demo; choose from 1 to 999"),
        (1000, "demo", "not one for demo"),
        (999, "bench", "not one for bench; choose from 1000 to 1999"),
        (10_000, "bench", "not one for bench"),
        (2999, "pretrain", "choose from 10000 to 999999"),
        (5, "training", "purpose 'training' is unknown"),
    ],
)
def test_a_seed_for_another_purpose_is_refused(seed: int, purpose: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_person_seed(seed, purpose)


def test_persons_differ_and_stay_the_same() -> None:
    assert draw_person(5) == draw_person(5)
    persons = [draw_person(seed) for seed in range(10_000, 10_300)]
    kappa = np.array([[eye.kappa_yaw_deg for eye in p.eyes] for p in persons])
    assert 3.5 < np.median(kappa[:, 0]) < 5.5  # visual axes lie nasal of the optical ones
    assert -5.5 < np.median(kappa[:, 1]) < -3.5
    share = np.array([p.head_share_yaw for p in persons])
    assert -0.1 <= share.min() < -0.05
    assert 0.3 < share.max() <= 0.35
    assert 0.18 < np.mean([p.glasses is not None for p in persons]) < 0.38
    brightness = np.array([np.mean(p.skin_gain) for p in persons])
    assert brightness.min() < 0.5
    assert brightness.max() > 0.95


def test_another_day_has_another_light_and_seat() -> None:
    person = draw_person(12)
    one, other = (draw_conditions(person, day, 1) for day in (1, 2))
    assert draw_conditions(person, 1, 1) == one
    for trait in ("light", "seat", "distance_mm", "room_seed", "white_balance", "exposure"):
        assert getattr(one, trait) != getattr(other, trait)
    assert draw_conditions(person, 1, 2) != one


def test_the_head_takes_over_the_persons_share_of_the_gaze() -> None:
    person = replace(draw_person(12), head_share_yaw=0.3, head_share_pitch=-0.1)
    conditions = draw_conditions(person, 1, 1)
    moments = [
        draw_moment(person, conditions, (20.0 * (-1) ** i, 15.0 * (-1) ** i), (1, 1, 1, i))
        for i in range(400)
    ]
    signs = np.array([(-1) ** i for i in range(400)])
    yaw = np.mean(signs * [m.pose.yaw_deg for m in moments]) / 20
    pitch = np.mean(signs * [m.pose.pitch_deg for m in moments]) / 15
    assert yaw == pytest.approx(0.3, abs=0.03)
    assert pitch == pytest.approx(-0.1, abs=0.04)
    scatter = np.array([m.gaze_deg for m in moments]) - signs[:, None] * [20.0, 15.0]
    assert scatter.std() == pytest.approx(person.fixation_deg, rel=0.1)


def test_a_frame_depends_neither_on_the_others_nor_on_their_number() -> None:
    person = draw_person(3)
    conditions = draw_conditions(person, 1, 1)
    few = list(plan_frames(person, conditions, 1, 1, (3, 3), 1, GEOMETRY))
    many = list(plan_frames(person, conditions, 1, 1, (3, 3), 3, GEOMETRY))
    assert len(many) == 27
    for index, frame in enumerate(few):
        assert many[3 * index].target_px == frame.target_px
        assert many[3 * index].moment == frame.moment
    times = [frame.timestamp_ms for frame in many]
    assert times == sorted(set(times))


def test_a_scene_keeps_nothing_of_the_frame_before() -> None:
    person = draw_person(3)
    conditions = draw_conditions(person, 1, 1)
    first, second = (
        draw_moment(person, conditions, gaze, (3, 1, 1, 0))
        for gaze in ((-20.0, 10.0), (15.0, -9.0))
    )
    scene = Scene(person, conditions)
    alone = scene.frame(first)
    scene.frame(second)
    assert np.array_equal(scene.frame(first), alone)
    assert np.array_equal(Scene(person, conditions).frame(first), alone)
    assert alone.shape == (720, 1280, 3)


def test_targets_reach_from_near_corner_to_near_corner() -> None:
    targets = grid_targets((5, 4), GEOMETRY)
    assert targets.shape == (20, 2)
    assert targets[0] == pytest.approx([0.03 * 1728, 0.03 * 1117])
    assert targets[-1] == pytest.approx([0.97 * 1728, 0.97 * 1117])
    degrees = GEOMETRY.to_degrees(targets)
    assert degrees.min(0) == pytest.approx([-24.93, -16.12], abs=0.01)


def test_a_session_is_one_the_product_reads(session: Path) -> None:
    read = read_session(session, GEOMETRY)
    assert len(read.frames) == 6
    assert read.left_out == ()
    found = sorted((round(f.target_y_px), round(f.target_x_px)) for f in read.frames)
    expected = sorted((round(y), round(x)) for x, y in grid_targets((3, 2), GEOMETRY))
    assert found == expected
    assert [f.target_x_px for f in read.frames] != sorted(f.target_x_px for f in read.frames)
    assert all(frame.drawn for frame in read.frames)
    for frame in read.frames:
        assert load_frame(frame.image).shape == (720, 1280, 3)
        record = json.loads(frame.image.with_suffix(".json").read_text())
        assert list(record) == [
            "timestamp",
            "screen_x",
            "screen_y",
            "inference",
            "moondream_result",
        ]
        assert f"img_{record['timestamp']}.jpg" == frame.image.name


def test_the_recorded_eyes_are_where_the_dark_irises_are(session: Path) -> None:
    for frame in read_session(session, GEOMETRY).frames:
        image = cv2.GaussianBlur(load_frame(frame.image), (0, 0), 3).sum(-1).astype(float)
        assert frame.eyes_px is not None
        for x, y in frame.eyes_px:
            near = image[round(y) - 8 : round(y) + 9, round(x) - 14 : round(x) + 15]
            beside = image[round(y) + 30 : round(y) + 40, round(x) - 14 : round(x) + 15]
            assert near.min() < 0.75 * beside.mean()


def test_the_same_seeds_write_the_same_bytes(session: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    write_session(again, person=7, day=1, seed=3, grid=(3, 2), frames_per_target=1)
    assert content(again) == content(session)
    write_session(other, person=7, day=2, seed=3, grid=(3, 2), frames_per_target=1)
    assert not set(content(other).values()) & set(content(session).values())
    one, second = (
        np.array([f.eyes_px for f in read_session(folder, GEOMETRY).frames])
        for folder in (session, other)
    )
    apart = [np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=1).mean() for eyes in (one, second)]
    seats = [draw_conditions(draw_person(7), day, 3).distance_mm for day in (1, 2)]
    assert apart[0] / apart[1] == pytest.approx(seats[1] / seats[0], rel=0.02)
    assert abs(seats[0] - seats[1]) > 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"person": 0}, "person seed 0 is not one for demo"),
        ({"person": 12_000}, "person seed 12000 is not one for demo"),
        ({"person": 1, "purpose": "bench"}, "not one for bench"),
        ({"seed": -1}, "session seed -1 is out of range"),
        ({"seed": 2**31}, "session seed 2147483648 is out of range"),
        ({"day": 0}, "day 0 is out of range; choose from 1"),
        ({"grid": (3, 1)}, "grid 3x1 has fewer than 4 targets"),
        ({"grid": (-5, -5)}, "grid -5x-5 has fewer than 4 targets"),
        ({"frames_per_target": 0}, "0 frames for each of 4 targets"),
        ({"grid": (50, 50)}, "at most 2000 in all"),
    ],
)
def test_a_session_that_cannot_be_is_refused(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    given: dict[str, object] = {"person": 1, "grid": (2, 2), "frames_per_target": 1, **arguments}
    with pytest.raises(InputError, match=message):
        write_session(tmp_path / "new", **given)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_session_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises(InputError, match="old: exists already; choose another session id"):
        write_session(tmp_path / "old", person=1, grid=(2, 2))
    (tmp_path / "file").write_text("")
    with pytest.raises(CustomGazeError, match="cannot be written"):
        write_session(tmp_path / "file" / "new", person=1, grid=(2, 2))


def test_an_interrupted_session_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def stop_at_the_third(self: Scene, moment: Moment) -> np.ndarray:
        drawn.append(moment)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return np.zeros((720, 1280, 3), np.uint8)

    monkeypatch.setattr(Scene, "frame", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        write_session(tmp_path / "new", person=1, grid=(2, 2))
    assert len(drawn) == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["5", "5x", "x5", "5 x 5", "5x5x5", "-5x5", "5.0x5", ""])
def test_a_grid_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not of the form COLSxROWS"):
        parse_grid(text)


def test_a_grid_is_columns_by_rows() -> None:
    assert parse_grid("7x4") == (7, 4)


def test_a_sheet_shows_every_target(session: Path, tmp_path: Path) -> None:
    output = tmp_path / "sheets" / "one.png"
    assert sheet(session, output, Paths(), ScreenGeometry(), 20.0) == 6
    picture = cv2.imread(str(output))
    assert picture is not None
    height, width = picture.shape[:2]
    assert width == 3 * 314 + 14  # three tiles side by side, as the targets lie
    assert height == 2 * 353 + 14 + 56
    marks = (picture == rgb(DARK.target)[::-1]).all(-1)  # the targets' crosses
    count, _ = cv2.connectedComponents(marks.astype(np.uint8))
    assert count - 1 == 6


def test_a_sheet_shows_a_target_once_though_it_jitters(session: Path, tmp_path: Path) -> None:
    """The frames of a target lie pixels apart, and so do the targets of a row."""
    jittered = shutil.copytree(session, tmp_path / "jittered")
    for number, path in enumerate(sorted(jittered.glob("*.json"))):
        record = json.loads(path.read_text())
        record["screen_x"] += number % 3
        record["screen_y"] += number % 4
        path.write_text(json.dumps(record))
    output = tmp_path / "one.png"
    assert sheet(jittered, output, Paths(), ScreenGeometry(), 20.0) == 6
    assert cv2.imread(str(output)).shape[:2] == (2 * 353 + 14 + 56, 3 * 314 + 14)


def test_a_sheet_of_no_session_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none"):
        sheet(tmp_path / "none", tmp_path / "out.png", Paths(), ScreenGeometry(), 20.0)
    assert list(tmp_path.iterdir()) == []


def test_sheets_of_persons_and_of_sessions(tmp_path: Path) -> None:
    persons_sheet(tmp_path / "persons.png", [1, 2, 3], columns=3)
    sessions_sheet(tmp_path / "sessions.png", 1, days=(1, 2))
    persons, sessions = (cv2.imread(str(tmp_path / f"{n}.png")) for n in ("persons", "sessions"))
    assert persons is not None
    assert sessions is not None
    assert persons.shape == (56 + 14 + 248 + 14, 3 * 238 + 14, 3)
    assert sessions.shape == (56 + 14 + 2 * (294 + 14), 3 * 494 + 14, 3)
    faces = [persons[70 : 70 + 224, 14 + 238 * i : 14 + 238 * i + 224] for i in range(3)]
    assert np.abs(faces[0].astype(int) - faces[1]).mean() > 10


def frames_under_all_conditions() -> list[tuple[np.ndarray, np.ndarray]]:
    """Frames of several persons on two days, eyes in the corners, with the eyes' places."""
    shown = []
    for seed, day, gaze in ((1, 1, (-25.0, -16.0)), (2, 2, (25.0, 16.0)), (16, 1, (25.0, -16.0))):
        person = draw_person(seed)
        conditions = draw_conditions(person, day, 1)
        scene = Scene(person, conditions)
        moment = draw_moment(person, conditions, gaze, (seed, day, 1, 0))
        eyes = scene.eye_points_px(moment.pose, scene.framing(moment))
        shown.append((scene.frame(moment), eyes))
    return shown


def test_the_embedded_detector_finds_the_face(tmp_path: Path) -> None:
    """CenterFace gives the photograph itself 0.88, so its scores lie about there."""
    (tmp_path / "centerface.onnx").write_bytes(embedded_detector())
    detector = load_detector(tmp_path / "centerface.onnx")
    for frame, eyes in frames_under_all_conditions():
        (face,) = detector.detect(frame, 0.7)
        left, top, right, bottom = face.box
        assert left < eyes[:, 0].min() < eyes[:, 0].max() < right
        assert top < eyes[:, 1].min() < eyes[:, 1].max() < (top + bottom) / 2


@pytest.mark.skipif(not RFB.is_file(), reason="the app's own detector is not at hand")
def test_the_apps_detector_is_sure_of_the_face() -> None:
    detector = load_detector(RFB)
    for frame, _ in frames_under_all_conditions():
        assert detector.detect(frame, 0.7)[0].score > 0.99


def test_a_blinking_eye_hides_the_iris() -> None:
    person = draw_person(3)
    conditions = draw_conditions(person, 1, 1)
    scene = Scene(person, conditions)
    moment = draw_moment(person, conditions, (0.0, 0.0), (3, 1, 1, 0))
    x, y = scene.eye_points_px(moment.pose, scene.framing(moment))[0].round().astype(int)
    open_, shut = (
        scene.frame(replace(moment, closed=closed))[y - 3 : y + 2, x - 3 : x + 4].mean()
        for closed in (0.0, 1.0)
    )
    assert shut > 1.3 * open_


def test_the_seat_is_where_the_conditions_say() -> None:
    person = draw_person(3)
    conditions = replace(draw_conditions(person, 1, 1), seat=(0.4, 0.5), distance_mm=512.0)
    scene = Scene(person, conditions)
    moment = replace(
        draw_moment(person, conditions, (0.0, 0.0), (3, 1, 1, 0)),
        pose=HeadPose(),
        shift_mm=(10.0, 0.0),
    )
    eyes = scene.eye_points_px(moment.pose, scene.framing(moment))
    offset = np.mean([eye.offset_mm for eye in person.eyes], axis=0)
    assert eyes.mean(0) == pytest.approx(np.array([512 + 20, 360]) + 2 * offset, abs=0.01)
    assert eyes[1, 0] - eyes[0, 0] == pytest.approx(2 * person.eye_distance_mm, abs=3)
