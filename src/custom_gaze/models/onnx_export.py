"""A network traced as ONNX, without a word of the machine that did it, and compared with itself."""

import io
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from custom_gaze import __version__
from custom_gaze.models.devices import SideBySide


def to_onnx(network: torch.nn.Module, size_px: int, opset: int) -> onnx.ModelProto:
    """Trace a network as ONNX: `input` (1, 3, size, size) float32 → `output` (1, 2) degrees.

    One file with the weights inside. Names of files, functions and folders of this machine, which
    PyTorch's exporter leaves in every node, are taken out.
    """
    model = onnx.load_model_from_string(traced(network, size_px, opset))
    _strip(model)
    return model


def traced(network: torch.nn.Module, size_px: int, opset: int) -> bytes:
    """The same with these names, and with whatever output the network has, as a file's content."""
    example = torch.zeros(1, 3, size_px, size_px)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter's own, about its successor
        # Its successor (dynamo=True) takes 4 s of CPU and 200 MB to load; what it writes for such
        # networks, without control flow and of one size, predicts the same.
        torch.onnx.export(
            network.eval(),
            (example,),
            buffer,  # type: ignore[arg-type]  # it takes files too
            dynamo=False,
            input_names=["input"],
            output_names=["output"],
            opset_version=opset,
            verbose=False,
        )
    return buffer.getvalue()


def _strip(model: onnx.ModelProto) -> None:
    model.producer_name, model.producer_version = "custom-gaze", __version__
    graph = model.graph
    graph.name = "custom_gaze"
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    nodes = (*graph.node, *(node for function in model.functions for node in function.node))
    for part in (model, graph, *values, *nodes):
        part.doc_string = ""
        del part.metadata_props[:]


def largest_difference_deg(
    one: Callable[[NDArray[np.float32]], NDArray[Any]],
    other: Callable[[NDArray[np.float32]], NDArray[Any]],
    inputs: Iterable[NDArray[np.float32]],
) -> float:
    """Largest difference of either angle between two forms of a network, on inputs (1, 3, H, W),
    of which as many pass at once as there are threads."""

    def difference(x: NDArray[np.float32]) -> float:
        return float(np.abs(one(x) - other(x)).max())

    # NaN where one of them is, as max() would not be
    return float(np.max(list(SideBySide().map(difference, inputs))))
