"""data/index.csv: the frames of one run with their split, and their crops as arrays.

A line is a `Sample`, its columns are that class's fields: the session and file of the crop, the
target's angles and pixels, the target's number, which frames of one target share, the side of the
split, and the crop's hash. It is the only thing that train, export and evaluate know of the
dataset, and is written from the sessions that params.yaml names, so crops that an earlier run left
behind are never seen. Beside it, data/specification.json has the screen of the labels and the rule
of the crops, on which the sessions agree, and data/index.json keeps their manifests (the detector,
what was left out) and the index's hash.
"""

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of, write_json, write_text
from custom_gaze.common.stage_files import PLAIN_NAME, SHA256, Row, Strict, read_json, read_table
from custom_gaze.common.untrusted import read_file
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import SESSION_ID, SESSION_ID_RULE
from custom_gaze.data.prepared import (
    LABELS_FILE,
    MANIFEST_FILE,
    MOST_DEG,
    MOST_PX,
    Hash,
    Label,
    Manifest,
    read_labels,
    read_manifest,
)
from custom_gaze.data.specification import (
    Specification,
    agreed,
    specification_of,
    write_specification,
)
from custom_gaze.data.splits import (
    CROSS_SESSION,
    TEST,
    TRAIN,
    VALIDATION,
    split_by_target,
    target_groups,
)

SIDES = (TRAIN, VALIDATION, TEST, CROSS_SESSION)
MOST_TARGETS = 9_999_999
MOST_CROP_BYTES = 16 << 20  # of 1024 x 1024 pixels, the largest, 3 MB
SAME_ANGLE_DEG = 1e-6  # between a label and what its target's pixels give


@dataclass(frozen=True)
class Sample:
    """One usable frame. Angles in degrees, right and down positive; the target in pixels."""

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


@dataclass(frozen=True)
class _Frame:
    """A prepared frame that has no number of its target and no side yet."""

    session: str
    label: Label
    crop_sha256: str

    def placed(self, target: int, split: str) -> Sample:
        label = self.label
        angles = label.yaw_deg, label.pitch_deg
        point = label.target_x_px, label.target_y_px
        return Sample(
            self.session, label.filename, *angles, *point, target, split, self.crop_sha256
        )


@dataclass(frozen=True)
class IndexResult:
    """What `custom-gaze index` says it did: frames and targets per split."""

    frames: dict[str, int]
    targets: dict[str, int]


def run(params: Params, paths: Paths) -> IndexResult:
    """Write data/index.csv from the prepared sessions that `params` names.

    Here, and nowhere else, targets get their numbers, from 0: those of the sessions that are
    trained on together, so that a target they share stays on one side of the split, and those of
    each session of evaluate.sessions, after them. Everything that counts or groups targets of an
    indexed frame reads that number.

    Raises:
        InputError: a session is not prepared, its labels cannot be read or name a crop that is
            not there, two sessions were prepared for different screens or crops, or the sessions
            hold too few targets to split.
    """
    named = (*params.sessions, *params.evaluate.sessions)
    prepared = {name: _prepared(name, paths) for name in named}
    manifests = [manifest for _, manifest in prepared.values()]
    specification = agreed([(each.session, _specification(each, paths)) for each in manifests])
    own = [frame for name in params.sessions for frame in prepared[name][0]]
    points = _points(own)
    groups = target_groups(points, params.split.same_target_px)
    sides = split_by_target(points, groups, params.split)
    samples = [
        frame.placed(int(group), side)
        for frame, group, side in zip(own, groups, sides, strict=True)
    ]
    for name in params.evaluate.sessions:
        tested = prepared[name][0]
        first = 1 + max(sample.target for sample in samples)
        groups = first + target_groups(_points(tested), params.split.same_target_px)
        samples += [f.placed(int(g), CROSS_SESSION) for f, g in zip(tested, groups, strict=True)]
    _refuse_shared_frames(samples)
    _write_index(samples, paths.index)
    write_specification(specification, paths.specification)
    content = {
        "index_sha256": sha256_of(paths.index),
        "manifests": [manifest.model_dump() for manifest in manifests],
    }
    write_json(paths.index_manifests, content)
    by_side = {side: of_split(samples, side) for side in SIDES}
    frames = {side: len(some) for side, some in by_side.items() if some}
    targets = {side: len(set(targets_of(some))) for side, some in by_side.items() if some}
    return IndexResult(frames, targets)


def _points(frames: Sequence[_Frame]) -> NDArray[np.float64]:
    """The frames' targets (N, 2) in pixels."""
    points = [[frame.label.target_x_px, frame.label.target_y_px] for frame in frames]
    return np.array(points).reshape(-1, 2)


def _prepared(session: str, paths: Paths) -> tuple[list[_Frame], Manifest]:
    """The frames of one prepared session, in the order of labels.csv, and its manifest."""
    folder = paths.dataset / session
    labels = read_labels(folder / LABELS_FILE, session)
    manifest = read_manifest(folder / MANIFEST_FILE, session)
    geometry = _specification(manifest, paths).geometry
    remedy = f"prepare the session again: custom-gaze prepare {session}"
    if len(labels) != manifest.counts.used:
        raise InputError(
            f"{folder / LABELS_FILE}: has {len(labels)} lines behind its header, and "
            f"{MANIFEST_FILE} counts {manifest.counts.used} frames; {remedy}"
        )
    frames = []
    for label in labels:
        where = f"{folder / LABELS_FILE}: line {label.line}"
        angles = geometry.to_degrees([label.target_x_px, label.target_y_px])
        if np.abs(angles - [label.yaw_deg, label.pitch_deg]).max() > SAME_ANGLE_DEG:
            raise InputError(f"{where}: its angles are not those of its target; {remedy}")
        try:
            crop = read_file(folder / label.filename, MOST_CROP_BYTES)
        except InputError as error:
            raise InputError(f"{where}: {error}; {remedy}") from None
        checksum = hashlib.sha256(crop).hexdigest()
        frames.append(_Frame(session, label, checksum))
    return frames, manifest


def _refuse_shared_frames(samples: Sequence[Sample]) -> None:
    """One frame in two sessions could be trained on as the one and tested on as the other."""
    first: dict[str, Sample] = {}
    for sample in samples:
        other = first.setdefault(sample.crop_sha256, sample)
        if other is not sample:
            raise InputError(
                f"{sample.session}/{sample.filename} and {other.session}/{other.filename} are the "
                "same frame; a session that was imported twice can be named only once"
            )


def _specification(manifest: Manifest, paths: Paths) -> Specification:
    path = paths.dataset / manifest.session / MANIFEST_FILE
    remedy = f"prepare the session again: custom-gaze prepare {manifest.session}"
    return specification_of(manifest.model_dump(), path, remedy)


class _Manifests(Strict):
    """data/index.json."""

    index_sha256: Hash
    manifests: list[Manifest] = Field(min_length=1)


def read_manifests(path: Path) -> list[Manifest]:
    """The prepared sessions' manifests from data/index.json, those trained on first.

    Raises:
        InputError: it is missing or not what `run` wrote.
    """
    return read_json(path, _Manifests, REMEDY).manifests


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


REMEDY = "run `custom-gaze index` again"
_HEADER = [entry.name for entry in fields(Sample)]


def _write_index(samples: Sequence[Sample], path: Path) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEADER)
    for sample in samples:
        writer.writerow([getattr(sample, name) for name in _HEADER])
    write_text(path, out.getvalue())


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
    for row in read_table(path, _HEADER, REMEDY):
        sample = _sample(row)
        if sample.crop_sha256 in seen:
            raise row.error(f"{sample.filename}, or one with the same content, stands there twice")
        seen.add(sample.crop_sha256)
        if sides.setdefault(sample.target, sample.split) != sample.split:
            raise row.error(f"target {sample.target} is on two sides of the split")
        samples.append(sample)
    # A stage that only depends on the index may run where DVC has brought nothing else.
    written_with = path.with_suffix(".json")
    known = read_json(written_with, _Manifests, REMEDY) if written_with.exists() else None
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
