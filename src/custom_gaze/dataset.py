"""data/index.csv: the frames of one run with their split, and their crops as arrays.

The index is the only thing that train, export and evaluate know of the dataset. It is written from
the sessions that params.yaml names, so crops that an earlier run left behind are never seen. Beside
it, data/specification.json has the screen of the labels and the rule of the crops, on which the
sessions agree, and data/index.json keeps their manifests: the detector, what was left out.
"""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.errors import InputError
from custom_gaze.files import sha256_of, write_json, write_text
from custom_gaze.params import Params
from custom_gaze.paths import Paths
from custom_gaze.specification import (
    Specification,
    agreed,
    specification_of,
    write_specification,
)
from custom_gaze.splits import (
    FURTHER,
    TEST,
    TRAIN,
    VALIDATION,
    split_by_target,
    target_groups,
)


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
    split: str  # train, validation, test, further
    crop_sha256: str

    def path(self, paths: Paths) -> Path:
        """Where the frame's crop lies."""
        return paths.dataset / self.session / self.filename


@dataclass(frozen=True)
class IndexResult:
    """What `custom-gaze index` says it did: frames and targets per split."""

    frames: dict[str, int]
    targets: dict[str, int]


def run(params: Params, paths: Paths) -> IndexResult:
    """Write data/index.csv from the prepared sessions that `params` names.

    Here, and nowhere else, targets get their numbers, from 0: those of the sessions that are
    trained on together, so that a target they share stays on one side of the split, and those of
    each further session for itself, after them. Everything that counts or groups targets of an
    indexed frame reads that number.

    Raises:
        InputError: a session is not prepared, its labels cannot be read or name a crop that is
            not there, two sessions were prepared for different screens or crops, or the sessions
            hold too few targets to split.
    """
    own = [sample for name in params.sessions for sample in _read_labels(name, paths)]
    points = _points(own)
    groups = target_groups(points, params.split.same_target_px)
    sides = split_by_target(points, groups, params.split)
    samples = [
        replace(sample, target=int(group), split=side)
        for sample, group, side in zip(own, groups, sides, strict=True)
    ]
    for name in params.evaluate.sessions:
        further = _read_labels(name, paths)
        first = 1 + max(sample.target for sample in samples)
        groups = first + target_groups(_points(further), params.split.same_target_px)
        samples += [replace(s, target=int(g)) for s, g in zip(further, groups, strict=True)]
    _refuse_shared_frames(samples)
    named = (*params.sessions, *params.evaluate.sessions)
    manifests = [_read_manifest(name, paths) for name in named]
    specification = agreed(
        [
            (name, _specification(name, content, paths))
            for name, content in zip(named, manifests, strict=True)
        ]
    )
    _write_index(samples, paths.index)
    write_specification(specification, paths.specification)
    write_json(paths.index_manifests, {"manifests": manifests})
    by_side = {side: of_split(samples, side) for side in (TRAIN, VALIDATION, TEST, FURTHER)}
    frames = {side: len(some) for side, some in by_side.items() if some}
    targets = {side: len(set(targets_of(some))) for side, some in by_side.items() if some}
    return IndexResult(frames, targets)


def _points(samples: Sequence[Sample]) -> NDArray[np.float64]:
    """The frames' targets (N, 2) in pixels."""
    return np.array([[s.target_x_px, s.target_y_px] for s in samples]).reshape(-1, 2)


def _read_labels(session: str, paths: Paths) -> list[Sample]:
    """The frames of one prepared session, in the order of labels.csv, not yet placed."""
    path = paths.dataset / session / "labels.csv"
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    except OSError:
        raise InputError(
            f"{path}: not found; prepare the session first: custom-gaze prepare {session}"
        ) from None
    samples = []
    for number, row in enumerate(rows, start=2):
        try:
            crop = paths.dataset / session / Path(row["filename"]).name
            angles = float(row["yaw"]), float(row["pitch"])
            target = float(row["target_x"]), float(row["target_y"])
            checksum = sha256_of(crop)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise InputError(
                f"{path}: line {number} cannot be used ({error}); "
                f"prepare the session again: custom-gaze prepare {session}"
            ) from None
        samples.append(Sample(session, crop.name, *angles, *target, -1, FURTHER, checksum))
    return samples


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


def _read_manifest(session: str, paths: Paths) -> Any:
    path = paths.dataset / session / "manifest.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(
            f"{path}: missing or no JSON; prepare the session again: custom-gaze prepare {session}"
        ) from None


def _specification(session: str, manifest: Any, paths: Paths) -> Specification:
    remedy = f"prepare the session again: custom-gaze prepare {session}"
    return specification_of(manifest, paths.dataset / session / "manifest.json", remedy)


def read_manifests(path: Path) -> list[dict[str, Any]]:
    """The prepared sessions' manifests from data/index.json, those trained on first.

    Raises:
        InputError: it is missing or not what `run` wrote.
    """
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["manifests"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: missing or damaged; run `custom-gaze index`") from None


def prepared_by(path: Path, sessions: Sequence[str]) -> list[str]:
    """The versions of the code that prepared some sessions, from data/index.json; mostly one.

    Raises:
        InputError: as `read_manifests`.
    """
    manifests = [entry for entry in read_manifests(path) if entry.get("session") in sessions]
    if not manifests or not all(isinstance(entry.get("code"), str) for entry in manifests):
        raise InputError(
            f"{path}: does not say which code prepared {', '.join(sessions)}; prepare the sessions "
            "again (custom-gaze prepare ID) and run `custom-gaze index`"
        )
    return sorted({entry["code"] for entry in manifests})


_HEADER = [entry.name for entry in fields(Sample)]


def _write_index(samples: Sequence[Sample], path: Path) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEADER)
    for sample in samples:
        writer.writerow([getattr(sample, name) for name in _HEADER])
    write_text(path, out.getvalue())


def read_index(path: Path) -> tuple[Sample, ...]:
    """Read data/index.csv.

    Raises:
        InputError: it is missing or not what `run` wrote.
    """
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        if rows[0] != _HEADER:
            raise ValueError("another header")
        return tuple(
            Sample(
                r[0],
                r[1],
                float(r[2]),
                float(r[3]),
                float(r[4]),
                float(r[5]),
                int(r[6]),
                r[7],
                r[8],
            )
            for r in rows[1:]
        )
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run `custom-gaze index` first") from None
    except (ValueError, IndexError, TypeError) as error:
        raise InputError(f"{path}: no index ({error}); run `custom-gaze index` again") from None


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
    try:
        content = path.read_bytes()
    except OSError:
        raise InputError(f"{path}: the crop is missing; run `dvc repro`") from None
    if hashlib.sha256(content).hexdigest() != sample.crop_sha256:
        raise InputError(f"{path}: not the crop that the index names; run `dvc repro`")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    crop = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if crop is None:
        raise InputError(f"{path}: no image; run `custom-gaze prepare {sample.session}` again")
    return np.asarray(cv2.cvtColor(crop, cv2.COLOR_BGR2RGB), np.uint8)
