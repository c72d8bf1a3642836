"""The models side by side on one crop: the exported one, the base network that it came from, and
the app's best correction of that base, which is what a user has without training.

The corrected base and the probe leave the trunk as it was, and the base's own angles are a value
inside the exported graph: it is made an output, and costs nothing. A fine-tuned trunk is another
one, and one that gets the inner part of the crop gives other angles; beside them the base network
itself looks at the crop.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.faces.crops import normalise
from custom_gaze.inference.predictor import GazeModel, load_gaze_model
from custom_gaze.models.onnx_files import open_session, read_onnx, run_session
from custom_gaze.models.onnx_metadata import CHECKPOINT_KEY, facts_of, props_of

Angles = NDArray[np.float64]  # (2,) [yaw, pitch] in degrees
Base = Callable[[NDArray[np.float32]], Angles]  # of one crop (1, 3, H, W), normalised
PERSONAL, CORRECTED, BASE = NAMES = ("personal", "corrected", "base")  # in what the page gets
CURVE = "head.curve"  # the correction's weight that is multiplied with the base's angles


@dataclass(frozen=True)
class SideBySide:
    """The exported model, and what can be shown beside it.

    Attributes:
        model: the exported one.
        correction: (2,) angles of the base → the app's best correction of them; None where there is
            none to show.
        base: the base network, where it has to look at the crop itself; None where `inner` has its
            angles.
        inner: the exported model, with its base's angles as an output; None without.
        alone: why the model stands alone, a line; '' where it does not.
    """

    model: GazeModel
    correction: Callable[[Angles], Angles] | None = None
    base: Base | None = None
    inner: Any = None  # onnxruntime.InferenceSession, which mypy cannot see
    alone: str = ""

    def angles_deg(self, crop: NDArray[np.uint8], beside: bool = True) -> dict[str, Angles]:
        """By name the angles (2,) that a crop uint8 (size_px, size_px, 3) RGB has; only the
        exported model's, where the others are not to stand `beside` it or cannot.

        Raises:
            InputError: the network gives no angles.
        """
        if not beside or self.correction is None:
            return {PERSONAL: self.model.angles_deg(crop)}
        if self.base is None:
            x = normalise(crop[None], self.model.spec)
            personal, base_deg = (_pair(values) for values in run_session(self.inner, x))
        else:
            personal = self.model.angles_deg(crop)
            base_deg = self.base(normalise(crop[None], self.model.spec))
        return {PERSONAL: personal, CORRECTED: self.correction(base_deg), BASE: base_deg}


def load_side_by_side(params: Params, paths: Paths, path: Path | None = None) -> SideBySide:
    """Load a model, None: models/custom_gaze.onnx, and what it can be compared with.

    What is missing or belongs to another training is no error: the model then stands alone.

    Raises:
        InputError: the model cannot be used.
    """
    model = load_gaze_model(path or paths.model, params)
    try:
        return _compared(model, paths)
    except InputError as error:
        return SideBySide(model, alone=printable(error, 300))


def _compared(model: GazeModel, paths: Paths) -> SideBySide:
    """A model beside its base.

    Raises:
        InputError: there is no base of it here.
    """
    from custom_gaze.calibration.candidates import read_candidates

    proto, sha256 = read_onnx(model.path)
    candidates = read_candidates(paths.candidates)
    if props_of(proto).get(CHECKPOINT_KEY) != candidates.checkpoint_sha256:
        raise InputError(
            f"{paths.candidates}: is of another training than {model.path}; "
            "`dvc checkout` brings back those that belong together"
        )
    if Candidate.BASE not in candidates.closed:
        raise InputError(f"{paths.base}: is a trunk without heads, which has no angles to show")
    polynomial = candidates.closed[Candidate.BASE].correction

    def correction(base_deg: Angles) -> Angles:
        corrected: Angles = polynomial.predict(base_deg[None])[0]
        return corrected

    other = facts_of(proto, sha256).method == Candidate.FINETUNE or candidates.inner_share < 1
    name = None if other else base_output(proto)
    if name is None:
        return SideBySide(model, correction, base=_base(model, paths))
    inner = open_session(with_output(proto, name), model.path, threads=0)
    return SideBySide(model, correction, inner=inner)


def base_output(proto: Any) -> str | None:
    """The value in an exported ModelProto that holds the base's own angles; None where there is
    none: a head that corrects them multiplies them with its `curve`."""
    for node in proto.graph.node:
        if node.op_type == "Mul" and CURVE in node.input:
            others = [name for name in node.input if name != CURVE]
            return str(others[0]) if len(others) == 1 else None
    return None


def with_output(proto: Any, name: str) -> bytes:
    """A ModelProto whose value `name`, (1, 2) float32, is its second output, serialised."""
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    float32 = onnx.TensorProto.FLOAT
    copied.graph.output.append(onnx.helper.make_tensor_value_info(name, float32, [1, 2]))
    content: bytes = copied.SerializeToString()
    return content


def _pair(values: NDArray[np.float32]) -> Angles:
    if not np.isfinite(values).all():
        raise InputError("the network gives no angles")
    return values.astype(np.float64).reshape(2)


def _base(model: GazeModel, paths: Paths) -> Base:
    """The base network itself.

    Raises:
        InputError: it is missing, or another one than the model was made from.
    """
    import torch

    from custom_gaze.calibration.base_features import angles_of
    from custom_gaze.weights.base import read_base

    proto, sha256 = read_onnx(model.path)
    said, base = facts_of(proto, sha256).base, read_base(paths.base)
    if said is None or said.sha256 != base.sha256:
        raise InputError(f"{paths.base}: is not the base network that {model.path} was made from")
    network = base.network(base.spec.frozen_through)

    def angles_deg(x: NDArray[np.float32]) -> Angles:
        with torch.inference_mode():
            features = network.features(network.frozen(torch.from_numpy(x)))
            found: Angles = angles_of(features, base.heads)[0]
        return found

    return angles_deg
