"""A gaze network's file opened as the app opens it, and the way from a frame to its angles.

What the file says of itself decides: its own crop, size and screen geometry, where its metadata
names them. A stock L2CS-Net says nothing; for it the parameters stand in.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.config.specification import PREPROCESSING, Preprocessing, Specification
from custom_gaze.faces.crops import gaze_crop, normalise
from custom_gaze.faces.eye_points import EyeFinder, Point, load_eye_finder
from custom_gaze.faces.finder import FaceFinder, FoundFace, load_finder
from custom_gaze.faces.other_files import other_files
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.models.onnx_files import (
    describe,
    first_line,
    inputs_of,
    read_onnx,
    run_session,
)
from custom_gaze.models.onnx_metadata import facts_of, preprocessing_of
from custom_gaze.models.onnx_runtime import (
    LARGEST_ANGLE_DEG,
    app_angles_deg,
    cpu_session,
    refuse_narrow_bins,
)
from custom_gaze.models.onnx_trial import try_apart

SMALLEST_PX, LARGEST_PX = 32, 1024  # of a network's input, as prepare.size_px allows


@dataclass(frozen=True)
class GazeModel:
    """A network whose outputs are read as the app reads them.

    `sessions` are those it was trained on, `specification` says how its crops were cut; None where
    the file does not say.
    """

    path: Path
    session: Any  # onnxruntime.InferenceSession, which mypy cannot see
    spec: Preprocessing
    geometry: ScreenGeometry
    sessions: tuple[str, ...] | None
    specification: Specification | None

    def angles_deg(self, crop: NDArray[np.uint8]) -> NDArray[np.float64]:
        """A crop uint8 (size_px, size_px, 3) RGB → float64 (2,) [yaw, pitch] in degrees.

        Raises:
            InputError: the outputs are neither two angles nor two rows of bins, or no angles.
        """
        outputs = run_session(self.session, normalise(crop[None], self.spec))
        angles_deg = app_angles_deg(outputs, str(self.path))
        if not (np.abs(angles_deg) <= LARGEST_ANGLE_DEG).all():  # NaN fails this too
            yaw_deg, pitch_deg = angles_deg
            raise InputError(f"the network gives yaw {yaw_deg:g}, pitch {pitch_deg:g}, no angles")
        return angles_deg


@dataclass(frozen=True)
class Gaze:
    """What was found in one frame. Angles in degrees, right and down positive.

    `eyes_px` are in frame pixels, the image's left eye first; None where they were not found.
    """

    face: FoundFace
    yaw_deg: float
    pitch_deg: float
    eyes_px: tuple[Point, Point] | None


@dataclass(frozen=True)
class GazeReader:
    """From a frame to the gaze in it, with the crop that the network was trained on."""

    finder: FaceFinder
    eyes: EyeFinder
    model: GazeModel

    @property
    def other_faces(self) -> str:
        """What it means that the model's crops were found by other files than these, in a line;
        '' where they were not, or that is not known."""
        finder = self.finder
        mesh_sha256 = None if finder.mesh is None else finder.mesh.sha256
        found = self.model.specification, finder.detector.sha256, mesh_sha256
        return other_files(*found, "models/faces")

    def read(self, frame: NDArray[np.uint8]) -> Gaze:
        """The gaze in a frame uint8 (H, W, 3) RGB.

        Raises:
            InputError: there is not exactly one clear face, or the network gives no angles; the
                message is the reason alone, without the frame's name.
        """
        face = self.finder.find(frame)
        crop = gaze_crop(frame, face.box, self.model.spec)
        yaw_deg, pitch_deg = self.model.angles_deg(crop).tolist()
        return Gaze(face, yaw_deg, pitch_deg, self.eyes.find(frame, face.detected))


def load_reader(params: Params, paths: Paths, model: Path | None) -> GazeReader:
    """Load detector, mesh and network; `model` None means models/custom_gaze.onnx.

    Raises:
        InputError: one of the files is missing or is not what it should be.
    """
    gaze_model = load_gaze_model(model or paths.model, params)
    finder = load_finder(paths.faces, params.prepare.min_score)
    return GazeReader(finder, load_eye_finder(), gaze_model)


def load_gaze_model(path: Path, params: Params) -> GazeModel:
    """Open a network and confirm on a black crop that the app could read its outputs.

    Raises:
        InputError: the file is missing, no ONNX, or its input or outputs are not a gaze network's.
    """
    proto, sha256 = read_onnx(path, "run `dvc repro` first, or name a model with --model")
    spec = _preprocessing(proto, path, params)
    refuse_narrow_bins(proto, path, "use")
    facts = facts_of(proto, sha256)
    try_apart(proto, sha256, path, (1, 3, spec.size_px, spec.size_px))
    session = cpu_session(proto.SerializeToString())
    geometry = facts.geometry or params.geometry
    model = GazeModel(path, session, spec, geometry, facts.sessions, facts.specification)
    try:
        model.angles_deg(np.zeros((spec.size_px, spec.size_px, 3), np.uint8))
    except InputError as error:
        said = str(error).removeprefix(f"{path}: ")
        raise InputError(f"{path}: {said}; it is {describe(proto)}") from None
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise InputError(f"{path}: fails on a black image: {first_line(error)}") from None
    return model


def _preprocessing(proto: Any, path: Path, params: Params) -> Preprocessing:
    """The crop the network was trained on: its metadata's, else the parameters'."""
    size_px = _input_size_px(proto, path) or params.prepare.size_px
    try:
        said = preprocessing_of(proto)
        if said is not None and said.size_px != size_px:
            raise ValueError("another size")
    except ValueError:
        ours = json.dumps(PREPROCESSING.as_dict())
        raise InputError(
            f"{path}: was made for another preprocessing than this version's ({ours}); "
            "train and export it again"
        ) from None
    return said or Preprocessing(margin=params.prepare.margin, size_px=size_px)


def _input_size_px(proto: Any, path: Path) -> int:
    """The side of the network's input in pixels; 0 where the file leaves it open."""
    inputs = [shape for _, shape in inputs_of(proto)]
    shape = inputs[0] if len(inputs) == 1 else ()
    fits = (
        len(shape) == 4
        and shape[0] in (0, 1)
        and shape[1] == 3
        and shape[2] == shape[3]
        and (shape[2] == 0 or SMALLEST_PX <= shape[2] <= LARGEST_PX)
    )
    if not fits:
        raise InputError(
            f"{path}: no gaze network, but {describe(proto)}; "
            "a gaze network has one input of 1x3x448x448"
        )
    return shape[2]
