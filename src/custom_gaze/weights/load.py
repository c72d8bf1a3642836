"""From a file of unknown kind to a base network."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import MOST_MODEL_BYTES, printable, read_file
from custom_gaze.models.onnx_metadata import OUTPUT, OUTPUT_KEY, props_of
from custom_gaze.weights import anatomy, onnx_network, onnx_reader, self_check, torch_reader
from custom_gaze.weights.axis_test import SAID, Naming, settle_axes
from custom_gaze.weights.base import FORMAT, BaseModule, BaseNetwork

# First bytes of files that are mistaken for weights.
OTHER_FILES = {
    b"<": "a web page and not the file it should lead to",
    b"version https://git-lfs": "a git-lfs pointer without its content; run `git lfs pull`",
    b"\x1f\x8b": "packed with gzip; unpack it first",
    b"\xff\xd8": "a JPEG image",
    b"\x89PNG": "a PNG image",
}


def load_base(path: Path, crops: NDArray[np.uint8] | None = None) -> BaseNetwork:
    """Read a base network from any file a user may have; what it is, is seen in its content.

    State dicts of L2CS-Net and MobileGaze, torchvision's ResNets, ONNX exports of any convolutional
    network with two heads of bins or one output of two angles, and our own base.pt. An ONNX file is
    compared with onnxruntime before it is accepted,
    and for every file with heads a mirror test settles which one is horizontal.

    Args:
        path: the file.
        crops: face crops for the mirror test, uint8 (N, 448, 448, 3) RGB; None for those of a
            built-in portrait.

    Raises:
        InputError: the file cannot be read, is damaged, holds code or is no known base network.
        CustomGazeError: an ONNX file's rebuilt network differs from the file; the message names
            the first layer that does.
    """
    content = read_content(path)
    sha256 = hashlib.sha256(content).hexdigest()
    if is_torch(content):
        return _from_torch(content, path, sha256, crops)
    return _from_onnx(content, path, sha256, crops)


def read_content(path: Path) -> bytes:
    """A weights file's bytes.

    Raises:
        InputError: it cannot be read, is empty or too large, or is plainly something else.
    """
    content = read_file(path, MOST_MODEL_BYTES)
    if not content:
        raise InputError(f"{path}: is empty")
    for start, meaning in OTHER_FILES.items():
        if content[:64].lstrip().startswith(start):
            raise InputError(f"{path}: is {meaning}")
    return content


def is_torch(content: bytes) -> bool:
    """Whether torch.save wrote it: a zip file, or a pickle in the legacy format."""
    return content.startswith((b"PK\x03\x04", b"\x80"))


def _from_torch(
    content: bytes, path: Path, sha256: str, crops: NDArray[np.uint8] | None
) -> BaseNetwork:
    loaded = torch_reader.read_torch(content, f"{path}")
    base = torch_reader.base_from_torch(loaded, f"{path}", path.name, sha256)
    if base.heads is None or loaded.get("format") == FORMAT:  # none to settle, or settled
        return base
    yaw, pitch = torch_reader.HEAD_LAYERS[base.kind]
    return settle_axes(base, Naming(yaw, pitch, "name"), crops)


def _from_onnx(
    content: bytes, path: Path, sha256: str, crops: NDArray[np.uint8] | None
) -> BaseNetwork:
    model, source = onnx_reader.parse_onnx(content, path)
    network = onnx_network.read_network(model, f"{path}")
    order, naming = _named(network)
    found = anatomy.anatomy_of(network, order)
    parts = found.trunk, found.state, found.heads, source, sha256, "onnx", found.folded
    base = BaseNetwork(*parts)
    self_check.self_check(network, found, BaseModule(base), sha256)
    return settle_axes(base, naming, crops)


def _named(network: onnx_network.OnnxNetwork) -> tuple[tuple[int, ...], Naming]:
    """Which outputs are yaw and pitch, by their names or else by their order."""
    names = network.names
    if len(names) == 1:
        said = props_of(network.model).get(OUTPUT_KEY) == OUTPUT
        of = printable(names[0], 40)
        return (0,), Naming(f"{of}[0]", f"{of}[1]", SAID if said else "order")
    order, by = (0, 1), "order"
    if len(names) == 2:
        yaw, pitch = (["yaw" in n.lower() for n in names], ["pitch" in n.lower() for n in names])
        if (yaw, pitch) in (([False, True], [True, False]), ([True, False], [False, True])):
            order, by = ((1, 0) if pitch[0] else (0, 1)), "name"
        names = names[order[0]], names[order[1]]
    yaw_name, pitch_name = (printable(name, 40) for name in (*names, "", "")[:2])
    return order, Naming(yaw_name, pitch_name, by)
