"""The export stage: models/checkpoint.pt → models/custom_gaze.onnx, checked before it appears.

`custom-gaze export --as l2cs` makes of that file the stock two-output form (models/l2cs_export.py).
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from custom_gaze.common.console import bar
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.files import sha256_of, write_bytes
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import load_crop, of_split, prepared_by, read_index
from custom_gaze.data.splits import VALIDATION
from custom_gaze.faces.crops import normalise
from custom_gaze.models.checkpoint import Checkpoint, load_checkpoint
from custom_gaze.models.l2cs_export import layer_error_deg, with_bins
from custom_gaze.models.onnx_export import largest_difference_deg, to_onnx
from custom_gaze.models.onnx_files import open_session, read_onnx, run_session
from custom_gaze.models.onnx_metadata import OUTPUT, ModelMetadata
from custom_gaze.models.onnx_runtime import (
    app_angles_deg,
    cpu_session,
    predict_onnx,
)
from custom_gaze.models.onnx_trial import remember

L2CS_NAME = "custom_gaze_l2cs.onnx"  # beside models/custom_gaze.onnx
L2CS_TOLERANCE_DEG = 0.05
RANGE_DEG, STEP_DEG = 40.0, 0.25  # where the added layer is checked before the file is written


@dataclass(frozen=True)
class ExportResult:
    """What `custom-gaze export` says it did."""

    difference_deg: float  # the largest between PyTorch and onnxruntime, over both angles
    crops: int
    size_mb: float


def run(params: Params, paths: Paths) -> ExportResult:
    """Write models/custom_gaze.onnx from models/checkpoint.pt.

    The file is checked by ONNX's checker and compared with PyTorch, through onnxruntime, on some of
    the session's crops, those of the validation targets; only then is it moved into place.

    Raises:
        InputError: the checkpoint, the index or a crop is missing or damaged.
        CustomGazeError: the exported network's angles differ by more than export.tolerance_deg.
    """
    checkpoint = load_checkpoint(paths.checkpoint)
    validation = of_split(read_index(paths.index), VALIDATION)
    preparers = prepared_by(paths.index_manifests, checkpoint.sessions)
    network = checkpoint.network()
    images = [load_crop(sample, paths) for sample in validation]

    size_px = checkpoint.specification.preprocessing.size_px
    model = to_onnx(network, size_px, params.export.opset)
    metadata = _metadata(checkpoint, preparers, sha256_of(paths.checkpoint))
    onnx.helper.set_model_props(model, metadata.to_props())
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)

    def in_torch(x: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            angles_deg: NDArray[np.float32] = network(torch.from_numpy(x)).numpy()
        return angles_deg

    network.to(memory_format=torch.channels_last)  # on one thread each, crops are faster so
    in_onnx = partial(predict_onnx, open_session(content, "the exported model"))
    difference = largest_difference_deg(in_torch, in_onnx, _inputs(images))
    if not difference <= params.export.tolerance_deg:  # NaN is no agreement either
        raise CustomGazeError(
            f"{paths.model}: not written; the exported network differs from PyTorch's by "
            f"{difference:.4f} degrees on the crops it was compared on, "
            f"and export.tolerance_deg allows {params.export.tolerance_deg:g}"
        )
    write_bytes(paths.model, content)
    remember(hashlib.sha256(content).hexdigest())
    return ExportResult(difference, len(images), len(content) / 1e6)


def _metadata(checkpoint: Checkpoint, prepared_by: Sequence[str], sha256: str) -> ModelMetadata:
    return ModelMetadata(
        sessions=checkpoint.sessions,
        code_version=checkpoint.code,
        prepared_by=list(prepared_by),
        trained_on=checkpoint.training.trained_on,
        validation_error_deg=checkpoint.training.validation_error_deg,
        specification=checkpoint.specification,
        base=checkpoint.base,
        trunk=checkpoint.base.trunk,
        inner_share=checkpoint.inner_share,
        method=checkpoint.choice.method,
        why=checkpoint.choice.reason,
        output=OUTPUT,
        checkpoint_sha256=sha256,
    )


@dataclass(frozen=True)
class L2csExportResult:
    """What `custom-gaze export --as l2cs` says it did.

    `layer_deg` is the added layer's largest error over ±40°, `difference_deg` the largest between
    the two files on `crops` of the session.
    """

    path: Path
    layer_deg: float
    difference_deg: float
    crops: int
    size_mb: float


def run_l2cs(paths: Paths, output: Path | None = None) -> L2csExportResult:
    """Write models/custom_gaze.onnx in the two-output form, by default beside it.

    The file has the input of the original and the outputs `yaw` and `pitch`, float32 (1, 90)
    logits of bins at -180 + 4 i degrees. It keeps the original's metadata. It is checked by ONNX's
    checker, its layer over ±40° and the whole of it against the original on the validation crops,
    all through onnxruntime; only then is it moved into place.

    Raises:
        InputError: the model, the index or a crop is missing or damaged, or the model's output is
            not (1, 2).
        CustomGazeError: the two forms differ by more than 0.05 degrees.
    """
    target = output or paths.model.with_name(L2CS_NAME)
    if target.resolve() == paths.model.resolve():
        raise InputError(f"{target}: is the model itself; give the other form another name")
    if not paths.model.exists():
        raise InputError(f"{paths.model}: not found; run `custom-gaze export` first")
    original, _ = read_onnx(paths.model)
    validation = of_split(read_index(paths.index), VALIDATION)
    images = [load_crop(sample, paths) for sample in validation]

    content = _serialised(with_bins(original, str(paths.model)), target)
    layer_deg = layer_error_deg(RANGE_DEG, STEP_DEG)
    one, other = cpu_session(paths.model), cpu_session(content)
    difference_deg = largest_difference_deg(
        lambda x: predict_onnx(one, x)[0],
        # Read as the app and other programs read a stock network.
        lambda x: app_angles_deg(run_session(other, x), "the two-output form"),
        _inputs(images),
    )
    worst_deg = float(np.max([layer_deg, difference_deg]))
    if not worst_deg <= L2CS_TOLERANCE_DEG:  # NaN is no agreement either
        raise CustomGazeError(
            f"{target}: not written; its angles differ from {paths.model}'s by {worst_deg:.4f} "
            f"degrees, and {L2CS_TOLERANCE_DEG:g} are allowed"
        )
    write_bytes(target, content)
    return L2csExportResult(target, layer_deg, difference_deg, len(images), len(content) / 1e6)


def _serialised(model: onnx.ModelProto, target: Path) -> bytes:
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker's and the shape inference's own exceptions
        reason = " ".join(str(error).split())[:200]
        raise CustomGazeError(
            f"{target}: not written; ONNX's checker refuses it ({reason})"
        ) from None
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _inputs(images: Sequence[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
    """Crops uint8 (H, W, 3) as the network takes them, one by one."""
    return (normalise(image[None]) for image in bar(images, "comparing", unit="crops"))
