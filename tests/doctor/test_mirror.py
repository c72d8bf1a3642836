"""Frames mirrored against others, or against what the app saw; and silence where that is open."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Project
from custom_gaze import doctor
from custom_gaze.data.frame_looks import FrameLook
from custom_gaze.data.sessions import Frame, load_frame, read_session
from custom_gaze.demo.session import write_session
from custom_gaze.doctor import mirror
from custom_gaze.doctor.findings import Finding
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.geometry import ScreenGeometry

GEOMETRY = ScreenGeometry()
PERSON = 2100


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of one person, twelve targets each."""
    folder = tmp_path_factory.mktemp("days")
    for day in (1, 2):
        write_session(
            folder / f"day{day}",
            person=PERSON,
            day=day,
            grid=(4, 3),
            frames_per_target=1,
            purpose="tuning",
        )
    return folder


def mirror_files(images: Sequence[Path]) -> None:
    for image in images:
        Image.fromarray(load_frame(image)[:, ::-1].copy()).save(image, "JPEG", quality=95)


def found(result: doctor.DoctorResult) -> list[Finding]:
    return [finding for finding in result.findings if finding.check == "mirror"]


@pytest.fixture
def ready(project: Project, days: Path) -> Project:
    shutil.copytree(days, project.paths.sessions)
    project.paths.faces.mkdir(parents=True)
    (project.paths.faces / "face_detection.onnx").write_bytes(embedded_detector())
    project.change(sessions=["day1"], evaluate={"sessions": ["day2"]})
    return project


def images_of(project: Project, session: str) -> list[Path]:
    frames = read_session(project.paths.sessions / session, GEOMETRY).frames
    return [frame.image for frame in frames]


def test_a_session_mirrored_against_another_day(ready: Project) -> None:
    """Against what the app saw, too: its eyes stand in the JSON, and the face is off the middle."""
    images = images_of(ready, "day2")
    mirror_files(images)
    by_app, by_day = found(doctor.run(None, ready.params, ready.paths))
    assert {(finding.session, finding.severity.value) for finding in (by_app, by_day)} == {
        ("day2", "error")
    }
    assert by_app.what.startswith("the eyes that the app recorded lie where they are in the mir")
    assert by_app.frames == tuple(image.name for image in images)
    assert by_day.what == "its frames are mirrored against those of day1"


def test_half_of_a_session_is_said_by_import_and_doctor(ready: Project) -> None:
    images = images_of(ready, "day1")
    for path in images[0].parent.glob("*.json"):  # as where the app found no eyes
        path.write_text(json.dumps({**json.loads(path.read_text()), "inference": None}))
    frames = read_session(images[0].parent, GEOMETRY).frames
    assert mirror.mirrored_part(frames, GEOMETRY, ready.params.prepare) == []
    mirror_files(images[7:])
    (finding,) = found(doctor.run("day1", ready.params, ready.paths))
    assert finding.frames == tuple(image.name for image in images[7:])
    assert "5 of 12 frames are mirrored against the others" in finding.what
    (at_import,) = mirror.mirrored_part(frames, GEOMETRY, ready.params.prepare)
    assert at_import.frames == finding.frames


Eyes = tuple[tuple[float, float], tuple[float, float]]


def looked(app: Eyes | None, ours: Eyes | None, number: int = 0) -> FrameLook:
    frame = Frame(Path(f"img_{number}.jpg"), number, 0.0, 0.0, app)
    return FrameLook(frame, None, eyes_px=ours, width_px=640)


def eyes(x: float, y: float = 200.0) -> Eyes:
    return (x - 30.0, y), (x + 30.0, y)


@pytest.mark.parametrize(
    ("app", "ours", "named"),
    [
        (eyes(200), eyes(440), True),
        (((230.0, 200.0), (170.0, 200.0)), eyes(440), True),  # whichever it calls the left one
        (eyes(200), eyes(200), False),
        (eyes(316), eyes(324), False),  # in the middle nobody can tell
        (eyes(200), eyes(410), False),  # near neither
        (eyes(200, 100), eyes(440), False),  # another face
        (None, eyes(440), False),
        (eyes(200), None, False),
    ],
)
def test_recorded_eyes_tell_only_where_they_can(
    app: Eyes | None, ours: Eyes | None, named: bool
) -> None:
    looks = [looked(app, ours, number) for number in range(4)]
    findings = mirror.against_the_app(looks)
    assert [finding.frames for finding in findings] == [tuple(look.name for look in looks)] * named
    assert mirror.against_the_app(looks[:2]) == []  # two may be chance


def test_pictures_tell_which_are_mirrored() -> None:
    rng = np.random.default_rng(2)
    room = rng.integers(0, 200, (90, 160))
    pictures = [(room + rng.integers(0, 40, room.shape)).astype(np.uint8) for _ in range(13)]
    assert not mirror.smaller_part(pictures).any()
    turned = [p[:, ::-1] if n in (2, 3, 7, 11, 12) else p for n, p in enumerate(pictures)]
    assert np.flatnonzero(mirror.smaller_part(turned)).tolist() == [2, 3, 7, 11, 12]
    half = [p[:, ::-1] if n < 6 else p for n, p in enumerate(pictures[:12])]
    assert np.flatnonzero(mirror.smaller_part(half)).tolist() == [*range(6, 12)]  # the later ones


def person(sign: float, seed: int, count: int = 20) -> list[FrameLook]:
    """Looks at eyes whose patches move with the yaw, in a mirrored world with the other sign."""
    rng = np.random.default_rng(seed)
    place = np.linspace(-1, 1, 28)
    out = []
    for number in range(count):
        x = float(rng.uniform(100, 1600))
        yaw = sign * (x - 864) / 864
        patch = np.tile(np.exp(-(((place - 0.5 * yaw) / 0.3) ** 2)), (20, 1))
        both = np.stack([patch, patch]) + rng.normal(0, 0.05, (2, 20, 28))
        frame = Frame(Path(f"img_{number}.jpg"), number, x, 500.0, None)
        out.append(FrameLook(frame, None, eyes=both.ravel().astype(np.float32)))
    return out


def noise(seed: int) -> list[FrameLook]:
    rng = np.random.default_rng(seed)
    return [
        FrameLook(look.frame, None, eyes=rng.normal(size=1120).astype(np.float32))
        for look in person(1.0, seed)
    ]


@pytest.mark.parametrize(
    ("sessions", "named"),
    [
        ([person(1, 1), person(1, 2), person(-1, 3)], ["c"]),
        ([person(1, 1), person(-1, 2), person(-1, 3)], ["b", "c"]),
        ([person(-1, 1), person(-1, 2)], []),
        ([person(1, 1), person(-1, 2, count=4)], []),  # too few to tell
        ([person(1, 1), noise(5), noise(6), []], []),
    ],
)
def test_sessions_are_compared_by_what_the_eyes_predict(
    sessions: list[list[FrameLook]], named: list[str]
) -> None:
    named_ones = [(name, looks, GEOMETRY) for name, looks in zip("abcd", sessions, strict=False)]
    findings = mirror.between_sessions(named_ones)
    assert [finding.session for finding in findings] == named
