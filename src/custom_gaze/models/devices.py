"""Which device torch computes on, and how precisely."""

from contextlib import AbstractContextManager, nullcontext

import torch

from custom_gaze.common.errors import InputError


def pick_device(wanted: str, key: str) -> torch.device:
    """'auto' takes CUDA, then MPS, then the CPU.

    Raises:
        InputError: torch does not see the device that the parameter `key` asks for.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return torch.device(next(name for name in there if there[name]))
    if not there[wanted]:
        raise InputError(f"{key} is {wanted!r}, but torch sees none here; set it to auto")
    return torch.device(wanted)


def lower_precision(device: torch.device) -> AbstractContextManager[object]:
    """A context whose convolutions and matrix products run in bfloat16 where that is faster.

    That is on CUDA GPUs that have it. A CPU needs matrix units for it (AMX), and without them takes
    longer than in float32, so there, as on MPS, nothing changes.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """A context inside `lower_precision` that computes in float32 again.

    Where nothing lowers the precision it is none at all, so that exporters meet no trace of it.
    """
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
