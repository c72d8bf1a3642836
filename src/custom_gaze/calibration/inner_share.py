"""Which part of the crop a base network looks at: all of it, or its middle, enlarged.

The app cuts its crop 1.5 times as large as the face's box. A network that was trained on tighter
faces sees them too small there, and hardly tells one gaze from another. The exported file's input
is fixed, but not what it does with it: it may begin with a cut and an enlargement of its own.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from custom_gaze.calibration import policy
from custom_gaze.calibration.base_features import BaseFeatures, base_features_of, seen_through
from custom_gaze.calibration.candidates import closed_held_out
from custom_gaze.calibration.cross_validation import training_folds
from custom_gaze.calibration.selection import preferred
from custom_gaze.config.candidate import AUTO
from custom_gaze.config.params import TrainParams
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample
from custom_gaze.models.network import GazeNetwork
from custom_gaze.weights.base import BaseNetwork
from custom_gaze.weights.base_heads import Heads


def asked_for(params: TrainParams, base: BaseNetwork) -> float | None:
    """The inner share that needs no choice; None where the frames choose.

    A base of the app's own crops knows them whole, and a trunk without angles has none to choose
    by.
    """
    if params.inner_share != AUTO:
        return float(params.inner_share)
    return 1.0 if base.of_app_crops or base.heads is None else None


def base_features_and_share(
    network: GazeNetwork,
    heads: Heads | None,
    samples: Sequence[Sample],
    paths: Paths,
    asked: float | None,
    choosing: slice,
    seed: int,
) -> BaseFeatures:
    """The base features of frames, seen through the share that is set in `network`, in place.

    Args:
        network, heads, samples, paths: as for `base_features_of`.
        asked: the share; None: all of the crop, or INNER_SHARE where that is clearly better.
        choosing: the frames that choose it, those that a candidate may be fitted to.
        seed: of the folds.

    Raises:
        InputError: a crop cannot be read.
    """
    if asked is not None:
        network.inner_share = asked
        return base_features_of(network, heads, samples, paths)
    whole = seen_through(network, heads, samples, paths, 1.0)
    if len(np.unique(whole.targets[choosing])) < policy.INNER_SHARE_TARGETS:
        network.inner_share = 1.0
        return whole
    inner = seen_through(network, heads, samples, paths, policy.INNER_SHARE)
    if not clearly_better(inner.rows(choosing), whole.rows(choosing), seed):
        network.inner_share = 1.0
        return whole
    network.inner_share = policy.INNER_SHARE
    return inner.beside(whole)


def clearly_better(inner: BaseFeatures, whole: BaseFeatures, seed: int) -> bool:
    """Whether the same frames' inner part serves the closed forms better, beyond the noise.

    Judged by the mean of both closed forms' errors on held-out targets: the correction alone tells
    whether the base's angles follow the gaze, the probe whether anything of it is gained in the
    end, and each for itself is too uncertain with two dozen targets.
    """
    folds = training_folds(whole.targets, seed)
    errors = {"whole": _errors(whole, folds, seed), "inner": _errors(inner, folds, seed)}
    return preferred(errors, whole.targets) == "inner"


def _errors(frames: BaseFeatures, folds: list[NDArray[np.bool_]], seed: int) -> NDArray[np.float64]:
    """Each frame's held-out error (N,), the mean of both closed forms'."""
    held_out = closed_held_out(frames, folds, seed)
    mean: NDArray[np.float64] = np.mean([each.errors_deg() for each in held_out.values()], axis=0)
    return mean
