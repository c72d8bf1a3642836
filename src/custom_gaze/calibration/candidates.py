"""The candidates for export, from the simplest to the least simple, and how two of them are fitted.

All answer (1, 2) degrees from one base network:

- `base`, the corrected base: the base's own angles through the app's best polynomial
- `probe`: the same, plus a linear map of the features that ridge regression fits to what is left
- `finetune`: the probe's linear map and the trunk's last block, trained from there on

The first two are one closed form; a corrected base is a probe whose linear map is zero.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from custom_gaze.calibration.base_features import Seen
from custom_gaze.calibration.corrections import (
    CORRECTIONS,
    POLYNOMIALS,
    Angles,
    Correction,
    Polynomial,
    best_correction,
    fit_constant,
)
from custom_gaze.calibration.linear_probe import fit_probe
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
from custom_gaze.models.heads import FURTHEST_DEG, CorrectedHead
from custom_gaze.models.network import GazeNetwork, linear_head
from custom_gaze.weights.base import BinHeads


@dataclass(frozen=True)
class ClosedForm:
    """correction(base's angles) + weight · features + bias, held between ±FURTHEST_DEG.

    Attributes:
        correction: a polynomial in the base's angles.
        weight: (2, F) float64, rows yaw and pitch; zeros in a corrected base.
        bias_deg: (2,) float64.
        strength: of the probe's ridge; ∞ where weight and bias are zero.
    """

    correction: Polynomial
    weight: NDArray[np.float64]
    bias_deg: NDArray[np.float64]
    strength: float = float("inf")

    def apply(self, features: ArrayLike, base_deg: ArrayLike) -> Angles:
        """Features (N, F) and the base's angles (N, 2) → angles (N, 2), degrees, float64."""
        change = np.asarray(features, np.float64) @ self.weight.T + self.bias_deg
        angles: Angles = self.correction.apply(base_deg) + change
        return np.clip(angles, -FURTHEST_DEG, FURTHEST_DEG)

    def answers(self, seen: Seen) -> Angles:
        """The angles (N, 2) for some frames."""
        return self.apply(seen.features, seen.base_deg)


def corrected_base(seen: Seen, seed: int) -> ClosedForm:
    """The polynomial that cross-validation prefers, fitted on all the frames.

    Without angles to correct (all the same, as `Seen` has them for a trunk alone) it is the mean
    of the targets.

    Raises:
        InputError: the frames have too few targets for cross-validation.
    """
    known = seen.base_deg, seen.true_deg, seen.targets
    if not np.ptp(seen.base_deg, axis=0).any():
        correction: Correction = fit_constant(*known)
    else:
        correction = best_correction(*known, seed, among=POLYNOMIALS)
    assert isinstance(correction, Polynomial)
    return ClosedForm(correction, np.zeros((2, seen.features.shape[1])), np.zeros(2))


def probed(seen: Seen, base: ClosedForm, seed: int) -> ClosedForm:
    """Ridge regression on the features towards what the corrected `base` leaves of these frames.

    Raises:
        InputError: the frames have too few targets for cross-validation.
    """
    fit = CORRECTIONS[base.correction.name]
    fitted = fit_probe(seen.features, seen.base_deg, seen.true_deg, seen.targets, fit, seed)
    assert isinstance(fitted.correction, Polynomial)
    return ClosedForm(fitted.correction, fitted.weight, fitted.bias_deg, fitted.strength)


def closed_forms(seen: Seen, seed: int) -> dict[Candidate, ClosedForm]:
    """Both closed forms fitted on these frames, by candidate.

    Raises:
        InputError: the frames have too few targets for cross-validation.
    """
    base = corrected_base(seen, seed)
    return {Candidate.BASE: base, Candidate.PROBE: probed(seen, base, seed)}


def closed_head(heads: BinHeads, form: ClosedForm) -> CorrectedHead:
    """A closed form as a head, float32 on the CPU, on features that the base's `heads` were for."""
    head = CorrectedHead(form.weight.shape[1], heads.bins)
    numbers = {
        "yaw.weight": heads.yaw_weight,
        "yaw.bias": heads.yaw_bias,
        "pitch.weight": heads.pitch_weight,
        "pitch.bias": heads.pitch_bias,
        "bins_deg": heads.first_bin_deg + heads.bin_width_deg * torch.arange(heads.bins),
        "curve": torch.tensor(form.correction.curve),
        "gain": torch.tensor(form.correction.gain),
        "offset_deg": torch.tensor(form.correction.offset_deg),
        "change.weight": torch.from_numpy(form.weight),
        "change.bias": torch.from_numpy(form.bias_deg),
    }
    head.load_state_dict(numbers, strict=True)
    return head


def closed_network(network: GazeNetwork, heads: BinHeads | None, form: ClosedForm) -> GazeNetwork:
    """Give `network`, in place, a closed form as its head; returns it, in eval mode.

    Args:
        network: with the trunk as the base network has it, float32 on the CPU.
        heads: the base network's; None for a trunk alone, whose closed form is linear.
        form: fitted on what that trunk and those heads answer.
    """
    if heads is None:
        bias = torch.from_numpy(form.bias_deg) + torch.tensor(form.correction.offset_deg)
        network.head = linear_head(torch.from_numpy(form.weight), bias)
    else:
        network.head = closed_head(heads, form)
    return network.eval()


FORMAT = "custom-gaze-candidates"
VERSION = 2


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
    """

    method: Candidate
    reason: str
    held_out_deg: dict[Candidate, float]
    closed: dict[Candidate, ClosedForm]
    frozen_through: str
    fine_tuned: dict[str, Tensor] | None
    head: str


def save_candidates(candidates: Candidates, path: Path) -> None:
    """Write them, whole or not at all; equal candidates give equal bytes."""
    plain: dict[str, Any] = dict(vars(candidates))
    plain["method"] = str(candidates.method)
    plain["held_out_deg"] = {str(name): e for name, e in candidates.held_out_deg.items()}
    plain["closed"] = {
        str(name): {
            **{key: getattr(form.correction, key) for key in ("curve", "gain", "offset_deg")},
            "name": form.correction.name,
            "weight": torch.from_numpy(form.weight.copy()),
            "bias_deg": torch.from_numpy(form.bias_deg.copy()),
            "strength": form.strength,
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
        content["method"] = Candidate(content["method"])
        content["held_out_deg"] = {Candidate(n): e for n, e in content["held_out_deg"].items()}
        content["closed"] = {Candidate(n): _closed(f) for n, f in content["closed"].items()}
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
    errors = candidates.held_out_deg
    if not all(isinstance(error, float) and 0 <= error <= 360 for error in errors.values()):
        raise ValueError("held_out_deg is no angle")
    if candidates.head not in (LINEAR, CORRECTED):
        raise ValueError(f"unknown head {candidates.head!r}")
    for name, tensor in (candidates.fine_tuned or {}).items():
        check_tensor(name, tensor, tensor)


def _closed(plain: dict[str, Any]) -> ClosedForm:
    pairs = [
        (float(plain[key][0]), float(plain[key][1])) for key in ("curve", "gain", "offset_deg")
    ]
    polynomial = Polynomial(str(plain["name"]), *pairs)
    weight, bias = plain["weight"].double().numpy(), plain["bias_deg"].double().numpy()
    strength = float(plain["strength"])
    numbers = (pairs, weight, bias)
    fits = weight.ndim == 2 and len(weight) == 2 and bias.shape == (2,) and strength >= 0
    if not fits or not all(np.isfinite(values).all() for values in numbers):
        raise ValueError("a correction or a probe is no pair of finite numbers")
    return ClosedForm(polynomial, weight, bias, strength)
