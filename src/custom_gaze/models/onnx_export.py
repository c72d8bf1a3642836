"""A network traced as ONNX, without a word of the machine that did it."""

import io
import warnings

import onnx
import torch

from custom_gaze import __version__


def to_onnx(network: torch.nn.Module, size_px: int, opset: int) -> onnx.ModelProto:
    """Trace a network as ONNX: `input` (1, 3, size, size) float32 → `output` (1, 2) degrees.

    One file with the weights inside. Names of files, functions and folders of this machine, which
    PyTorch's exporter leaves in every node, are taken out.
    """
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
    model = onnx.load_model_from_string(buffer.getvalue())
    _strip(model)
    return model


def _strip(model: onnx.ModelProto) -> None:
    model.producer_name, model.producer_version = "custom-gaze", __version__
    graph = model.graph
    graph.name = "custom_gaze"
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    nodes = (*graph.node, *(node for function in model.functions for node in function.node))
    for part in (model, graph, *values, *nodes):
        part.doc_string = ""
        del part.metadata_props[:]
