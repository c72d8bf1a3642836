"""What a base network answers to crops by itself: what a user has without any training."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from custom_gaze.crops import normalise
from custom_gaze.dataset import Sample, load_crop
from custom_gaze.paths import Paths
from custom_gaze.progress import bar
from custom_gaze.weights.base import BaseNetwork, build_base, expected_angles


def base_angles(base: BaseNetwork, samples: Sequence[Sample], paths: Paths) -> NDArray[np.float64]:
    """The base's expected angles, (N, 2) [yaw, pitch] in degrees, one crop at a time on the CPU.

    Raises:
        InputError: the base is a trunk without heads, or a crop cannot be read.
    """
    module = build_base(base)
    assert base.heads is not None  # build_base refuses a base without
    rows = []
    with torch.inference_mode():
        for sample in bar(samples, "base network", unit="crops"):
            x = torch.from_numpy(normalise(load_crop(sample, paths)[None]))  # (1, 3, H, W)
            yaw_logits, pitch_logits = module(x)  # (1, bins) each
            rows.append(expected_angles(yaw_logits, pitch_logits, base.heads))
    angles: NDArray[np.float64] = torch.cat(rows).numpy().astype(np.float64)
    return angles
