"""checkpoint.pt: a trained network, what is needed to use it and to say where it is from."""

import io
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from custom_gaze.corrected import CorrectedHead
from custom_gaze.errors import InputError
from custom_gaze.files import write_bytes
from custom_gaze.network import GazeNetwork, trunk_spec

FORMAT = "custom-gaze-checkpoint"
VERSION = 4
LINEAR, CORRECTED = "linear", "corrected"


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
        head = None
        if self.head == CORRECTED:
            head = CorrectedHead(trunk_spec(self.trunk).features, self.base["bins"])
        network = GazeNetwork(self.trunk, self.frozen_through, head)
        network.load_state_dict(self.state, strict=True)
        return network.eval()


def head_kind(network: GazeNetwork) -> str:
    """LINEAR or CORRECTED, for `Checkpoint.head`."""
    return CORRECTED if isinstance(network.head, CorrectedHead) else LINEAR


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """Write `content` with torch.save, whole or not at all; equal content gives equal bytes."""
    buffer = io.BytesIO()  # saved to a path, the file would hold that path's name
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def load_tensors(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """Read a file of tensors and plain values, never code.

    Raises:
        InputError: it is missing, damaged or holds anything else. The message names `what` was
            wanted and the `remedy`.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; {remedy}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise InputError(
            f"{path}: no {what}: damaged, or something else ({type(error).__name__}); {remedy}"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: no {what}; {remedy}")
    return content


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
        return Checkpoint(**content)
    except TypeError as error:
        raise InputError(f"{path}: no complete checkpoint ({error}); {remedy}") from None
