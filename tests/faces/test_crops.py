import json
import math

import numpy as np
import pytest
from PIL import Image

from custom_gaze.common.errors import InputError
from custom_gaze.config.specification import PREPROCESSING, Preprocessing
from custom_gaze.faces.crops import gaze_crop, gaze_crop_box, mesh_crop_box, normalise, resize


def triangle_weights(source: int, target: int) -> np.ndarray:
    """The weight of every source pixel in every target pixel, (target, source), by definition.

    The kernel is max(0, 1 - |x|), widened by the shrink factor and never narrowed, about the
    target pixel's centre; weights are normalised to sum 1.
    """
    ratio = source / target
    width = max(ratio, 1.0)
    weights = np.zeros((target, source))
    for i in range(target):
        center = (i + 0.5) * ratio
        for j in range(source):
            weights[i, j] = max(0.0, 1.0 - abs((j + 0.5 - center) / width))
        weights[i] /= weights[i].sum()
    return weights


def triangle_resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Separable, in floating point, rounded once at the end."""
    down = triangle_weights(image.shape[0], height)
    along = triangle_weights(image.shape[1], width)
    result = np.einsum("yr,rcn,xc->yxn", down, image.astype(np.float64), along, optimize=True)
    return np.floor(result + 0.5).clip(0, 255)


def picture(width: int, height: int, seed: int) -> np.ndarray:
    """Noise, hard edges and a gradient: what tells filters apart."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    image[: height // 2, : width // 3] = (255, 0, 128)
    image[height // 2 :, : width // 2, 1] = np.linspace(0, 255, width // 2).astype(np.uint8)
    return image


SIZES = [  # (width, height) → (width, height)
    ((448, 448), (448, 448)),
    ((449, 447), (448, 448)),
    ((600, 600), (448, 448)),
    ((897, 896), (448, 448)),
    ((1080, 1080), (448, 448)),
    ((431, 700), (448, 448)),
    ((700, 431), (448, 448)),
    ((200, 200), (448, 448)),
    ((97, 60), (448, 448)),
    ((31, 448), (448, 448)),
    ((3, 2), (448, 448)),
    ((1, 5), (448, 448)),
    ((150, 187), (192, 192)),
    ((640, 480), (320, 240)),
    ((1280, 720), (320, 240)),
    ((333, 777), (50, 41)),
]


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_resize_is_the_triangle_filter_to_one_grey_level(source, target):
    image = picture(*source, seed=sum(source))
    ours = resize(image, *target)
    assert ours.dtype == np.uint8
    assert ours.shape == (target[1], target[0], 3)
    difference = np.abs(ours - triangle_resize(image, *target))
    assert difference.max() <= 1
    assert difference.mean() < 0.3  # rounding twice, not another filter


def test_the_reference_tells_the_filters_apart():
    image = picture(900, 900, seed=1)
    plain = np.asarray(Image.fromarray(image).reduce(2).resize((448, 448), Image.NEAREST))
    assert np.abs(plain - triangle_resize(image, 448, 448)).max() > 20


def test_crop_is_a_square_about_the_box_of_margin_times_its_larger_side():
    # center (500, 320), larger side 120 → side 180
    assert gaze_crop_box((450.0, 260.0, 550.0, 380.0), 1280, 720, 1.5) == (410, 230, 590, 410)
    # the same with width the larger one
    assert gaze_crop_box((440.0, 270.0, 560.0, 370.0), 1280, 720, 1.5) == (410, 230, 590, 410)
    assert gaze_crop_box((440.0, 270.0, 560.0, 370.0), 1280, 720, 2.0) == (380, 200, 620, 440)


def test_coordinates_are_truncated_not_rounded():
    # center (100.45, 200.95), side 60.0·1.5 = 90 → 55.45 … 145.45 and 155.95 … 245.95
    box = (70.45, 170.95, 130.45, 230.95)
    assert gaze_crop_box(box, 640, 480, 1.5) == (55, 155, 145, 245)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((10.0, 100.0, 110.0, 200.0), (0, 75, 135, 225)),  # left: 135 wide, 150 high
        ((560.0, 100.0, 660.0, 200.0), (535, 75, 640, 225)),
        ((300.0, -20.0, 400.0, 80.0), (275, 0, 425, 105)),
        ((300.0, 410.0, 400.0, 510.0), (275, 385, 425, 480)),
        ((-50.0, -60.0, 700.0, 500.0), (0, 0, 640, 480)),
    ],
)
def test_each_edge_is_clipped_on_its_own(box, expected):
    assert gaze_crop_box(box, 640, 480, 1.5) == expected


def test_a_crop_at_the_border_is_stretched_to_the_full_size():
    frame = np.zeros((480, 640, 3), dtype=np.uint8)
    frame[:, 67:] = 200  # half of the crop's 135 columns is dark
    crop = gaze_crop(frame, (10.0, 100.0, 110.0, 200.0), PREPROCESSING)
    assert crop.shape == (448, 448, 3)
    dark = int((crop[224, :, 0] < 100).sum())
    assert abs(dark - 448 * 67 / 135) <= 1


def test_the_crop_knows_nothing_of_the_pixels_around_it():
    frame = np.full((480, 640, 3), 255, dtype=np.uint8)
    frame[75:225, 75:225] = 10
    assert (gaze_crop(frame, (100.0, 100.0, 200.0, 200.0), PREPROCESSING) == 10).all()
    assert gaze_crop(frame, (101.0, 100.0, 201.0, 200.0), PREPROCESSING).max() > 10


def test_mesh_sees_the_box_grown_by_a_quarter_in_width_and_height():
    # center (150, 220): 120 → 150 wide, 160 → 200 high
    assert mesh_crop_box((90.0, 140.0, 210.0, 300.0), 640, 480) == (75, 120, 225, 320)
    assert mesh_crop_box((4.0, 140.0, 124.0, 300.0), 640, 480) == (0, 120, 139, 320)
    assert mesh_crop_box((90.9, 140.0, 210.9, 300.0), 640, 480) == (75, 120, 225, 320)


@pytest.mark.parametrize("rule", [mesh_crop_box, lambda *args: gaze_crop_box(*args, 1.5)])
@pytest.mark.parametrize("box", [(700.0, 10.0, 760.0, 70.0), (10.0, -300.0, 70.0, -200.0)])
def test_a_box_outside_the_frame_is_refused(rule, box):
    with pytest.raises(InputError, match="outside the frame"):
        rule(box, 640, 480)


def test_normalise_is_imagenets_in_rgb_and_nchw():
    crops = np.zeros((2, 448, 448, 3), dtype=np.uint8)
    crops[1, 5, 7] = (255, 128, 1)
    values = normalise(crops)
    assert values.dtype == np.float32
    assert values.shape == (2, 3, 448, 448)
    assert values.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(values[0, :, 0, 0], [-2.117904, -2.035714, -1.804444], atol=1e-5)
    np.testing.assert_allclose(values[1, :, 5, 7], [2.248908, 0.205182, -1.787015], atol=1e-5)


@pytest.mark.parametrize(
    "crops", [np.zeros((448, 448, 3), np.uint8), np.zeros((1, 4, 4, 3)), np.zeros((1, 3, 4, 4))]
)
def test_normalise_refuses_other_arrays(crops):
    with pytest.raises(ValueError, match="uint8"):
        normalise(crops)


def test_the_specification_survives_json_and_names_what_matters():
    stored = json.loads(json.dumps(PREPROCESSING.as_dict()))
    assert stored == PREPROCESSING.as_dict()
    assert stored["mean"] == [0.485, 0.456, 0.406]
    assert stored["std"] == [0.229, 0.224, 0.225]
    assert (stored["size_px"], stored["margin"], stored["channels"]) == (448, 1.5, "RGB")
    assert Preprocessing(margin=1.6).as_dict() != stored


def test_the_normalisation_follows_the_specification():
    spec = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 0.5), scale=51.0)
    values = normalise(np.full((1, 2, 2, 3), 102, np.uint8), spec)
    assert values[0, :, 0, 0].tolist() == [2.0, 2.0, 4.0]
    assert math.isclose(float(values.sum()), 4 * 8.0)
