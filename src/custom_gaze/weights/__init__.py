"""Base networks: every file a user may bring, read into one form, checked and stored.

`load_base` finds out what a file is by looking at it; `save_base` and `read_base` keep it as
models/base.pt; `build_base` makes it a network again; `describe` says what a file is.
"""

from custom_gaze.weights.base import (
    BaseNetwork,
    BinHeads,
    build_base,
    expected_angles,
    read_base,
    save_base,
)
from custom_gaze.weights.inspect import describe
from custom_gaze.weights.load import load_base

__all__ = [
    "BaseNetwork",
    "BinHeads",
    "build_base",
    "describe",
    "expected_angles",
    "load_base",
    "read_base",
    "save_base",
]
