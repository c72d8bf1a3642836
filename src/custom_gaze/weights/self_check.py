"""The rebuilt network against onnxruntime on the original file, and where the two part."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.faces.crops import normalise, resize
from custom_gaze.models.onnx_files import first_line, open_session, run_session
from custom_gaze.models.onnx_trial import try_apart
from custom_gaze.weights.anatomy import Anatomy
from custom_gaze.weights.axis_test import SIZE_PX, portrait_crops
from custom_gaze.weights.base import BaseModule
from custom_gaze.weights.base_heads import BinHeads, bins_deg
from custom_gaze.weights.onnx_network import OnnxNetwork

LOGITS_TOLERANCE = 1e-4  # for logits up to 100; float32 resolves larger ones less finely
ANGLES_TOLERANCE_DEG = 1e-3
# Where the two networks are looked at layer by layer: far above rounding (1e-6 of the layer's
# largest value was seen), far below what a wrong weight does.
LAYER_TOLERANCE = 1e-4


def check_images() -> NDArray[np.uint8]:
    """Varied images, uint8 (4, 448, 448, 3) RGB: a face, one mirrored and dark, one in noise, and
    coloured blotches. Pure noise would drive a network far from where its predictions mean
    anything, and rounding with them."""
    random = np.random.default_rng(1)
    plain, dark, noisy = portrait_crops()
    dark = dark[:, ::-1] // 3
    noisy = np.clip(noisy + random.normal(0, 40, noisy.shape), 0, 255).astype(np.uint8)
    blotches = resize(random.integers(0, 256, (7, 7, 3), dtype=np.uint8), SIZE_PX, SIZE_PX)
    return np.stack([plain, dark, noisy, blotches])


def self_check(network: OnnxNetwork, anatomy: Anatomy, module: BaseModule, sha256: str) -> None:
    """Compare the network rebuilt from a file with onnxruntime on the file's own graph.

    Args:
        network: the file.
        anatomy: what was found in it.
        module: the network that was made of that.
        sha256: of the file.

    Raises:
        CustomGazeError: they differ by more than 1e-4 in a logit or 1e-3 degrees; the message
            names the first layer that differs.
        InputError: onnxruntime cannot run the file.
    """
    where, heads = network.graph.where, anatomy.heads
    try_apart(network.model, sha256, Path(where), network.graph.shape(0))
    session = open_session(network.model, Path(where))
    worst_logits = worst_deg = 0.0
    for image in normalise(check_images())[:, None]:  # (1, 3, 448, 448) each
        outputs = _run(session, image, network)
        theirs = [torch.from_numpy(outputs[index]) for index in anatomy.order]
        with torch.inference_mode():
            ours = module(torch.from_numpy(image))
        if isinstance(heads, BinHeads):
            logits = [_logits_apart(a, b) for a, b in zip(ours, theirs, strict=True)]
            worst_logits = np.max([worst_logits, *logits])
            apart = bins_deg(ours[0], ours[1]) - bins_deg(theirs[0], theirs[1])
        else:
            apart = ours[0] - (theirs[0] if len(theirs) == 1 else bins_deg(theirs[0], theirs[1]))
        worst_deg = np.max([worst_deg, apart.abs().max().item()])
        # Written so that NaN, which np.max keeps, fails.
        if not (worst_logits <= LOGITS_TOLERANCE and worst_deg <= ANGLES_TOLERANCE_DEG):
            raise CustomGazeError(
                f"{where}: the network rebuilt from this file does not predict as the file "
                f"does: {worst_logits:.2g} apart in the logits, {worst_deg:.2g}° in the "
                f"angles. {_parting(network, anatomy, module, image)}"
            )


def _logits_apart(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, of logits beyond 100 in proportion to them; NaN where one is NaN."""
    return float((ours - theirs).abs().max() / (theirs.abs().max() / 100).clamp(min=1))


def _parting(
    network: OnnxNetwork, anatomy: Anatomy, module: BaseModule, image: NDArray[np.float32]
) -> str:
    """The first layer whose output differs, in words: both are run once more, layer by layer."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(network.model)
    del exposed.graph.output[:]
    for tensor in dict.fromkeys(anatomy.tensors.values()):
        value = onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None)
        exposed.graph.output.append(value)
    session = open_session(exposed, Path(network.graph.where))
    outputs = _run(session, image, network)
    theirs = dict(zip(dict.fromkeys(anatomy.tensors.values()), outputs, strict=True))
    ours = _layer_outputs(module, list(anatomy.tensors), image)
    for layer, tensor in anatomy.tensors.items():
        scale = max(float(np.abs(theirs[tensor]).max()), 1.0)
        difference = float(np.abs(ours[layer].ravel() - theirs[tensor].ravel()).max())
        if not difference <= LAYER_TOLERANCE * scale:
            return f"They part at {layer} (tensor {tensor!r}), {difference:.2g} apart there"
    return "All layers agree; they part at the heads"


def _layer_outputs(
    module: BaseModule, layers: list[str], image: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """What the named layers of the trunk give, (1, channels, h, w) each."""
    kept: dict[str, NDArray[np.float32]] = {}

    def keep(layer: str) -> Callable[[nn.Module, Any, Tensor], None]:
        # A copy: the ReLU behind the layer works in place.
        return lambda _module, _inputs, output: kept.update({layer: output.clone().numpy()})

    handles = [
        module.trunk.get_submodule(layer).register_forward_hook(keep(layer)) for layer in layers
    ]
    with torch.inference_mode():
        module(torch.from_numpy(image))
    for handle in handles:
        handle.remove()
    return kept


def _run(
    session: Any, image: NDArray[np.float32], network: OnnxNetwork
) -> list[NDArray[np.float32]]:
    """All outputs for one image, which a file of a larger fixed batch gets several times."""
    try:
        outputs = run_session(session, image.repeat(network.images, axis=0))
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        reason = first_line(error)
        raise InputError(f"{network.graph.where}: onnxruntime cannot run it: {reason}") from None
    return [output[:1] for output in outputs]
