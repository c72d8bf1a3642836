"""data/index.csv: the frames of one run with their split, and their crops as arrays.

A line is a `Sample`, its columns are that class's fields: the session and file of the crop, the
target's angles and pixels, the target's number, which frames of one target share, the side of the
split, and the crop's hash. It is the only thing that train, export and evaluate know of the
dataset, and is written from the sessions that params.yaml names, so crops that an earlier run left
behind are never in it. Beside it, data/index.json keeps the sessions' manifests (the detector, what
was left out) and the index's hash, and data/specification.json has what the sessions agree on: the
screen of the labels and the rule of the crops. Later stages have these from there; params.yaml only
says what the next `prepare` would do.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of
from custom_gaze.common.stage_files import PLAIN_NAME, SHA256, Row, Strict, read_json, read_table
from custom_gaze.common.untrusted import read_file, read_text
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import SESSION_ID, SESSION_ID_RULE
from custom_gaze.config.specification import Specification, specification_of
from custom_gaze.data.prepared import MOST_CROP_BYTES, MOST_DEG, MOST_PX, Hash, Manifest
from custom_gaze.data.splits import SIDES

MOST_TARGETS = 9_999_999
REMEDY = "run `custom-gaze index` again"


@dataclass(frozen=True)
class Sample:
    """One usable frame. Angles in degrees, right and down positive; the target in pixels of the
    screen in data/specification.json, which is the one of the first session."""

    session: str
    filename: str
    yaw_deg: float
    pitch_deg: float
    target_x_px: float
    target_y_px: float
    target: int  # its number in the index: frames with the same one share a target
    split: str  # train, validation, test, cross_session
    crop_sha256: str

    def path(self, paths: Paths) -> Path:
        """Where the frame's crop lies."""
        return paths.dataset / self.session / self.filename


HEADER = [entry.name for entry in fields(Sample)]


class Manifests(Strict):
    """data/index.json."""

    index_sha256: Hash
    manifests: list[Manifest] = Field(min_length=1)


def read_manifests(path: Path) -> list[Manifest]:
    """The prepared sessions' manifests from data/index.json, those trained on first.

    Raises:
        InputError: it is missing or not what `run` wrote.
    """
    return read_json(path, Manifests, REMEDY).manifests


def prepared_by(path: Path, sessions: Sequence[str]) -> list[str]:
    """The versions of the code that prepared some sessions, from data/index.json; mostly one.

    Raises:
        InputError: as `read_manifests`.
    """
    manifests = [entry for entry in read_manifests(path) if entry.session in sessions]
    if not manifests:
        names = ", ".join(sessions)
        raise InputError(f"{path}: has no manifest of {names}; run `custom-gaze index` again")
    return sorted({entry.code for entry in manifests})


def read_specification(path: Path) -> Specification:
    """Read data/specification.json.

    Raises:
        InputError: it is missing or not what `custom-gaze index` wrote.
    """
    text = read_text(path, advice=REMEDY)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{path}: no JSON; {REMEDY}") from None
    return specification_of(content, path, REMEDY)


def read_index(path: Path) -> tuple[Sample, ...]:
    """Read data/index.csv, checked whole.

    Raises:
        InputError: it is missing, anything in it is not what `run` writes, or it is not the one
            that data/index.json, where it is there, was written with; the message names the line
            and the remedy.
    """
    samples = []
    seen: set[str] = set()
    sides: dict[int, str] = {}
    for row in read_table(path, HEADER, REMEDY):
        sample = _sample(row)
        if sample.crop_sha256 in seen:
            raise row.error(f"{sample.filename}, or one with the same content, stands there twice")
        seen.add(sample.crop_sha256)
        if sides.setdefault(sample.target, sample.split) != sample.split:
            raise row.error(f"target {sample.target} is on two sides of the split")
        samples.append(sample)
    # A stage that only depends on the index may run where DVC has brought nothing else.
    written_with = path.with_suffix(".json")
    known = read_json(written_with, Manifests, REMEDY) if written_with.exists() else None
    if known is not None and known.index_sha256 != sha256_of(path):
        raise InputError(f"{path}: is not the one that {written_with} was written with; {REMEDY}")
    return tuple(samples)


def _sample(row: Row) -> Sample:
    """One line of the index."""
    degrees, pixels = (-MOST_DEG, MOST_DEG), (-MOST_PX, MOST_PX)
    return Sample(
        session=row.word("session", SESSION_ID, f"a session id: {SESSION_ID_RULE}"),
        filename=row.word("filename", PLAIN_NAME, "the name of a file in the session's folder"),
        yaw_deg=row.number("yaw_deg", *degrees),
        pitch_deg=row.number("pitch_deg", *degrees),
        target_x_px=row.number("target_x_px", *pixels),
        target_y_px=row.number("target_y_px", *pixels),
        target=row.whole("target", MOST_TARGETS),
        split=row.word("split", SIDES, f"one of {', '.join(SIDES)}"),
        crop_sha256=row.word("crop_sha256", SHA256, "a SHA-256 in hexadecimal digits"),
    )


def of_split(samples: Sequence[Sample], split: str) -> tuple[Sample, ...]:
    """The samples of one side."""
    return tuple(sample for sample in samples if sample.split == split)


def targets_of(samples: Sequence[Sample]) -> NDArray[np.int64]:
    """The numbers (N,) of the frames' targets."""
    return np.array([sample.target for sample in samples], np.int64)


def labels_deg(samples: Sequence[Sample]) -> NDArray[np.float32]:
    """(N, 2) [yaw, pitch] in degrees, float32."""
    return np.array([[s.yaw_deg, s.pitch_deg] for s in samples], np.float32).reshape(-1, 2)


def load_crop(sample: Sample, paths: Paths) -> NDArray[np.uint8]:
    """One crop as uint8 (size, size, 3) RGB.

    Raises:
        InputError: the crop is missing or is not the one the index was written for.
    """
    import cv2

    path = sample.path(paths)
    content = read_file(path, MOST_CROP_BYTES, "run `dvc repro`")
    if hashlib.sha256(content).hexdigest() != sample.crop_sha256:
        raise InputError(f"{path}: not the crop that the index names; run `dvc repro`")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    crop = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if crop is None:
        raise InputError(f"{path}: no image; run `custom-gaze prepare {sample.session}` again")
    return np.asarray(cv2.cvtColor(crop, cv2.COLOR_BGR2RGB), np.uint8)
