"""Which device torch computes on."""

import torch

from custom_gaze.errors import InputError


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
