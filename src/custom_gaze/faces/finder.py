"""The face in a frame: detector, then mesh where there is one, then the box to crop from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.faces.crops import Box, cut, mesh_crop_box, resize
from custom_gaze.faces.detectors import Detector, Face, load_detector
from custom_gaze.faces.eye_points import Point, as_eyes
from custom_gaze.models.onnx_files import (
    describe,
    first_line,
    inputs_of,
    open_session,
    read_onnx,
    run_session,
)
from custom_gaze.models.onnx_trial import try_apart

DETECTOR_FILE = "face_detection.onnx"  # in models/faces, under the app's own names
MESH_FILE = "face_mesh.onnx"
MESH_SIDE_PX = 192
MESH_POINTS = 468
EYE_CORNERS = np.array([[33, 133], [362, 263]])  # of the points; the image's left eye first
# A second face counts from half the first one's size: a person further back, or a small false
# find in the background, does not make a frame ambiguous.
SECOND_FACE_SHARE = 0.5


class SeveralFaces(InputError):
    """More than one face of like size: whose the frame is cannot be told."""


@dataclass(frozen=True)
class Mesh:
    """A checked MediaPipe Face Mesh; it may be asked from several threads at once."""

    sha256: str
    session: Any  # onnxruntime.InferenceSession, which mypy cannot see

    def points(self, frame: NDArray[np.uint8], face: Box) -> NDArray[np.float64]:
        """The mesh points float64 (468, 2) [x, y], in pixels of `frame` uint8 (H, W, 3) RGB.

        `face` is the detector's box. As in the app it is grown by 25 %, clipped, cut in whole
        pixels and resized to 192×192; the points come in pixels of that crop.

        Raises:
            InputError: the detector's box lies outside the frame, or the points make no box.
        """
        x1, y1, x2, y2 = area = mesh_crop_box(face, frame.shape[1], frame.shape[0])
        crop = resize(cut(frame, area), MESH_SIDE_PX, MESH_SIDE_PX)
        values = run_session(self.session, crop.astype(np.float32)[None] / 127.5 - 1.0)[0]
        points = values.reshape(MESH_POINTS, 3)[:, :2].astype(np.float64)  # [x, y] in the crop
        low, high = points.min(axis=0), points.max(axis=0)
        if not (np.isfinite(points).all() and (high > low).all()):
            raise InputError("the face mesh found no face in the detector's box")
        scale = (x2 - x1) / MESH_SIDE_PX, (y2 - y1) / MESH_SIDE_PX
        return np.asarray((x1, y1) + points * scale)


def box_around(points: NDArray[np.float64]) -> Box:
    """The bounding box of points (N, 2) [x, y]."""
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


@dataclass(frozen=True)
class FoundFace:
    """The one face of a frame. `box` is what the crop is made from: the mesh's, else `detected`.

    `eyes` are the middles of the eyes' corners in frame pixels, the image's left one first; None
    without a mesh, or where its points have no two eyes.
    """

    box: Box
    detected: Box
    score: float
    eyes: tuple[Point, Point] | None = None


@dataclass(frozen=True)
class FaceFinder:
    """Detector and, where the user has one, mesh."""

    detector: Detector
    mesh: Mesh | None
    min_score: float

    @property
    def crop_from(self) -> Literal["mesh", "detector box"]:
        """Which box the crops are made from; a dataset records it."""
        return "mesh" if self.mesh else "detector box"

    def find(self, frame: NDArray[np.uint8]) -> FoundFace:
        """The face in a frame uint8 (H, W, 3) RGB.

        Raises:
            InputError: no face, two faces of like size, or a face the mesh cannot place; the
                message is the reason alone, without the frame's name.
        """
        best = _only_face(self.detector.detect(frame, self.min_score), self.min_score)
        if self.mesh is None:
            return FoundFace(best.box, best.box, best.score)
        points = self.mesh.points(frame, best.box)
        eyes = as_eyes(points[EYE_CORNERS].mean(axis=1), best.box)
        return FoundFace(box_around(points), best.box, best.score, eyes)


def load_finder(folder: Path, min_score: float) -> FaceFinder:
    """Load the detector and, if it is there, the mesh from models/faces.

    Raises:
        InputError: there is no detector, or a file is not what it should be.
    """
    if not (folder / DETECTOR_FILE).exists():
        raise InputError(f"{folder / DETECTOR_FILE}: not found; run `custom-gaze fetch` first")
    mesh = load_mesh(folder / MESH_FILE) if (folder / MESH_FILE).exists() else None
    return FaceFinder(load_detector(folder / DETECTOR_FILE), mesh, min_score)


def load_mesh(path: Path) -> Mesh:
    """Load MediaPipe Face Mesh as ONNX: input (1, 192, 192, 3), first output 468 × (x, y, z).

    Raises:
        InputError: the file is missing, damaged, no ONNX, or is another network.
    """
    model, sha256 = read_onnx(path)
    refusal = InputError(
        f"{path}: no face mesh, but {describe(model)}; use MediaPipe Face Mesh "
        f"(input 1x{MESH_SIDE_PX}x{MESH_SIDE_PX}x3, first output {MESH_POINTS} x 3 values)"
    )
    if [shape[1:] for _, shape in inputs_of(model)] != [(MESH_SIDE_PX, MESH_SIDE_PX, 3)]:
        raise refusal
    try_apart(model, sha256, path, (1, MESH_SIDE_PX, MESH_SIDE_PX, 3))
    session = open_session(model, path)
    blank = np.zeros((1, MESH_SIDE_PX, MESH_SIDE_PX, 3), dtype=np.float32)
    try:
        points = run_session(session, blank)[0]
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise InputError(f"{path}: fails on a blank image: {first_line(error)}") from None
    if points.size != MESH_POINTS * 3:
        raise refusal
    return Mesh(sha256, session)


def _only_face(faces: list[Face], min_score: float) -> Face:
    """The best face, where no other one is of like size."""
    if not faces:
        raise InputError(f"no face with a score of at least {min_score:g}")
    best = faces[0]
    rivals = [face for face in faces[1:] if _size(face) >= SECOND_FACE_SHARE * _size(best)]
    if rivals:
        raise SeveralFaces(
            f"{len(rivals) + 1} faces of like size (scores "
            f"{', '.join(f'{face.score:.2f}' for face in [best, *rivals])})"
        )
    return best


def _size(face: Face) -> float:
    """The shorter side: false finds in hair and hems are often wide and flat."""
    x1, y1, x2, y2 = face.box
    return min(x2 - x1, y2 - y1)
