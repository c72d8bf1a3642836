"""Which of two outputs is the horizontal angle: the one that changes sign in the mirror.

Neither names nor order can be trusted: files exist that compute yaw first and return pitch first.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.faces.crops import normalise, resize
from custom_gaze.weights.base import BaseModule, BaseNetwork

SIZE_PX = 448
MAX_CROPS = 6  # more crops of one person tell no more

# The portrait's face (x, y of its centre, side of the square around it, pixels), and the same
# a little off, nearer and further away.
PORTRAIT_SQUARES = ((224, 122, 190), (214, 118, 170), (232, 130, 220))

# A mirror score is -1 for an angle that only changes its sign and +1 for one that stays. Between
# these two the result is not taken for clear.
CLEAR = 0.5


@dataclass(frozen=True)
class Naming:
    """How yaw and pitch were told apart before the mirror test, by the file's own names."""

    yaw: str  # what was taken for yaw
    pitch: str
    by: str  # 'name' where the names say so, 'order' where they do not, or SAID


SAID = "metadata"  # the file is one of ours and says which is which


def portrait_crops() -> NDArray[np.uint8]:
    """Three crops of the face in scikit-image's public-domain portrait, uint8 (3, 448, 448, 3)."""
    import skimage.data

    frame: NDArray[np.uint8] = skimage.data.astronaut()
    cut = [
        frame[y - side // 2 : y + side // 2, x - side // 2 : x + side // 2]
        for x, y, side in PORTRAIT_SQUARES
    ]
    return np.stack([resize(face, SIZE_PX, SIZE_PX) for face in cut])


def settle_axes(
    base: BaseNetwork, naming: Naming, crops: NDArray[np.uint8] | None = None
) -> BaseNetwork:
    """The base with its heads the right way round, as a mirror test on `crops` says.

    Where the test is not clear, as with weights that were never trained, `naming` stands and a
    warning says so, unless the file itself says which angle is which. It also warns where the test
    contradicts it.

    Args:
        base: a base network with heads.
        naming: what yaw and pitch are taken for so far.
        crops: face crops, uint8 (N, 448, 448, 3) RGB; None for those of a built-in portrait.

    Raises:
        InputError: `crops` is empty.
    """
    crops = portrait_crops() if crops is None else _thinned(crops)
    yaw, pitch = mirror_scores(base, crops)
    named = f"{naming.yaw!r} and {naming.pitch!r}"
    if yaw <= -CLEAR and pitch >= CLEAR:
        return base
    if pitch <= -CLEAR and yaw >= CLEAR:
        assert base.heads is not None
        note = (
            f"of the outputs {named}, in this order, the second is the horizontal angle: it "
            f"changes its sign in the mirror and the first does not ({pitch:.2f} and {yaw:.2f})"
        )
        return dataclasses.replace(
            base, heads=base.heads.swapped(), warnings=(*base.warnings, note)
        )
    if naming.by == SAID:  # a person's model is centred on their screen: its mirror tells little
        return base
    note = (
        f"a mirrored face does not tell which of {named} is the horizontal angle (scores "
        f"{yaw:.2f} and {pitch:.2f}); the first is taken for it, by its {naming.by}"
    )
    return dataclasses.replace(base, warnings=(*base.warnings, note))


def mirror_scores(base: BaseNetwork, crops: NDArray[np.uint8]) -> tuple[float, float]:
    """How yaw and pitch take mirroring: -1 changes its sign, +1 stays, each in [-1, 1].

    The mean product of the angle on a crop and on the mirrored crop, over their mean square.
    """
    module = BaseModule(base)
    angles = []
    for images in (crops, crops[:, :, ::-1]):
        with torch.inference_mode():
            rows = [module.angles_deg(torch.from_numpy(normalise(x[None]))) for x in images]
        angles.append(torch.cat(rows).numpy())  # (N, 2)
    plain, mirrored = angles
    power = (plain**2 + mirrored**2).mean(axis=0) / 2
    scores = (plain * mirrored).mean(axis=0) / np.maximum(power, 1e-12)
    return float(scores[0]), float(scores[1])


def _thinned(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most MAX_CROPS of them, spread over all."""
    if len(crops) == 0:
        raise InputError("the mirror test needs at least one face crop")
    chosen = np.linspace(0, len(crops) - 1, min(len(crops), MAX_CROPS)).round().astype(int)
    thinned: NDArray[np.uint8] = crops[chosen]
    return thinned
