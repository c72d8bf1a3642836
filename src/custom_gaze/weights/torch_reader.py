"""PyTorch files (.pkl, .pt, .pth): read as data alone, told apart, turned into base networks."""

import io
import zipfile
from typing import Any

from torch import Tensor

from custom_gaze.common.errors import InputError
from custom_gaze.common.tensor_files import UNREADABLE, read_tensors
from custom_gaze.common.untrusted import printable
from custom_gaze.models.network import Trunk, trunk_spec
from custom_gaze.weights import families
from custom_gaze.weights.anatomy import graph_trunk
from custom_gaze.weights.base import FORMAT, BaseNetwork, base_from_content, checked_state
from custom_gaze.weights.base_heads import bin_heads, checked_tensor
from custom_gaze.weights.simplify import simplified

# Kind of state dict → the layers that give yaw and pitch.
HEAD_LAYERS = {
    "l2cs-state-dict": ("fc_yaw_gaze", "fc_pitch_gaze"),
    "mobilegaze-state-dict": ("fc_yaw", "fc_pitch"),
}
# Layers a file may hold that gaze has no use for: L2CS-Net's third head, ImageNet's classifier.
UNUSED_LAYERS = ("fc_finetune", "fc")
WRAPPERS = ("state_dict", "model_state_dict")
# A layer that every network of a family has → how it is built.
FIRST_LAYERS = {
    "layer1.0.conv1.weight": families.resnet,
    "features.0.0.weight": families.mobilenet,
    "stage0.reparam_conv.weight": families.mobileone,
    "stage0.rbr_conv.0.conv.weight": families.mobileone,
}


def read_torch(content: bytes, where: str) -> dict[str, Any]:
    """What torch.save wrote, current or legacy format, without running anything in it.

    Raises:
        InputError: the file is damaged, holds code, objects or anything but a dict, or would
            unfold to more than it holds.
    """
    _refuse_torchscript(content, where)
    return read_tensors(content, where)


def _refuse_torchscript(content: bytes, where: str) -> None:
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except UNREADABLE:
        return  # the legacy format, or damaged: read_tensors says so
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise InputError(
            f"{where}: is a TorchScript program, which holds code; save the network's "
            "state_dict() with torch.save, or export it to ONNX"
        )


def base_from_torch(content: dict[str, Any], where: str, source: str, sha256: str) -> BaseNetwork:
    """A base network from a state dict, plain or wrapped, or from our own base.pt.

    Raises:
        InputError: it is none, or not one of the networks that are known.
    """
    if content.get("format") == FORMAT:
        return base_from_content(content, where, "fetch it again")
    if isinstance(content.get("format"), str):
        kind = printable(content["format"], 60)
        raise InputError(f"{where}: is a {kind!r} file and not a base network")
    state = state_dict(content, where)
    kinds = [kind for kind, of in HEAD_LAYERS.items() if any(_belongs(key, of) for key in state)]
    kind = kinds[0] if kinds else "torchvision"
    used = HEAD_LAYERS.get(kind, ())
    rest = {k: v for k, v in state.items() if not _belongs(k, (*used, *UNUSED_LAYERS))}
    trunk, trunk_state = _trunk_of(rest, where)
    heads = None
    if kinds:
        yaw, pitch = (_linear(state, layer, where) for layer in HEAD_LAYERS[kind])
        heads = bin_heads(yaw, pitch, trunk_spec(trunk).features, where)
    return BaseNetwork(trunk, trunk_state, heads, source, sha256, kind)


def state_dict(content: dict[str, Any], where: str) -> dict[str, Any]:
    """The state dict in `content` without wrapper, common prefix and batch counters.

    Raises:
        InputError: there is none, or its network lies under a prefix that not all keys have.
    """
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not content or not all(isinstance(key, str) for key in content):
        raise InputError(f"{where}: holds no state dict")
    prefix = _prefix(content, where)
    return {
        key.removeprefix(prefix): value
        for key, value in content.items()
        if not key.endswith("num_batches_tracked")
    }


def _prefix(state: dict[str, Any], where: str) -> str:
    """What stands before all keys, `module.` of DataParallel, `_orig_mod.` of torch.compile,
    `model.` of Lightning or any other."""
    ends = [first for first in FIRST_LAYERS if any(key.endswith(first) for key in state)]
    found = [key.removesuffix(ends[0]) for key in state if ends and key.endswith(ends[0])]
    prefix = min(found, key=len, default="")
    beside = [key for key in state if not key.startswith(prefix)]
    if beside:
        raise InputError(
            f"{where}: the network lies under the prefix {printable(prefix, 60)!r}, and beside it "
            f"{printable(beside[0], 60)!r}; save the state dict of the network alone"
        )
    return prefix


def _trunk_of(state: dict[str, Any], where: str) -> tuple[Trunk, dict[str, Tensor]]:
    """The trunk that a state dict without its heads is of, every key and shape checked."""
    family = next((FIRST_LAYERS[first] for first in FIRST_LAYERS if first in state), None)
    if family is None:
        raise InputError(
            f"{where}: holds no network that is known by its keys; state dicts are L2CS-Net's and "
            "MobileGaze's (ResNet, MobileNetV2, MobileOne) and torchvision's ResNets. Export "
            "another network to ONNX"
        )
    if family is families.resnet:
        trunk = _resnet_of(state)
        return trunk, checked_state(trunk, state, where)
    floats = {name: checked_tensor(value, name, where) for name, value in state.items()}
    builder = families.Builder(floats, where)
    features = family(builder)
    left_over = builder.left_over()
    graph, (features,) = simplified(builder.graph, [features])
    name = families.family_of(graph, features)
    if left_over or name is None:
        odd = f"holds {printable(left_over[0], 80)}" if left_over else "has layers of other widths"
        raise InputError(f"{where}: {odd}, which no MobileNetV2 or MobileOne of MobileGaze has")
    graph_of, graph_state, _ = graph_trunk(graph, features)
    return graph_of, graph_state


def _resnet_of(state: dict[str, Any]) -> str:
    """The ResNet of the same number of blocks, or the nearest below; `checked_state` then says
    what is wrong with it."""
    deep = "layer1.0.conv3.weight" in state
    third = sum(f"layer3.{block}.conv1.weight" in state for block in range(64))
    blocks = {36: "resnet152", 23: "resnet101", 6: "resnet50"} if deep else {6: "resnet34"}
    shallow = "resnet50" if deep else "resnet18"
    return next((name for count, name in blocks.items() if third >= count), shallow)


def _linear(state: dict[str, Any], layer: str, where: str) -> tuple[Tensor, Tensor]:
    names = (f"{layer}.weight", f"{layer}.bias")
    for name in names:
        if name not in state:
            raise InputError(f"{where}: lacks {name}, one of the two gaze heads")
    weight, bias = (checked_tensor(state[name], name, where) for name in names)
    return weight, bias


def _belongs(key: str, layers: tuple[str, ...]) -> bool:
    return key.rpartition(".")[0] in layers
