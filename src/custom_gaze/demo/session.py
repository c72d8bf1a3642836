"""A simulated calibration session, written in exactly the format the app captures."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.console import bar
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import whole_folder
from custom_gaze.data.sessions import DRAWN_GAZE
from custom_gaze.demo.seeds import STREAM_TARGETS, check_person_seed, check_session_seed, stream
from custom_gaze.demo.world.camera import as_jpeg
from custom_gaze.demo.world.conditions import Conditions, Moment, draw_conditions, draw_moment
from custom_gaze.demo.world.person import Person, draw_person
from custom_gaze.demo.world.render import Scene
from custom_gaze.geometry import ScreenGeometry

MIN_TARGETS, MAX_FRAMES = 4, 2_000
EDGE_SHARE = 0.03  # of the screen, between its edge and the outermost targets
FIRST_DAY_MS = 1_767_600_000_000  # 5 January 2026, 8:00 UTC
DAY_MS = 86_400_000


@dataclass(frozen=True)
class DemoFrame:
    """One frame to be drawn: its time, its target in screen pixels, and the moment itself."""

    timestamp_ms: int
    target_px: tuple[float, float]
    moment: Moment


def write_session(
    folder: Path,
    *,
    person: int,
    day: int = 1,
    seed: int = 1,
    grid: tuple[int, int] = (5, 5),
    frames_per_target: int = 2,
    geometry: ScreenGeometry | None = None,
    purpose: str = "demo",
) -> int:
    """Write a session of `grid` (columns, rows) targets to `folder`; returns the frames' number.

    The files are `img_<unix ms>.jpg` and `.json` as the app writes them. `inference` holds the
    eyes' true places in the frame, the angles in it are 0: no network of the app has looked, which
    tells these frames from real ones. The same arguments write the same bytes. The label is the
    target; the eyes scatter about it by the person's fixation noise (0.3 to 0.5 degrees), and in a
    few frames the person blinks.

    Raises:
        InputError: a seed, the day, the grid or the number of frames is out of range, or the
            folder exists.
        CustomGazeError: the folder cannot be written; nothing is left of it.
    """
    geometry = geometry or ScreenGeometry()
    check_arguments(person, day, seed, grid, frames_per_target, purpose)
    if folder.exists():
        raise InputError(f"{folder}: exists already; choose another session id or remove it")
    who = draw_person(person)
    conditions = draw_conditions(who, day, seed)
    frames = list(plan_frames(who, conditions, day, seed, grid, frames_per_target, geometry))
    with whole_folder(folder) as temporary:
        scene = Scene(who, conditions)
        for frame in bar(frames, f"drawing {folder.name}"):
            _write_frame(temporary, scene, frame)
    return len(frames)


def check_arguments(
    person: int,
    day: int,
    seed: int,
    grid: tuple[int, int],
    frames_per_target: int,
    purpose: str = "demo",
) -> None:
    """What `write_session` checks before anything else.

    Raises:
        InputError: a seed, the day, the grid or the number of frames is out of range.
    """
    check_person_seed(person, purpose)
    check_session_seed(seed, day)
    targets = grid[0] * grid[1]
    if min(grid) < 1 or targets < MIN_TARGETS:
        raise InputError(
            f"grid {grid[0]}x{grid[1]} has fewer than {MIN_TARGETS} targets; "
            "9 (3x3) is the least that calibrates, 25 (5x5) is good"
        )
    if frames_per_target < 1 or targets * frames_per_target > MAX_FRAMES:
        raise InputError(
            f"{frames_per_target} frames for each of {targets} targets: "
            f"a session has at least one for each and at most {MAX_FRAMES} in all"
        )


def parse_grid(text: str) -> tuple[int, int]:
    """'5x4' → (5, 4), columns and rows.

    Raises:
        InputError: it is not two whole numbers with an x between them.
    """
    columns, _, rows = text.partition("x")
    if not (columns.isdecimal() and rows.isdecimal()):
        raise InputError(f"grid {text!r} is not of the form COLSxROWS, for example 5x5")
    return int(columns), int(rows)


def grid_targets(grid: tuple[int, int], geometry: ScreenGeometry) -> NDArray[np.float64]:
    """Targets (columns * rows, 2) in screen pixels, row by row from near corner to near corner."""
    width_px, height_px = 2 * geometry.center_x_px, 2 * geometry.center_y_px
    share = [
        np.linspace(EDGE_SHARE, 1 - EDGE_SHARE, count) if count > 1 else np.array([0.5])
        for count in grid
    ]
    x, y = np.meshgrid(share[0] * width_px, share[1] * height_px)
    return np.stack([x.ravel(), y.ravel()], -1)


def plan_frames(
    person: Person,
    conditions: Conditions,
    day: int,
    seed: int,
    grid: tuple[int, int],
    frames_per_target: int,
    geometry: ScreenGeometry,
) -> Iterator[DemoFrame]:
    """The session's frames in the order of capture: targets shuffled, one after the other.

    A frame's moment has a random stream of its own, named by its place in the grid: it does not
    depend on how many frames are drawn.
    """
    targets_px = grid_targets(grid, geometry)
    rng = stream(STREAM_TARGETS, person.seed, day, seed)
    time_ms = FIRST_DAY_MS + (day - 1) * DAY_MS + int(rng.integers(10 * 3_600_000))
    for index in rng.permutation(len(targets_px)):
        time_ms += int(rng.integers(900, 2_500))  # to find the next target
        target_px = targets_px[index]
        yaw_deg, pitch_deg = geometry.to_degrees(target_px)
        for repeat in range(frames_per_target):
            time_ms += int(rng.integers(250, 700))
            words = (person.seed, day, seed, int(index), repeat)
            moment = draw_moment(person, conditions, (float(yaw_deg), float(pitch_deg)), words)
            yield DemoFrame(time_ms, (float(target_px[0]), float(target_px[1])), moment)


def _write_frame(folder: Path, scene: Scene, frame: DemoFrame) -> None:
    content = as_jpeg(scene.frame(frame.moment), scene.conditions.jpeg_quality)
    stem = f"img_{frame.timestamp_ms}"
    (folder / f"{stem}.jpg").write_bytes(content)
    (folder / f"{stem}.json").write_text(
        json.dumps(_record(scene, frame), indent=2) + "\n", encoding="utf-8"
    )


def _record(scene: Scene, frame: DemoFrame) -> dict[str, Any]:
    """The frame's JSON object, with every key that the app writes."""
    eyes = scene.eye_points_px(frame.moment.pose, scene.framing(frame.moment))
    left, right = ({"x": round(float(x), 2), "y": round(float(y), 2), "z": 0.0} for x, y in eyes)
    gaze = {
        "left_eye": left,
        "right_eye": right,
        **DRAWN_GAZE,
        "landmarks": None,
    }
    return {
        "timestamp": frame.timestamp_ms,
        "screen_x": round(frame.target_px[0], 4),
        "screen_y": round(frame.target_px[1], 4),
        "inference": {"Gaze": gaze},
        "moondream_result": None,
    }
