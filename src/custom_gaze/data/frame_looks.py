"""One look at each frame of a session, and what it tells of the frames: closed eyes, duplicates.

`prepare` has each frame looked at while it is decoded; `doctor` does the same before anything runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.data.sessions import Frame, FrameError, is_turned, load_frame
from custom_gaze.data.splits import number_targets
from custom_gaze.faces.crops import Box, gaze_crop_box, resize
from custom_gaze.faces.eye_points import EyeFinder, Point
from custom_gaze.faces.finder import FaceFinder, FoundFace

# An open eye has upright edges, iris against white; a closed one has lids and lashes that lie.
# The threshold was chosen on the simulated persons 2000 to 2011 (kept for choosing such things) and
# measured on others; `closed_eyes` has the figures.
PATCH_PX = (64, 48)  # width, height of the patch around an eye
PATCH_SHARE = 0.56  # of the distance between the eyes that its width spans
PATCH_INSIDE = (slice(8, 40), slice(8, 56))  # rows and columns looked at: no spectacle frames
BLUR_SIGMA_PX = 1.5
LOOK_PX = (28, 20)  # width, height of a patch as `eye_look` keeps it
CLOSED_BELOW = 0.65  # of the session's median
DARK = 4.0  # grey levels added before the logarithm, so that noise in black does not count
LEAST_FRAMES = 5  # for a median to compare with

SMALL_PX = (160, 90)  # width, height at which frames are compared, in 16 x 10 blocks
BLOCKS = (10, 16)  # rows, columns
SAME_BELOW = 3.0  # grey levels, mean difference of the block that differs most
SAME_EYES_BELOW = 0.17  # root mean square difference of `eye_look`, where both frames have one
NEIGHBOURS = 50  # earlier frames that each one is compared with


@dataclass(frozen=True)
class FrameLook:
    """What one look at a frame kept, a few kilobytes of it.

    `face` is None where the frame cannot be used; `reason` says why. `cut_share` is how much of
    the crop's side falls outside the frame at worst, `cut_edges` where. `openness` is a measure of
    the eyes with a unit of its own, None where no eyes were found. `small` is the frame in grey,
    uint8 (90, 160); `eyes` what the eyes look like, float32 (1120,), see `eye_look`; `eyes_px`
    where they are in the frame of `width_px`, the picture's left one first.
    """

    frame: Frame
    face: FoundFace | None
    reason: str = ""
    cut_share: float = 0.0
    cut_edges: tuple[str, ...] = ()
    openness: float | None = None
    small: NDArray[np.uint8] | None = None
    eyes: NDArray[np.float32] | None = None
    eyes_px: tuple[Point, Point] | None = None
    width_px: int = 0
    turned: bool = False  # asks to be shown turned, see sessions.is_turned

    @property
    def name(self) -> str:
        """The image's name."""
        return self.frame.image.name


@dataclass(frozen=True)
class Examiner:
    """What it takes to look at a frame."""

    finder: FaceFinder
    eyes: EyeFinder
    margin: float

    def look(self, frame: Frame) -> FrameLook:
        """Look at one frame; one that cannot be used is no error here."""
        turned = is_turned(frame.image)
        try:
            pixels = load_frame(frame.image)
            face = self.finder.find(pixels)
            height_px, width_px = pixels.shape[:2]
            gaze_crop_box(face.box, width_px, height_px, self.margin)  # raises where there is none
        except FrameError as error:
            return FrameLook(frame, None, error.reason, turned=turned)
        except InputError as error:
            return FrameLook(frame, None, str(error), turned=turned)
        return replace(self.seen(frame, pixels, face), turned=turned)

    def seen(self, frame: Frame, pixels: NDArray[np.uint8], face: FoundFace) -> FrameLook:
        """The look at a frame, uint8 (H, W, 3) RGB, whose face was found in it."""
        height_px, width_px = pixels.shape[:2]
        cut_share, cut_edges = cut_off(face.box, width_px, height_px, self.margin)
        found = face.eyes or self.eyes.find(pixels, face.detected)
        patches = [eye_patch(pixels, eye, found) for eye in found] if found else []
        return FrameLook(
            frame,
            face,
            cut_share=cut_share,
            cut_edges=cut_edges,
            openness=eye_openness(patches) if found else None,
            small=cv2.cvtColor(resize(pixels, *SMALL_PX), cv2.COLOR_RGB2GRAY).astype(np.uint8),
            eyes=eye_look(patches) if found else None,
            eyes_px=found,
            width_px=width_px,
        )


def cut_off(
    face: Box, width_px: int, height_px: int, margin: float
) -> tuple[float, tuple[str, ...]]:
    """How much of the crop's side lies outside the frame, and beyond which of its edges."""
    x1, y1, x2, y2 = face
    side_px = margin * max(x2 - x1, y2 - y1)
    left, top = (x1 + x2 - side_px) / 2, (y1 + y2 - side_px) / 2
    outside = {
        "left": -left,
        "top": -top,
        "right": left + side_px - width_px,
        "bottom": top + side_px - height_px,
    }
    beyond = {edge: over / side_px for edge, over in outside.items() if over > 0}
    across = beyond.get("left", 0.0) + beyond.get("right", 0.0)
    down = beyond.get("top", 0.0) + beyond.get("bottom", 0.0)
    return max(across, down), tuple(beyond)


def eye_patch(frame: NDArray[np.uint8], eye: Point, eyes: tuple[Point, Point]) -> NDArray[np.uint8]:
    """The patch around one eye, turned so that the eyes lie level: uint8 (48, 64, 3) RGB."""
    (left_x, left_y), (right_x, right_y) = eyes
    along = np.array([right_x - left_x, right_y - left_y]) * PATCH_SHARE / PATCH_PX[0]
    down = np.array([-along[1], along[0]])
    corner = np.array(eye) - along * PATCH_PX[0] / 2 - down * PATCH_PX[1] / 2
    to_frame = np.stack([along, down, corner], axis=1)  # (2, 3): patch pixels -> frame pixels
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(frame, to_frame, PATCH_PX, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(patch, np.uint8)


def eye_openness(patches: Sequence[NDArray[np.uint8]]) -> float:
    """Mean strength of the upright edges in both eyes' patches (48, 64, 3), in logarithmic grey.

    Open eyes have them between iris and white; over a closed eye there is a lid, and lashes that
    lie. The logarithm makes it blind to how bright the light is.
    """
    return float(np.mean([np.abs(np.diff(_smooth_log(p), axis=1)).mean() for p in patches]))


def eye_look(patches: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Both eyes' patches (48, 64, 3) small, in logarithmic grey, mean 0 and deviation 1: (1120,).

    Enough to tell where a person looks once a few dozen frames of that person say what it means.
    """
    rows = []
    for patch in patches:
        small = cv2.resize(_smooth_log(patch), LOOK_PX, interpolation=cv2.INTER_AREA)
        rows.append(((small - small.mean()) / (small.std() + 1e-3)).ravel())
    return np.concatenate(rows).astype(np.float32)


def _smooth_log(patch: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY).astype(np.float32)
    smooth = cv2.GaussianBlur(grey, (0, 0), BLUR_SIGMA_PX)[PATCH_INSIDE]
    return np.asarray(np.log(smooth + DARK), np.float32)


def closed_eyes(looks: Sequence[FrameLook]) -> list[tuple[FrameLook, float]]:
    """The frames whose eyes look closed, with their openness over the session's median.

    The median is the person's own: eyes differ more between people than between a narrowed eye
    and an open one. On 24 simulated persons other than those the threshold was chosen on, with 2 %
    of blinks (lids down by 55 to 100 %), it found 18 of 18 in 1,200 frames and named 2 others, one
    with the lids nearly down and one blurred by motion. About the eyes that a face mesh finds, the
    measure tells them apart a little better: on five persons, lids down by 55 % left 0.41 to 0.50
    of the median, about CenterFace's eyes 0.45 to 0.56. The distance of the mesh's own lids over
    its eyes' width left 0.72 to 0.80 there, too near an open eye's 0.89.
    """
    known = [(look, look.openness) for look in looks if look.openness is not None]
    if len(known) < LEAST_FRAMES:
        return []
    median = float(np.median([openness for _, openness in known]))
    return [
        (look, openness / median) for look, openness in known if openness < CLOSED_BELOW * median
    ]


@dataclass(frozen=True)
class Duplicate:
    """Two frames that show the same picture, and whether they have the same target."""

    first: FrameLook
    second: FrameLook
    same_target: bool


def duplicates(looks: Sequence[FrameLook], same_target_px: float) -> list[Duplicate]:
    """The frames that show what an earlier one does, `looks` in the order of capture; each with
    the last such one."""
    found = []
    usable = [look for look in looks if look.small is not None]
    targets = number_targets([look.frame for look in usable], same_target_px)
    for number, look in enumerate(usable):
        earlier = usable[max(0, number - NEIGHBOURS) : number]
        behind = (n for n in range(len(earlier)) if _same_picture(look, earlier[-1 - n]))
        back = next(behind, None)
        if back is not None:
            same = bool(targets[number] == targets[number - 1 - back])
            found.append(Duplicate(earlier[-1 - back], look, same))
    return found


def _same_picture(one: FrameLook, other: FrameLook) -> bool:
    """Whether two frames are alike to within noise, in every block of them and in the eyes.

    Another gaze changes little of the whole frame, but much in the block around an eye. Simulated
    frames of one person differ there by at least 4.7 grey levels, a frame written anew with other
    noise, brightness (1 %) and JPEG quality by at most 2.2. Real faces that fill a fifth of the
    frame and keep still do not: of 1,080 frames of seven people 226 were named. Their eyes tell
    most apart: 17 are named with them looked at too, while of 80 frames written anew 65 are still
    found.
    """
    assert one.small is not None
    assert other.small is not None
    difference = np.abs(one.small.astype(np.int16) - other.small)
    rows, columns = BLOCKS
    height, width = difference.shape
    blocks = difference.reshape(rows, height // rows, columns, width // columns)
    if blocks.mean(axis=(1, 3)).max() >= SAME_BELOW:
        return False
    if one.eyes is None or other.eyes is None:
        return True
    return float(np.sqrt(np.mean((one.eyes - other.eyes) ** 2))) < SAME_EYES_BELOW
