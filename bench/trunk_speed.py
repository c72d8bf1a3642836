"""CPU time of one 448×448 frame through each trunk, as ratios to the embedded base's.

    python bench/trunk_speed.py [--frames 12]

One thread, float32, PyTorch; the best of the frames counts. MobileNetV3-large is there because it
was the embedded trunk's rival.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable

import torch
import torchvision
from torch import nn

from custom_gaze.models.network import TRUNKS

OURS = "slim18"


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time of one frame through each trunk")
    parser.add_argument("--frames", type=int, default=12)
    frames = parser.parse_args().frames
    torch.set_num_threads(1)
    build: dict[str, Callable[[], nn.Module]] = {name: spec.build for name, spec in TRUNKS.items()}
    build["mobilenet_v3_large"] = lambda: torchvision.models.mobilenet_v3_large(weights=None)
    seconds = {name: best_seconds(make().eval(), frames) for name, make in build.items()}
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, one thread, torch {torch.__version__}\n")
    print(f"| trunk | ms a frame | ÷ {OURS} | million weights |\n|---|---|---|---|")
    for name, one in sorted(seconds.items(), key=lambda item: item[1]):
        weights = sum(parameter.numel() for parameter in build[name]().parameters()) / 1e6
        print(f"| {name} | {1e3 * one:.0f} | {one / seconds[OURS]:.1f} | {weights:.1f} |")


def best_seconds(network: nn.Module, frames: int) -> float:
    """CPU seconds of the quickest of `frames` passes, after one to warm up."""
    network = network.to(memory_format=torch.channels_last)
    x = torch.randn(1, 3, 448, 448).contiguous(memory_format=torch.channels_last)
    best = float("inf")
    with torch.inference_mode():
        network(x)
        for _ in range(frames):
            started = time.process_time()
            network(x)
            best = min(best, time.process_time() - started)
    return best


if __name__ == "__main__":
    main()
