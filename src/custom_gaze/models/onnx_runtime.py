"""ONNX models through onnxruntime on the CPU, as the app runs them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of
from custom_gaze.common.untrusted import MOST_MODEL_BYTES, regular_file
from custom_gaze.models.onnx_files import describe, first_line, inputs_of, outputs_of, read_onnx
from custom_gaze.models.onnx_metadata import CHECKPOINT_KEY, props_of
from custom_gaze.models.onnx_trial import try_apart

EXPORT_FIRST = "run `custom-gaze export` first"


def cpu_session(model: bytes | Path) -> Any:
    """An onnxruntime session on the CPU, from a file or from the content of one of ours.

    Raises:
        InputError: the file is missing, its graph or its sizes are none that are known, or
            onnxruntime cannot load it.
    """
    if isinstance(model, Path):
        proto, sha256 = read_onnx(model, EXPORT_FIRST)
        return _tried(proto, sha256, model)
    return _session(model, "the exported model")


def exported_session(model: Path, checkpoint: Path) -> Any:
    """A session on models/custom_gaze.onnx, once it is known to be what `checkpoint` became.

    Raises:
        InputError: a file is missing, or the model is another one than `custom-gaze export` made
            of this checkpoint, or not of one image and two angles.
    """
    proto, sha256 = read_onnx(model, EXPORT_FIRST)
    regular_file(checkpoint, MOST_MODEL_BYTES, "run `custom-gaze train` first")
    if props_of(proto).get(CHECKPOINT_KEY) != sha256_of(checkpoint):
        raise InputError(
            f"{model}: was not exported from {checkpoint}; run `custom-gaze export` again"
        )
    shapes = [shape for _, shape in (*inputs_of(proto), *outputs_of(proto))]
    if len(shapes) != 2 or shapes[0][:2] != (1, 3) or shapes[1] != (1, 2):
        raise InputError(f"{model}: is no exported model, but {describe(proto)}; {EXPORT_FIRST}")
    return _tried(proto, sha256, model)


def _tried(proto: Any, sha256: str, path: Path) -> Any:
    shapes = [shape for _, shape in inputs_of(proto)]
    if len(shapes) != 1 or 0 in shapes[0]:
        raise InputError(f"{path}: has not one input of a fixed size, but {describe(proto)}")
    try_apart(proto, sha256, path, shapes[0])
    return _session(proto.SerializeToString(), str(path))


def _session(content: bytes, name: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: it warns of harmless rewrites
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise InputError(f"{name}: onnxruntime cannot load it ({first_line(error)})") from None


def predict_onnx(session: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """x (N, 3, 448, 448) → (N, 2) [yaw, pitch] in degrees, one by one as the app does.

    Raises:
        InputError: an answer is no pair of finite numbers.
    """
    name = session.get_inputs()[0].name
    rows = [session.run(None, {name: x[i : i + 1]})[0] for i in range(len(x))]
    angles = np.concatenate(rows).astype(np.float32).reshape(-1, 2)
    if not np.isfinite(angles).all():
        raise InputError("the network answers NaN or infinity; train and export it again")
    return angles
