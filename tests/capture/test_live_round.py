"""Rounds of targets, the screen they are on, the heat map, and what of it is pure numbers."""

import dataclasses

import numpy as np
import pytest

from custom_gaze.capture.live_loop import HEAT_CELLS, Seen, Tab, eyes_closed, heat_map
from custom_gaze.capture.live_models import BASE, PERSONAL
from custom_gaze.capture.live_round import EDGE_SHARE, Kind, Round, new_round
from custom_gaze.capture.live_screen import PageScreen, known_screen
from custom_gaze.common.errors import InputError
from custom_gaze.faces.following import FaceFollower
from custom_gaze.geometry import ScreenGeometry

SCREEN = ScreenGeometry(960.0, 540.0, 0.025)


def seen(yaw_deg: float, pitch_deg: float, openness: float | None = 1.0) -> Seen:
    angles = {PERSONAL: np.array([yaw_deg, pitch_deg]), BASE: np.array([0.0, 0.0])}
    return Seen((0, 0, 1, 1), "", angles, openness=openness)


def made(kind: Kind, seed: int = 1) -> Round:
    return new_round(kind, SCREEN, 0.03, np.random.default_rng(seed))


def cells_of(points: np.ndarray) -> set[tuple[int, int]]:
    thirds = np.floor(points / np.array([640.0, 360.0])).astype(int)
    return {(int(x), int(y)) for x, y in thirds}


def test_a_validation_has_a_target_in_each_ninth_and_never_the_same_ones() -> None:
    one, other = made("validate", 1).targets_px, made("validate", 2).targets_px
    nine = {(x, y) for x in range(3) for y in range(3)}
    assert cells_of(one) == cells_of(other) == nine
    nearest = np.linalg.norm(one[:, None] - other[None], axis=-1).min(axis=1)
    assert nearest.min() > 1.0


def test_a_calibration_has_corners_edges_and_the_middle() -> None:
    points = {tuple(point) for point in made("recalibrate").targets_px.round(1).tolist()}
    x = [round(share * 1920, 1) for share in (EDGE_SHARE, 0.5, 1 - EDGE_SHARE)]
    y = [round(share * 1080, 1) for share in (EDGE_SHARE, 0.5, 1 - EDGE_SHARE)]
    assert points == {(a, b) for a in x for b in y}


def test_errors_are_of_the_targets_in_all_three_units() -> None:
    taken = made("validate")
    for number, target in enumerate(taken.targets_px):
        yaw, pitch = SCREEN.to_degrees(target).tolist()
        for off in (3.0, 5.0):
            content = f"{number} {off}".encode()
            assert taken.take(content, 1000 + number, number, seen(yaw + off, pitch)) == ""
    result = taken.result()
    personal = result.models[PERSONAL]
    assert (result.frames, len(result.targets)) == (18, 9)
    assert personal.error_deg == pytest.approx(4.0)
    assert personal.error_px == pytest.approx(160.0)
    assert personal.error_cm == pytest.approx(4.8)
    assert personal.low_deg == pytest.approx(4.0)  # every target has the same mean
    base = np.linalg.norm(SCREEN.to_degrees(taken.targets_px), axis=1).mean()
    assert result.models[BASE].error_deg == pytest.approx(base)
    first = result.targets[0]
    assert first.predicted_px[PERSONAL][0] == pytest.approx(first.target_px[0] + 160.0)
    assert first.error_deg[PERSONAL] == pytest.approx(4.0)
    nobody = dataclasses.replace(taken, pixel_cm=None).result()
    assert nobody.models[PERSONAL].error_cm is None


def test_only_what_saw_all_frames_is_measured() -> None:
    taken = made("validate")
    taken.take(b"1", 1, 0, seen(0.0, 0.0))
    taken.take(b"2", 2, 0, Seen((0, 0, 1, 1), "", {PERSONAL: np.zeros(2)}, 1.0))
    assert set(taken.result().models) == {PERSONAL}


def test_what_is_not_taken_and_no_two_frames_share_a_name() -> None:
    taken = made("validate")
    for number in range(5):
        assert taken.take(b"%d" % number, 7, 0, seen(0.0, 0.0)) == ""
    assert [one.timestamp_ms for one in taken.taken] == [7, 8, 9, 10, 11]
    assert taken.take(b"new", 20, 0, seen(0.0, 0.0, openness=0.5)) == "blink"
    assert taken.take(b"new", 20, 0, Seen(why="no_face")) == "no_face"
    assert taken.take(b"4", 20, 0, seen(0.0, 0.0)) == "still"
    assert taken.take(b"new", 20, 0, seen(0.0, 0.0, openness=None)) == ""
    assert not eyes_closed(0.1, [1.0] * 4)  # too few to say what is usual


def test_the_heat_is_where_the_gaze_was() -> None:
    columns, rows = HEAT_CELLS
    right = [SCREEN.to_degrees((1919.0, 540.0))] * 3
    heat = heat_map([*right, SCREEN.to_degrees((1.0, 540.0))], SCREEN)
    assert heat.shape == (rows, columns)
    assert heat[rows // 2, -1] == 255
    assert heat[rows // 2, 0] == pytest.approx(85, abs=1)
    assert heat[0].max() == heat[rows // 2, columns // 2] == 0
    for nowhere in ([], [(80.0, 0.0)]):
        assert not heat_map(nowhere, SCREEN).any()


def test_a_tab_remembers_a_minute() -> None:
    tab = Tab(FaceFollower(None, None))  # which is not asked
    for second in range(0, 100):
        shown = tab.filtered(float(second), seen(float(second), 0.0))
    assert shown[PERSONAL]["none"] == [99.0, 0.0]
    assert [round(time) for time, _, _ in tab.minute] == list(range(39, 100))
    assert shown[PERSONAL]["app"][0] == pytest.approx(99 - 1.5)  # 0.4 of a ramp: 0.6 / 0.4 behind
    assert tab.filtered(99.1, Seen(why="no_face")) == {}


def test_the_screen_is_measured_the_model_s_or_a_guess() -> None:
    same = known_screen(PageScreen(width_px=1920, height_px=1080, width_cm=57.6), SCREEN)
    assert (same.geometry, same.pixel_cm, same.known) == (SCREEN, pytest.approx(0.03), "same")
    guessed = known_screen(PageScreen(width_px=1280, height_px=720), SCREEN)
    assert guessed.geometry == ScreenGeometry(640.0, 360.0, 0.025)
    assert (guessed.pixel_cm, guessed.known) == (None, "guessed")
    page = PageScreen(width_px=1280, height_px=720, width_cm=32.0, distance_cm=50.0)
    measured = known_screen(page, SCREEN)
    assert measured.geometry.deg_per_pixel == pytest.approx(np.degrees(np.arctan(0.025 / 50)), 1e-2)
    assert measured.known == "measured"
    with pytest.raises(InputError, match="a pixel would span"):
        known_screen(page.model_copy(update={"width_px": 1.0, "width_cm": 500.0}), SCREEN)
