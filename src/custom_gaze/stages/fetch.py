"""The fetch stage: put the face detector, the face mesh and the base network in place."""

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from custom_gaze.common.download import is_address, local_file, obtain, shown
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.files import sha256_of, whole_folder, write_bytes
from custom_gaze.config.params import FetchParams, Params
from custom_gaze.config.paths import Paths
from custom_gaze.faces.detectors import DetectorKind, embedded_detector, load_detector
from custom_gaze.faces.finder import DETECTOR_FILE, MESH_FILE, load_mesh
from custom_gaze.weights.base import BaseNetwork, save_base
from custom_gaze.weights.embedded import EMBEDDED, load_embedded
from custom_gaze.weights.load import load_base

RANDOM = "random"


@dataclass(frozen=True)
class FetchResult:
    """What `custom-gaze fetch` put in place."""

    detector: DetectorKind
    mesh: bool
    base: BaseNetwork


def run(params: Params, paths: Paths) -> FetchResult:
    """Write models/faces/ and models/base.pt; each file is checked before anything is replaced.

    Raises:
        InputError: a file is missing, damaged, not what its parameter asks for, or does not have
            the hash that was named.
        CustomGazeError: a download or a write failed.
    """
    wanted = params.fetch
    with whole_folder(paths.faces) as folder:
        kind = _detector(wanted, folder / DETECTOR_FILE, paths.main_root)
        if wanted.mesh is not None:
            obtain(wanted.mesh, wanted.mesh_sha256, folder / MESH_FILE, paths.main_root)
            with _named(folder / MESH_FILE, wanted.mesh, "fetch.mesh"):
                load_mesh(folder / MESH_FILE)
        base = _base(wanted, paths.main_root)
        save_base(base, paths.base)  # the larger file first: a full disk changes neither
    return FetchResult(kind, wanted.mesh is not None, base)


def _detector(wanted: FetchParams, target: Path, root: Path) -> DetectorKind:
    if wanted.detector == EMBEDDED:
        _no_hash(wanted.detector_sha256, "fetch.detector")
        write_bytes(target, embedded_detector())
    else:
        obtain(wanted.detector, wanted.detector_sha256, target, root)
    with _named(target, wanted.detector, "fetch.detector"):
        return load_detector(target).kind


def _base(wanted: FetchParams, root: Path) -> BaseNetwork:
    if wanted.base in (EMBEDDED, RANDOM):
        _no_hash(wanted.base_sha256, "fetch.base")
        return load_embedded() if wanted.base == EMBEDDED else random_base()
    if not is_address(wanted.base):
        return _local_base(local_file(wanted.base, root), wanted.base_sha256)
    with tempfile.TemporaryDirectory(prefix="custom-gaze-") as scratch:
        target = Path(scratch) / "base"
        obtain(wanted.base, wanted.base_sha256, target, root)
        with _named(target, wanted.base, "fetch.base"):
            return dataclasses.replace(load_base(target), source=shown(wanted.base))


def _local_base(path: Path, sha256: str | None) -> BaseNetwork:
    """Read in place: an ONNX file may have its weights in a second file beside it."""
    if sha256 is not None and sha256_of(path) != sha256.strip().lower():
        raise InputError(
            f"{path}: its SHA-256 is {sha256_of(path)}, not the one that fetch.base_sha256 names"
        )
    # Only its name is kept: folders of this machine are nobody's business in an exported model.
    return dataclasses.replace(load_base(path), source=path.name)


@contextmanager
def _named(temporary: Path, source: str, key: str) -> Iterator[None]:
    """Let errors name the file as the user did, not the place it was copied to."""
    try:
        yield
    except CustomGazeError as error:
        said = str(error).replace(str(temporary), f"{key}: {shown(source)}")
        raise type(error)(said) from None


def random_base(seed: int = 1) -> BaseNetwork:
    """A ResNet-50 with random weights: it knows nothing, but has the specification's size."""
    import torch

    from custom_gaze.models.network import trunk_spec

    torch.manual_seed(seed)
    state = trunk_spec("resnet50").build().state_dict()
    kept = {n: tensor for n, tensor in state.items() if not n.endswith("num_batches_tracked")}
    return BaseNetwork("resnet50", kept, None, f"random weights, seed {seed}", "", RANDOM)


def _no_hash(sha256: str | None, key: str) -> None:
    if sha256 is not None:
        raise InputError(f"params.yaml: {key}_sha256 is set, but {key} names no file to check")
