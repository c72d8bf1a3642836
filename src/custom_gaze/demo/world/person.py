"""A simulated user: eyes, face and habits, all of them following from one seed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from custom_gaze.demo.seeds import STREAM_PERSON, stream

Color = tuple[float, float, float]

IRIS_COLORS: tuple[tuple[Color, Color], ...] = (  # outer and inner colour, RGB 0 … 255
    ((62, 38, 24), (86, 52, 28)),  # dark brown
    ((92, 60, 34), (120, 78, 40)),  # brown
    ((104, 86, 54), (122, 84, 46)),  # hazel
    ((104, 116, 82), (146, 118, 66)),  # green
    ((96, 126, 150), (132, 146, 150)),  # blue
    ((124, 138, 148), (150, 150, 142)),  # grey
)
IRIS_SHARES = np.array((0.3, 0.22, 0.14, 0.1, 0.16, 0.08))
HAIR_COLORS: tuple[Color, ...] = (  # times the photograph's brightness of hair
    (0.33, 0.30, 0.30),  # black
    (0.52, 0.41, 0.34),  # dark brown
    (0.86, 0.66, 0.49),  # brown
    (1.24, 1.02, 0.72),  # blond
    (1.02, 0.62, 0.40),  # red
    (1.12, 1.11, 1.10),  # grey
)
HAIR_SHARES = np.array((0.22, 0.26, 0.22, 0.14, 0.06, 0.1))
DARK_SKIN_SHARES = np.array((1.0, 0.55, 0.15, 0.04, 0.03, 0.1))  # of both, at most melanin
SHADOW_COLORS: tuple[Color, ...] = (
    (120, 84, 70),
    (92, 84, 120),
    (84, 100, 124),
    (140, 96, 110),
    (98, 104, 84),
)


@dataclass(frozen=True)
class Glasses:
    """Frames: size of a lens in mm, roundness (2 an ellipse, more a box), line, colour, gleam."""

    half_width_mm: float
    half_height_mm: float
    roundness: float
    line_mm: float
    color: Color
    gleam: float


@dataclass(frozen=True)
class Eye:
    """One eye. Lengths in mm, angles in degrees, yaw right and pitch down as everywhere.

    `kappa_yaw_deg`, `kappa_pitch_deg`: visual axis minus optical axis. The person looks along the
    visual axis; the iris sits on the optical one. `lid_opening` multiplies the height of the
    opening, `corner_tilt_mm` is how much lower the inner corner lies than the outer one, halved.
    """

    kappa_yaw_deg: float
    kappa_pitch_deg: float
    lid_opening: float
    corner_tilt_mm: float
    offset_mm: tuple[float, float]


@dataclass(frozen=True)
class Person:
    """All traits that stay from session to session."""

    seed: int
    eyes: tuple[Eye, Eye]  # the image's left one first
    eye_distance_mm: float
    eye_radius_mm: float
    eye_half_width_mm: float
    iris_radius_mm: float
    pupil_radius_mm: float
    iris_outer: Color
    iris_inner: Color
    sclera: Color
    lid_follow: float  # share of the eye's pitch that the upper lid goes along with
    crease_mm: float
    crease_depth: float
    lash_mm: float
    lash_darkness: float
    liner: float  # eyeliner, 0 none
    shadow: float  # eye shadow, 0 none
    shadow_color: Color
    skin_gain: Color  # times the photograph's skin
    lips_gain: Color
    blush: float
    hair_gain: Color
    brow_darkness: float
    brow_width_px: float
    suit_hue_deg: float
    suit_saturation: float
    suit_brightness: float
    freckles: float
    warps: tuple[tuple[float, float, float, float, float], ...]  # x, y, sigma, dx, dy in mm
    face_stretch: tuple[float, float]
    glasses: Glasses | None
    head_share_yaw: float  # of the gaze that the head takes over; negative: against it
    head_share_pitch: float
    head_habit_deg: tuple[float, float, float]  # yaw, pitch, roll the head is usually held at
    restlessness: float  # how much the head wanders, about 1
    fixation_deg: float  # standard deviation of the gaze about the target
    blink_share: float


def draw_person(seed: int) -> Person:
    """The person that a seed stands for; the same on every machine."""
    rng = stream(STREAM_PERSON, seed)
    melanin = float(rng.beta(1.1, 1.7))
    iris, hair = (_choice(rng, shares, melanin) for shares in (IRIS_SHARES, HAIR_SHARES))
    made_up = rng.random() < 0.35
    return Person(
        seed=seed,
        eyes=_eyes(rng),
        eye_distance_mm=float(np.clip(rng.normal(63, 2.2), 58, 68)),
        eye_radius_mm=float(np.clip(rng.normal(12.0, 0.45), 11.0, 13.0)),
        eye_half_width_mm=float(rng.uniform(13.0, 14.8)),
        iris_radius_mm=float(np.clip(rng.normal(5.95, 0.25), 5.4, 6.5)),
        pupil_radius_mm=float(rng.uniform(1.3, 2.5)),
        iris_outer=_varied(rng, IRIS_COLORS[iris][0], 0.12),
        iris_inner=_varied(rng, IRIS_COLORS[iris][1], 0.15),
        sclera=_varied(rng, (220, 211, 205), 0.05),
        lid_follow=float(rng.uniform(0.62, 0.9)),
        crease_mm=float(rng.uniform(1.6, 4.2)),
        crease_depth=float(rng.uniform(0.12, 0.42)),
        lash_mm=float(rng.uniform(2.0, 4.2)) + (1.2 if made_up else 0.0),
        lash_darkness=float(rng.uniform(0.3, 0.65)) + (0.3 if made_up else 0.0),
        liner=float(rng.uniform(0.3, 1.0)) if made_up and rng.random() < 0.7 else 0.0,
        shadow=float(rng.uniform(0.15, 0.6)) if made_up and rng.random() < 0.7 else 0.0,
        shadow_color=SHADOW_COLORS[int(rng.integers(len(SHADOW_COLORS)))],
        skin_gain=_skin(rng, melanin),
        lips_gain=_varied(rng, (0.92, 0.66, 0.7) if made_up else (1.0, 1.0, 1.0), 0.08),
        blush=float(rng.uniform(-0.06, 0.08)),
        hair_gain=_varied(rng, HAIR_COLORS[hair], 0.1),
        brow_darkness=float(rng.uniform(0.05, 0.62)),
        brow_width_px=float(rng.uniform(0.7, 2.1)),
        suit_hue_deg=float(rng.uniform(0, 360)),
        suit_saturation=float(rng.uniform(0.05, 0.5)),
        suit_brightness=float(rng.uniform(0.35, 0.95)),
        freckles=float(max(0.0, rng.uniform(-0.15, 0.12))),
        warps=_warps(rng),
        face_stretch=(float(rng.uniform(0.94, 1.07)), float(rng.uniform(0.95, 1.06))),
        glasses=_glasses(rng) if rng.random() < 0.28 else None,
        head_share_yaw=float(rng.uniform(-0.1, 0.35)),
        head_share_pitch=float(rng.uniform(-0.1, 0.35)),
        head_habit_deg=(
            float(rng.normal(0, 2.0)),
            float(rng.normal(0, 2.5)),
            float(rng.normal(0, 2.0)),
        ),
        restlessness=float(rng.uniform(0.5, 1.6)),
        fixation_deg=float(rng.uniform(0.3, 0.5)),
        blink_share=float(rng.uniform(0.0, 0.04)),
    )


def _choice(rng: np.random.Generator, shares: NDArray[np.float64], melanin: float) -> int:
    """One of the colours, dark ones first; light ones get rare as the skin gets darker."""
    weights = shares * DARK_SKIN_SHARES ** min(1.0, 1.6 * melanin**1.5)
    return int(rng.choice(len(shares), p=weights / weights.sum()))


def _varied(rng: np.random.Generator, color: Color, spread: float) -> Color:
    """The colour made lighter or darker by up to `spread`, its tint changed by a third of it."""
    lightness, tint = rng.uniform(-1, 1), rng.uniform(-1, 1)
    change = spread * (lightness + 0.35 * tint * np.array([1.0, 0.1, -1.0]))
    red, green, blue = np.array(color) * (1 + change)
    return float(red), float(green), float(blue)


def _skin(rng: np.random.Generator, melanin: float) -> Color:
    light, dark = np.array([1.03, 1.03, 1.04]), np.array([0.46, 0.39, 0.36])
    gain = np.exp((1 - melanin) * np.log(light) + melanin * np.log(dark))
    warmth = float(rng.uniform(-1, 1)) * (1 - 0.5 * melanin)
    red, green, blue = gain * (1 + warmth * np.array([0.02, 0.0, -0.05]))
    return float(red), float(green), float(blue)


def _eyes(rng: np.random.Generator) -> tuple[Eye, Eye]:
    """Two eyes alike but for small asymmetries; some persons squint.

    The visual axis runs about 5 degrees nasal of the optical one and within a degree or two of it
    vertically, different in the two eyes by a degree or so (as ophthalmology measures kappa).
    """
    nasal, down = rng.normal(4.6, 1.3), rng.normal(-0.8, 1.3)
    opening, tilt = rng.normal(1.0, 0.11), rng.normal(0.7, 0.55)
    squint = rng.normal(0, 4.0) if rng.random() < 0.1 else 0.0
    squinting = int(rng.integers(2))
    eyes = []
    for index, towards_nose in ((0, 1.0), (1, -1.0)):
        own = rng.normal(0, 1.0, 6)
        turn = squint if index == squinting else 0.0
        eyes.append(
            Eye(
                kappa_yaw_deg=float(towards_nose * (nasal + 0.8 * own[0]) + turn),
                kappa_pitch_deg=float(down + 0.6 * own[1]),
                lid_opening=float(np.clip(opening * (1 + 0.04 * own[2]), 0.72, 1.25)),
                corner_tilt_mm=float(np.clip(tilt + 0.2 * own[3], -0.6, 2.0)),
                offset_mm=(float(0.4 * own[4]), float(0.4 * own[5])),
            )
        )
    return eyes[0], eyes[1]


def _warps(rng: np.random.Generator) -> tuple[tuple[float, float, float, float, float], ...]:
    """Small smooth shifts of the face's parts, most of them alike on both sides."""
    jaw, cheek, nose, mouth, brow = rng.normal(0, 1, 5) * np.array([4.0, 2.5, 1.6, 2.5, 1.8])
    chin, lip_width, hair, side = rng.normal(0, 1, 4) * np.array([3.0, 2.0, 5.0, 1.2])
    symmetric = [
        (48, 78, 24, jaw, 0),
        (55, 35, 22, cheek, 0),
        (12, 40, 9, nose, 0),
        (26, 66, 12, lip_width, mouth),
        (32, -16, 13, 0, brow),
        (95, -30, 40, hair, 0),
    ]
    warps = [(x, y, s, dx, dy) for x, y, s, dx, dy in symmetric]
    warps += [(-x, y, s, -dx, dy) for x, y, s, dx, dy in symmetric]
    warps += [(0, 105, 24, side, chin), (0, -110, 45, side, -abs(hair)), (0, 45, 12, side, nose)]
    return tuple((float(x), float(y), float(s), float(dx), float(dy)) for x, y, s, dx, dy in warps)


def _glasses(rng: np.random.Generator) -> Glasses:
    dark = rng.uniform(12, 60)
    tint = rng.uniform(0.7, 1.3, 3) * (rng.uniform(1, 2.6) if rng.random() < 0.4 else 1.0)
    red, green, blue = np.clip(dark * tint, 5, 200)
    return Glasses(
        half_width_mm=float(rng.uniform(23, 27)),
        half_height_mm=float(rng.uniform(16.5, 21)),
        roundness=float(rng.uniform(2.2, 5.0)),
        line_mm=float(rng.uniform(0.9, 3.2)),
        color=(float(red), float(green), float(blue)),
        gleam=float(rng.uniform(0.02, 0.12)),
    )
