"""`custom-gaze pretrain`: from a domain's numbers to a base network with the L2CS interface."""

import dataclasses
import hashlib
import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from custom_gaze.common.files import sha256_of, write_json
from custom_gaze.common.provenance import code_version
from custom_gaze.common.scratch import scratch_folder
from custom_gaze.config.paths import Paths
from custom_gaze.demo.pretrain.check import Figures, figures
from custom_gaze.demo.pretrain.crops import drawn_crops
from custom_gaze.demo.pretrain.heads import finish_heads
from custom_gaze.demo.pretrain.learning import (
    BIN_WIDTH_DEG,
    BINS,
    FIRST_BIN_DEG,
    TRUNK,
    BinNetwork,
    learn,
)
from custom_gaze.demo.pretrain.params import load_pretrain_params
from custom_gaze.models.devices import pick_device
from custom_gaze.weights.base import BaseNetwork, save_base
from custom_gaze.weights.base_heads import BinHeads
from custom_gaze.weights.embedded import EMBEDDED, load_embedded, provenance_of


@dataclass(frozen=True)
class PretrainResult:
    """What `custom-gaze pretrain` says it did."""

    output: Path
    crops: int
    figures: Figures
    size_mb: float
    seconds: float  # of this process; an interrupted one's are not in it


def run(params_path: Path, output: Path, start: Path | None = None) -> PretrainResult:
    """Draw the crops, train on them, measure, and write the base network and its provenance.

    Weights begin random, or as those of `start`, a file that an earlier pretraining wrote.

    Interrupted and started again, it goes on where it stopped. Beside `output` (a base.pt whose
    weights are float16) lies a .json of the same name: its SHA-256, what it was made of, on what
    machine, and its figures.

    Raises:
        InputError: a parameter is wrong, `start` is damaged, or the device is not there.
        CustomGazeError: a file cannot be written.
    """
    params = load_pretrain_params(params_path)
    device = pick_device(params.learn.device, "learn.device")
    started = time.monotonic()
    unfinished = Paths().unfinished
    domains = [dataclasses.asdict(domain) for domain in (params.domain, params.heads_domain)]
    first = None if start is None else load_embedded(start)
    key = _key(dataclasses.asdict(params), device.type, "" if first is None else first.sha256)
    with (
        scratch_folder(unfinished / "pretrain-crops", _key(*domains)) as drawn,
        scratch_folder(unfinished / "pretrain", key) as scratch,
    ):
        crops = drawn_crops(params.domain, drawn / "trunk")
        network, learning_s = learn(crops, params.learn, device, scratch / "state.pt", first)
        if params.heads.steps > 0:
            for_heads = drawn_crops(params.heads_domain, drawn / "heads")
            finish_heads(network, for_heads, params.heads, params.learn.regression_weight)
        measured = figures(network, params.domain)
        base = as_base(network)
        save_base(base, output)
    seconds = time.monotonic() - started
    provenance = {
        "sha256": sha256_of(output),
        "parameters": dataclasses.asdict(params),
        "started_from": "random weights" if first is None else first.sha256,
        "crops": len(crops),
        "figures": {k: round(v, 3) for k, v in dataclasses.asdict(measured).items()},
        "made_on": {**_machine(device), "learning_s": round(learning_s), "code": _code()},
    }
    write_json(provenance_of(output), provenance)
    return PretrainResult(output, len(crops), measured, output.stat().st_size / 1e6, seconds)


def as_base(network: BinNetwork) -> BaseNetwork:
    """The network as a base: weights in float16, which is what will be read back."""
    half = {
        name: tensor.detach().cpu().half()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    yaw, pitch = ((half[f"{angle}.weight"], half[f"{angle}.bias"]) for angle in ("yaw", "pitch"))
    heads = BinHeads(*yaw, *pitch, BINS, BIN_WIDTH_DEG, FIRST_BIN_DEG)
    trunk = {k.removeprefix("trunk."): v for k, v in half.items() if k.startswith("trunk.")}
    return BaseNetwork(TRUNK, trunk, heads, "custom-gaze pretrain", "", EMBEDDED)


def _code() -> str:
    return code_version("demo.pretrain.run")


def _key(*parts: object) -> str:
    said = json.dumps([*parts, _code(), torch.__version__])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _machine(device: torch.device) -> dict[str, str | int | None]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"device": f"{device.type}: {name}", "cores": os.cpu_count(), "torch": torch.__version__}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
