"""What a network that is kept as a list of nodes (graph.py) may consist of."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Does(nn.Module):
    """An operation without weights."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *x: Tensor) -> Tensor:
        """What the function makes of its inputs."""
        return self._function(*x)


class WithConstant(nn.Module):
    """Two operands, of which the second, or the first where `before` is 1, is a fixed tensor."""

    other: Tensor

    def __init__(
        self, function: Callable[[Tensor, Tensor], Tensor], sizes: tuple[int, ...], before: int
    ) -> None:
        super().__init__()
        self._function, self._before = function, bool(before)
        self.register_buffer("other", torch.zeros(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """The function of x and the constant."""
        return self._function(self.other, x) if self._before else self._function(x, self.other)


class Scale(nn.Module):
    """A weight and a bias for each channel: what a BatchNorm is that follows no convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, …) scaled and shifted."""
        sizes = (-1, *(1 for _ in x.shape[2:]))
        return x * self.weight.view(sizes) + self.bias.view(sizes)


def _convolution(
    inputs: int,
    outputs: int,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    bias: int,
) -> nn.Module:
    where = (_pair(kernel), _pair(stride), _pair(padding), _pair(dilation))
    return nn.Conv2d(inputs, outputs, *where, groups, bias=bool(bias))


def _pair(numbers: tuple[int, ...]) -> tuple[int, int]:
    high, wide = numbers
    return high, wide


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., nn.Module]:
    def build(sizes: tuple[int, ...] | None = None, before: int = 0) -> nn.Module:
        return Does(function) if sizes is None else WithConstant(function, sizes, before)

    return build


def _plain(function: Callable[[Tensor], Tensor]) -> Callable[..., nn.Module]:
    return lambda: Does(function)


def _pool(kind: str) -> Callable[..., nn.Module]:
    def build(
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        ceil: int = 0,
        count_padding: int = 1,
    ) -> nn.Module:
        where = (_pair(kernel), _pair(stride), _pair(padding))
        if kind == "maximum":
            return nn.MaxPool2d(*where, ceil_mode=bool(ceil))
        return nn.AvgPool2d(*where, ceil_mode=bool(ceil), count_include_pad=bool(count_padding))

    return build


def _slice(axis: int, start: int, stop: int, step: int = 1) -> nn.Module:
    return Does(lambda x: x[(slice(None),) * axis + (slice(start, stop, step),)])


def _resize(mode: str) -> Callable[..., nn.Module]:
    def build(sizes: tuple[int, ...], corners: int = 0) -> nn.Module:
        aligned = bool(corners) if mode == "bilinear" else None
        return Does(
            lambda x: nn.functional.interpolate(x, _pair(sizes), mode=mode, align_corners=aligned)
        )

    return build


# Name → what makes a module of a node's settings. All keep the batch's dimension first.
OPERATIONS: dict[str, Callable[..., nn.Module]] = {
    "convolution": _convolution,
    "linear": lambda inputs, outputs, bias: nn.Linear(inputs, outputs, bias=bool(bias)),
    "scale": Scale,
    "prelu": lambda channels: nn.PReLU(channels),
    # activations
    "relu": lambda: nn.ReLU(),
    "leaky_relu": lambda slope: nn.LeakyReLU(slope),
    "elu": lambda alpha: nn.ELU(alpha),
    "clip": lambda lowest, highest: Does(lambda x: torch.clamp(x, lowest, highest)),
    "sigmoid": _plain(torch.sigmoid),
    "hard_sigmoid": lambda slope, offset: Does(lambda x: torch.clamp(slope * x + offset, 0.0, 1.0)),
    "hard_swish": _plain(nn.functional.hardswish),
    "silu": _plain(nn.functional.silu),
    "mish": _plain(nn.functional.mish),
    "softplus": _plain(nn.functional.softplus),
    "gelu": lambda: nn.GELU(),
    "tanh": _plain(torch.tanh),
    "erf": _plain(torch.erf),
    "exp": _plain(torch.exp),
    "sqrt": _plain(torch.sqrt),
    "softmax": lambda axis: Does(lambda x: torch.softmax(x, dim=axis)),
    # two operands, or one and a constant of `sizes`
    "add": _binary(torch.add),
    "subtract": _binary(torch.sub),
    "multiply": _binary(torch.mul),
    "divide": _binary(torch.div),
    "power": _binary(torch.pow),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    # pools
    "max_pool": _pool("maximum"),
    "average_pool": _pool("average"),
    "average": lambda: Does(lambda x: torch.mean(x, dim=tuple(range(2, x.ndim)), keepdim=True)),
    "largest": lambda: Does(lambda x: torch.amax(x, dim=tuple(range(2, x.ndim)), keepdim=True)),
    # the same numbers in another arrangement
    "reshape": lambda sizes: Does(lambda x: x.reshape(x.shape[0], *sizes)),
    "transpose": lambda axes: Does(lambda x: x.permute(0, *axes)),
    "concatenate": lambda axis: Does(lambda *x: torch.cat(x, dim=axis)),
    "slice": _slice,
    "pad": lambda sizes, value=0.0: Does(
        lambda x: nn.functional.pad(x, list(sizes), value=float(value))
    ),
    "resize_nearest": _resize("nearest"),
    "resize_linear": _resize("bilinear"),
}
