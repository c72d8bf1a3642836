"""What the reports show beside the exported file: the other candidates, the base, a constant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from custom_gaze.candidates import Candidates
from custom_gaze.checkpoint import CORRECTED
from custom_gaze.corrected import CorrectedHead
from custom_gaze.crops import normalise
from custom_gaze.dataset import Sample, labels_deg, load_crop
from custom_gaze.errors import InputError
from custom_gaze.methods import BASE, FINETUNE, PROBE
from custom_gaze.network import GazeNetwork, trunk_spec
from custom_gaze.paths import Paths
from custom_gaze.progress import bar
from custom_gaze.seen import seen_by
from custom_gaze.weights.base import BaseNetwork, read_base

Groups = Mapping[str, Sequence[Sample]]
Angles = dict[str, NDArray[np.floating]]  # by group, (N, 2) [yaw, pitch] in degrees

# Each candidate's key in the metrics. The corrected base is the best of the app's corrections.
KEYS = {BASE: "corrected_deg", PROBE: "probe_deg", FINETUNE: "finetuned_deg"}


@dataclass(frozen=True)
class Answers:
    """Answers to the same frames as the exported file's.

    Attributes:
        correction: the best of the app's corrections, or "none" for a base without angles.
        angles_deg: by key of the metrics ("constant_deg" …) and group, (N, 2) [yaw, pitch].
    """

    correction: str
    angles_deg: dict[str, Angles]


def answers(
    candidates: Candidates,
    exported: str,
    train: Sequence[Sample],
    groups: Groups,
    predicted: Angles,
    paths: Paths,
) -> Answers:
    """The constant answer, the base as it is, and all candidates.

    The closed forms were fitted on all frames that training could use, validation's included: no
    method is given more.

    Args:
        candidates: what the train stage made.
        exported: the key of the candidate that the file holds; `predicted` are its answers.
        train: the training frames, whose mean is the constant.
        groups: the frames to answer to.
        predicted: the exported file's answers.
        paths: where crops and the base network lie.

    Raises:
        InputError: the base network is missing or damaged, or the candidates are not made from it.
    """
    constant = labels_deg(train).mean(axis=0, dtype=np.float64)
    found: dict[str, Angles] = {
        "constant_deg": {n: np.broadcast_to(constant, (len(g), 2)) for n, g in groups.items()}
    }
    base = read_base(paths.base)
    correction = "none"
    if candidates.closed:
        correction = candidates.closed[BASE].correction.name
        found.update(_closed(candidates, base, groups, paths))
    if candidates.fine_tuned is not None and exported != FINETUNE:
        found[KEYS[FINETUNE]] = _fine_tuned(candidates, base, groups, paths)
    if exported in KEYS:
        found[KEYS[exported]] = predicted
    order = ("constant_deg", "base_deg", *KEYS.values())
    return Answers(correction, {key: found[key] for key in order if key in found})


def _closed(
    candidates: Candidates, base: BaseNetwork, groups: Groups, paths: Paths
) -> dict[str, Angles]:
    spec = trunk_spec(base.trunk)
    network = GazeNetwork(base.trunk, spec.frozen_through)
    network.load_trunk(base.trunk_state)
    network.eval()
    if base.heads is None or candidates.closed[BASE].weight.shape[1] != spec.features:
        raise _others(paths)
    found: dict[str, Angles] = {"base_deg": {}, **{KEYS[name]: {} for name in candidates.closed}}
    for group, samples in groups.items():
        seen = seen_by(network, base.heads, samples, paths)
        found["base_deg"][group] = seen.base_deg
        for name, form in candidates.closed.items():
            found[KEYS[name]][group] = form.answers(seen)
    return found


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
