"""An ONNX file as a graph to be read: refused where it is no plain one, its weights loaded."""

from pathlib import Path
from typing import Any

import onnx

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of
from custom_gaze.common.untrusted import MOST_MODEL_BYTES, printable
from custom_gaze.models.onnx_check import check_graph, tensors_of
from custom_gaze.models.onnx_files import first_line


def parse_onnx(content: bytes, path: Path) -> tuple[Any, str]:
    """Parse an ONNX file with one graph of standard operators; external weights are read too.

    Returns:
        The ModelProto, and its source in words: the file's name, and name and SHA-256 of every file
        beside it that holds weights.

    Raises:
        InputError: it is damaged, has operators of its own, subgraphs or functions; its external
            weights are missing, cut short or lie outside the file's folder.
    """
    model = parse_model(content, f"{path}")
    check_graph(model, f"{path}")
    files = _load_external_weights(model, path)
    try:  # attributes of the right kind, each node behind those that feed it
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, UnicodeDecodeError) as error:  # a name that is no text
        raise InputError(f"{path}: is no valid ONNX: {first_line(error)}") from None
    source = [path.name, *(f"{file.name} (sha256 {sha256_of(file)})" for file in sorted(files))]
    return model, " with ".join(source)


def parse_model(content: bytes, where: str) -> Any:
    """The ModelProto in `content`; nothing else is read.

    Raises:
        InputError: it is cut short, damaged or no ONNX.
    """
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf's DecodeError; protobuf is onnx's dependency and not ours
        raise InputError(f"{where}: is no ONNX file, or cut short or damaged") from None
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{where}: is no ONNX file, or one without a graph")
    return model


def _load_external_weights(model: Any, path: Path) -> set[Path]:
    """Read every weight beside the ONNX file `path` into the model, once all have been checked.

    Returns:
        The files that hold them.

    Raises:
        InputError: a file's name leads out of the folder, through a link too; it is missing or
            shorter than said; the weights are implausibly large.
    """
    external = [t for t in tensors_of(model) if t.data_location == onnx.TensorProto.EXTERNAL]
    places = [_place(tensor, path) for tensor in external]
    if sum(length for _, _, length in places) > MOST_MODEL_BYTES:
        raise InputError(f"{path}: declares more weights than any base network has")
    for tensor, (file, offset, length) in zip(external, places, strict=True):
        with file.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return {file for file, _, _ in places}


def _place(tensor: Any, path: Path) -> tuple[Path, int, int]:
    """Where a weight beside an ONNX file lies: the file, offset and length in bytes."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    where = f"{path}: weight {printable(tensor.name, 60)!r} lies in {printable(location, 100)!r}"
    folder = path.parent.resolve()
    file = folder / location.replace("\\", "/")
    try:
        inside = bool(location) and file.resolve().is_relative_to(folder)
        size = file.stat().st_size if inside and file.is_file() else None
    except (OSError, RuntimeError, ValueError):  # too long, a ring of links, a zero byte
        inside = False
    if not inside:
        raise InputError(f"{where}, which is outside the file's folder; that is never read")
    if size is None:
        raise InputError(f"{where}, which is not there; both files belong in one folder")
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries["length"]) if "length" in entries else size - offset
    except ValueError:
        raise InputError(f"{where}, but its offset or length is no number") from None
    if offset < 0 or length < 0 or offset + length > size:
        raise InputError(f"{where}, which is cut short: {size} bytes, {offset + length} needed")
    return file, offset, length
