"""What `prepare` leaves in data/dataset_clean/<id>: crops, labels.csv and manifest.json.

labels.csv has a line for each crop: its file, the angles of its target in degrees, right and down
positive, its session, the target in screen pixels, and the face's score and box in frame pixels.
manifest.json says what made them, which frames were left out and which are suspect.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator

from custom_gaze.common.errors import InputError
from custom_gaze.common.stage_files import (
    CHECKED,
    PLAIN_NAME,
    SHA256,
    Strict,
    read_json,
    read_table,
)
from custom_gaze.config.specification import CropFrom, Preprocessing, Specification
from custom_gaze.geometry import ScreenGeometry

MANIFEST_FORMAT = 2
LABELS_FILE = "labels.csv"
MANIFEST_FILE = "manifest.json"
COLUMNS = (
    *("filename", "yaw", "pitch", "session", "target_x", "target_y"),
    *("face_score", "box_x1", "box_y1", "box_x2", "box_y2"),
)
MOST_CROP_BYTES = 16 << 20  # of 1024 x 1024 pixels, the largest, 3 MB
MOST_DEG = 180.0  # of an angle, either way
MOST_PX = 1e6  # of a place on a screen or in a frame, either way


@dataclass(frozen=True)
class Label:
    """One line of labels.csv. Angles in degrees, right and down positive; the target in pixels."""

    filename: str
    yaw_deg: float
    pitch_deg: float
    target_x_px: float
    target_y_px: float
    line: int  # of the file, for messages


def read_labels(path: Path, session: str) -> list[Label]:
    """Read a prepared session's labels.csv, checked whole.

    Raises:
        InputError: it is missing, or anything in it is not what `prepare` writes; the message
            names the line and the remedy.
    """
    remedy = _remedy(session)
    labels = []
    seen: set[str] = set()
    for row in read_table(path, COLUMNS, remedy):
        name = row.word("filename", PLAIN_NAME, "the name of a file in this folder")
        if name in seen:
            raise row.error(f"{name} stands there twice")
        seen.add(name)
        row.word("session", (session,), f"{session}, the folder's name")
        row.number("face_score", 0.0, 1.0)
        for column in COLUMNS[-4:]:
            row.number(column, -MOST_PX, MOST_PX)
        yaw, pitch = (row.number(column, -MOST_DEG, MOST_DEG) for column in ("yaw", "pitch"))
        x, y = (row.number(column, -MOST_PX, MOST_PX) for column in ("target_x", "target_y"))
        labels.append(Label(name, yaw, pitch, x, y, row.line))
    return labels


def _remedy(session: str) -> str:
    return f"prepare the session again: custom-gaze prepare {session}"


Hash = Annotated[str, Field(pattern=f"^{SHA256.pattern}$")]
Count = Annotated[int, Field(ge=0, le=10_000_000)]
Text = Annotated[str, Field(max_length=2000)]


class UsedDetector(Strict):
    kind: Text
    sha256: Hash
    min_score: float = Field(ge=0.0, le=1.0)


class UsedMesh(Strict):
    sha256: Hash


class Counts(Strict):
    frames: Count
    used: Count
    left_out: Count


@dataclass(frozen=True)
class LeftOut:
    """A file that is not used, and why: it cannot be, or its session's file excludes it."""

    __pydantic_config__ = CHECKED  # of one that is read; a file's name may be no text at all
    filename: str
    reason: str
    excluded: bool = False


class Suspect(Strict):
    """A frame that is used and perhaps better excluded, and why, in a line."""

    filename: Text
    why: Text


def _whole(value: Any) -> Any:
    """A screen in a file has to name all of it, whatever the defaults are."""
    if isinstance(value, dict) and value.keys() != ScreenGeometry.__dataclass_fields__.keys():
        raise ValueError(f"must have the keys {', '.join(ScreenGeometry.__dataclass_fields__)}")
    return value


WholeGeometry = Annotated[ScreenGeometry, BeforeValidator(_whole)]


class Manifest(Strict):
    """manifest.json."""

    format: int = Field(ge=MANIFEST_FORMAT, le=MANIFEST_FORMAT)
    session: Text
    code: Text
    detector: UsedDetector
    mesh: UsedMesh | None
    geometry: WholeGeometry
    preprocessing: Annotated[
        Preprocessing, PlainValidator(Preprocessing.of), PlainSerializer(Preprocessing.as_dict)
    ]
    crop_from: CropFrom
    jpeg_quality: int = Field(ge=1, le=100)
    counts: Counts
    left_out: tuple[LeftOut, ...]
    suspects: tuple[Suspect, ...]  # of the frames that are used
    drawn: bool = False  # all of these are the demo's; an earlier version did not say

    @property
    def specification(self) -> Specification:
        """The screen of its labels, and how its crops were cut."""
        mesh_sha256 = None if self.mesh is None else self.mesh.sha256
        how = self.preprocessing, self.crop_from, self.detector.sha256, mesh_sha256
        return Specification(self.geometry, *how)

    @property
    def unusable(self) -> tuple[LeftOut, ...]:
        """The frames left out because they cannot be used."""
        return tuple(entry for entry in self.left_out if not entry.excluded)

    @property
    def excluded(self) -> tuple[LeftOut, ...]:
        """The frames left out because the session's file says so."""
        return tuple(entry for entry in self.left_out if entry.excluded)


def read_manifest(path: Path, session: str) -> Manifest:
    """Read a prepared session's manifest.json, checked whole.

    Raises:
        InputError: it is missing, or not what `prepare` writes for this session.
    """
    remedy = _remedy(session)
    manifest = read_json(path, Manifest, remedy)
    if manifest.session != session:
        raise InputError(f"{path}: session: is not {session}, the folder's name; {remedy}")
    if manifest.counts.left_out != len(manifest.left_out):
        raise InputError(f"{path}: counts.left_out: is not the length of left_out; {remedy}")
    return manifest
