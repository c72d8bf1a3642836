"""What the reports show beside the exported file: the other candidates, the base, a constant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from custom_gaze.calibration.base_features import seen_by
from custom_gaze.calibration.candidates import Candidates
from custom_gaze.calibration.corrections import CORRECTIONS, Correction, best_correction
from custom_gaze.common.errors import InputError
from custom_gaze.common.progress import bar
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample, labels_deg, load_crop
from custom_gaze.faces.crops import normalise
from custom_gaze.models.checkpoint import CORRECTED
from custom_gaze.models.heads import CorrectedHead
from custom_gaze.models.network import GazeNetwork, trunk_spec
from custom_gaze.weights.base import BaseNetwork, read_base

Groups = Mapping[str, Sequence[Sample]]
Angles = dict[str, NDArray[np.floating]]  # by group, (N, 2) [yaw, pitch] in degrees

# Its key in the metrics. The corrected base is the best polynomial: it goes into the
# exported file, and a support vector regressor does not.
BEST_CORRECTION = "best_correction_deg"


@dataclass(frozen=True)
class Answers:
    """Answers to the same frames as the exported file's.

    Attributes:
        correction: the best of all the app's corrections, its key in baselines.CORRECTIONS, or
            "none" for a base without angles.
        angles_deg: by key of the metrics ("constant_deg" …) and group, (N, 2) [yaw, pitch].
    """

    correction: str
    angles_deg: dict[str, Angles]


def answers(
    candidates: Candidates,
    exported: Candidate,
    known: Sequence[Sample],
    groups: Groups,
    predicted: Angles,
    seed: int,
    paths: Paths,
) -> Answers:
    """The constant answer, the base as it is, its best correction, and all candidates.

    The best correction is what a user has without this project: the one of the app's, its support
    vector regressor among them, that cross-validation prefers, fitted on the same frames as the
    candidates' closed forms.

    Args:
        candidates: what the train stage made.
        exported: the candidate that the file holds; `predicted` are its answers.
        known: all frames that training could use; the mean of their targets is the constant.
        groups: the frames to answer to.
        predicted: the exported file's answers.
        seed: of the folds that choose the best correction.
        paths: where crops and the base network lie.

    Raises:
        InputError: the base network is missing or damaged, or the candidates are not made from it.
    """
    constant = labels_deg(known).mean(axis=0, dtype=np.float64)
    found: dict[str, Angles] = {
        "constant_deg": {n: np.broadcast_to(constant, (len(g), 2)) for n, g in groups.items()}
    }
    base = read_base(paths.base)
    correction = "none"
    if candidates.closed:
        best, closed = _closed(candidates, base, known, groups, seed, paths)
        correction = best.name
        found.update(closed)
    if candidates.fine_tuned is not None and exported != Candidate.FINETUNE:
        found[Candidate.FINETUNE.metric] = _fine_tuned(candidates, base, groups, paths)
    found[exported.metric] = predicted
    order = ("constant_deg", "base_deg", BEST_CORRECTION, *(each.metric for each in Candidate))
    return Answers(correction, {key: found[key] for key in order if key in found})


def _closed(
    candidates: Candidates,
    base: BaseNetwork,
    known: Sequence[Sample],
    groups: Groups,
    seed: int,
    paths: Paths,
) -> tuple[Correction, dict[str, Angles]]:
    """The best correction of the base's angles; its answers, the base's and the closed forms'."""
    spec = trunk_spec(base.trunk)
    network = GazeNetwork(base.trunk, spec.frozen_through)
    network.load_trunk(base.trunk_state)
    network.eval()
    if base.heads is None or candidates.closed[Candidate.BASE].weight.shape[1] != spec.features:
        raise _others(paths)
    fitted_on = seen_by(network, base.heads, known, paths)
    best = best_correction(
        fitted_on.base_deg, fitted_on.true_deg, fitted_on.targets, seed, among=tuple(CORRECTIONS)
    )
    keys = ("base_deg", BEST_CORRECTION, *(each.metric for each in candidates.closed))
    found: dict[str, Angles] = {key: {} for key in keys}
    row = {sample: number for number, sample in enumerate(known)}
    for group, samples in groups.items():
        if all(sample in row for sample in samples):  # training frames: they went through already
            seen = fitted_on.rows(np.array([row[sample] for sample in samples]))
        else:
            seen = seen_by(network, base.heads, samples, paths)
        found["base_deg"][group] = seen.base_deg
        found[BEST_CORRECTION][group] = best.apply(seen.base_deg)
        for name, form in candidates.closed.items():
            found[name.metric][group] = form.answers(seen)
    return best, found


def _fine_tuned(candidates: Candidates, base: BaseNetwork, groups: Groups, paths: Paths) -> Angles:
    assert candidates.fine_tuned is not None
    head = None
    if candidates.head == CORRECTED and base.heads is not None:
        head = CorrectedHead(trunk_spec(base.trunk).features, base.heads.bins)
    network = GazeNetwork(base.trunk, candidates.frozen_through, head)
    network.load_trunk(base.trunk_state)
    network.eval()
    try:
        network.load_trained_state(candidates.fine_tuned)
    except (ValueError, RuntimeError):
        raise _others(paths) from None
    found: Angles = {}
    with torch.inference_mode():
        for group, samples in groups.items():
            crops = (
                torch.from_numpy(normalise(load_crop(sample, paths)[None]))
                for sample in bar(samples, "fine-tuned", unit="crops")
            )
            found[group] = torch.cat([network(x) for x in crops]).numpy()
    return found


def _others(paths: Paths) -> InputError:
    return InputError(
        f"{paths.candidates}: not made from {paths.base}; run `custom-gaze train` again"
    )
