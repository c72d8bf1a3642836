"""ONNX models through onnxruntime on the CPU, as the app runs them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of
from custom_gaze.common.untrusted import MOST_MODEL_BYTES, regular_file
from custom_gaze.models.onnx_files import describe, inputs_of, open_session, outputs_of, read_onnx
from custom_gaze.models.onnx_metadata import CHECKPOINT_KEY, props_of
from custom_gaze.models.onnx_trial import try_apart

LARGEST_ANGLE_DEG = 180.0
MPIIGAZE_BINS = 28  # 3° apart from -42°, but the app spreads any number of bins over 360°
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
    return open_session(model, "the exported model", threads=0)


def exported_session(model: Path, checkpoint: Path, threads: int = 0) -> Any:
    """A session on models/custom_gaze.onnx, once it is known to be what `checkpoint` became.

    On so many threads, 1 where frames pass side by side; 0: as many as onnxruntime takes.

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
    return _tried(proto, sha256, model, threads)


def _tried(proto: Any, sha256: str, path: Path, threads: int = 0) -> Any:
    shapes = [shape for _, shape in inputs_of(proto)]
    if len(shapes) != 1 or 0 in shapes[0]:
        raise InputError(f"{path}: has not one input of a fixed size, but {describe(proto)}")
    try_apart(proto, sha256, path, shapes[0])
    return open_session(proto, path, threads)


def predict_onnx(session: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """x (N, 3, 448, 448) → (N, 2) [yaw, pitch] in degrees, one by one as the app does.

    Raises:
        InputError: a prediction is no pair of finite numbers.
    """
    name = session.get_inputs()[0].name
    rows = [session.run(None, {name: x[i : i + 1]})[0] for i in range(len(x))]
    angles = np.concatenate(rows).astype(np.float32).reshape(-1, 2)
    if not np.isfinite(angles).all():
        raise InputError("the network predicts NaN or infinity; train and export it again")
    return angles


def refuse_narrow_bins(model: Any, path: Path, verb: str) -> None:
    """Refuse a ModelProto whose bins the app would read as wider than they are.

    Raises:
        InputError: it has an MPIIGaze model's; `verb` is what is to be done with another one.
    """
    outputs = [shape for _, shape in outputs_of(model)]
    if len(outputs) == 2 and MPIIGAZE_BINS in outputs[0]:
        raise InputError(
            f"{path}: has the {MPIIGAZE_BINS} bins of an MPIIGaze model, 3° apart, which the app "
            f"would read as 12.9° apart; {verb} a model with one output (1, 2) or 90 bins"
        )


def app_angles_deg(outputs: list[NDArray[np.float32]], where: str) -> NDArray[np.float64]:
    """The network's outputs as the app reads them: float64 (2,) [yaw, pitch] in degrees.

    One output of two values is taken as it is. Of two outputs with equally many bins, each is
    softmaxed and its expectation over bins at -180 + i * 360 / bins degrees is the angle.

    Raises:
        InputError: the outputs are neither; `where` starts the message.
    """
    flat = [np.asarray(values, dtype=np.float64).ravel() for values in outputs]
    if len(flat) == 1 and flat[0].size == 2:
        return flat[0]
    if len(flat) == 2 and flat[0].size == flat[1].size > 2:
        return np.array([_expectation_deg(logits) for logits in flat])
    shapes = ", ".join("x".join(map(str, np.shape(values))) for values in outputs)
    raise InputError(
        f"{where}: has outputs of shape {shapes}; the app reads one output of two values, "
        "or two of equally many bins"
    )


def _expectation_deg(logits: NDArray[np.float64]) -> float:
    weights = np.exp(logits - logits.max())
    bins_deg = -180.0 + np.arange(logits.size) * 360.0 / logits.size
    return float((weights * bins_deg).sum() / weights.sum())
