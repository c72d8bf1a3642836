import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import Project, synthetic_crop
from custom_gaze.calibration.base_features import BaseFeatures, base_features_of
from custom_gaze.calibration.candidates import (
    FORMAT,
    VERSION,
    Candidates,
    closed_forms,
    closed_network,
    closed_predictions,
    corrected_base,
    read_candidates,
    save_candidates,
)
from custom_gaze.calibration.corrections import Polynomial
from custom_gaze.calibration.linear_probe import LinearProbe
from custom_gaze.common.errors import InputError
from custom_gaze.config.candidate import Candidate
from custom_gaze.data.index import labels_deg, load_crop, read_index
from custom_gaze.faces.crops import normalise
from custom_gaze.models.heads import FURTHEST_DEG
from custom_gaze.models.network import GazeNetwork
from custom_gaze.stages import index
from custom_gaze.weights.base import BaseModule
from custom_gaze.weights.base_heads import expected_angles
from headed_base import headed_base

BASE, PROBE, FINETUNE = Candidate

FORM = LinearProbe(
    Polynomial("quadratic", (0.02, -0.03), (-2.5, 3.0), (7.0, -4.0)),
    np.random.default_rng(1).normal(0, 2, (2, 256)),
    np.array([1.5, -0.5]),
    0.01,
)


def trunk() -> tuple[GazeNetwork, torch.Tensor]:
    """The test's base network as a trunk, and eight crops as its input."""
    base = headed_base()
    network = GazeNetwork(base.trunk, "layer3")
    network.load_trunk(base.trunk_state)
    angles = np.random.default_rng(2).uniform([-25, -15], [25, 15], (8, 2))
    crops = [synthetic_crop(*pair, 64, noise) for noise, pair in enumerate(angles)]
    return network.eval(), torch.from_numpy(normalise(np.stack(crops)))


def test_the_closed_form_inside_the_graph_is_the_closed_form() -> None:
    base = headed_base()
    network, x = trunk()
    with torch.inference_mode():
        f = network.features(network.frozen(x))
        angles = expected_angles(*BaseModule(base)(x), base.heads)
        ours = closed_network(network, base.heads, FORM)(x).numpy()
    expected = FORM.predict(f.numpy(), angles.numpy())
    assert np.ptp(expected, axis=0).min() > 5
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    by_hand = (np.array(FORM.correction.curve) * angles.numpy() ** 2).astype(float)
    by_hand += np.array(FORM.correction.gain) * angles.numpy() + FORM.correction.offset_deg
    by_hand += f.numpy() @ FORM.weight.T + FORM.bias_deg
    np.testing.assert_allclose(ours, by_hand, atol=1e-4)


def test_no_answer_is_further_off_than_any_gaze() -> None:
    """As on an image without a face, far from what the linear map was fitted on."""
    base = headed_base()
    network, x = trunk()
    wild = dataclasses.replace(FORM, weight=1000 * FORM.weight)
    with torch.inference_mode():
        f = network.features(network.frozen(x))
        angles = expected_angles(*BaseModule(base)(x), base.heads)
        ours = closed_network(network, base.heads, wild)(x).numpy()
    assert np.abs(f.numpy() @ wild.weight.T).max() > 180
    assert np.abs(ours).max() == FURTHEST_DEG
    np.testing.assert_allclose(ours, wild.predict(f.numpy(), angles.numpy()), atol=1e-2)


def test_a_trunk_alone_gets_its_probe_as_a_linear_head() -> None:
    network, x = trunk()
    with torch.inference_mode():
        f = network.features(network.frozen(x)).double().numpy()
        made = closed_network(network, None, FORM)
        ours = made(x).numpy()
    assert isinstance(made, GazeNetwork)
    expected = f @ FORM.weight.T + FORM.bias_deg + FORM.correction.offset_deg
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_what_the_network_sees_is_what_the_base_answers(
    project: Project, prepare_synthetic: Callable
) -> None:
    prepare_synthetic("one", 3, 2, 2)
    index.run(project.params, project.paths)
    samples = read_index(project.paths.index)
    base = headed_base()
    network, _ = trunk()
    seen = base_features_of(network, base.heads, samples, project.paths)
    crops = np.stack([load_crop(sample, project.paths) for sample in samples])
    with torch.inference_mode():
        logits = BaseModule(base)(torch.from_numpy(normalise(crops)))
        expected = expected_angles(*logits, base.heads).numpy()
    np.testing.assert_allclose(seen.base_deg, expected, atol=1e-3)
    assert np.ptp(expected, axis=0).min() > 3
    assert seen.features.shape == (12, 256)
    assert [len(set(seen.targets[i : i + 2])) for i in range(0, 12, 2)] == [1] * 6
    assert len(set(seen.targets)) == 6
    np.testing.assert_allclose(seen.true_deg, labels_deg(samples))
    part = seen.rows(seen.targets == 2)
    np.testing.assert_array_equal(part.features, seen.features[4:6])
    assert not base_features_of(network, None, samples[:2], project.paths).base_deg.any()


def world(frames: int, signal: float, seed: int = 0) -> BaseFeatures:
    """A compressed, shifted base with errors; features that know of them and of the truth."""
    generator = np.random.default_rng(seed)
    true = generator.uniform([-25, -16], [25, 16], (frames, 2))
    errors = generator.normal(size=true.shape)
    base = -0.4 * true + [15, -5] + 3 * errors
    hidden = np.concatenate([signal * true / 15, signal * errors], axis=1)
    directions = np.random.default_rng(99).normal(size=(4, 64))
    features = 3 + hidden @ directions + generator.normal(0, 0.3, (frames, 64))
    return BaseFeatures(features, base, true, np.arange(frames))


def test_both_closed_forms_answer_as_they_were_fitted() -> None:
    seen, unseen = world(60, 1.0), world(200, 1.0, seed=1)
    forms = closed_forms(seen, seed=1)
    assert not forms[BASE].weight.any()
    assert forms[BASE].alpha == float("inf")
    np.testing.assert_allclose(
        forms[BASE].predict(unseen.features, unseen.base_deg),
        forms[BASE].correction.predict(unseen.base_deg),
    )
    errors = {
        name: np.hypot(*(form.predict(unseen.features, unseen.base_deg) - unseen.true_deg).T).mean()
        for name, form in forms.items()
    }
    assert errors[PROBE] < 0.5 * errors[BASE]
    assert forms[PROBE].correction.name == forms[BASE].correction.name


def test_what_a_poor_base_adds_is_left_out_where_the_labels_are_better_mapped() -> None:
    """A base with errors that the features do not know: its correction spoils a probe."""
    known = world(60, 1.0)
    generator = np.random.default_rng(3)
    errors = generator.normal(0, 3, (60, 2))
    base = 0.3 * known.true_deg + errors
    seen = BaseFeatures(known.features, base, known.true_deg, known.targets)
    forms = closed_forms(seen, 1)
    assert forms[BASE].correction.name == "gain_offset"
    assert forms[PROBE].correction.name == "constant"
    # A good base is kept, and what the features say is added to it.
    good = BaseFeatures(seen.features, 0.5 * known.true_deg + 3, seen.true_deg, seen.targets)
    assert closed_forms(good, 1)[PROBE].correction.name == "gain_offset"


def test_only_the_probe_knows_the_inner_part() -> None:
    """The corrected base is what the app would have: the angles for the whole crop."""
    plain, unseen = world(60, 1.0), world(200, 1.0, seed=1)
    tight = [
        dataclasses.replace(some, base_deg=0.9 * some.true_deg).beside(some)
        for some in (plain, unseen)
    ]
    forms = closed_forms(tight[0], seed=1)
    assert forms[BASE].correction == closed_forms(plain, seed=1)[BASE].correction
    np.testing.assert_allclose(forms[PROBE].correction.gain, 1 / 0.9, atol=1e-6)
    predictions = closed_predictions(forms, tight[1].rows(slice(0, 100)))
    np.testing.assert_allclose(predictions[PROBE], unseen.true_deg[:100], atol=1e-6)
    expected = forms[BASE].correction.predict(unseen.base_deg[:100])
    np.testing.assert_allclose(predictions[BASE], expected)


def test_without_angles_the_probe_learns_the_labels() -> None:
    known = world(60, 1.0)
    seen = BaseFeatures(known.features, np.zeros((60, 2)), known.true_deg, known.targets)
    assert corrected_base(seen, 1).correction.name == "constant"
    form = closed_forms(seen, 1)[PROBE]
    np.testing.assert_allclose(form.correction.offset_deg, seen.true_deg.mean(axis=0))
    assert np.hypot(*(form.predict(seen.features, seen.base_deg) - seen.true_deg).T).mean() < 4


def test_candidates_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "candidates.pt"
    form = LinearProbe(FORM.correction, np.zeros((2, 3)), np.zeros(2))
    state = {"head.bias": torch.tensor([1.0, 2.0])}
    errors = {BASE: 5.0, PROBE: 4.0, FINETUNE: 3.0}
    kept = Candidates(
        "probe",
        "why",
        errors,
        {BASE: form, PROBE: FORM},
        "layer3",
        state,
        "linear",
        0.5,
        (4.5, 3.5),
    )
    save_candidates(kept, path)
    first = path.read_bytes()
    back = read_candidates(path)
    assert (back.method, back.reason, back.held_out_deg) == ("probe", "why", errors)
    assert (back.inner_share, back.cross_validated_deg) == (0.5, (4.5, 3.5))
    assert back.closed[PROBE].correction == FORM.correction
    assert back.closed[BASE].alpha == float("inf")
    np.testing.assert_array_equal(back.closed[PROBE].weight, FORM.weight)
    assert back.fine_tuned is not None
    assert torch.equal(back.fine_tuned["head.bias"], state["head.bias"])
    save_candidates(kept, path)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "not found; run `custom-gaze train` first"),
        ({"format": "custom-gaze-base", "version": 1}, "no candidates of this version"),
        ({"format": FORMAT, "version": VERSION}, "no complete candidates"),
        (
            {
                "format": FORMAT,
                "version": VERSION,
                "closed": {"base": {"curve": []}},
            },
            "no complete candidates",
        ),
    ],
)
def test_a_file_that_holds_none_is_named(tmp_path: Path, content: object, said: str) -> None:
    path = tmp_path / "candidates.pt"
    if content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=rf"candidates.pt: {said}"):
        read_candidates(path)
