"""What rounding to 8 bits does to the mean of a channel is taken out of its bias."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from custom_gaze.models import quantisation
from custom_gaze.models.onnx_export import to_onnx
from custom_gaze.models.onnx_files import open_session, run_session
from custom_gaze.models.quantisation import quantised

SIZE_PX = 32


def images(seed: int, count: int = 12) -> Iterator[NDArray[np.float32]]:
    """Images of one brightness or another, float32 (1, 3, 32, 32)."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield rng.uniform(0, rng.uniform(1, 2), (1, 3, SIZE_PX, SIZE_PX)).astype(np.float32)


def fitted() -> Iterator[NDArray[np.float32]]:
    return images(1)


@pytest.fixture
def one_sided(tmp_path: Path) -> Path:
    """A network whose weights are all rounded down: of each channel one is 1, in 8 bits 127 steps,
    and the others are 0.45 of a step more than a whole number of them. The first convolution has
    no bias. What the head gives is called degrees."""
    torch.manual_seed(1)
    first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    second = nn.Conv2d(8, 6, 3, padding=1)
    network = nn.Sequential(
        first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)
    )
    with torch.no_grad():
        for layer in (first, second):
            steps = torch.randint(-2, 4, layer.weight.shape) + 0.45
            layer.weight.copy_(steps / 127)
            layer.weight[:, 0, 0, 0] = 1.0
    path = tmp_path / "network.onnx"
    path.write_bytes(to_onnx(network, SIZE_PX, 18).SerializeToString())
    return path


def outputs(content: bytes, x: NDArray[np.float32]) -> list[NDArray[Any]]:
    """What each convolution of a model gives, and its prediction."""
    model = onnx.load_from_string(content)
    for node in model.graph.node:
        if node.op_type == "Conv":
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(node.output[0]))
    prediction, *maps = run_session(open_session(model, "the test's"), x)
    return [*maps, prediction]


def mean_errors(small: bytes, plain: bytes) -> list[float]:
    """How far the mean over images that nothing was fitted to moves, of the worst channel of each
    convolution and of the prediction."""
    moved = []
    for x in images(2):
        pairs = zip(outputs(small, x), outputs(plain, x), strict=True)
        differences = [ours.astype(np.float64) - theirs for ours, theirs in pairs]
        moved.append([each.reshape(*each.shape[:2], -1).mean(axis=(0, 2)) for each in differences])
    return [float(np.abs(np.mean(each, axis=0)).max()) for each in zip(*moved, strict=True)]


def test_the_mean_error_is_gone_on_images_that_nothing_was_fitted_to(
    one_sided: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = one_sided.read_bytes()
    corrected = quantised(one_sided, fitted)
    assert quantised(one_sided, fitted) == corrected
    monkeypatch.setattr(quantisation, "correct_biases", lambda plain, small, crops: None)
    as_rounded = mean_errors(quantised(one_sided, fitted), plain)
    left = mean_errors(corrected, plain)
    # Each convolution by itself, the one without a bias too, and by them the prediction.
    assert all(after < 0.2 * before for after, before in zip(left, as_rounded, strict=True)), (
        left,
        as_rounded,
    )


def test_what_is_left_of_the_mean_is_taken_out_of_the_prediction(one_sided: Path) -> None:
    ours, theirs = (
        np.mean([run_session(open_session(content, "the test's"), x)[0] for x in fitted()], axis=0)
        for content in (quantised(one_sided, fitted), one_sided.read_bytes())
    )
    assert np.abs(ours - theirs).max() < 1e-5


def test_a_prediction_is_still_held_within_its_limits(one_sided: Path, tmp_path: Path) -> None:
    """The shift comes before the Clip that an exported head ends in."""
    model = onnx.load(str(one_sided))
    low, high = (
        onnx.numpy_helper.from_array(np.float32(value), name)
        for name, value in (("low", 0.25), ("high", 0.26))
    )
    model.graph.initializer.extend((low, high))
    model.graph.node[-1].output[0] = "unlimited"
    model.graph.node.append(
        onnx.helper.make_node("Clip", ["unlimited", "low", "high"], ["output"], name="limits")
    )
    limited = tmp_path / "limited.onnx"
    limited.write_bytes(model.SerializeToString())
    small = quantised(limited, fitted)
    assert onnx.load_from_string(small).graph.node[-1].op_type == "Clip"
    for x in images(3, 4):
        *_, angles = outputs(small, 9 * x)
        assert (angles >= np.float32(0.25)).all()
        assert (angles <= np.float32(0.26)).all()
