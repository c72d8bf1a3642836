import shutil
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest

from conftest import Project
from custom_gaze.common.errors import InputError
from custom_gaze.data.index import (
    labels_deg,
    load_crop,
    of_split,
    read_index,
    read_specification,
)
from custom_gaze.data.prepared import read_labels
from custom_gaze.data.splits import CROSS_SESSION, TEST, TRAIN, VALIDATION, points_px
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.stages import index


def test_the_index_splits_by_target(project: Project, prepare_synthetic: Callable) -> None:
    prepare_synthetic("one", 5, 5, per_target=2)
    result = index.run(project.params, project.paths)
    assert result.frames == {TRAIN: 30, VALIDATION: 10, TEST: 10}
    assert result.targets == {TRAIN: 15, VALIDATION: 5, TEST: 5}
    samples = read_index(project.paths.index)
    sides: dict[int, set[str]] = {}
    for sample in samples:
        sides.setdefault(sample.target, set()).add(sample.split)
    assert all(len(side) == 1 for side in sides.values())


def test_targets_that_two_sessions_share_stay_on_one_side(
    project: Project, prepare_synthetic: Callable
) -> None:
    prepare_synthetic("one", 4, 4)
    prepare_synthetic("two", 4, 4)
    project.change(sessions=["one", "two"])
    index.run(project.params, project.paths)
    sides: dict[tuple[float, float], set[str]] = {}
    for sample in read_index(project.paths.index):
        point = (sample.target_x_px, sample.target_y_px // 10)
        sides.setdefault(point, set()).add(sample.split)
    assert len(sides) == 16
    assert all(len(side) == 1 for side in sides.values())


def test_cross_session_frames_are_set_apart(project: Project, prepare_synthetic: Callable) -> None:
    prepare_synthetic("one")
    prepare_synthetic("other")
    project.change(evaluate={"sessions": ["other"]})
    index.run(project.params, project.paths)
    samples = read_index(project.paths.index)
    assert {s.session for s in of_split(samples, CROSS_SESSION)} == {"other"}
    assert {s.split for s in samples if s.session == "other"} == {CROSS_SESSION}


def test_a_target_is_a_target_in_every_session(
    project: Project, prepare_synthetic: Callable
) -> None:
    """Two frames of a target lie a pixel apart. Trained on or tested on, they are one target; and
    those of a session that is not trained on are its own, though they lie where the others' do."""
    for session in ("one", "other", "third"):
        prepare_synthetic(session, 4, 4, per_target=2)
    project.change(evaluate={"sessions": ["other", "third"]})
    result = index.run(project.params, project.paths)
    assert result.targets == {TRAIN: 10, VALIDATION: 3, TEST: 3, CROSS_SESSION: 32}
    samples = read_index(project.paths.index)
    numbers = {
        session: [s.target for s in samples if s.session == session]
        for session in ("one", "other", "third")
    }
    assert numbers["one"] == [number // 2 for number in range(32)]
    assert numbers["other"] == [16 + number // 2 for number in range(32)]
    assert numbers["third"] == [32 + number // 2 for number in range(32)]


def test_sessions_left_on_disk_are_not_seen(project: Project, prepare_synthetic: Callable) -> None:
    prepare_synthetic("one")
    index.run(project.params, project.paths)
    before = project.paths.index.read_bytes()
    prepare_synthetic("stale")
    index.run(project.params, project.paths)
    assert project.paths.index.read_bytes() == before


def test_one_frame_in_two_sessions_is_refused(
    project: Project, prepare_synthetic: Callable
) -> None:
    """Imported twice, it would be trained on as the one and tested on as the other."""
    prepare_synthetic("one")
    prepare_synthetic("again")
    name = sorted(path.name for path in (project.paths.dataset / "one").glob("*.jpg"))[3]
    shutil.copy(project.paths.dataset / "one" / name, project.paths.dataset / "again" / name)
    project.change(evaluate={"sessions": ["again"]})
    with pytest.raises(InputError, match=rf"again/{name} and one/{name} are the same frame"):
        index.run(project.params, project.paths)


def test_a_changed_crop_changes_the_index(project: Project, prepare_synthetic: Callable) -> None:
    prepare_synthetic("one")
    index.run(project.params, project.paths)
    before = project.paths.index.read_bytes()
    crop = sorted((project.paths.dataset / "one").glob("*.jpg"))[0]
    crop.write_bytes(crop.read_bytes() + b"\0")
    index.run(project.params, project.paths)
    assert project.paths.index.read_bytes() != before


def test_an_unprepared_session_is_named(project: Project) -> None:
    with pytest.raises(InputError, match=r"one/labels.csv: not found; .*custom-gaze prepare one"):
        index.run(project.params, project.paths)


def test_labels_that_name_a_missing_crop_are_refused(
    project: Project, prepare_synthetic: Callable
) -> None:
    prepare_synthetic("one")
    sorted((project.paths.dataset / "one").glob("*.jpg"))[2].unlink()
    with pytest.raises(InputError, match=r"labels.csv: line 4: .*img_1766068421002.jpg: not found"):
        index.run(project.params, project.paths)
    assert not project.paths.index.exists()


def test_sessions_of_two_screens_have_their_targets_on_the_first_one_s(
    project: Project, prepare_synthetic: Callable
) -> None:
    """Angles stay; one direction is one target, on whichever screen it was."""
    laptop = project.params.geometry
    monitor = ScreenGeometry(1280.0, 720.0, 0.0229)
    prepare_synthetic("one", 4, 4)
    project.change(geometry=asdict(monitor))
    for name in ("two", "other"):
        prepare_synthetic(name, 4, 4)
    labels = read_labels(project.paths.dataset / "two" / "labels.csv", "two")
    project.change(sessions=["one", "two"], evaluate={"sessions": ["other"]})
    index.run(project.params, project.paths)
    assert read_specification(project.paths.specification).geometry == laptop
    samples = read_index(project.paths.index)
    two = [sample for sample in samples if sample.session == "two"]
    angles = [[label.yaw_deg, label.pitch_deg] for label in labels]
    assert labels_deg(two).tolist() == np.float32(angles).tolist()
    assert [[label.target_x_px, label.target_y_px] for label in labels] != points_px(two).tolist()
    np.testing.assert_allclose(
        laptop.to_degrees(points_px(samples)), labels_deg(samples), atol=1e-5
    )
    known = [sample for sample in samples if sample.split != CROSS_SESSION]
    for one in known:  # within the tolerance of 20 pixels of the laptop's, 0.6 degrees
        near = [s for s in known if np.hypot(*(points_px([s]) - points_px([one]))[0]) <= 20.0]
        assert {sample.split for sample in near} == {one.split}
    project.change(sessions=["two", "one"])
    index.run(project.params, project.paths)
    assert read_specification(project.paths.specification).geometry == monitor


def test_too_few_targets(project: Project, prepare_synthetic: Callable) -> None:
    prepare_synthetic("one", 2, 2)
    with pytest.raises(InputError, match="4 different targets"):
        index.run(project.params, project.paths)


def test_the_index_round_trips_exactly(project: Project, prepare_synthetic: Callable) -> None:
    prepare_synthetic("one")
    index.run(project.params, project.paths)
    samples = read_index(project.paths.index)
    geometry = project.params.geometry
    for sample in samples:
        expected = geometry.to_degrees([sample.target_x_px, sample.target_y_px])
        assert [sample.yaw_deg, sample.pitch_deg] == expected.tolist()
    assert labels_deg(samples).shape == (32, 2)


def test_a_crop_other_than_the_indexed_one_is_refused(
    project: Project, prepare_synthetic: Callable
) -> None:
    prepare_synthetic("one")
    index.run(project.params, project.paths)
    sample = read_index(project.paths.index)[0]
    assert load_crop(sample, project.paths).shape == (64, 64, 3)
    sample.path(project.paths).write_bytes(b"something else")
    with pytest.raises(InputError, match="not the crop that the index names"):
        load_crop(sample, project.paths)


def test_a_crop_is_read_as_rgb(project: Project, prepare_synthetic: Callable) -> None:
    prepare_synthetic("one")
    index.run(project.params, project.paths)
    crop = load_crop(read_index(project.paths.index)[0], project.paths)
    dark = crop[crop.sum(axis=2) < 200]  # the discs are (30, 40, 60)
    red, _, blue = np.median(dark, axis=0)
    assert blue - red > 20


def test_a_damaged_index_is_refused(project: Project) -> None:
    project.paths.index.parent.mkdir(parents=True, exist_ok=True)
    project.paths.index.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="its header is a,b"):
        read_index(project.paths.index)
