"""Files of tensors that this package writes for itself: records of plain values and weights.

Equal content gives equal bytes. What is read is held to the record that was written and to the
network that its weights are for, before anything is done with any of it.
"""

import io
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import write_bytes
from custom_gaze.common.tensor_files import read_tensors
from custom_gaze.common.untrusted import MOST_MODEL_BYTES, printable, read_file


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """Write `content` with torch.save, whole or not at all; equal content gives equal bytes."""
    buffer = io.BytesIO()  # saved to a path, the file would hold that path's name
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def load_tensors(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """Read a file of tensors and plain values, never code, and no more than it holds.

    Raises:
        InputError: it is missing, damaged or holds anything else. The message names `what` was
            wanted and the `remedy`.
    """
    content = read_file(path, MOST_MODEL_BYTES, remedy)
    try:
        return read_tensors(content, f"{path}")
    except InputError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise InputError(f"{path}: no {what}: {reason}; {remedy}") from None


def as_plain(value: Any) -> Any:
    """A record of ours as `save_tensors` takes it: dataclasses as dicts, tuples as lists.

    Weights are copied to the CPU: those that share memory would be written as shares, and the bytes
    would tell.
    """
    if is_dataclass(value):
        return {entry.name: as_plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, dict):
        return {as_plain(key): as_plain(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return [as_plain(part) for part in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Tensor):
        return value.detach().cpu().clone(memory_format=torch.contiguous_format)
    return value


def check_state(state: dict[str, Tensor], network: nn.Module) -> None:
    """Check weights against the network that they are for, whose own may be on "meta".

    Raises:
        ValueError: a name is missing or left over, a shape or type is another, a number is not
            finite; the message is for the end of a line.
    """
    wanted = network.state_dict()
    if state.keys() != wanted.keys():
        names = sorted(printable(name, 60) for name in state.keys() ^ wanted.keys())
        raise ValueError(f"its weights are not the network's: {', '.join(names[:3])}")
    for name, like in wanted.items():
        check_tensor(name, state[name], like)


def check_tensor(name: str, tensor: Any, like: Tensor) -> None:
    """Check that `tensor` has the shape and type of `like`, and finite numbers.

    Raises:
        ValueError: it has not; the message is for the end of a line.
    """
    if not isinstance(tensor, Tensor) or (tensor.shape, tensor.dtype) != (like.shape, like.dtype):
        raise ValueError(f"{name} is no tensor {tuple(like.shape)} of {like.dtype}")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} holds NaN or infinity")
