"""ONNX files from users: parsed as data, described, opened in onnxruntime.

Weights outside the file are refused, so that nothing but the file itself is ever read.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import MOST_MODEL_BYTES, printable, read_file
from custom_gaze.models.onnx_check import check_graph, tensors_of


def read_onnx(path: Path, advice: str = "expected an ONNX file") -> tuple[Any, str]:
    """Parse an ONNX file and return its ModelProto and SHA-256; nothing in it is run.

    Raises:
        InputError: the file is missing, empty, damaged, no ONNX, keeps weights outside itself, or
            its graph is none that `check_graph` accepts.
    """
    import onnx

    content = read_file(path, MOST_MODEL_BYTES, advice)
    if not content:
        raise InputError(f"{path}: is empty; expected an ONNX file")
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf's DecodeError, whose module has no types
        model = None
    if model is None or not model.graph.node or not model.graph.output:
        raise InputError(f"{path}: is {_guess(content)}; expected an ONNX file")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors_of(model)):
        raise InputError(
            f"{path}: keeps weights outside the file; expected one self-contained ONNX"
        )
    check_graph(model, f"{path}")
    return model, hashlib.sha256(content).hexdigest()


def _guess(content: bytes) -> str:
    """What a file that is no ONNX seems to be, from its first bytes."""
    start = content[:64].lstrip().lower()
    signatures = {
        b"pk\x03\x04": "a zip archive or PyTorch file",
        b"\x80": "a Python pickle or old PyTorch file",
        b"\xff\xd8": "a JPEG image",
        b"\x89png": "a PNG image",
        b"<": "a web page or XML",
        b"version https://git-lfs": "a git-lfs pointer without its content",
    }
    for signature, name in signatures.items():
        if start.startswith(signature):
            return f"{name}, not ONNX"
    return "no ONNX, or one that is damaged or cut short"


def inputs_of(model: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the inputs that are no weights; a size left open is 0."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [_shape(value) for value in model.graph.input if value.name not in weights]


def outputs_of(model: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the outputs; a size left open is 0."""
    return [_shape(value) for value in model.graph.output]


def _shape(value: Any) -> tuple[str, tuple[int, ...]]:
    return value.name, tuple(size.dim_value for size in value.type.tensor_type.shape.dim)


def describe(model: Any) -> str:
    """What a graph is, in words for an error message."""
    inputs, outputs = inputs_of(model), outputs_of(model)
    shapes = [shape for _, shape in outputs]
    looks = ""
    if shapes and np.prod([max(size, 1) for size in shapes[0]]) == 468 * 3:
        looks = "a face mesh: "
    elif inputs and inputs[0][1][1:] == (3, 448, 448) and all(len(shape) == 2 for shape in shapes):
        looks = "a gaze network: "
    return f"{looks}{_listed('input', inputs)}, {_listed('output', outputs)}"


def _listed(word: str, values: list[tuple[str, tuple[int, ...]]]) -> str:
    shown = [
        f"{printable(name, 40)} {'x'.join(str(size or '?') for size in sizes)}"
        for name, sizes in values[:4]
    ]
    more = f" and {len(values) - 4} more" if len(values) > 4 else ""
    return f"{word}{'s' if len(values) > 1 else ''} {', '.join(shown) or 'none'}{more}"


def open_session(model: Any, path: Path | str, threads: int = 1) -> Any:
    """An onnxruntime session on the CPU, of a ModelProto or of a file's bytes.

    On one thread where frames, not layers, run side by side; 0: as many as onnxruntime takes.

    Raises:
        InputError: onnxruntime refuses the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    # Threads that wait in a loop for the next layer go on burning a processor after the last one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what matters is raised
    content = model if isinstance(model, bytes) else model.SerializeToString()
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise InputError(f"{path}: onnxruntime cannot load it: {first_line(error)}") from None


def run_session(session: Any, values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """All outputs for the session's only input."""
    outputs: list[NDArray[np.float32]] = session.run(None, {session.get_inputs()[0].name: values})
    return outputs


def first_line(error: Exception) -> str:
    """An exception's text on one line of at most 200 characters."""
    return printable(error, 200)
