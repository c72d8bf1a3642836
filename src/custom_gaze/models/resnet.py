"""ResNets (He et al. 2015, "Deep Residual Learning for Image Recognition"), by torchvision's names.

Written out here because importing torchvision costs more than importing PyTorch: every stage paid
its two to three seconds for three classes. Weights, names and results are torchvision's own.
"""

from collections import OrderedDict

from torch import Tensor, nn

STEM = ("conv1", "bn1", "relu", "maxpool")
STAGES = ("layer1", "layer2", "layer3", "layer4")
SLIM_CHANNELS = (24, 48, 96, 256)
WIDTHS = (64, 128, 256, 512)  # of the four stages
BLOCKS = {  # a stage, and whether they have a bottleneck
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
WIDER = 4  # times the channels come out of a bottleneck


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut: (N, channels, H, W) → (N, wider, H / stride, …)."""

    def __init__(self, channels: int, wider: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(channels, wider, 3, stride), nn.BatchNorm2d(wider)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = _conv(wider, wider, 3), nn.BatchNorm2d(wider)
        self.downsample = _shortcut(channels, wider, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(y)
        return out


class Bottleneck(nn.Module):
    """1 × 1, 3 × 3 and 1 × 1 convolutions beside a shortcut; the 3 × 3 one has the stride (v1.5).

    (N, channels, H, W) → (N, 4 · width, H / stride, W / stride).
    """

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        wider = WIDER * width
        self.conv1, self.bn1 = _conv(channels, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, wider, 1), nn.BatchNorm2d(wider)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels, wider, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(y)
        return out


def resnet(name: str) -> nn.Module:
    """One of BLOCKS with random weights, without its classifier: images → (N, features)."""
    counts, bottleneck = BLOCKS[name]
    make, factor = (Bottleneck, WIDER) if bottleneck else (BasicBlock, 1)
    stages, channels = [], WIDTHS[0]
    for index, (width, count) in enumerate(zip(WIDTHS, counts, strict=True)):
        first = make(channels, width, 1 if index == 0 else 2)
        channels = width * factor
        stages.append(nn.Sequential(first, *(make(channels, width) for _ in range(count - 1))))
    return _whole({}, WIDTHS[0], stages)


def slim_resnet() -> nn.Module:
    """A ResNet-18 of fewer channels that first averages each 2 × 2 pixels of the image into one.

    At 448 × 448 it costs about a sixth of ResNet-18 at 224 × 224. Faces of up to 180 pixels, which
    is what it was trained on, lose nothing by being halved after they were enlarged to 448.
    """
    stages, channels = [], SLIM_CHANNELS[0]
    for index, wider in enumerate(SLIM_CHANNELS):
        first = BasicBlock(channels, wider, 1 if index == 0 else 2)
        stages.append(nn.Sequential(first, BasicBlock(wider, wider)))
        channels = wider
    return _whole({"shrink": nn.AvgPool2d(2)}, SLIM_CHANNELS[0], stages)


def _whole(before: dict[str, nn.Module], channels: int, stages: list[nn.Sequential]) -> nn.Module:
    stem = (
        nn.Conv2d(3, channels, 7, 2, 3, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    )
    blocks = {
        **before,
        **dict(zip(STEM, stem, strict=True)),
        **dict(zip(STAGES, stages, strict=True)),
        "avgpool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(1),
    }
    whole = nn.Sequential(OrderedDict(blocks))
    for module in whole.modules():
        # On "meta", where only shapes count, it would load torch._dynamo, for two seconds.
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return whole


def _conv(channels: int, wider: int, side: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, wider, side, stride, side // 2, bias=False)


def _shortcut(channels: int, wider: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels == wider:
        return None
    return nn.Sequential(_conv(channels, wider, 1, stride), nn.BatchNorm2d(wider))
