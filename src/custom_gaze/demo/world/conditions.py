"""A session's conditions and each frame's moment, following from the session's seeds."""

from dataclasses import dataclass

import numpy as np

from custom_gaze.demo.seeds import STREAM_FRAME, STREAM_SESSION, stream
from custom_gaze.demo.world.head import HeadPose
from custom_gaze.demo.world.person import Color, Person

FRAME_SIZE_PX = (1280, 720)
FOCAL_PX = 1024.0  # of a laptop's webcam, 64 degrees wide, at 1280 pixels


@dataclass(frozen=True)
class Conditions:
    """Seat, light and camera of one session.

    `seat` is where the middle between the eyes lies, as shares of the frame's width and height.
    `light` is the unit vector towards the main light, x right, y down, z from the face to the
    camera; `light_share` is how much of the light comes from there.
    """

    room_seed: int
    distance_mm: float
    seat: tuple[float, float]
    pose: HeadPose
    light: tuple[float, float, float]
    light_share: float
    light_color: Color
    screen_glow: float
    pupil_scale: float
    exposure: float
    gamma: float
    white_balance: Color
    lens_sigma_px: float
    motion_share: float  # of the frames that are blurred by motion
    noise_sigma: float  # grey levels
    jpeg_quality: int
    wander_deg: float
    wander_mm: float

    @property
    def scale(self) -> float:
        """Pixels per millimetre at the face."""
        return FOCAL_PX / self.distance_mm


@dataclass(frozen=True)
class Moment:
    """One frame: where the eyes and the head are, and what the camera does to it."""

    gaze_deg: tuple[float, float]  # the true direction, fixation noise included
    pose: HeadPose
    shift_mm: tuple[float, float]
    closed: float  # 0 open, 1 a lid that is shut
    motion_px: tuple[float, float]
    noise_seed: int


def draw_conditions(person: Person, day: int, seed: int) -> Conditions:
    """The conditions of a person's session; another day has another light and another seat."""
    return conditions_from(stream(STREAM_SESSION, person.seed, day, seed), person)


def conditions_from(rng: np.random.Generator, person: Person) -> Conditions:
    """Conditions of a laptop user drawn from `rng`, around the person's habits."""
    habit_yaw, habit_pitch, habit_roll = person.head_habit_deg
    light_side, light_up = rng.uniform(-70, 70), rng.uniform(-10, 55)
    warm = float(rng.normal(0, 0.06))
    balance = np.exp(rng.normal(0, 0.012, 3) + warm * np.array([0.5, 0.0, -0.7]))
    strength = float(rng.uniform(0.05, 0.62))
    return Conditions(
        room_seed=int(rng.integers(2**31)),
        distance_mm=float(np.clip(rng.normal(600, 62), 480, 740)),
        seat=(float(np.clip(rng.normal(0.5, 0.055), 0.36, 0.64)), float(rng.uniform(0.36, 0.56))),
        pose=HeadPose(
            habit_yaw + float(rng.normal(0, 2.5)),
            habit_pitch + float(rng.normal(0, 3.0)),
            habit_roll + float(rng.normal(0, 1.8)),
        ),
        light=toward(light_side, light_up),
        light_share=strength,
        light_color=_light_color(rng),
        screen_glow=float(rng.uniform(0.15, 0.6)),
        pupil_scale=float(rng.uniform(0.8, 1.3)),
        exposure=float(np.exp(rng.normal(-0.02, 0.13))),
        gamma=float(np.exp(rng.normal(0, 0.1))),
        white_balance=(float(balance[0]), float(balance[1]), float(balance[2])),
        lens_sigma_px=float(rng.uniform(0.35, 1.25)),
        motion_share=float(rng.uniform(0.0, 0.18)),
        noise_sigma=float(rng.uniform(0.8, 4.5)),
        jpeg_quality=int(rng.integers(78, 96)),
        wander_deg=person.restlessness * float(rng.uniform(0.6, 1.6)),
        wander_mm=person.restlessness * float(rng.uniform(2.0, 6.0)),
    )


def toward(side_deg: float, up_deg: float) -> tuple[float, float, float]:
    """The unit vector from the face to a light, as `Conditions.light`."""
    side, up = np.deg2rad([side_deg, up_deg])
    return (
        float(np.sin(side) * np.cos(up)),
        float(-np.sin(up)),
        float(np.cos(side) * np.cos(up)),
    )


def _light_color(rng: np.random.Generator) -> Color:
    warmth = float(rng.uniform(-0.12, 0.16))
    return 1 + warmth, 1 + 0.25 * warmth, 1 - warmth


def draw_moment(
    person: Person,
    conditions: Conditions,
    target_deg: tuple[float, float],
    words: tuple[int, ...],
) -> Moment:
    """One frame of a person who looks at a target (yaw, pitch); `words` name the frame's stream.

    The head takes over the person's share of the gaze and wanders a little besides. The gaze
    itself scatters about the target by the person's fixation noise, as eyes do.
    """
    rng = stream(STREAM_FRAME, *words)
    share_yaw = person.head_share_yaw + float(rng.normal(0, 0.04))
    share_pitch = person.head_share_pitch + float(rng.normal(0, 0.04))
    scatter = rng.normal(0, person.fixation_deg, 2)
    turn = conditions.wander_deg * rng.normal(0, 1.0, 3)
    pose = HeadPose(
        conditions.pose.yaw_deg + share_yaw * target_deg[0] + float(turn[0]),
        conditions.pose.pitch_deg + share_pitch * target_deg[1] + float(turn[1]),
        conditions.pose.roll_deg + 0.6 * float(turn[2]),
    )
    shift = conditions.wander_mm * rng.normal(0, 1.0, 2)
    blinks = rng.random() < person.blink_share
    closed = float(rng.uniform(0.55, 1.0)) if blinks else 0.0
    moving = rng.random() < conditions.motion_share
    motion = rng.normal(0, 2.6, 2) if moving else np.zeros(2)
    return Moment(
        gaze_deg=(float(target_deg[0] + scatter[0]), float(target_deg[1] + scatter[1])),
        pose=pose,
        shift_mm=(float(shift[0]), float(shift[1])),
        closed=closed,
        motion_px=(float(motion[0]), float(motion[1])),
        noise_seed=int(rng.integers(2**63)),
    )
