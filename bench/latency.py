"""Latency of one frame in onnxruntime on the CPU: our files beside the stock two-head L2CS file.

    python bench/latency.py [--runs 30] [--threads 1]

For each trunk the same weights as: the stock form with its two heads of 90 bins, the corrected base
or probe as we export it (softmax, correction and linear map in the graph), a plain linear head
(`train.start: base`), and the first of ours in 8 bits. The sessions take turns, the median counts;
weights are random where none are shipped, which latency does not depend on.
"""

import argparse
import io
import logging
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from custom_gaze.calibration.candidates import closed_network
from custom_gaze.calibration.corrections import Polynomial
from custom_gaze.calibration.linear_probe import LinearProbe
from custom_gaze.faces.crops import normalise
from custom_gaze.models.network import GazeNetwork, take_batchnorm_statistics, trunk_spec
from custom_gaze.models.onnx_export import to_onnx
from custom_gaze.models.quantisation import latencies_ms, quantised
from custom_gaze.weights.base import BaseModule, BaseNetwork
from custom_gaze.weights.base_heads import BinHeads

SIZE_PX, OPSET, BINS = 448, 18, 90
STOCK = "stock, two heads of 90 bins"
TRUNKS = ("slim18", "resnet50")


def models(trunk: str) -> dict[str, bytes]:
    """The same trunk in each form, as the content of ONNX files."""
    torch.manual_seed(1)
    network = GazeNetwork(trunk, "layer3").eval()
    take_batchnorm_statistics(network, torch.rand(4, 3, SIZE_PX, SIZE_PX))
    features = trunk_spec(trunk).features
    weight, bias = torch.randn(BINS, features), torch.randn(BINS)
    heads = BinHeads(weight, bias, weight.clone(), bias.clone(), BINS, 4.0, -180.0)
    base = BaseNetwork(trunk, network.trunk_state(), heads, "random weights", "0" * 64, "bench")
    polynomial = Polynomial("quadratic", (0.01, 0.01), (2.0, 3.0), (5.0, -5.0))
    form = LinearProbe(polynomial, np.full((2, features), 1e-3), np.zeros(2))
    linear = to_onnx(network, SIZE_PX, OPSET).SerializeToString()
    corrected = to_onnx(closed_network(network, heads, form), SIZE_PX, OPSET).SerializeToString()
    images = np.random.default_rng(1).integers(0, 256, (4, SIZE_PX, SIZE_PX, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corrected.onnx"
        path.write_bytes(corrected)
        small = quantised(path, lambda: (normalise(image[None]) for image in images))
    return {
        STOCK: _stock(base),
        "ours: corrected base, probe, fine-tuned": corrected,
        "ours: plain linear head": linear,
        "ours in 8 bits": small,
    }


def _stock(base: BaseNetwork) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    buffer = io.BytesIO()
    program: Any = torch.onnx.export(
        BaseModule(base),
        (torch.zeros(1, 3, SIZE_PX, SIZE_PX),),
        dynamo=True,
        input_names=["input"],
        output_names=["yaw", "pitch"],
        opset_version=OPSET,
        verbose=False,
    )
    program.save(buffer, include_initializers=True, external_data=False)
    return buffer.getvalue()


def session(content: bytes, threads: int) -> Any:
    """An onnxruntime session on the CPU with so many threads; 0: as many as it takes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def table(trunk: str, threads: int, runs: int) -> list[str]:
    """Rows of Markdown: trunk, form, milliseconds, ratio to the stock form, megabytes."""
    made = models(trunk)
    x = np.random.default_rng(2).normal(size=(1, 3, SIZE_PX, SIZE_PX)).astype(np.float32)
    taken = latencies_ms([session(content, threads) for content in made.values()], x, runs)
    stock = taken[list(made).index(STOCK)]
    return [
        f"| {trunk} | {name} | {one:.1f} | {one / stock:.2f} | {len(content) / 1e6:.1f} |"
        for (name, content), one in zip(made.items(), taken, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of one frame in onnxruntime on the CPU")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1, help="0: as many as onnxruntime takes")
    parser.add_argument("--trunks", nargs="+", default=TRUNKS, choices=TRUNKS)
    arguments = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, threads: {arguments.threads or 'default'}, "
        f"onnxruntime {onnxruntime.__version__}, median of {arguments.runs} runs in turns\n"
    )
    print("| trunk | form | ms a frame | ÷ stock | MB |\n|---|---|---|---|---|")
    for trunk in arguments.trunks:
        print("\n".join(table(trunk, arguments.threads, arguments.runs)), flush=True)


if __name__ == "__main__":
    main()
