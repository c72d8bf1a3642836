"""The export stage: models/checkpoint.pt → models/custom_gaze.onnx, checked before it appears."""

import hashlib
import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from custom_gaze import __version__
from custom_gaze.common.console import bar
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.files import sha256_of, write_bytes
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import load_crop, of_split, prepared_by, read_index
from custom_gaze.data.splits import VALIDATION
from custom_gaze.faces import crops
from custom_gaze.models.checkpoint import Checkpoint, load_checkpoint
from custom_gaze.models.onnx_metadata import OUTPUT, ModelMetadata
from custom_gaze.models.onnx_runtime import cpu_session, predict_onnx
from custom_gaze.models.onnx_trial import remember


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
    difference = largest_difference_deg(network, content, images)
    if not difference <= params.export.tolerance_deg:  # NaN is no agreement either
        raise CustomGazeError(
            f"{paths.model}: not written; the exported network differs from PyTorch's by "
            f"{difference:.4f} degrees on the crops it was compared on, "
            f"and export.tolerance_deg allows {params.export.tolerance_deg:g}"
        )
    write_bytes(paths.model, content)
    remember(hashlib.sha256(content).hexdigest())
    return ExportResult(difference, len(images), len(content) / 1e6)


def to_onnx(network: torch.nn.Module, size_px: int, opset: int) -> onnx.ModelProto:
    """Trace a network as ONNX: `input` (1, 3, size, size) float32 → `output` (1, 2) degrees.

    One file with the weights inside. Names of files, functions and folders of this machine, which
    PyTorch's exporter leaves in every node, are taken out.
    """
    example = torch.zeros(1, 3, size_px, size_px)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter's own, about its own future
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program: Any = torch.onnx.export(
            network.eval(),
            (example,),
            dynamo=True,
            input_names=["input"],
            output_names=["output"],
            opset_version=opset,
            verbose=False,
        )
        program.save(buffer, include_initializers=True, external_data=False)
    model = onnx.load_model_from_string(buffer.getvalue())
    _strip(model)
    return model


def _strip(model: onnx.ModelProto) -> None:
    model.doc_string = ""
    model.producer_name, model.producer_version = "custom-gaze", __version__
    del model.metadata_props[:]
    _strip_graph(model.graph)
    for function in model.functions:
        _strip_nodes(function.node)


def _strip_graph(graph: onnx.GraphProto) -> None:
    graph.doc_string = ""
    graph.name = "custom_gaze"
    del graph.metadata_props[:]
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for value in values:
        value.doc_string = ""
        del value.metadata_props[:]
    _strip_nodes(graph.node)


def _strip_nodes(nodes: Sequence[onnx.NodeProto]) -> None:
    for node in nodes:
        node.doc_string = ""
        del node.metadata_props[:]


def _metadata(checkpoint: Checkpoint, prepared_by: Sequence[str], sha256: str) -> ModelMetadata:
    return ModelMetadata(
        sessions=checkpoint.sessions,
        code_version=checkpoint.code,
        prepared_by=list(prepared_by),
        trained_on=checkpoint.training.trained_on,
        validation_error_deg=checkpoint.training.validation_error_deg,
        specification=checkpoint.specification,
        base=checkpoint.base,
        trunk=checkpoint.trunk,
        method=checkpoint.choice.method,
        why=checkpoint.choice.reason,
        output=OUTPUT,
        checkpoint_sha256=sha256,
    )


def largest_difference_deg(
    network: torch.nn.Module, content: bytes, images: Sequence[NDArray[np.uint8]]
) -> float:
    """Largest difference of either angle, PyTorch against onnxruntime, on crops (H, W, 3)."""
    session = cpu_session(content)
    differences = []
    with torch.inference_mode():
        for image in bar(images, "comparing", unit="crops"):
            x = crops.normalise(image[None])
            ours = network(torch.from_numpy(x)).numpy()
            theirs = predict_onnx(session, x)
            differences.append(np.abs(ours - theirs).max())
    return float(np.max(differences))  # NaN where one of them is, as max() would not be
