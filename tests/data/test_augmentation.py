import numpy as np
import pytest
import skimage.data

from custom_gaze.config.params import AugmentParams
from custom_gaze.data.augmentation import Augmenter

CROP = np.ascontiguousarray(skimage.data.astronaut()[40:168, 160:288])
OFF = AugmentParams(
    brightness=0, contrast=0, saturation=0, blur_max_sigma_px=0, iso_noise=0, shift_share=0
)


def samples(params: AugmentParams, seed: int = 1, name: str = "a/b.jpg") -> list[np.ndarray]:
    augmenter = Augmenter(params, seed)
    return [augmenter(CROP, name, number) for number in range(1, 9)]


def test_sample_zero_is_the_crop() -> None:
    assert Augmenter(AugmentParams(), 1)(CROP, "a", 0) is CROP


def test_a_sample_depends_on_seed_name_and_number_alone() -> None:
    first = samples(AugmentParams())
    again = Augmenter(AugmentParams(), 1)
    for number in reversed(range(1, 9)):  # in another order, after other samples
        np.testing.assert_array_equal(again(CROP, "a/b.jpg", number), first[number - 1])
    assert len({one.tobytes() for one in first}) == 8
    others = samples(AugmentParams(), seed=2) + samples(AugmentParams(), name="a/c.jpg")
    assert not {one.tobytes() for one in others} & {one.tobytes() for one in first}


def test_the_steps_draw_apart() -> None:
    """Each step is on or off by itself, so hardly a sample in seventy is the crop unchanged."""
    augmenter = Augmenter(AugmentParams(), 1)
    unchanged = [(augmenter(CROP, "n", one) == CROP).all() for one in range(1, 201)]
    assert np.mean(unchanged) < 0.05


def test_the_crop_itself_is_not_touched() -> None:
    before = CROP.copy()
    samples(AugmentParams())
    np.testing.assert_array_equal(CROP, before)


def test_everything_off_changes_nothing() -> None:
    for one in samples(OFF):
        assert np.abs(one.astype(int) - CROP).max() <= 1


@pytest.mark.parametrize(
    "name", ["brightness", "contrast", "saturation", "blur_max_sigma_px", "iso_noise"]
)
def test_each_strength_changes_pixels(name: str) -> None:
    stronger = AugmentParams(**{**vars(OFF), name: 0.3 if name != "blur_max_sigma_px" else 3.0})
    changed = [np.abs(one.astype(int) - CROP).mean() for one in samples(stronger)]
    assert max(changed) > 0.5


def test_shifts_leave_no_black_border_and_stay_small() -> None:
    white = np.full_like(CROP, 255)
    augmenter = Augmenter(AugmentParams(**{**vars(OFF), "shift_share": 0.1}), 1)
    assert min(augmenter(white, "w", one).min() for one in range(1, 30)) == 255
    dot = np.zeros_like(CROP)
    dot[60:68, 60:68] = 255
    where = []
    for one in range(1, 30):
        y, x = np.nonzero(augmenter(dot, "d", one)[..., 0] > 127)
        where.append((x.mean() - 63.5, y.mean() - 63.5))
    assert 3 < np.abs(where).max() <= 0.1 * 128 + 1


def test_nothing_flips() -> None:
    """A flipped sample would be nearer to the mirrored crop than to the crop."""
    for one in samples(AugmentParams()):
        small = one.astype(float) - one.mean()
        upright = (small * (CROP - CROP.mean())).sum()
        for flipped in (CROP[:, ::-1], CROP[::-1]):
            assert upright > (small * (flipped - flipped.mean())).sum()
