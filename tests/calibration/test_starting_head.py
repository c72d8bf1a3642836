import numpy as np
import pytest
import torch

from conftest import Project, small_base
from custom_gaze.calibration.base_features import base_features_of, plain_features
from custom_gaze.calibration.candidates import closed_forms
from custom_gaze.calibration.starting_head import linear_start, starting_network
from custom_gaze.config.candidate import Candidate
from custom_gaze.data.index import labels_deg, load_crop, of_split, read_index
from custom_gaze.faces.crops import normalise
from custom_gaze.weights.base import BaseModule, BaseNetwork
from custom_gaze.weights.base_heads import BinHeads, expected_angles
from headed_base import headed_base

_, PROBE, _ = Candidate


def bins(features: int, scale: float = 0.3) -> BinHeads:
    torch.manual_seed(1)
    weights = [scale * torch.randn(90, features), torch.randn(90)]
    others = [scale * torch.randn(90, features), torch.randn(90)]
    return BinHeads(*weights, *others, 90, 4.0, -180.0)


def linear(features: torch.Tensor, heads: BinHeads) -> tuple[torch.Tensor, torch.Tensor]:
    weight, bias = linear_start(features.double().numpy(), heads)
    return torch.from_numpy(weight).float(), torch.from_numpy(bias).float()


def test_the_linear_head_answers_as_the_bins_do_on_these_features() -> None:
    torch.manual_seed(0)
    features, heads = torch.rand(30, 512), bins(512)
    weight, bias = linear(features, heads)
    expected = expected_angles(
        features @ heads.yaw_weight.T + heads.yaw_bias,
        features @ heads.pitch_weight.T + heads.pitch_bias,
        heads,
    )
    assert expected.std(dim=0).min() > 3  # degrees: there is something to agree on
    torch.testing.assert_close(features @ weight.T + bias, expected, atol=0.02, rtol=0)


def test_with_more_frames_than_features_it_is_the_least_squares_fit() -> None:
    torch.manual_seed(0)
    features, heads = torch.rand(400, 8), bins(8, scale=1.0)
    weight, bias = linear(features, heads)
    expected = expected_angles(
        features @ heads.yaw_weight.T + heads.yaw_bias,
        features @ heads.pitch_weight.T + heads.pitch_bias,
        heads,
    ).double()
    design = torch.cat([features, torch.ones(400, 1)], dim=1).double()
    best = torch.linalg.lstsq(design, expected).solution
    ours = torch.cat([weight, bias[:, None]], dim=1).T.double()
    torch.testing.assert_close(design @ ours, design @ best, atol=0.01, rtol=0)


def test_near_the_given_features_it_still_follows_the_bins() -> None:
    """What only interpolated the thirty frames would be anywhere beside them."""
    torch.manual_seed(0)
    near, heads = 1 + 0.05 * torch.randn(60, 512), bins(512)
    weight, bias = linear(near[:30], heads)
    unseen = near[30:]
    expected = expected_angles(
        unseen @ heads.yaw_weight.T + heads.yaw_bias,
        unseen @ heads.pitch_weight.T + heads.pitch_bias,
        heads,
    )
    error = (unseen @ weight.T + bias - expected).abs().mean(dim=0)
    assert (error < 0.35 * expected.std(dim=0)).all()


def test_epoch_zero_is_the_base_network(ready: Project) -> None:
    plain = small_base()
    base = BaseNetwork(
        plain.trunk, plain.trunk_state, bins(256, scale=0.05), "a base", "0" * 64, "embedded"
    )
    samples = of_split(read_index(ready.paths.index), "train")
    ready.change(train={"start": "base"})
    network = starting_network(base, ready.params.train, samples, ready.paths)
    ours = network.head(plain_features(network, samples, ready.paths))
    crops = np.stack([load_crop(sample, ready.paths) for sample in samples])
    assert base.heads is not None
    with torch.inference_mode():
        logits = BaseModule(base)(torch.from_numpy(normalise(crops)))
        theirs = expected_angles(*logits, base.heads)
    assert theirs.std(dim=0).min() > 0.01
    torch.testing.assert_close(ours, theirs, atol=0.01, rtol=0)


def test_epoch_zero_is_the_probe(ready: Project) -> None:
    samples = of_split(read_index(ready.paths.index), "train")
    base = headed_base()
    assert ready.params.train.start == "probe"
    network = starting_network(base, ready.params.train, samples, ready.paths)
    seen = base_features_of(network, base.heads, samples, ready.paths)
    expected = closed_forms(seen, ready.params.train.seed)[PROBE].predict(
        seen.features, seen.base_deg
    )
    with torch.inference_mode():
        ours = network.head(torch.from_numpy(seen.features).float()).double().numpy()
    assert expected.std(axis=0).min() > 3
    np.testing.assert_allclose(ours, expected, atol=1e-3)


def test_a_trunk_alone_starts_from_the_mean_label(ready: Project) -> None:
    samples = of_split(read_index(ready.paths.index), "train")
    network = starting_network(small_base(), ready.params.train, samples, ready.paths)
    answers = network.head(plain_features(network, samples, ready.paths)).detach().numpy()
    mean = labels_deg(samples).mean(axis=0)
    assert answers.mean(axis=0) == pytest.approx(mean, abs=0.5)
