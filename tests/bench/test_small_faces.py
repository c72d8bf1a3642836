"""bench/small_faces.py: its arithmetic, and that a drawn face lies where the bench says."""

import sys

import numpy as np
import pytest

from conftest import REPOSITORY
from custom_gaze.common.errors import InputError

sys.path.append(str(REPOSITORY / "bench"))  # the bench is a program, no package

from small_faces import (
    FRAME_PX,
    Webcam,
    crops_of,
    find,
    finders,
    jitter_of,
    rms_change,
    running_median,
)

NOT_FOUND = (np.nan, np.nan, np.nan)


def test_the_change_is_between_found_frames_of_one_head() -> None:
    heads = np.array(
        [
            [(10, 20, 100), (13, 20, 100), NOT_FOUND, (90, 90, 90)],
            [(50, 60, 200), (51, 60, 204), (51, 60, 204), (51, 62, 204)],
        ]
    )
    # changes: (3, 0, 0) of the first head; (1, 0, 4), (0, 0, 0) and (0, 2, 0) of the second
    np.testing.assert_allclose(rms_change(heads), np.sqrt([10 / 4, 4 / 4, 16 / 4]))
    assert np.isnan(rms_change(np.full((2, 3, 3), np.nan))).all()


def test_a_box_that_follows_the_head_is_still_and_its_crop_moves_by_whole_pixels() -> None:
    moves = np.array([[(0.0, 0, 0), (0.5, 0, 0), (0.75, 0, 0), (1.0, 0, 0)]])
    found = np.add(moves, (200, 200, 64))  # a crop of 96 pixels from 152 to 248
    box_centre, box_side, crop_centre, crop_side = jitter_of(found, moves, FRAME_PX)
    assert (box_centre, box_side) == (0, 0)
    # whole pixels stand where the head moves by ½ and ¼, and make up for it at the last ¼
    unit = 448 / 96
    assert crop_centre == pytest.approx(unit * np.sqrt((0.5**2 + 0.25**2 + 0.75**2) / 3))
    assert crop_side == 0
    np.testing.assert_array_equal(crops_of(found)[0, :, 0], [200, 200, 200, 201])


def test_a_boxs_jitter_is_in_pixels_of_the_input_and_its_side_times_the_margin() -> None:
    found = np.array([[(200.0, 200, 64), (203, 204, 66)] * 2])
    box_centre, box_side, *_ = jitter_of(found, np.zeros_like(found), FRAME_PX)
    unit = 448 / 97.5  # the median of crops of 96 and 99 pixels
    assert box_centre == pytest.approx(5 * unit)
    assert box_side == pytest.approx(2 * 1.5 * unit)


def test_the_running_median_takes_a_slow_motion_off_and_leaves_the_jitter() -> None:
    slow = np.linspace((100, 100, 60), (130, 100, 60), 31)
    jitter = np.zeros_like(slow)
    jitter[15] = (4, 0, 0)
    left = (slow + jitter)[4:-4] - running_median(slow + jitter)
    assert left[11, 0] == pytest.approx(4, abs=1.01)  # the median is a frame off at the most
    assert np.abs(np.delete(left, 11, axis=0)).max() <= 1


def test_small_faces_are_drawn_where_the_bench_says() -> None:
    webcam = Webcam(1000, 80)
    still = webcam.still()
    assert all(frame.shape == (FRAME_PX[1], FRAME_PX[0], 3) for frame in still.frames)
    assert np.abs(np.diff(still.faces[:8], axis=0)).max() < 1  # one head that is still
    assert not np.array_equal(still.frames[0], still.frames[1])
    found = find(finders(None, None)["CenterFace"], still.frames[0])
    np.testing.assert_allclose(found[:2], still.faces[0, :2], atol=10)
    assert found[2] == pytest.approx(80, rel=0.3)
    with pytest.raises(InputError, match="seed 1 is not one for bench"):
        Webcam(1, 80)
