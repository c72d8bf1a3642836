"""What RustyEyes does with a gaze network: what it feeds, how it reads, where it draws the dot."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.faces.crops import normalise
from custom_gaze.models.onnx_files import (
    describe,
    first_line,
    inputs_of,
    open_session,
    read_onnx,
    run_session,
)
from custom_gaze.models.onnx_metadata import ModelFacts, facts_of
from custom_gaze.models.onnx_runtime import LARGEST_ANGLE_DEG, app_angles_deg, refuse_narrow_bins
from custom_gaze.models.onnx_trial import try_apart

INPUT_NAME = "input"
INPUT_SHAPE = (1, 3, 448, 448)
APP_PIXELS_PER_DEGREE = 20.0  # how far the app moves its dot from the centre of the frame


@dataclass(frozen=True)
class Correction:
    """The app's polynomial per axis, `curve * v^2 + gain * v + offset`, in degrees."""

    yaw_gain: float = 1.0
    yaw_offset: float = 0.0
    yaw_curve: float = 0.0
    pitch_gain: float = 1.0
    pitch_offset: float = 0.0
    pitch_curve: float = 0.0

    def dot_offset_px(
        self, yaw_deg: float, pitch_deg: float, app_pixels_per_degree: float
    ) -> tuple[float, float]:
        """Where the app draws its dot for the network's angles, in pixels from the frame's centre.

        Right and down are positive. The app negates the corrected pitch and then draws a positive
        pitch upwards, so that a network whose pitch is positive below the centre comes out right.
        """
        yaw_deg = self.yaw_curve * yaw_deg**2 + self.yaw_gain * yaw_deg + self.yaw_offset
        pitch_deg = self.pitch_curve * pitch_deg**2 + self.pitch_gain * pitch_deg
        up_deg = -(pitch_deg + self.pitch_offset)
        return yaw_deg * app_pixels_per_degree, -up_deg * app_pixels_per_degree


def check_model(path: Path) -> ModelFacts:
    """Run a model as the app would and return what it says of itself.

    The app takes one output of two values, [yaw, pitch] in degrees, or the stock L2CS-Net's two
    outputs of equally many bins; the angles must be finite and possible.

    Raises:
        InputError: the file is no ONNX, or the app could not use it.
    """
    model, sha256 = read_onnx(path)
    _check_input(model, path)
    refuse_narrow_bins(model, path, "deploy")
    try_apart(model, sha256, path, INPUT_SHAPE)
    session = open_session(model, path)
    for name, crop in _probes():
        try:
            values = run_session(session, normalise(crop[None]))
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise InputError(f"{path}: fails when it runs: {first_line(error)}") from None
        angles_deg = app_angles_deg(values, f"{path} ({describe(model)})")
        if not (np.isfinite(angles_deg).all() and np.abs(angles_deg).max() <= LARGEST_ANGLE_DEG):
            raise InputError(
                f"{path}: gives yaw {angles_deg[0]:g}, pitch {angles_deg[1]:g} to a {name} "
                "image, which are no angles in degrees; train and export it again"
            )
    return facts_of(model, sha256)


def model_facts(path: Path) -> ModelFacts:
    """What a model's metadata says; nothing in the file is run, and any key may be absent.

    Raises:
        InputError: the file is missing or no ONNX.
    """
    return facts_of(*read_onnx(path))


def _check_input(model: Any, path: Path) -> None:
    inputs = inputs_of(model)
    fits = (
        len(inputs) == 1
        and inputs[0][0] == INPUT_NAME
        and len(inputs[0][1]) == len(INPUT_SHAPE)
        and all(size in (0, wanted) for size, wanted in zip(inputs[0][1], INPUT_SHAPE, strict=True))
    )
    if not fits:
        raise InputError(
            f"{path}: has {describe(model)}; "
            f"the app feeds one input named {INPUT_NAME!r} of 1x3x448x448"
        )
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    if kinds[INPUT_NAME] != 1:  # onnx.TensorProto.FLOAT
        raise InputError(f"{path}: its input is not float32; the app feeds float32")


def _probes() -> list[tuple[str, NDArray[np.uint8]]]:
    """Crops uint8 (448, 448, 3) that bring out a network that divides by zero or overflows."""
    side_px = INPUT_SHAPE[-1]
    noise = np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    grey = np.full_like(noise, 128)
    return [("black", np.zeros_like(noise)), ("grey", grey), ("noisy", noise)]
