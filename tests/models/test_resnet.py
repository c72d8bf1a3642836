import subprocess
import sys

import pytest
import torch
import torchvision

from custom_gaze.models.resnet import BLOCKS, resnet


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_names_and_results_are_torchvision_s(name: str) -> None:
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    theirs.fc = torch.nn.Identity()
    ours = resnet(name).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)


def test_the_deeper_ones_have_torchvision_s_names() -> None:
    for name in BLOCKS:
        with torch.device("meta"):
            theirs = getattr(torchvision.models, name)(weights=None).state_dict()
            ours = resnet(name).state_dict()
        shapes = {key: each.shape for key, each in theirs.items() if not key.startswith("fc.")}
        assert {key: each.shape for key, each in ours.items()} == shapes


def test_a_stage_that_trains_does_without_torchvision() -> None:
    said = "import sys; import custom_gaze.stages.train; print('torchvision' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"
