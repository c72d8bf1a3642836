"""Frames that are mirrored against others of the same person, or against what the app saw.

The app has a mirror mode. A session captured in the other mode teaches the opposite of what it
should: where the person looks left, the label says right. Three things tell:

- The eyes that the app recorded with a frame lie at width - x in a mirrored one. That needs no
  other frame, but a face that is off the frame's middle.
- Within a session the room and the light stay: mirrored frames look like the others mirrored.
- From the eyes' patches of one half, or one session, a linear fit predicts the yaw of the other;
  where frames are mirrored, it predicts it from their patches mirrored, and the opposite from the
  patches as they are.

Where these do not tell, nothing is said. The base network's own yaw is not asked: it tells nothing
on some frames about which the fit has no doubt (below).

Measured on 28 simulated sessions of 25 frames (persons 2100 to 2113 of those for choosing settings,
two days each), and on four webcam videos of real people, 60 frames each, on which the embedded
base's own yaw correlates with the truth by -0.88, -0.84, -0.74 and 0.06:

- Nothing was named in any of the 32 as they are, nor in any of their 384 pairs (14 of one person
  on two days, 6 of the real videos, the others of different persons).
- A whole session mirrored: against the same person's other day 14 of 14 were found, of the real
  pairs 5 of 6, of different persons 361 of 364; by the app's eyes alone 25 of 28.
- The first half of a session, a random half or a third: each exactly, in 32 of 32; of 6 frames at
  the end in 28 of 28 simulated sessions and 2 of 4 real ones.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from custom_gaze.common.console import bar
from custom_gaze.config.params import PrepareParams
from custom_gaze.data.frame_looks import LOOK_PX, SMALL_PX, Examiner, FrameLook
from custom_gaze.data.sessions import Frame
from custom_gaze.data.splits import points_px
from custom_gaze.doctor.findings import Finding, Severity
from custom_gaze.faces.eye_points import load_eye_finder
from custom_gaze.faces.finder import FaceFinder
from custom_gaze.geometry import ScreenGeometry

# Of the distance between the eyes: so near are the app's eyes to those found, and so far they have
# to be from where the other mirror mode would have them. Simulated eyes are found to within 0.05.
NEAR_SHARE, FAR_SHARE = 0.2, 0.4
LEAST_VOTES = 3  # frames whose recorded eyes tell

LEAST_FRAMES = 5  # of the smaller part: fewer are confirmed too rarely
PENALTY = 0.1  # times the patches' mean energy
# Evidence is half the difference of two correlations, -1 … 1, once each way. Unmirrored pairs of
# the same person reached -0.19 at most, of different persons 0.25 and 0.37 at once.
LEAST_EVIDENCE, MEAN_EVIDENCE = 0.2, 0.4

SETTING = "the app's mirror mode was probably changed"


@dataclass(frozen=True)
class _Part:
    """Frames whose eyes were found: what they look like (N, 1120), and their labels' yaw (N,)."""

    eyes: NDArray[np.float64]
    yaw_deg: NDArray[np.float64]


def check_mirrored(looks: Sequence[FrameLook], geometry: ScreenGeometry) -> list[Finding]:
    """Frames of one session that are mirrored against what the app saw, or against the others."""
    return [*against_the_app(looks), *against_each_other(looks, geometry)]


def against_the_app(looks: Sequence[FrameLook]) -> list[Finding]:
    """Frames that the app saw the other way round, by the eyes that it recorded."""
    votes = {look.name: _saw_mirrored(look) for look in looks}
    names = tuple(name for name, vote in votes.items() if vote)
    if len(names) < LEAST_VOTES:
        return []
    fine = sum(vote is False for vote in votes.values())
    more = f", and as it is in {fine} others" if fine else ""
    return [
        Finding(
            Severity.ERROR,
            "mirror",
            "the eyes that the app recorded lie where they are in the mirrored picture" + more,
            "the frames were mirrored after the capture: import them as the app wrote them",
            frames=names,
        )
    ]


def _saw_mirrored(look: FrameLook) -> bool | None:
    """Whether the app's eyes lie at width - x of those found; None where that cannot be told."""
    if look.frame.eyes_px is None or look.eyes_px is None:
        return None
    app, found = np.array(look.frame.eyes_px), np.array(look.eyes_px)
    between_px = float(np.hypot(*(found[1] - found[0])))
    (app_x, app_y), (x, y) = app.mean(axis=0), found.mean(axis=0)
    if abs(app_y - y) > NEAR_SHARE * between_px:
        return None
    as_it_is, mirrored = (abs(app_x - at) / between_px for at in (x, look.width_px - x))
    if min(as_it_is, mirrored) > NEAR_SHARE or max(as_it_is, mirrored) < FAR_SHARE:
        return None
    return bool(mirrored < as_it_is)


def against_each_other(looks: Sequence[FrameLook], geometry: ScreenGeometry) -> list[Finding]:
    """The smaller part of a session, where it is mirrored against the larger one."""
    known = [look for look in looks if look.eyes is not None and look.small is not None]
    other = smaller_part([look.small for look in known if look.small is not None])
    if other.sum() < LEAST_FRAMES:
        return []
    part, rest = (
        _part([look for look, one in zip(known, other, strict=True) if one == wanted], geometry)
        for wanted in (True, False)
    )
    if not _is_mirrored(part, rest):
        return []
    names = tuple(look.name for look, one in zip(known, other, strict=True) if one)
    return [
        Finding(
            Severity.ERROR,
            "mirror",
            f"{len(names)} of {len(known)} frames are mirrored against the others of the session",
            f"{SETTING} in between; leave them out, or capture them again",
            frames=names,
        )
    ]


def mirrored_part(
    frames: Sequence[Frame], geometry: ScreenGeometry, settings: PrepareParams
) -> list[Finding]:
    """`against_each_other` for frames that nothing looked at yet, as cheaply as that can be.

    The frames' small pictures alone tell whether there is anything to look at, nearly always not.
    """
    if smaller_part([_thumbnail(frame) for frame in frames]).sum() < LEAST_FRAMES:
        return []
    eyes = load_eye_finder()
    finder = FaceFinder(eyes.detector, None, settings.min_score)
    examiner = Examiner(finder, eyes, settings.margin)
    looks = [examiner.look(frame) for frame in bar(frames, "checking for mirrored frames")]
    return against_each_other(looks, geometry)


def _thumbnail(frame: Frame) -> NDArray[np.uint8]:
    """The frame in grey, uint8 (90, 160), decoded at about an eighth of its size."""
    try:
        with Image.open(frame.image, formats=["JPEG"]) as image:
            image.draft("L", SMALL_PX)
            return np.asarray(image.convert("L").resize(SMALL_PX), np.uint8)
    except OSError:  # gone since it was checked
        return np.zeros(SMALL_PX[::-1], np.uint8)


def smaller_part(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.bool_]:
    """Which pictures (h, w) look like the others mirrored: the smaller group (N,), often none.

    Each pair is more alike as it is, or with one of the two mirrored; the leading eigenvector of
    these differences sets the two kinds apart. Of groups of one size the later one is named.
    """
    if len(pictures) < 2 * LEAST_FRAMES:
        return np.zeros(len(pictures), bool)
    plain, mirrored = (_unit_rows(stack) for stack in _both_ways(np.stack(pictures)))
    crossed = plain @ mirrored.T
    differences = plain @ plain.T - (crossed + crossed.T) / 2
    np.fill_diagonal(differences, 0.0)
    leading = np.linalg.eigh(differences)[1][:, -1]
    group = leading > 0
    size = int(group.sum())
    if 2 * size > len(group) or (2 * size == len(group) and group[0]):
        group = ~group
    return np.asarray(group, bool)


def _both_ways(pictures: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return pictures, pictures[:, :, ::-1]


def _unit_rows(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    rows = pictures.reshape(len(pictures), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6), np.float32)


def between_sessions(
    sessions: Sequence[tuple[str, Sequence[FrameLook], ScreenGeometry]],
) -> list[Finding]:
    """Sessions (id, looks, screen) that are mirrored against one before them."""
    findings = []
    before: list[tuple[str, _Part]] = []
    for name, looks, geometry in sessions:
        part = _part(looks, geometry)
        other = next((other for other, known in before if _is_mirrored(known, part)), None)
        before.append((name, part))
        if other is not None:
            what = f"its frames are mirrored against those of {other}"
            advice = f"{SETTING}; name one of the two in params.yaml, or capture one again"
            findings.append(Finding(Severity.ERROR, "mirror", what, advice, session=name))
    return findings


def _part(looks: Sequence[FrameLook], geometry: ScreenGeometry) -> _Part:
    known = [look for look in looks if look.eyes is not None]
    if not known:
        return _Part(np.zeros((0, 1)), np.zeros(0))
    rows = np.stack([look.eyes for look in known if look.eyes is not None]).astype(np.float64)
    return _Part(rows, geometry.to_degrees(points_px([look.frame for look in known]))[:, 0])


def _is_mirrored(one: _Part, other: _Part) -> bool:
    if min(len(one.yaw_deg), len(other.yaw_deg)) < LEAST_FRAMES:
        return False
    evidence = [_evidence(*pair) for pair in itertools.permutations((one, other))]
    return min(evidence) > LEAST_EVIDENCE and float(np.mean(evidence)) > MEAN_EVIDENCE


def _evidence(known: _Part, asked: _Part) -> float:
    """How much better a fit to `known` predicts the yaw of `asked` from mirrored eyes, -1 … 1."""
    mean = known.eyes.mean(axis=0)
    rows = known.eyes - mean
    kernel = rows @ rows.T
    energy = max(float(np.trace(kernel)) / len(kernel), 1e-12)
    yaw = known.yaw_deg - known.yaw_deg.mean()
    weights = rows.T @ np.linalg.solve(kernel / energy + PENALTY * np.eye(len(kernel)), yaw)
    as_they_are, mirrored = (
        _correlation((eyes - mean) @ weights, asked.yaw_deg)
        for eyes in (asked.eyes, _mirrored(asked.eyes))
    )
    return (mirrored - as_they_are) / 2


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / size if size > 1e-9 else 0.0


def _mirrored(eyes: NDArray[np.float64]) -> NDArray[np.float64]:
    """What `eye_look` makes of the mirrored frame: the eyes change places, each is mirrored."""
    width, height = LOOK_PX
    both = eyes.reshape(len(eyes), 2, height, width)
    return both[:, ::-1, :, ::-1].reshape(len(eyes), -1)
