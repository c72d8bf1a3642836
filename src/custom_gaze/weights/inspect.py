"""What a weights or model file is, in a few lines."""

import hashlib
from pathlib import Path
from typing import Any

from torch import Tensor

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import printable
from custom_gaze.models import onnx_files
from custom_gaze.weights import load, onnx_reader, torch_reader
from custom_gaze.weights.base import FORMAT, BaseNetwork
from custom_gaze.weights.base_heads import AngleHead
from custom_gaze.weights.costs import costs_of, in_torch, latency_ms

MAX_VALUE_LENGTH = 100  # characters of a checkpoint's or a model's entry that are shown


def describe(path: Path) -> str:
    """What a file is: a base network of any form, our own base.pt, checkpoint or exported ONNX,
    or any other ONNX with its inputs and outputs.

    A base network is loaded with all its checks; where it cannot be used, the reason is given.

    Raises:
        InputError: the file cannot be read or is nothing of the kind.
    """
    content = load.read_content(path)
    lines = _torch_lines(content, path) if load.is_torch(content) else _onnx_lines(content, path)
    return "\n".join([*lines, f"sha256 {hashlib.sha256(content).hexdigest()}"])


def _torch_lines(content: bytes, path: Path) -> list[str]:
    loaded = torch_reader.read_torch(content, f"{path}")
    kind = loaded.get("format")
    if isinstance(kind, str) and kind != FORMAT:
        return [f"{path}: {printable(kind, 60)}", *_entries(loaded)]
    return [f"{path}: PyTorch file", *_base_lines(path)]


def _entries(content: dict[str, Any]) -> list[str]:
    """A line for each plain value, and the number of weights."""
    weights = sum(
        tensor.numel()
        for entry in content.values()
        if isinstance(entry, dict)
        for tensor in entry.values()
        if isinstance(tensor, Tensor)
    )
    plain = {
        key: value
        for key, value in content.items()
        if key != "format" and isinstance(value, str | int | float | list)
    }
    return [*_named(plain), f"{weights / 1e6:.1f} million weights"]


def _named(entries: dict[str, Any]) -> list[str]:
    return [printable(f"{key}: {value}", MAX_VALUE_LENGTH) for key, value in entries.items()]


def _onnx_lines(content: bytes, path: Path) -> list[str]:
    model = onnx_reader.parse_model(content, f"{path}")
    opset = next((entry.version for entry in model.opset_import if not entry.domain), "unknown")
    maker = " ".join([model.producer_name, model.producer_version]).strip() or "an unknown program"
    maker = printable(maker, MAX_VALUE_LENGTH)
    lines = [f"{path}: ONNX, opset {opset}, made by {maker}", onnx_files.describe(model)]
    lines += _named({entry.key: entry.value for entry in model.metadata_props})
    outputs = [shape for _, shape in onnx_files.outputs_of(model)]
    two = len(outputs) == 2 and all(len(shape) == 2 for shape in outputs)
    if two or (len(outputs) == 1 and outputs[0][-1:] == (2,)):
        lines += _base_lines(path)
    return lines


def _base_lines(path: Path) -> list[str]:
    """The base network in a file in words, one line a fact, or why there is none."""
    try:
        base = load.load_base(path)
    except CustomGazeError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return [f"no base network for custom-gaze: {reason}"]
    heads = "no heads, a trunk only"
    if isinstance(base.heads, AngleHead):
        heads = "one output of two angles"
    elif base.heads is not None:
        width, first = base.heads.bin_width_deg, base.heads.first_bin_deg
        heads = f"two heads of {base.heads.bins} bins of {width:g}° from {first:g}°"
    lines = [f"base network ({base.kind}) from {base.source}", f"{base.spec.name}, {heads}"]
    if base.batchnorm_folded:
        lines.append("BatchNorm was folded into the convolutions")
    if base.kind == "onnx":
        lines.append("the rebuilt network and onnxruntime agree")
    lines += _cost_lines(base, path)
    return [*lines, *(f"warning: {warning}" for warning in base.warnings)]


def _cost_lines(base: BaseNetwork, path: Path) -> list[str]:
    """How large, how fast, where it is cut."""
    costs = costs_of(base)
    size_mb = path.stat().st_size / 1e6
    kept = " × ".join(str(size) for size in costs.kept)
    how, run = "PyTorch", in_torch(base)
    if base.kind == "onnx" and path.suffix != ".pt":
        session = onnx_files.open_session(path.read_bytes(), path, threads=0)
        how, run = "onnxruntime", lambda x: onnx_files.run_session(session, x)
    return [
        f"{costs.parameters / 1e6:.1f} million parameters, {costs.multiplications / 1e9:.2f} "
        f"billion multiplications an image, {size_mb:.1f} MB",
        f"cut behind {base.spec.frozen_through}: {costs.frozen_share:.0%} of the multiplications "
        f"are frozen, {kept} numbers are kept of a sample; {base.spec.features} features",
        f"{latency_ms(run):.0f} ms an image here ({how})",
    ]
