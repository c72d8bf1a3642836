"""What a network's graph may consist of: checked before anything runs it.

A gaze network, a face detector and a face mesh are a row of known operators. Whatever repeats,
branches, draws random numbers or is somebody's own operator has no place in them, and a graph
without it ends.
"""

from collections.abc import Iterator
from typing import Any

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable

MOST_NODES = 5000  # a ResNet-50 in 8 bits has 500
OLDEST_OPSET = 7  # onnxruntime's
_NAMES = """
    Conv ConvTranspose Gemm MatMul Einsum
    BatchNormalization InstanceNormalization LayerNormalization GroupNormalization LRN
    LpNormalization RMSNormalization
    Relu LeakyRelu PRelu Clip Sigmoid HardSigmoid HardSwish Swish Tanh Elu Selu Celu Gelu Mish
    Softplus Softsign Softmax LogSoftmax
    MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool
    Add Sub Mul Div Pow Sqrt Exp Log Abs Neg Sign Erf Reciprocal Floor Ceil Round Min Max Sum Mean
    Equal Less LessOrEqual Greater GreaterOrEqual Not And Or Where
    ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ArgMax
    Reshape Flatten Transpose Squeeze Unsqueeze Concat Split Slice Gather GatherElements
    DepthToSpace SpaceToDepth Pad Resize Upsample Expand Tile
    Constant ConstantOfShape Shape Size Cast CastLike Identity Dropout
    QuantizeLinear DequantizeLinear
"""
OPERATORS = frozenset(_NAMES.split())


def check_graph(model: Any, where: str) -> None:
    """Check a ModelProto: one plain graph of known operators, whose numbers fill their shapes.

    Raises:
        InputError: it is something else; the message begins with `where` and names the node.
    """
    import onnx

    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise InputError(
            f"{where}: is of ONNX opset {opset}, but {OLDEST_OPSET} to {newest} can be read; "
            "export it again"
        )
    if len(model.graph.node) > MOST_NODES:
        raise InputError(f"{where}: has {len(model.graph.node)} nodes, no network here has so many")
    if model.functions or model.training_info or model.graph.sparse_initializer:
        raise InputError(
            f"{where}: holds functions, training graphs or sparse weights; a network to be run "
            "has none. Export it again with a current PyTorch"
        )
    for node in model.graph.node:
        _check_node(node, where)
    for tensor in tensors_of(model):
        _check_tensor(tensor, where)


def _check_node(node: Any, where: str) -> None:
    if node.domain.startswith("com.microsoft"):
        raise InputError(
            f"{where}: {label(node)} is one of onnxruntime's own operators "
            f"({printable(node.domain, 60)}); the file was optimised for one machine. "
            "Use the file as it was exported"
        )
    if node.domain not in ("", "ai.onnx"):
        raise InputError(
            f"{where}: {label(node)} is of the unknown domain {printable(node.domain, 60)!r}"
        )
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        raise InputError(
            f"{where}: {label(node)} holds a graph of its own; networks here have none"
        )
    if node.op_type not in OPERATORS:
        raise InputError(
            f"{where}: {label(node)} is no operator that a gaze network, a face detector or a "
            "face mesh has"
        )


def _check_tensor(tensor: Any, where: str) -> None:
    """Check that a tensor's shape promises no more values than the file holds for it."""
    import onnx

    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return  # read and bounded where it is allowed at all: weights/onnx_reader.py
    values = 1
    for size in tensor.dims:
        values *= max(size, 0)
    if values > 2 * tensor.ByteSize() or any(size < 0 for size in tensor.dims):
        raise InputError(
            f"{where}: weight {printable(tensor.name, 60)!r} is damaged: its values do not fill "
            f"its shape {printable(tuple(tensor.dims), 60)}"
        )


def tensors_of(model: Any) -> Iterator[Any]:
    """Every tensor of a model without subgraphs and functions."""
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def label(node: Any) -> str:
    """A node in words, e.g. "Conv '/layer1/conv2/Conv'"."""
    name = node.name or next(iter(node.output), "")
    return f"{printable(node.op_type, 40)} {printable(name, 60)!r}"
