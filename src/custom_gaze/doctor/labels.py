"""Labels that disagree with what the session's other targets teach: leave one target out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from custom_gaze.crops import normalise
from custom_gaze.doctor.findings import Finding, Severity
from custom_gaze.doctor.frames import RECAPTURE, Features, FrameLook
from custom_gaze.geometry import ScreenGeometry, angular_error_deg
from custom_gaze.network import GazeNetwork, trunk_spec
from custom_gaze.splits import target_groups
from custom_gaze.weights import BaseNetwork

LEAST_TARGETS = 8  # fewer tell too little about any one of them
PENALTIES = 10.0 ** np.arange(-4, 3)  # tried, times the features' mean energy
INTERCEPT = 1e3  # the constant's energy, so large that it is as good as not penalised
USEFUL_SHARE = 0.7  # of the error of guessing the mean: above it the features know too little
STRONG, STRONG_DEG = 4.0, 3.0  # times the session's median error, and at least so many degrees


@dataclass(frozen=True)
class LabelCheck:
    """What leaving each target out gave, in degrees; `guess_deg` is the error of the mean label."""

    predicted_deg: NDArray[np.float64]  # (N, 2) [yaw, pitch]
    errors_deg: NDArray[np.float64]  # (N,)
    guess_deg: float

    @property
    def useful(self) -> bool:
        """Whether the features know enough of the gaze to judge a label by them."""
        return float(self.errors_deg.mean()) <= USEFUL_SHARE * self.guess_deg

    @property
    def strong(self) -> NDArray[np.bool_]:
        """(N,) frames that are much farther off than the session's usual one."""
        limit_deg = max(STRONG * float(np.median(self.errors_deg)), STRONG_DEG)
        return np.asarray(self.errors_deg > limit_deg)


def base_features(base: BaseNetwork) -> Features:
    """What the base network's whole trunk makes of one crop: uint8 (s, s, 3) → float32 (d,)."""
    blocks = trunk_spec(base.trunk).blocks
    network = GazeNetwork(base.trunk, blocks[0])
    network.load_trunk(base.trunk_state)
    network.eval()

    def features(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            x = torch.from_numpy(normalise(crop[None]))
            row: NDArray[np.float32] = network.features(network.frozen(x))[0].numpy()
        return row

    return features


def leave_one_target_out(
    features: NDArray[np.float32], labels_deg: NDArray[np.float64], targets: NDArray[np.int64]
) -> LabelCheck:
    """Predict each target's frames from all the other targets', by ridge regression.

    `features` (N, d), `labels_deg` (N, 2), `targets` (N,) numbers. In closed form: with the hat
    matrix H of all frames, the residuals of a target left out are (I - H_GG)^-1 (y - H y)_G
    (Cook & Weisberg 1982, section 2.2). The penalty is the one with the least error.
    """
    labels = np.asarray(labels_deg, np.float64)
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    kernel = centred @ centred.T
    energy = max(float(np.trace(kernel)) / len(kernel), 1e-12)
    kernel = kernel / energy + INTERCEPT
    candidates = [_residuals(kernel, labels, targets, penalty) for penalty in PENALTIES]
    best = min(candidates, key=lambda residuals: float(np.hypot(*residuals.T).mean()))
    predicted = labels - best
    guessed = np.array([labels[targets != target].mean(axis=0) for target in targets])
    guess_deg = float(angular_error_deg(guessed, labels).mean())
    return LabelCheck(predicted, angular_error_deg(predicted, labels), guess_deg)


def _residuals(
    kernel: NDArray[np.float64],
    labels: NDArray[np.float64],
    targets: NDArray[np.int64],
    penalty: float,
) -> NDArray[np.float64]:
    size = len(kernel)
    remainder = penalty * np.linalg.inv(kernel + penalty * np.eye(size))  # I - H
    residuals = remainder @ labels
    for target in np.unique(targets):
        rows = np.flatnonzero(targets == target)
        residuals[rows] = np.linalg.solve(remainder[np.ix_(rows, rows)], residuals[rows])
    return residuals


def check_labels(
    looks: Sequence[FrameLook], geometry: ScreenGeometry, same_target_px: float, session: str
) -> tuple[LabelCheck | None, list[Finding]]:
    """Find the frames whose label the other targets contradict; None where it was not done."""
    known = [look for look in looks if look.features is not None]
    points = np.array([[k.frame.target_x_px, k.frame.target_y_px] for k in known]).reshape(-1, 2)
    targets = target_groups(points, same_target_px)
    count = len(set(targets.tolist()))
    if count < LEAST_TARGETS:
        what = f"labels were not checked: {count} targets tell too little about each other"
        return None, [_skipped(what, f"capture at least {LEAST_TARGETS}", session)]
    rows = np.stack([look.features for look in known if look.features is not None])
    check = leave_one_target_out(rows, geometry.to_degrees(points), targets)
    if not check.useful:
        what = (
            f"labels were not checked: the base network's features miss a target left out by "
            f"{check.errors_deg.mean():.1f}°, and guessing by {check.guess_deg:.1f}°"
        )
        return check, [_skipped(what, "a base network that knows eyes can tell more", session)]
    usual_deg = float(np.median(check.errors_deg))
    findings = []
    for row in np.flatnonzero(check.strong):
        x, y = geometry.to_pixels(check.predicted_deg[row])
        what = (
            f"the eyes seem to look at ({x:.0f}, {y:.0f}), {check.errors_deg[row]:.1f}° from the "
            f"target at ({points[row][0]:.0f}, {points[row][1]:.0f}); usual are {usual_deg:.1f}°"
        )
        name = known[row].name
        findings.append(
            Finding(Severity.WARNING, "label", what, f"look at it; {RECAPTURE}", session, (name,))
        )
    return check, findings


def _skipped(what: str, advice: str, session: str) -> Finding:
    return Finding(Severity.NOTE, "label", what, advice, session)
