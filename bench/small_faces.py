"""Small faces: whether they are found, how still their crops are, and what that costs in degrees.

    python bench/small_faces.py [--mesh FILE] [--detector FILE] [--persons 4]
    python bench/small_faces.py [--mesh FILE] [--detector FILE] --video FILE [FILE …]

Persons of the bench's range sit in a frame of 640×480 pixels so far away that the longer side of
their face has so many pixels; noise, motion blur and JPEG are made at that size, as a webcam's. A
still head is one pose in several frames that differ by noise, fixation, blinks and a known shift of
less than a pixel, which is taken off again. A linear probe is cross-validated over targets on crops
of the same frames by three boxes: the face's true place, the same moved by what was measured on
still heads, and what was found.

In a video the slow motion of the head is taken off by a running median; what is left is jitter and
the head's quick motion together.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from custom_gaze.calibration import policy
from custom_gaze.calibration.base_features import BaseFeatures, angles_of
from custom_gaze.calibration.candidates import closed_held_out
from custom_gaze.calibration.cross_validation import folds_by_target
from custom_gaze.common.console import aligned
from custom_gaze.common.errors import InputError
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.params import Params
from custom_gaze.config.specification import PREPROCESSING
from custom_gaze.data.adapters.video import frames_of
from custom_gaze.demo.seeds import check_person_seed
from custom_gaze.demo.session import DemoFrame, plan_frames
from custom_gaze.demo.world.arrays import Image, floats, image
from custom_gaze.demo.world.camera import as_jpeg, develop
from custom_gaze.demo.world.conditions import Moment, draw_conditions
from custom_gaze.demo.world.head import turned
from custom_gaze.demo.world.person import draw_person
from custom_gaze.demo.world.render import FACE_BOX_MM, Framing, Scene, scale_of_face
from custom_gaze.demo.world.skin import BUST_MM
from custom_gaze.faces.crops import Box, gaze_crop, gaze_crop_box, normalise
from custom_gaze.faces.detectors import load_detector
from custom_gaze.faces.eye_points import load_eye_finder
from custom_gaze.faces.finder import FaceFinder, load_mesh
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.weights.embedded import load_embedded

SIZES_PX = (60, 80, 100, 120, 240)  # of the longer side of a face's box
FRAME_PX = (640, 480)
GRID = (8, 5)  # targets, one frame of each
STILL_HEADS, STILL_FRAMES = (3, 2), 8  # poses, as a grid of targets, and frames of each
VIDEO_FRAMES = 300
RUNNING_MEDIAN = 9  # frames of a video; odd
MARGIN, SIDE_PX = PREPROCESSING.margin, PREPROCESSING.size_px
SEED = 1
HEADER = (
    "found",
    "its side",
    "box: centre",
    "side",
    "crop: centre",
    "side",
    "true box",
    "jittered",
    "found box",
)

Squares = NDArray[np.float64]  # (..., 3): centre x, centre y, side; NaN where no face was found


def finders(detector: Path | None, mesh: Path | None) -> dict[str, FaceFinder]:
    """By name: the embedded detector and the one given, each alone and with the mesh on it."""
    min_score = Params().prepare.min_score
    detectors = {"CenterFace": load_eye_finder().detector}  # the same file as `embedded_detector`
    if detector is not None:
        detectors[detector.stem] = load_detector(detector)
    found = {name: FaceFinder(each, None, min_score) for name, each in detectors.items()}
    if mesh is not None:
        on_it = load_mesh(mesh)
        found |= {f"{name}, mesh": replace(each, mesh=on_it) for name, each in found.items()}
    return found


def square_of(box: Box) -> Squares:
    """A box as (3,)."""
    x1, y1, x2, y2 = box
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1)])


def box_of(square: Squares) -> Box:
    """(3,) as a box."""
    x, y, half = float(square[0]), float(square[1]), float(square[2]) / 2
    return x - half, y - half, x + half, y + half


def find(finder: FaceFinder, frame: Image) -> Squares:
    """The face in a frame (3,), NaN where there is none for the product."""
    try:
        return square_of(finder.find(frame).box)
    except InputError:
        return np.full(3, np.nan)


def crops_of(squares: Squares, size_px: tuple[int, int] = FRAME_PX) -> Squares:
    """What is cut from a frame (width, height) about faces (..., 3), in whole pixels."""
    cut = np.full(squares.shape, np.nan)
    for index in np.argwhere(np.isfinite(squares).all(axis=-1)):
        x1, y1, x2, y2 = gaze_crop_box(box_of(squares[tuple(index)]), *size_px, MARGIN)
        cut[tuple(index)] = square_of((x1, y1, x2, y2))
    return cut


def rms_change(squares: Squares) -> Squares:
    """(3,): root mean square of the change from one frame to the next, over heads (heads, frames,
    3); pairs of which one was not found do not count."""
    changes = np.diff(squares, axis=1).reshape(-1, 3)
    changes = changes[np.isfinite(changes).all(axis=1)]
    return np.sqrt((changes**2).mean(axis=0)) if len(changes) else np.full(3, np.nan)


def running_median(squares: Squares) -> Squares:
    """Of a video's frames (N, 3), over `RUNNING_MEDIAN` of them; shorter by the window's ends."""
    windows = np.lib.stride_tricks.sliding_window_view(squares, RUNNING_MEDIAN, axis=0)
    return np.asarray(np.median(windows, axis=-1))


def jitter_of(found: Squares, moves: Squares, size_px: tuple[int, int]) -> list[float]:
    """Jitter of the box as it was found and of the crop in whole pixels, centre and side of each,
    in pixels of the network's input; `found` (heads, frames, 3), less `moves` of the head."""
    crops = crops_of(found, size_px)
    unit = SIDE_PX / float(np.nanmedian(crops[..., 2]))
    box = rms_change(found - moves) * [1, 1, MARGIN]
    crop = rms_change(crops - moves * [1, 1, MARGIN])
    return [unit * float(value) for x, y, side in (box, crop) for value in (np.hypot(x, y), side)]


@dataclass(frozen=True)
class Shots:
    """Frames of a person: N images (H, W, 3), the faces' true places (N, 3), the labels (N, 2)."""

    frames: tuple[Image, ...]
    faces: Squares
    true_deg: NDArray[np.float64]


class Webcam:
    """A person before a webcam of 640×480 pixels, the face `face_px` large."""

    def __init__(self, seed: int, face_px: float) -> None:
        self.person = draw_person(check_person_seed(seed, "bench"))
        self.conditions = draw_conditions(self.person, 1, 1)
        self.scene = Scene(self.person, self.conditions, scale_of_face(face_px))
        self.face_px = face_px

    def session(self) -> Shots:
        """A frame of each target."""
        return self._shots(self._planned(1, GRID, 1))

    def still(self) -> Shots:
        """Still heads, one after the other, each `STILL_FRAMES` times."""
        planned, stills = self._planned(2, STILL_HEADS, STILL_FRAMES), []
        for start in range(0, len(planned), STILL_FRAMES):
            first = planned[start].moment
            for frame in planned[start : start + STILL_FRAMES]:
                still = replace(
                    frame.moment, pose=first.pose, shift_mm=first.shift_mm, motion_px=(0.0, 0.0)
                )
                stills.append(replace(frame, moment=still))
        shifts = np.random.default_rng(SEED).uniform(-0.5, 0.5, (len(stills), 2))
        return self._shots(stills, shifts)

    def _planned(self, seed: int, grid: tuple[int, int], each: int) -> list[DemoFrame]:
        known = self.person, self.conditions, 1, seed, grid, each, ScreenGeometry()
        return list(plan_frames(*known))

    def _shots(
        self, planned: Sequence[DemoFrame], shifts: NDArray[np.float64] | None = None
    ) -> Shots:
        frames, faces = [], []
        for index, each in enumerate(planned):
            framing = self._framing(each.moment, (0.0, 0.0) if shifts is None else shifts[index])
            frames.append(self._photo(each.moment, framing))
            faces.append(self._face(each.moment, framing))
        targets_px = np.array([each.target_px for each in planned])
        return Shots(tuple(frames), np.array(faces), ScreenGeometry().to_degrees(targets_px))

    def _framing(self, moment: Moment, shift: Sequence[float] | NDArray[np.float64]) -> Framing:
        """The seat of the session; who is far away sits low enough that the picture, which ends at
        the waist, reaches the frame's lower edge."""
        scale, seat = self.scene.scale, self.conditions.seat
        x, y = (seat[i] * FRAME_PX[i] + moment.shift_mm[i] * scale for i in (0, 1))
        y = max(y, FRAME_PX[1] - BUST_MM[1][1] * scale)
        return Framing(FRAME_PX, (x + float(shift[0]), y + float(shift[1])))

    def _photo(self, moment: Moment, framing: Framing) -> Image:
        raw = self.scene.image(moment.gaze_deg, moment.pose, framing, moment.closed)
        smaller = self.scene.scale / self.conditions.scale  # than in the frame of 1280 pixels
        motion_px = moment.motion_px[0] * smaller, moment.motion_px[1] * smaller
        rng = np.random.default_rng(moment.noise_seed)
        photo = develop(raw, self.conditions, rng, motion_px)
        content = np.frombuffer(as_jpeg(photo, self.conditions.jpeg_quality), np.uint8)
        return image(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB))

    def _face(self, moment: Moment, framing: Framing) -> Squares:
        middle_mm = floats(np.mean(FACE_BOX_MM, axis=0))[None, None]
        x, y = turned(middle_mm, moment.pose)[0][0, 0] * self.scene.scale + framing.center_px
        return np.array([x, y, self.face_px])


class Probe:
    """The embedded base's trunk, and linear probes on it."""

    def __init__(self) -> None:
        base = load_embedded()
        self.network, self.heads = base.network("layer3"), base.heads

    def error_deg(self, shots: Shots, faces: Squares, among: NDArray[np.intp]) -> float:
        """Mean error of probes on targets that they have not seen, of crops about `faces`."""
        rows = []
        for i in among:
            crop = gaze_crop(shots.frames[i], box_of(faces[i]), PREPROCESSING)
            with torch.inference_mode():
                values = torch.from_numpy(normalise(crop[None]))
                rows.append(self.network.features(self.network.frozen(values)))
        features = torch.cat(rows)
        known = features.numpy().astype(np.float64), angles_of(features, self.heads)
        frames = BaseFeatures(*known, shots.true_deg[among], among.astype(np.int64))
        folds = folds_by_target(frames.targets, SEED)
        held_out = closed_held_out(frames, folds, SEED)
        return float(held_out[Candidate.PROBE].errors_deg().mean())


def measured(finder: FaceFinder, probe: Probe, still: Shots, session: Shots) -> list[float]:
    """The numbers of HEADER."""
    heads = np.array([find(finder, frame) for frame in still.frames])
    found = np.array([find(finder, frame) for frame in session.frames])
    in_rows = (-1, STILL_FRAMES, 3)
    moves = still.faces * [1, 1, 0]
    jitter = jitter_of(heads.reshape(in_rows), moves.reshape(in_rows), FRAME_PX)
    everything = np.concatenate([heads, found])
    share = float(np.isfinite(everything[:, 2]).mean())
    numbers = [100 * share, float(np.nanmedian(everything[:, 2])), *jitter]
    among = np.flatnonzero(np.isfinite(found[:, 2]))
    if len(among) < 2 * policy.MIN_TARGETS:  # half of them are enough in every fold
        return [*numbers, *[float("nan")] * 3]
    steady = session.faces + np.median((found - session.faces)[among], axis=0)
    # a change between two frames has twice the variance of one frame's place
    spread = rms_change((heads - moves).reshape(in_rows)) / np.sqrt(2)
    noise = np.random.default_rng(SEED).standard_normal(steady.shape)
    ways = (steady, steady + spread * noise, found)
    return [*numbers, *(probe.error_deg(session, faces, among) for faces in ways)]


def of_persons(by_name: Mapping[str, FaceFinder], count: int) -> None:
    """Measure the bench's first persons and print each one's table, then their mean."""
    probe, tables = Probe(), []
    rows = [(size, name) for size in SIZES_PX for name in by_name]
    for seed in range(1000, 1000 + count):
        numbers = []
        for size in SIZES_PX:
            webcam = Webcam(seed, size)
            still, session = webcam.still(), webcam.session()
            numbers += [measured(each, probe, still, session) for each in by_name.values()]
        tables.append(numbers)
        print(f"person {seed}", *_lines(rows, numbers), sep="\n", flush=True)
    print(f"mean of {count}", *_lines(rows, np.mean(tables, axis=0).tolist()), sep="\n")


def _lines(rows: Sequence[tuple[int, str]], numbers: Sequence[Sequence[float]]) -> list[str]:
    cells = [
        [f"{size}", name, *(f"{number:.2f}" for number in each)]
        for (size, name), each in zip(rows, numbers, strict=True)
    ]
    return aligned(["face", "found by", *HEADER], cells).splitlines()


def of_video(by_name: Mapping[str, FaceFinder], path: Path) -> list[list[str]]:
    """Rows of a video's first frames; a frame that repeats the one before it is left out."""
    frames: list[Image] = []
    for _, frame in frames_of(path, range(VIDEO_FRAMES)):
        if not (frames and np.array_equal(frame, frames[-1])):
            frames.append(frame)
    if len(frames) <= RUNNING_MEDIAN:
        raise InputError(f"{path}: has {len(frames)} frames, too few to measure on")
    size_px = frames[0].shape[1], frames[0].shape[0]
    rows = []
    for name, finder in by_name.items():
        found = np.array([find(finder, frame) for frame in frames])
        inside = found[RUNNING_MEDIAN // 2 : -(RUNNING_MEDIAN // 2)]
        jitter = jitter_of(inside[None], running_median(found)[None], size_px)
        share = 100 * float(np.isfinite(found[:, 2]).mean())
        numbers = (share, float(np.nanmedian(found[:, 2])), *jitter)
        rows.append([name, f"{len(frames)}", *(f"{number:.2f}" for number in numbers)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mesh", type=Path)
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--persons", type=int, default=4)
    parser.add_argument("--video", type=Path, nargs="+", default=[])
    arguments = parser.parse_args()
    by_name = finders(arguments.detector, arguments.mesh)
    for path in arguments.video:
        print(aligned([path.name, "frames", *HEADER[:6]], of_video(by_name, path)), flush=True)
    if not arguments.video:
        of_persons(by_name, arguments.persons)


if __name__ == "__main__":
    main()
