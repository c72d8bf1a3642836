"""A checkpoint comes back as it was written, or not at all."""

from pathlib import Path
from typing import Any

import pytest
import torch

from custom_gaze.common.errors import InputError
from custom_gaze.common.saved_tensors import load_tensors, save_tensors
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.specification import Preprocessing, Specification
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from custom_gaze.models.network import GazeNetwork
from custom_gaze.models.records import BaseProvenance, ChoiceRecord, TrainingRecord


def checkpoint() -> Checkpoint:
    torch.manual_seed(1)
    return Checkpoint(
        trunk="slim18",
        frozen_through="layer3",
        inner_share=0.5,
        head="linear",
        angles=None,
        state=GazeNetwork("slim18", "layer3").state_dict(),
        base=BaseProvenance("a file", "", "random", "slim18", 0, False),
        code="1",
        sessions=["a"],
        params={"train": {"learning_rate": 1e-4, "method": "probe"}},
        specification=Specification(ScreenGeometry(), Preprocessing(), "mesh", "1" * 64, "2" * 64),
        training=TrainingRecord(["train"], 0, 1.0, 9.0, 3.0),
        choice=ChoiceRecord(Candidate.PROBE, "why", {Candidate.PROBE: 3.0}),
    )


def test_what_is_written_comes_back_and_equal_ones_are_equal_files(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(checkpoint(), path)
    back, written = load_checkpoint(path), checkpoint()
    assert {name: value for name, value in vars(back).items() if name != "state"} == {
        name: value for name, value in vars(written).items() if name != "state"
    }
    assert back.network().inner_share == 0.5
    state = back.network().state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in written.state.items())
    content = path.read_bytes()
    save_checkpoint(checkpoint(), path)
    assert path.read_bytes() == content


def test_a_checkpoint_has_to_be_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(checkpoint(), path)
    plain = load_tensors(path, "checkpoint", "run it")
    state, base, choice = plain["state"], plain["base"], plain["choice"]
    corrected: dict[str, Any] = {"head": "corrected"}
    for changes, said in (
        ({"specification": {}}, "does not say by which geometry"),
        (
            {"specification": {**plain["specification"], "preprocessing": {"margin": 1.5}}},
            "its preprocessing is not one of this version's",
        ),
        ({"choice": choice | {"method": "best"}}, "no known candidate"),
        ({"choice": choice | {"reason": 1}}, "reason is int, no str"),
        ({"choice": choice | {"held_out_deg": {"probe": "3"}}}, "held_out_deg is str, no float"),
        ({"choice": {"method": "probe"}}, r"no complete choice \(held_out_deg, reason"),
        ({"base": "a file"}, "base is str, no BaseProvenance"),
        ({"sessions": [1]}, "sessions is int, no str"),
        (
            {"training": plain["training"] | {"validation_error_deg": float("nan")}},
            "on validation is no number",
        ),
        ({"trunk": "resnet7"}, "unknown trunk 'resnet7'"),
        ({"trunk": "resnet18"}, "conv1.weight is no tensor|its weights are not the network's"),
        ({"frozen_through": "layer9"}, "'layer9', which slim18 has not"),
        ({"inner_share": 0.01}, "an inner share of 0.01"),
        ({"inner_share": float("nan")}, "an inner share of nan"),
        ({"head": "round"}, "unknown head 'round'"),
        (corrected | {"base": base | {"bins": 10**9}}, "a head of 1000000000 bins"),
        (corrected | {"base": {k: v for k, v in base.items() if k != "bins"}}, r"base \(bins"),
        ({"sessions": "monday"}, "sessions is str, no list"),
        ({"state": state | {"head.bias": torch.full((2,), float("nan"))}}, "head.bias holds NaN"),
        ({"state": state | {"head.bias": torch.zeros(3)}}, r"head.bias is no tensor \(2,\)"),
        ({"state": {k: v for k, v in state.items() if k != "head.bias"}}, "network's: head.bias"),
        ({"state": state | {"head.\x1b[2J": state["head.bias"]}}, r"network's: head.\\x1b"),
    ):
        save_tensors(plain | changes, path)
        with pytest.raises(InputError, match=rf"no valid checkpoint \(.*{said}") as caught:
            load_checkpoint(path)
        assert str(caught.value).isprintable()
