"""The candidates for export, from the simplest to the least simple, and how two of them are fitted.

All predict (1, 2) degrees from one base network, the last two from the part of the crop that suits
it (inner_share.py):

- `base`, the corrected base: the base's own angles through the app's best polynomial, always for
  the whole crop
- `probe`, the linear probe: the same, plus a linear map of the features that ridge regression fits
  to what is left; or a map to the labels themselves, where that is clearly better
- `finetune`: the probe's linear map and the trunk's last block, trained from there on

The first two are one closed form; a corrected base is a probe whose linear map is zero.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from custom_gaze.calibration import policy
from custom_gaze.calibration.base_features import BaseFeatures
from custom_gaze.calibration.corrections import POLYNOMIALS, Polynomial, best_correction
from custom_gaze.calibration.cross_validation import Angles, Folds, HeldOut, held_out
from custom_gaze.calibration.linear_probe import LinearProbe, fit_each
from custom_gaze.calibration.selection import mean_over_targets
from custom_gaze.common.errors import InputError
from custom_gaze.common.plain_records import from_plain
from custom_gaze.common.saved_tensors import (
    check_tensor,
    load_tensors,
    save_tensors,
)
from custom_gaze.common.untrusted import printable
from custom_gaze.config.candidate import Candidate
from custom_gaze.models.checkpoint import CORRECTED, LINEAR
from custom_gaze.models.heads import CorrectedHead
from custom_gaze.models.network import LEAST_SHARE, GazeNetwork, linear_head
from custom_gaze.weights.base_heads import Heads

LABELS = Polynomial(POLYNOMIALS[0])  # their mean alone, whatever the base predicts
TERMS = ("curve", "gain", "offset_deg")  # of a polynomial
Closed = dict[Candidate, LinearProbe]  # the two that are closed forms


def corrected_base(frames: BaseFeatures, seed: int) -> LinearProbe:
    """The polynomial of the app's own angles that cross-validation prefers, fitted on all the
    frames.

    Without angles to correct (all the same, as for a trunk alone) it is the mean of the targets.

    Raises:
        InputError: the frames have too few targets for cross-validation.
    """
    return _corrected(frames, frames.app_deg, seed)


def _corrected(frames: BaseFeatures, base_deg: Angles, seed: int) -> LinearProbe:
    known = base_deg, frames.true_deg, frames.targets
    among = POLYNOMIALS if np.ptp(base_deg, axis=0).any() else POLYNOMIALS[:1]
    return LinearProbe.corrected(best_correction(*known, seed, among), frames.features.shape[1])


def closed_forms(frames: BaseFeatures, seed: int) -> Closed:
    """Both closed forms fitted on these frames, by candidate.

    The corrected base is what a user has without training, so it corrects the angles for the whole
    crop; the probe is fitted to the part of the crop that the features are of.

    Raises:
        InputError: the frames have too few targets for cross-validation.
    """
    base = corrected_base(frames, seed)
    start = base if frames.whole_deg is None else _corrected(frames, frames.base_deg, seed)
    return {Candidate.BASE: base, Candidate.PROBE: linear_probe(frames, start, seed)}


def linear_probe(frames: BaseFeatures, base: LinearProbe, seed: int) -> LinearProbe:
    """A map to what the corrected base leaves, or one to the labels, fitted on all the frames.

    A base whose angles hardly follow the gaze needs gains of three and more, which magnify all that
    another day changes in them; what the correction adds is then worth less than it costs.
    Cross-validation tells, but not of another day, where the angles of a good base hold best: the
    labels are mapped to where that is better by far.

    Raises:
        InputError: the frames have too few targets for cross-validation.
    """
    if base.correction.name == LABELS.name:
        return fit_each((base,), frames, seed)[0]
    nothing = LinearProbe.corrected(LABELS, frames.features.shape[1])
    over_base, to_labels = fit_each((base, nothing), frames, seed)
    errors = [
        mean_over_targets(form.held_out_deg, frames.targets)[0] for form in (over_base, to_labels)
    ]
    return to_labels if errors[1] < policy.LABELS_SHARE * errors[0] else over_base


def closed_predictions(closed: Closed, frames: BaseFeatures) -> dict[Candidate, Angles]:
    """What closed forms predict for frames, (N, 2) degrees each, by candidate."""
    return {
        name: form.predict(frames.features, angles_for(name, frames))
        for name, form in closed.items()
    }


def angles_for(method: Candidate, frames: BaseFeatures) -> Angles:
    """The base's own angles (N, 2) that a closed form corrects."""
    return frames.app_deg if method == Candidate.BASE else frames.base_deg


def closed_held_out(frames: BaseFeatures, folds: Folds, seed: int) -> dict[Candidate, HeldOut]:
    """Both closed forms cross-validated, by candidate.

    Raises:
        InputError: a fold leaves too few targets to choose a correction by.
    """
    predictions: dict[Candidate, list[Angles]] = {}
    for out in folds:
        fitted = closed_forms(frames.rows(~out), seed)
        for name, angles in closed_predictions(fitted, frames.rows(out)).items():
            predictions.setdefault(name, []).append(angles)
    return {name: held_out(some, frames.true_deg, folds) for name, some in predictions.items()}


def closed_head(heads: Heads, form: LinearProbe) -> CorrectedHead:
    """A closed form as a head, float32 on the CPU, on features that the base's `heads` were for."""
    head = heads.blank()
    numbers = {
        **heads.numbers(),
        **{name: torch.tensor(getattr(form.correction, name)) for name in TERMS},
        "residual.weight": torch.from_numpy(form.weight),
        "residual.bias": torch.from_numpy(form.bias_deg),
    }
    head.load_state_dict(numbers, strict=True)
    return head


def closed_network(network: GazeNetwork, heads: Heads | None, form: LinearProbe) -> GazeNetwork:
    """Give `network`, in place, a closed form as its head; returns it, in eval mode.

    Args:
        network: with the trunk as the base network has it, float32 on the CPU.
        heads: the base network's; None for a trunk alone, whose closed form is linear.
        form: fitted on what that trunk and those heads predict.
    """
    if heads is None:
        bias = form.bias_deg + form.correction.predict(np.zeros(2))
        network.head = linear_head(torch.from_numpy(form.weight), torch.from_numpy(bias))
    else:
        network.head = closed_head(heads, form)
    return network.eval()


FORMAT = "custom-gaze-candidates"
VERSION = 6


@dataclass(frozen=True)
class Candidates:
    """models/candidates.pt: what `evaluate` needs to measure every candidate.

    Attributes:
        method: the one that is exported.
        reason: why, in one line.
        held_out_deg: each candidate's mean error in degrees on targets its fit had not seen.
        closed: by candidate; empty for a base network without angles.
        frozen_through: of the fine-tuned network.
        fine_tuned: its `GazeNetwork.trained_state`; None where none was trained.
        head: the kind of its head (checkpoint.py).
        inner_share: of the crop's side, what the probe's and the fine-tuned network's trunk gets;
            that of the corrected base gets all of it.
        cross_validated_deg: each calibration frame's mean error by fits of `method` that had not
            seen its target, those on the split's training side first; NaN where no fold that was
            trained held it out; none where nothing was cross-validated (the fine-tune alone).
        checkpoint_sha256: of the checkpoint.pt of the same training.
    """

    method: Candidate
    reason: str
    held_out_deg: dict[Candidate, float]
    closed: Closed
    frozen_through: str
    fine_tuned: dict[str, Tensor] | None
    head: str
    inner_share: float = 1.0
    cross_validated_deg: tuple[float, ...] = ()
    checkpoint_sha256: str = ""


def save_candidates(candidates: Candidates, path: Path) -> None:
    """Write them, whole or not at all; equal candidates give equal bytes."""
    plain: dict[str, Any] = dict(vars(candidates))
    plain["method"] = str(candidates.method)
    plain["held_out_deg"] = {str(name): e for name, e in candidates.held_out_deg.items()}
    plain["cross_validated_deg"] = list(candidates.cross_validated_deg)
    plain["closed"] = {
        str(name): {
            **{key: getattr(form.correction, key) for key in TERMS},
            "name": form.correction.name,
            "weight": torch.from_numpy(form.weight.copy()),
            "bias_deg": torch.from_numpy(form.bias_deg.copy()),
            "alpha": form.alpha,
        }
        for name, form in candidates.closed.items()
    }
    save_tensors({"format": FORMAT, "version": VERSION, **plain}, path)


def read_candidates(path: Path) -> Candidates:
    """Read what `save_candidates` wrote.

    Raises:
        InputError: it is missing, damaged, or of another format or version.
    """
    remedy = "run `custom-gaze train` first"
    content = load_tensors(path, "candidates", remedy)
    if content.pop("format", None) != FORMAT or content.pop("version", None) != VERSION:
        raise InputError(f"{path}: no candidates of this version; {remedy}")
    try:
        content["closed"] = {name: _closed(form) for name, form in content["closed"].items()}
        candidates = from_plain(Candidates, content, "candidates")
        _check(candidates)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = printable(error)
        raise InputError(f"{path}: no complete candidates ({reason}); {remedy}") from None
    return candidates


def _check(candidates: Candidates) -> None:
    """Check which numbers a candidate may have.

    Raises:
        ValueError: it has others; the message is for the end of a line.
    """
    crossed = [each for each in candidates.cross_validated_deg if each == each]  # not NaN
    errors = *candidates.held_out_deg.values(), *crossed
    if not all(isinstance(error, float) and 0 <= error <= 360 for error in errors):
        raise ValueError("a held-out error is no angle")
    if candidates.head not in (LINEAR, CORRECTED):
        raise ValueError(f"unknown head {candidates.head!r}")
    if not LEAST_SHARE <= candidates.inner_share <= 1:
        raise ValueError(f"an inner share of {candidates.inner_share:g}")
    for name, tensor in (candidates.fine_tuned or {}).items():
        check_tensor(name, tensor, tensor)


def _closed(plain: dict[str, Any]) -> LinearProbe:
    pairs = [(float(plain[key][0]), float(plain[key][1])) for key in TERMS]
    polynomial = Polynomial(str(plain["name"]), *pairs)
    weight, bias = plain["weight"].double().numpy(), plain["bias_deg"].double().numpy()
    alpha = float(plain["alpha"])
    numbers = (pairs, weight, bias)
    fits = weight.ndim == 2 and len(weight) == 2 and bias.shape == (2,) and alpha >= 0
    if not fits or not all(np.isfinite(values).all() for values in numbers):
        raise ValueError("a correction or a probe is no pair of finite numbers")
    return LinearProbe(polynomial, weight, bias, alpha)
