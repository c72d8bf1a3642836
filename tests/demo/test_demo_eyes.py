"""The drawn eyes are where the gaze says: measured in the rendered images."""

from dataclasses import replace

import numpy as np
import pytest

from custom_gaze.demo.world.conditions import Conditions, draw_conditions
from custom_gaze.demo.world.head import HeadPose, angles_deg, direction, turned, untwisted
from custom_gaze.demo.world.person import Eye, Person, draw_person
from custom_gaze.demo.world.render import Framing, Scene, scale_of_face

PLAIN_EYE = Eye(
    kappa_yaw_deg=0.0,
    kappa_pitch_deg=0.0,
    lid_opening=2.6,
    corner_tilt_mm=0.0,
    offset_mm=(0.0, 0.0),
)
GREEN = (0.0, 200.0, 0.0)
SCALE = 2.0
FRAMING = Framing((400, 300), (200.0, 150.0))
FAR_MM = 1e7


def measured_person(**traits: object) -> Person:
    """A person whose iris is green and whose lids hide nothing of it."""
    plain = replace(
        draw_person(1),
        eyes=(PLAIN_EYE, PLAIN_EYE),
        iris_outer=GREEN,
        iris_inner=GREEN,
        pupil_radius_mm=1.5,
        lash_darkness=0.0,
        liner=0.0,
        glasses=None,
    )
    return replace(plain, **traits)  # type: ignore[arg-type]


def even_light(**changes: object) -> Conditions:
    """Light without direction or glints, and eyes that do not converge: a screen far away."""
    plain = replace(
        draw_conditions(draw_person(1), 1, 1),
        distance_mm=FAR_MM,
        light_share=0.0,
        light=(0.0, 0.0, -1.0),
        screen_glow=0.0,
        lens_sigma_px=0.4,
        pupil_scale=1.0,
        pose=HeadPose(),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def greenness(image: np.ndarray) -> np.ndarray:
    """How green each pixel is, float64: the iris, where the person's is GREEN."""
    rgb = image.astype(np.float64)
    return np.clip(rgb[..., 1] - np.maximum(rgb[..., 0], rgb[..., 2]) - 25, 0, None)


def iris_centers_px(
    scene: Scene, gaze_deg: tuple[float, float], pose: HeadPose | None = None
) -> np.ndarray:
    """Middles (2, 2) of the two irises' extents in the image, the left one first."""
    pose = pose or HeadPose()
    green = greenness(scene.image(gaze_deg, pose, FRAMING)) > 20
    middle_x = scene.eye_points_px(pose, FRAMING)[:, 0].mean()
    centers = []
    for side in (slice(0, round(middle_x)), slice(round(middle_x), None)):
        ys, xs = np.nonzero(green[:, side])
        assert len(xs) > 100
        centers.append(((xs.min() + xs.max()) / 2 + (side.start or 0), (ys.min() + ys.max()) / 2))
    return np.array(centers)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(measured_person(), even_light(), scale=SCALE, whole=False)


@pytest.mark.parametrize(
    "gaze_deg", [(-26.0, 0.0), (26.0, 0.0), (0.0, -17.0), (0.0, 17.0), (20.0, 12.0)]
)
def test_the_iris_moves_by_the_eyeballs_radius_times_the_sine(
    scene: Scene, gaze_deg: tuple[float, float]
) -> None:
    person = scene.person
    ring = np.sqrt(1 - (person.iris_radius_mm / person.eye_radius_mm) ** 2)
    arm_px = person.eye_radius_mm * ring * SCALE
    moved = iris_centers_px(scene, gaze_deg) - iris_centers_px(scene, (0.0, 0.0))
    expected = arm_px * direction(*gaze_deg)[:2]
    assert moved == pytest.approx(np.stack([expected, expected]), abs=0.8)


def test_right_of_the_screen_is_right_in_the_image_and_below_is_below(scene: Scene) -> None:
    ahead = iris_centers_px(scene, (0.0, 0.0))
    assert (iris_centers_px(scene, (15.0, 0.0))[:, 0] > ahead[:, 0] + 4).all()
    assert (iris_centers_px(scene, (0.0, 15.0))[:, 1] > ahead[:, 1] + 4).all()


def test_a_turned_head_leaves_the_gaze_where_it_was(scene: Scene) -> None:
    """Under any head pose, the same change of gaze moves the iris by the same pixels."""
    person = scene.person
    arm_px = SCALE * np.sqrt(person.eye_radius_mm**2 - person.iris_radius_mm**2)
    for pose in (HeadPose(20.0, 0.0, 0.0), HeadPose(-15.0, 10.0, 8.0)):
        one, other = (10.0, 4.0), (pose.yaw_deg - 6.0, pose.pitch_deg - 5.0)
        moved = iris_centers_px(scene, one, pose) - iris_centers_px(scene, other, pose)
        expected = arm_px * (direction(*one) - direction(*other))[:2]
        assert moved == pytest.approx(np.stack([expected, expected]), abs=1.1)


@pytest.mark.parametrize("straight", [(0.0, 0.0), (25.0, 0.0), (-20.0, -12.0)])
def test_an_eye_straight_in_the_head_is_in_the_middle_of_its_opening(
    scene: Scene, straight: tuple[float, float]
) -> None:
    pose = HeadPose(*straight)
    off = iris_centers_px(scene, straight, pose) - scene.eye_points_px(pose, FRAMING)
    assert np.abs(off - [0.0, -0.4 * SCALE]).max() < 0.7 * SCALE  # the ball lies 0.4 mm higher


def test_the_visual_axis_is_the_optical_one_plus_kappa() -> None:
    """Who has kappa looks at 10 degrees with eyes turned as others' are at 10 minus kappa."""
    plain = Scene(measured_person(), even_light(), scale=SCALE, whole=False)
    eye = replace(PLAIN_EYE, kappa_yaw_deg=5.0, kappa_pitch_deg=-3.0)
    shifted = Scene(measured_person(eyes=(eye, eye)), even_light(), scale=SCALE, whole=False)
    same = plain.image((5.0, 7.0), HeadPose(), FRAMING)
    assert np.array_equal(shifted.image((10.0, 4.0), HeadPose(), FRAMING), same)
    assert not np.array_equal(plain.image((10.0, 4.0), HeadPose(), FRAMING), same)


def test_the_eyes_converge_on_what_is_near(scene: Scene) -> None:
    near = Scene(scene.person, even_light(distance_mm=400.0), scale=SCALE, whole=False)
    far = iris_centers_px(scene, (0.0, 0.0))
    close = iris_centers_px(near, (0.0, 0.0))
    angle = np.arctan2(scene.person.eye_distance_mm / 2, 400.0)
    arm_px = SCALE * np.sqrt(scene.person.eye_radius_mm**2 - scene.person.iris_radius_mm**2)
    assert close[0, 0] - far[0, 0] == pytest.approx(arm_px * np.sin(angle), abs=0.8)
    assert close[1, 0] - far[1, 0] == pytest.approx(-arm_px * np.sin(angle), abs=0.8)


def opening_rows(scene: Scene, pitch_deg: float, closed: float = 0.0) -> np.ndarray:
    """Rows of the image in which the left eye's white or iris shows, in its middle column."""
    image = scene.image((0.0, pitch_deg), HeadPose(), FRAMING, closed)
    column = round(float(scene.eye_points_px(HeadPose(), FRAMING)[0, 0]))
    return np.nonzero(greenness(image[:, column - 1 : column + 2]).max(1) > 20)[0]


def test_the_upper_lid_follows_the_eye_down_and_a_blink_hides_it() -> None:
    eye = replace(PLAIN_EYE, lid_opening=1.0)
    person = measured_person(eyes=(eye, eye), sclera=GREEN, lid_follow=0.8, pupil_radius_mm=1.0)
    scene = Scene(person, even_light(), scale=SCALE, whole=False)
    up, ahead, down = (opening_rows(scene, pitch) for pitch in (-15.0, 0.0, 15.0))
    follows_px = 0.8 * person.eye_radius_mm * np.sin(np.deg2rad(15)) * SCALE
    assert down.min() - ahead.min() == pytest.approx(follows_px, abs=1.5)
    assert up.min() < ahead.min() - 2
    assert down.max() >= ahead.max()
    assert np.ptp(down) < np.ptp(ahead) < np.ptp(up)
    assert len(opening_rows(scene, 0.0, closed=1.0)) == 0


def test_the_glint_follows_the_light() -> None:
    person = measured_person(iris_outer=(20.0, 20.0, 20.0), iris_inner=(20.0, 20.0, 20.0))
    places = []
    for side in (-0.6, 0.6):
        conditions = even_light(light=(side, -0.3, 0.74), light_share=0.3)
        scene = Scene(person, conditions, scale=SCALE, whole=False)
        image = scene.image((0.0, 0.0), HeadPose(), FRAMING)
        x, y = scene.eye_points_px(HeadPose(), FRAMING)[0]
        dark = image[round(y) - 6 : round(y) + 6, round(x) - 7 : round(x) + 8].sum(-1).astype(int)
        places.append(np.unravel_index(dark.argmax(), dark.shape)[1] - 7)
    assert places[0] <= -2
    assert places[1] >= 2


def test_a_head_that_turns_right_and_down_moves_its_nose_there() -> None:
    nose = np.array([[[0.0, 40.0]]], np.float32)
    for pose, axis in ((HeadPose(20.0, 0.0, 0.0), 0), (HeadPose(0.0, 20.0, 0.0), 1)):
        assert turned(nose, pose)[0][0, 0, axis] > nose[0, 0, axis] + 10
    ear_right = np.array([[[60.0, 60.0]]], np.float32)
    assert turned(ear_right, HeadPose(0.0, 0.0, 10.0))[0][0, 0, 1] > 60 + 5


@pytest.mark.parametrize("pose", [HeadPose(40, 25, 10), HeadPose(-40, -30, -15), HeadPose(8, 3, 2)])
def test_looking_back_through_a_turn_finds_the_point(pose: HeadPose) -> None:
    x, y = np.meshgrid(np.linspace(-60, 60, 13), np.linspace(-90, 100, 20))
    points = np.stack([x, y], -1).astype(np.float32)
    there, jacobian = turned(points, pose)
    assert np.linalg.det(jacobian).min() > 0  # the face does not fold
    assert np.abs(untwisted(there, pose) - points).max() < 0.3  # mm


def test_the_jacobian_is_the_slope_of_the_turn() -> None:
    pose, at = HeadPose(15.0, -8.0, 4.0), np.array([[[22.0, 130.0]]], np.float32)
    _, jacobian = turned(at, pose)
    for axis in (0, 1):
        step = np.zeros(2, np.float32)
        step[axis] = 2.0
        slope = (turned(at + step, pose)[0] - turned(at - step, pose)[0])[0, 0] / 4
        assert jacobian[0, 0, :, axis] == pytest.approx(slope, abs=0.02)


def test_directions_and_angles_are_each_others_inverse() -> None:
    assert direction(30.0, 0.0) == pytest.approx([0.5, 0.0, np.sqrt(0.75)])
    assert direction(0.0, 30.0) == pytest.approx([0.0, 0.5, np.sqrt(0.75)])
    assert angles_deg(direction(-41.0, 23.0)) == pytest.approx((-41.0, 23.0))
    # a gaze along the head's own axis: the pose's rotation of straight ahead
    assert HeadPose(25.0, -10.0).matrix() @ [0, 0, 1] == pytest.approx(direction(25.0, -10.0))


def test_a_crop_is_a_square_about_the_face_at_any_size() -> None:
    person, conditions = draw_person(10_000), draw_conditions(draw_person(10_000), 1, 1)
    scene = Scene(person, conditions, scale=scale_of_face(80.0), whole=False)
    for margin, side_px in ((1.5, 120), (2.0, 160)):
        pose = HeadPose(25.0, 10.0, 0.0)
        framing = scene.crop_framing(pose, margin)
        assert framing.size_px == (side_px, side_px)
        assert abs(scene.eye_points_px(pose, framing).mean(0)[0] - side_px / 2) < 0.1 * side_px
        crop = scene.crop((40.0, 20.0), pose, 224, np.random.default_rng(1), margin=margin)
        assert crop.shape == (224, 224, 3)
        assert crop.dtype == np.uint8
    one = scene.crop((5.0, 0.0), HeadPose(), 96, np.random.default_rng(1))
    assert np.array_equal(one, scene.crop((5.0, 0.0), HeadPose(), 96, np.random.default_rng(1)))
    assert not np.array_equal(one, scene.crop((5.0, 0.0), HeadPose(), 96, np.random.default_rng(2)))


def test_a_crops_head_is_the_frames_head() -> None:
    """Drawing only the head is quicker, and shows the same."""
    person = draw_person(5)
    conditions = draw_conditions(person, 1, 1)
    whole, head = (Scene(person, conditions, whole=part) for part in (True, False))
    pose = HeadPose(5.0, 3.0, 2.0)
    framing = head.crop_framing(pose)
    one, other = (s.image((8.0, -5.0), pose, framing).astype(int) for s in (whole, head))
    assert np.abs(one - other).mean() < 1.0
    moved = np.roll(other, 1, axis=1)  # a pixel to the side is already far worse
    assert np.abs(one - moved).mean() > 2.0
