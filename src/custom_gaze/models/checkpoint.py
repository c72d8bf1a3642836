"""checkpoint.pt: a trained network, what is needed to use it and to say where it is from."""

import io
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import torch
from torch import Tensor, nn

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import write_bytes
from custom_gaze.common.tensor_files import read_tensors
from custom_gaze.common.untrusted import MOST_MODEL_BYTES, printable, read_file
from custom_gaze.config.candidate import Candidate
from custom_gaze.data.specification import specification_of
from custom_gaze.models.heads import CorrectedHead
from custom_gaze.models.network import GazeNetwork, trunk_spec

FORMAT = "custom-gaze-checkpoint"
VERSION = 4
LINEAR, CORRECTED = "linear", "corrected"
MOST_BINS = 360  # L2CS-Net has 90


@dataclass(frozen=True)
class Checkpoint:
    """A network's weights and its provenance.

    `head` is its kind, LINEAR or CORRECTED (corrected.py). `choice` says which candidate it is
    ("method": base, probe or finetune), why ("reason"), and each candidate's mean error in degrees
    on targets its fit had not seen ("held_out_deg").
    """

    trunk: str
    frozen_through: str
    head: str
    state: dict[str, Tensor]
    base: dict[str, Any]  # source, sha256, kind … of the base network
    code: str  # version of the code that trained: provenance.py
    sessions: list[str]
    params: dict[str, Any]  # the sections of params.yaml that decide about the network
    specification: dict[str, Any]  # the labels' screen and the crops' rule: specification.py
    training: dict[str, Any]  # epoch, validation_error_deg, frames …
    choice: dict[str, Any]

    def network(self) -> GazeNetwork:
        """The network in eval mode, float32 on the CPU; every key and shape has to fit."""
        network = self.unfilled()
        network.load_state_dict(self.state, strict=True)
        return network.eval()

    def unfilled(self) -> GazeNetwork:
        """The network before its weights are loaded.

        Raises:
            InputError: the trunk or its frozen block is unknown.
            ValueError: the head is of an unknown kind, or its number of bins is none.
        """
        if self.head not in (LINEAR, CORRECTED):
            raise ValueError(f"unknown head {self.head!r}")
        head = None
        if self.head == CORRECTED:
            bins = self.base["bins"]
            if not isinstance(bins, int) or not 2 <= bins <= MOST_BINS:
                raise ValueError(f"a head of {bins!r} bins")
            head = CorrectedHead(trunk_spec(self.trunk).features, bins)
        return GazeNetwork(self.trunk, self.frozen_through, head)


def head_kind(network: GazeNetwork) -> str:
    """LINEAR or CORRECTED, for `Checkpoint.head`."""
    return CORRECTED if isinstance(network.head, CorrectedHead) else LINEAR


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


def checked_plain(content: dict[str, Any], kind: type, what: str) -> dict[str, Any]:
    """`content` where its keys are the fields of the dataclass `kind` and its values of their
    types, as far as a type without its brackets says.

    Raises:
        ValueError: they are not; the message is for the end of a line.
    """
    wanted = {field.name: field.type for field in fields(kind)}
    if content.keys() != wanted.keys():
        names = sorted(printable(name, 40) for name in content.keys() ^ wanted.keys())
        raise ValueError(f"no complete {what}: {', '.join(names[:3])}")
    for name, annotation in wanted.items():
        alternatives = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
        if not isinstance(content[name], tuple(get_origin(one) or one for one in alternatives)):
            raise ValueError(f"{name} is {type(content[name]).__name__}, no {annotation}")
    return content


def check_state(state: dict[str, Any], network: nn.Module) -> None:
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


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    save_tensors({"format": FORMAT, "version": VERSION, **_plain(checkpoint)}, path)


def _plain(checkpoint: Checkpoint) -> dict[str, Any]:
    plain = asdict(checkpoint)
    plain["state"] = {
        name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.state.items()
    }
    return plain


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: it is missing, damaged, or of another format or version.
    """
    remedy = "run `custom-gaze train` first"
    content = load_tensors(path, "checkpoint", remedy)
    if content.pop("format", None) != FORMAT or content.pop("version", None) != VERSION:
        raise InputError(f"{path}: no checkpoint of this version; {remedy}")
    try:
        checkpoint = Checkpoint(**checked_plain(content, Checkpoint, "checkpoint"))
        with torch.device("meta"):
            network = checkpoint.unfilled()
        check_state(checkpoint.state, network)
        _check_facts(checkpoint, path, remedy)
    except (InputError, LookupError, TypeError, ValueError) as error:
        reason = str(error).removeprefix(f"{path}: ").removesuffix(f"; {remedy}")
        raise InputError(f"{path}: no valid checkpoint ({printable(reason)}); {remedy}") from None
    return checkpoint


def _check_facts(checkpoint: Checkpoint, path: Path, remedy: str) -> None:
    """Check what the exported model will say of itself.

    Raises:
        InputError: the labels' screen or the crops' rule is none.
        LookupError, TypeError, ValueError: another fact is missing, or none.
    """
    specification_of(checkpoint.specification, path, remedy)
    texts = [*checkpoint.sessions, checkpoint.choice["reason"]]
    texts += [checkpoint.base[key] for key in ("source", "sha256", "kind")]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("its sessions, its base network or its reason are no texts")
    if checkpoint.choice["method"] not in list(Candidate):
        raise ValueError("it is no known candidate")
    if not math.isfinite(checkpoint.training.get("validation_error_deg", 0.0)):
        raise ValueError("its error on validation is no number")
