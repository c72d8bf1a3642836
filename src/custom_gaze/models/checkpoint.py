"""checkpoint.pt: a trained network, what is needed to use it and to say where it is from."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from custom_gaze.common.errors import InputError
from custom_gaze.common.plain_records import from_plain
from custom_gaze.common.saved_tensors import (
    as_plain,
    check_state,
    load_tensors,
    save_tensors,
)
from custom_gaze.common.untrusted import printable
from custom_gaze.config.specification import Specification, specification_of
from custom_gaze.models.graph import GraphTrunk, NodeList
from custom_gaze.models.heads import CorrectedAngles, CorrectedBins, CorrectedHead
from custom_gaze.models.network import GazeNetwork, Trunk, trunk_spec
from custom_gaze.models.records import BaseProvenance, ChoiceRecord, TrainingRecord

FORMAT = "custom-gaze-checkpoint"
VERSION = 7
LINEAR, CORRECTED = "linear", "corrected"
MOST_BINS = 360  # L2CS-Net has 90


@dataclass(frozen=True)
class Checkpoint:
    """A network's weights and its provenance."""

    trunk: Trunk
    frozen_through: str  # its last block that was not trained
    inner_share: float  # of the crop's side, what the trunk gets
    head: str  # its kind, LINEAR or CORRECTED (heads.py)
    angles: NodeList | None  # what CORRECTED corrects where the base's heads are no bins
    state: dict[str, Tensor]  # all weights and statistics by name, float32
    base: BaseProvenance
    code: str  # the version of the code that trained (common/provenance.py)
    sessions: list[str]  # those it was trained on
    params: dict[str, dict[str, str | int | float | None]]  # the sections that decide about it
    specification: Specification
    training: TrainingRecord
    choice: ChoiceRecord

    def network(self) -> GazeNetwork:
        """The network in eval mode, float32 on the CPU; every key and shape has to fit."""
        network = self.unfilled()
        network.load_state_dict(self.state, strict=True)
        return network.eval()

    def unfilled(self) -> GazeNetwork:
        """The network before its weights are loaded.

        Raises:
            InputError: the trunk or its frozen block is unknown.
            ValueError: the head is of an unknown kind, or its number of bins or its inner share
                is none; the nodes of the trunk or of the head are no network.
        """
        if isinstance(self.trunk, GraphTrunk):
            self.trunk.check(self.specification.preprocessing.size_px)
        if self.head not in (LINEAR, CORRECTED):
            raise ValueError(f"unknown head {self.head!r}")
        head: CorrectedHead | None = None
        if self.head == CORRECTED and self.angles is not None:
            head = CorrectedAngles(trunk_spec(self.trunk).features, self.angles)
        elif self.head == CORRECTED:
            if not 2 <= self.base.bins <= MOST_BINS:
                raise ValueError(f"a head of {self.base.bins} bins")
            head = CorrectedBins(trunk_spec(self.trunk).features, self.base.bins)
        return GazeNetwork(self.trunk, self.frozen_through, head, self.inner_share)


def corrected_angles(network: GazeNetwork) -> NodeList | None:
    """What a head corrects, for `Checkpoint.angles`."""
    return network.head.nodes if isinstance(network.head, CorrectedAngles) else None


def head_kind(network: GazeNetwork) -> str:
    """LINEAR or CORRECTED, for `Checkpoint.head`."""
    return CORRECTED if isinstance(network.head, CorrectedHead) else LINEAR


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    save_tensors({"format": FORMAT, "version": VERSION, **as_plain(checkpoint)}, path)


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
        content["specification"] = specification_of(content.get("specification"), path, remedy)
        checkpoint = from_plain(Checkpoint, content, "checkpoint")
        if not math.isfinite(checkpoint.training.validation_error_deg):
            raise ValueError("its error on validation is no number")
        with torch.device("meta"):
            network = checkpoint.unfilled()
        check_state(checkpoint.state, network)
    except (InputError, ValueError) as error:
        reason = str(error).removeprefix(f"{path}: ").removesuffix(f"; {remedy}")
        raise InputError(f"{path}: no valid checkpoint ({printable(reason)}); {remedy}") from None
    return checkpoint
