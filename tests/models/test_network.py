import pytest
import torch

from conftest import frozen_state
from custom_gaze.common.errors import InputError
from custom_gaze.models.network import (
    TRUNKS,
    GazeNetwork,
    inner_part,
    take_batchnorm_statistics,
    trunk_spec,
)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_the_blocks_are_the_whole_trunk(trunk: str) -> None:
    """Run block by block, the network predicts what torchvision's own forward pass does."""
    torch.manual_seed(0)
    network = GazeNetwork(trunk, TRUNKS[trunk].frozen_through).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = network.head(network.trunk(x))
        assert network(x).shape == (2, 2)
        torch.testing.assert_close(network(x), expected)


def test_frozen_means_everything_up_to_and_including_layer3() -> None:
    network = GazeNetwork("resnet50", "layer3")
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.startswith(("trunk.layer4.", "head.")) for name in trained)
    assert all(
        name.startswith(("conv1", "bn1", "layer1", "layer2", "layer3"))
        for name in frozen_state(network)
    )
    assert "layer3.5.bn3.running_mean" in frozen_state(network)
    assert network.frozen(torch.zeros(1, 3, 448, 448)).shape == (1, 1024, 28, 28)


def test_the_inner_part_is_the_middle_enlarged() -> None:
    x = torch.arange(8.0).expand(1, 3, 8, 8)  # its columns' numbers
    half = inner_part(x, 0.5)
    # 2 to 5 at half a column's distance, from a quarter left of the first one's middle on
    assert half[0, 0, 3].tolist() == [2.0, 2.25, 2.75, 3.25, 3.75, 4.25, 4.75, 5.0]
    assert torch.equal(inner_part(x.mT, 0.5), half.mT)
    assert inner_part(x, 1.0) is x


@pytest.mark.parametrize("share", [0.0, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="an inner share of"):
        GazeNetwork("slim18", "layer3", inner_share=share)


@pytest.mark.parametrize(
    ("trunk", "through"), [("resnet18", "layer3"), ("slim18", "layer3"), ("resnet50", "layer4.1")]
)
def test_auto_leaves_the_last_stage_or_of_bottlenecks_the_last_block(
    trunk: str, through: str
) -> None:
    network = GazeNetwork(trunk, "auto")
    assert network.frozen_through == through
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    behind = "layer4.2." if through == "layer4.1" else "layer4."
    assert all(name.startswith((f"trunk.{behind}", "head.")) for name in trained)
    assert f"trunk.{behind}" in {name[: len(f"trunk.{behind}")] for name in trained}


@pytest.mark.parametrize("block", ["layer5", "layer4", "layer4.1", "avgpool", ""])
def test_a_block_that_cannot_end_the_frozen_part_is_refused(block: str) -> None:
    with pytest.raises(InputError, match=r"allowed are conv1, .*layer3, layer4.0$"):
        GazeNetwork("resnet18", block)


def test_an_unknown_trunk_is_refused() -> None:
    with pytest.raises(InputError, match="unknown trunk 'resnet51'; known are resnet18"):
        trunk_spec("resnet51")


def test_the_trained_state_goes_back_where_it_came_from() -> None:
    network = GazeNetwork("resnet18", "layer3")
    kept = network.trained_state()
    with torch.no_grad():
        network.head.bias += 1
    assert not torch.equal(network.head.bias, kept["head.bias"])
    network.load_trained_state(kept)
    assert torch.equal(network.head.bias, kept["head.bias"])
    del kept["head.bias"]
    with pytest.raises(ValueError, match="head.bias"):
        network.load_trained_state(kept)


def test_a_trunk_with_a_missing_or_foreign_key_is_refused() -> None:
    network = GazeNetwork("resnet18", "layer3")
    state = dict(network.trunk.state_dict())
    network.load_trunk({k: v for k, v in state.items() if "num_batches" not in k})
    with pytest.raises(ValueError, match="fc.weight"):
        network.load_trunk({**state, "fc.weight": torch.zeros(1)})
    del state["conv1.weight"]
    with pytest.raises(ValueError, match="conv1.weight"):
        network.load_trunk(state)


def test_batchnorm_statistics_keep_activations_sane() -> None:
    torch.manual_seed(0)
    network = GazeNetwork("resnet50", "layer3").eval()
    x = torch.randn(16, 3, 64, 64) * 0.2 + 1
    take_batchnorm_statistics(network, x)
    assert not any(module.training for module in network.modules())
    stem = network.trunk.get_submodule("bn1")(network.trunk.get_submodule("conv1")(x))
    assert stem.mean().abs() < 0.05
    assert stem.std() == pytest.approx(1.0, abs=0.05)
    assert all(
        module.momentum == 0.1 for module in network.modules() if hasattr(module, "momentum")
    )
