"""What the base network is trained on: crops of many persons, drawn small, wide and rough.

The domain is deliberately not that of the demo's sessions. As in Gaze360, from which L2CS-Net
comes, people look all around, most of it with the head, and their faces are few pixels large.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.demo.pretrain.params import WIDE, DomainParams
from custom_gaze.demo.seeds import STREAM_CROP, stream
from custom_gaze.demo.world.arrays import image
from custom_gaze.demo.world.camera import as_jpeg, develop
from custom_gaze.demo.world.conditions import Conditions, conditions_from, draw_moment, toward
from custom_gaze.demo.world.head import HeadPose
from custom_gaze.demo.world.person import Person, draw_person
from custom_gaze.demo.world.render import Scene, scale_of_face
from custom_gaze.geometry import ScreenGeometry

YAW_LIMIT_DEG, PITCH_LIMIT_DEG = 60.0, 40.0
HEAD_YAW_LIMIT_DEG, HEAD_PITCH_LIMIT_DEG = 40.0, 30.0  # what the renderer's relief allows
EYE_LIMIT_DEG = 35.0  # between head and gaze; eyes turn no further without looking unnatural
MARGIN = (1.2, 2.0)  # of the crop's side over the face's; the app's is 1.5
SHIFT = 0.06  # of the crop's side, standard deviation
SIDE_LIT = 0.4  # of persons, by more of the light than any session of the demo has
STORED_QUALITY = 95  # of crops that are made smaller before they are kept


@dataclass(frozen=True)
class DrawnCrop:
    """A face's square as a JPEG, and where the person really looks, [yaw, pitch] in degrees."""

    jpeg: bytes
    gaze_deg: tuple[float, float]


def draw_crops(seed: int, params: DomainParams, size_px: int) -> Iterator[DrawnCrop]:
    """The crops of one person, always the same ones; none is larger than `size_px`."""
    person = draw_person(seed)
    rng = stream(STREAM_CROP, seed)
    if params.kind == WIDE:
        yield from _wide_crops(rng, person, params, size_px)
    else:
        yield from _screen_crops(rng, person, params, size_px)


def _wide_crops(
    rng: np.random.Generator, person: Person, params: DomainParams, size_px: int
) -> Iterator[DrawnCrop]:
    conditions = _rough(rng, conditions_from(rng, person), params)
    low, high = np.log([params.face_smallest_px, params.face_largest_px])
    scene = Scene(person, conditions, scale_of_face(float(np.exp(rng.uniform(low, high)))), False)
    for _ in range(params.crops_per_person):
        pose, gaze_deg = _look(rng, params)
        label_deg = _label(pose, gaze_deg, params.eye_share)
        margin = float(rng.uniform(*MARGIN))
        shift = (float(rng.normal(0, SHIFT)), float(rng.normal(0, SHIFT)))
        moving = rng.random() < conditions.motion_share
        motion_px = (float(rng.normal(0, 1.5)), float(rng.normal(0, 1.5))) if moving else (0.0, 0.0)
        framing = scene.crop_framing(pose, margin, shift)
        photo = develop(scene.image(gaze_deg, pose, framing), conditions, rng, motion_px)
        yield DrawnCrop(_stored(photo, conditions.jpeg_quality, size_px), label_deg)


def _screen_crops(
    rng: np.random.Generator, person: Person, params: DomainParams, size_px: int
) -> Iterator[DrawnCrop]:
    """What the app would crop of a session: the person looks at random places of the screen."""
    conditions = conditions_from(rng, person)
    scene = Scene(person, conditions, whole=False)
    geometry = ScreenGeometry()
    screen_px = 2 * np.array([geometry.center_x_px, geometry.center_y_px])
    for number in range(params.crops_per_person):
        yaw, pitch = geometry.to_degrees(rng.uniform(0.0, 1.0, 2) * screen_px)
        words = (STREAM_CROP, person.seed, number)
        moment = draw_moment(person, conditions, (float(yaw), float(pitch)), words)
        shift = (float(rng.normal(0, 0.01)), float(rng.normal(0, 0.01)))
        framing = scene.crop_framing(moment.pose, shift=shift)
        photo = scene.image(moment.gaze_deg, moment.pose, framing, moment.closed)
        photo = develop(photo, conditions, rng, moment.motion_px)
        yield DrawnCrop(_stored(photo, conditions.jpeg_quality, size_px), moment.gaze_deg)


def _look(rng: np.random.Generator, params: DomainParams) -> tuple[HeadPose, tuple[float, float]]:
    """A head's pose and a gaze; drawn again until eyes and head can do both."""
    while True:
        yaw, pitch = rng.normal(0, (params.head_yaw_deg, params.head_pitch_deg))
        eye_yaw, eye_pitch = rng.normal(0, (params.eye_yaw_deg, params.eye_pitch_deg))
        gaze_yaw, gaze_pitch = float(yaw + eye_yaw), float(pitch + eye_pitch)
        if (
            abs(yaw) <= HEAD_YAW_LIMIT_DEG
            and abs(pitch) <= HEAD_PITCH_LIMIT_DEG
            and np.hypot(eye_yaw, eye_pitch) <= EYE_LIMIT_DEG
            and abs(gaze_yaw) <= YAW_LIMIT_DEG
            and abs(gaze_pitch) <= PITCH_LIMIT_DEG
        ):
            pose = HeadPose(float(yaw), float(pitch), float(rng.normal(0, 6.0)))
            return pose, (gaze_yaw, gaze_pitch)


def _label(pose: HeadPose, gaze_deg: tuple[float, float], eye_share: float) -> tuple[float, float]:
    """The head's direction, and from there to the gaze by `eye_share`."""
    head_deg = (pose.yaw_deg, pose.pitch_deg)
    yaw, pitch = (h + eye_share * (g - h) for h, g in zip(head_deg, gaze_deg, strict=True))
    return yaw, pitch


def _rough(rng: np.random.Generator, conditions: Conditions, params: DomainParams) -> Conditions:
    """A worse camera, further away, and for some a light that comes from the side."""
    light, share = conditions.light, conditions.light_share
    if rng.random() < SIDE_LIT:
        light, share = toward(rng.uniform(-100, 100), rng.uniform(-30, 60)), rng.uniform(0.3, 0.85)
    return dataclasses.replace(
        conditions,
        light=light,
        light_share=float(share),
        distance_mm=float(rng.uniform(700, 2500)),
        lens_sigma_px=float(rng.uniform(0.3, max(0.3, params.blur_sigma_px))),
        noise_sigma=float(rng.uniform(1.0, max(1.0, params.noise_sigma))),
        jpeg_quality=int(rng.integers(45, 95)),
        motion_share=0.25,
        exposure=conditions.exposure * float(np.exp(rng.normal(0, 0.25))),
    )


def _stored(photo: NDArray[np.uint8], quality: int, size_px: int) -> bytes:
    """The photo's JPEG; made smaller, after its compression, where it is larger than needed."""
    content = as_jpeg(photo, quality)
    if photo.shape[0] <= size_px:
        return content
    photo = image(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB))
    return as_jpeg(
        image(cv2.resize(photo, (size_px, size_px), interpolation=cv2.INTER_AREA)), STORED_QUALITY
    )
