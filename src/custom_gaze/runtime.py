"""ONNX models through onnxruntime on the CPU, as the app runs them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.errors import InputError


def cpu_session(model: bytes | Path) -> Any:
    """An onnxruntime session on the CPU, from a file or from its content.

    Raises:
        InputError: the file is missing or onnxruntime cannot load it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: it warns of harmless rewrites
    name = str(model) if isinstance(model, Path) else "the exported model"
    if isinstance(model, Path) and not model.is_file():
        raise InputError(f"{name}: not found; run `custom-gaze export` first")
    source = str(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base class
        reason = str(error).splitlines()[0]
        raise InputError(f"{name}: onnxruntime cannot load it ({reason})") from None


def predict_onnx(session: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """x (N, 3, 448, 448) → (N, 2) [yaw, pitch] in degrees, one by one as the app does."""
    name = session.get_inputs()[0].name
    rows = [session.run(None, {name: x[i : i + 1]})[0] for i in range(len(x))]
    return np.concatenate(rows).astype(np.float32).reshape(-1, 2)
