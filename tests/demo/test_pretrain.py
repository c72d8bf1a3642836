import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from conftest import REPOSITORY
from custom_gaze.common.errors import InputError
from custom_gaze.config.specification import PREPROCESSING
from custom_gaze.demo.pretrain import check, domain, learning
from custom_gaze.demo.pretrain import run as pretraining
from custom_gaze.demo.pretrain.crops import crops_of, drawn_crops, plain_batch, training_batch
from custom_gaze.demo.pretrain.heads import finish_heads
from custom_gaze.demo.pretrain.params import (
    SCREEN,
    WIDE,
    DomainParams,
    HeadsParams,
    LearnParams,
    load_pretrain_params,
)
from custom_gaze.demo.seeds import PERSON_SEEDS
from custom_gaze.faces.crops import normalise
from custom_gaze.weights.base import BaseModule, read_base
from custom_gaze.weights.base_heads import expected_angles
from custom_gaze.weights.embedded import EMBEDDED_BASE, load_embedded, provenance_of

SHIPPED = REPOSITORY / "pretrain" / "params.yaml"
PERSONS = [10_001, 10_002]
FEW = DomainParams(crops_per_person=6)
FEW_ON_SCREEN = DomainParams(kind=SCREEN, crops_per_person=6)


@pytest.fixture
def small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning costs a fifth where images of 96 pixels show what those of 224 would."""
    monkeypatch.setattr("custom_gaze.demo.pretrain.crops.SIZE_PX", 96)


def params_file(folder: Path, **changes: dict[str, object]) -> Path:
    """The shipped parameters made small, then changed."""
    content = yaml.safe_load(SHIPPED.read_text())
    content["domain"] |= {"persons": 2, "crops_per_person": 6}
    content["heads_domain"] |= {"persons": 1, "crops_per_person": 6}
    content["learn"] |= {"steps": 12, "batch_size": 4, "device": "cpu"}
    content["heads"] |= {"steps": 20}
    for section, values in changes.items():
        content[section] |= values
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_person_is_always_drawn_the_same() -> None:
    params = DomainParams(crops_per_person=3)
    first, again = (list(domain.draw_crops(10_005, params, 224)) for _ in range(2))
    assert first == again
    assert list(domain.draw_crops(10_006, params, 224)) != first


def test_the_wide_domain_is_wide_and_small() -> None:
    crops = crops_of([10_001, 10_002, 10_003], DomainParams(crops_per_person=30))
    sides = {crops.decoded(row).shape[0] for row in range(len(crops))}
    assert min(sides) >= 1.2 * 40 - 1
    assert max(sides) <= 2.0 * 120 + 1
    assert np.abs(crops.gaze_deg[:, 0]).max() > 40  # beyond any place on the screen
    assert np.abs(crops.gaze_deg[:, 0]).max() <= domain.YAW_LIMIT_DEG
    assert np.abs(crops.gaze_deg[:, 1]).max() <= domain.PITCH_LIMIT_DEG


def test_the_screens_domain_stays_on_the_screen() -> None:
    crops = crops_of([10_001], DomainParams(kind=SCREEN, crops_per_person=20))
    assert np.abs(crops.gaze_deg[:, 0]).max() < 864 * 0.0307 + 2
    assert np.abs(crops.gaze_deg[:, 1]).max() < 558.5 * 0.0307 + 2
    assert {crops.decoded(row).shape for row in range(20)} == {(224, 224, 3)}


def test_half_of_the_crops_are_mirrored_and_yaw_with_them() -> None:
    crops = crops_of([10_001], DomainParams(kind=SCREEN, crops_per_person=1))
    rows = np.zeros(40, np.int64)
    images, gaze_deg = training_batch(crops, rows, (7,))
    yaw, pitch = crops.gaze_deg[0]
    assert (images.shape, images.dtype) == ((40, 224, 224, 3), np.uint8)
    assert set(np.unique(gaze_deg[:, 0])) == {yaw, -yaw}
    assert set(np.unique(gaze_deg[:, 1])) == {pitch}
    plain = crops.decoded(0)
    for image, label in zip(images, gaze_deg, strict=True):
        near, far = (plain, plain[:, ::-1]) if label[0] == yaw else (plain[:, ::-1], plain)
        assert (
            np.corrcoef(image.ravel(), near.ravel())[0, 1]
            > np.corrcoef(image.ravel(), far.ravel())[0, 1]
        )


def test_each_image_gets_a_light_of_its_own_and_noise() -> None:
    grey = torch.full((64, 32, 48, 3), 120, dtype=torch.uint8)
    x, again = (learning.lit(grey, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(x, again)
    assert x.shape == (64, 3, 32, 48)
    std = torch.tensor(PREPROCESSING.std)[:, None, None]
    mean = torch.tensor(PREPROCESSING.mean)[:, None, None]
    levels = 255 * (x * std + mean)
    assert levels.mean() == pytest.approx(120, abs=2)  # darker on one side, lighter on the other
    across = levels[..., 24:].mean((1, 2, 3)) - levels[..., :24].mean((1, 2, 3))
    down = levels[..., 16:, :].mean((1, 2, 3)) - levels[..., :16, :].mean((1, 2, 3))
    for slope in (across, down):
        assert slope.std() == pytest.approx(120 * learning.SHADE, rel=0.4)
        assert (slope > 0).sum() > 10 < (slope < 0).sum()
    rough = (levels[..., 1:] - levels[..., :-1]).std(dim=(1, 2, 3))
    assert rough.min() < 2
    assert rough.max() > 5


def test_batches_made_ahead_in_threads_are_those_of_one_after_the_other() -> None:
    crops = crops_of([10_001], FEW)
    params = LearnParams(steps=9, schedule_steps=9, batch_size=3)
    made = list(learning.batches(crops, params, 2))
    assert len(made) == 7
    for number, (images, gaze_deg) in enumerate(made, start=2):
        rows = learning._rows(len(crops), params, number)
        wanted = training_batch(crops, rows, (0, number))
        np.testing.assert_array_equal(images.numpy(), wanted[0])
        np.testing.assert_array_equal(gaze_deg.numpy(), wanted[1])


def test_the_label_counts_the_eyes_own_turn_by_its_share() -> None:
    """The same crops, labelled with the gaze, with the head's direction, and in between."""
    true, half, head = (
        crops_of([10_001], DomainParams(crops_per_person=8, eye_share=share))
        for share in (1.0, 0.5, 0.0)
    )
    np.testing.assert_array_equal(true.content, head.content)
    np.testing.assert_allclose(half.gaze_deg, (true.gaze_deg + head.gaze_deg) / 2, atol=1e-4)
    assert np.abs(true.gaze_deg - head.gaze_deg).max() > 5


def test_new_heads_leave_the_trunk_alone_and_learn_their_crops(small_crops: None) -> None:
    torch.manual_seed(3)
    network = learning.BinNetwork().eval().requires_grad_(False)
    trunk = {name: tensor.clone() for name, tensor in network.trunk.state_dict().items()}
    crops = crops_of(PERSONS, FEW_ON_SCREEN)
    params = HeadsParams(steps=400, batch_size=32)
    finish_heads(network, crops, params, 0.1)
    for name, tensor in network.trunk.state_dict().items():
        assert torch.equal(tensor, trunk[name]), name
    x = torch.from_numpy(plain_batch(crops, range(12)))
    with torch.inference_mode():
        yaw, _ = network(x)
    angles = (torch.softmax(yaw, 1) @ (torch.arange(90) * 4.0 - 180)).numpy()
    # 256 random features tell 12 crops apart: the scale was folded in rightly
    assert np.abs(angles - crops.gaze_deg[:, 0]).mean() < 2
    assert np.abs(crops.gaze_deg[:, 0]).mean() > 6


def test_the_loss_is_cross_entropy_and_squared_error_by_hand() -> None:
    torch.manual_seed(0)
    yaw, pitch = torch.randn(2, 90), torch.randn(2, 90)
    gaze_deg = torch.tensor([[9.0, -3.0], [-59.0, 40.0]])
    bins = torch.arange(90) * 4.0 - 180
    expected = 0.0
    for logits, wanted in ((yaw, gaze_deg[:, 0]), (pitch, gaze_deg[:, 1])):
        share = torch.softmax(logits, 1)
        nearest = [int(torch.argmin((bins - angle).abs())) for angle in wanted]
        expected += -(share[0, nearest[0]].log() + share[1, nearest[1]].log()).item() / 2
        expected += 0.5 * ((share @ bins - wanted) ** 2).mean().item()
    assert learning.l2cs_loss((yaw, pitch), gaze_deg, 0.5).item() == pytest.approx(expected, 1e-5)


@pytest.mark.long
def test_learning_lowers_the_loss(tmp_path: Path, small_crops: None) -> None:
    crops = crops_of(PERSONS, FEW_ON_SCREEN)
    params = LearnParams(steps=60, schedule_steps=60, batch_size=6, average_decay=0.5)
    network, seconds = learning.learn(crops, params, torch.device("cpu"), tmp_path / "state.pt")
    x, gaze_deg = torch.from_numpy(plain_batch(crops, range(12))), torch.from_numpy(crops.gaze_deg)
    torch.manual_seed(params.seed)
    with torch.inference_mode():
        first = learning.l2cs_loss(learning.BinNetwork().eval()(x), gaze_deg, 0.1).item()
        last = learning.l2cs_loss(network(x), gaze_deg, 0.1).item()
    assert last < 0.9 * first
    assert seconds > 0


def test_pretraining_writes_a_base_and_its_provenance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_crops: None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "OWN_PERSONS", range(2001, 2003))
    monkeypatch.setattr(check, "SCREEN_PERSONS", range(2101, 2102))
    path = params_file(tmp_path)
    result = pretraining.run(path, tmp_path / "base.pt")
    base = load_embedded(tmp_path / "base.pt")
    assert (base.trunk, base.kind) == ("slim18", "embedded")
    assert base.heads is not None
    assert (base.heads.bins, base.heads.bin_width_deg) == (90, 4.0)
    provenance = json.loads(provenance_of(tmp_path / "base.pt").read_text())
    assert provenance["crops"] == result.crops == 12
    assert provenance["made_on"]["cores"] == os.cpu_count()
    assert provenance["figures"]["own_error_deg"] == round(result.figures.own_error_deg, 3)
    assert not list((tmp_path / ".dvc" / "tmp" / "custom-gaze").glob("pretrain*/*/*"))


@pytest.mark.long
def test_interrupted_it_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_crops: None
) -> None:
    """Killed while it learns, started again: the same bytes as without the interruption."""
    nothing = check.Figures(*[0.0] * 7)
    monkeypatch.setattr(pretraining, "figures", lambda network, domain: nothing)
    drawn = {params.kind: crops_of(PERSONS, params) for params in (FEW, FEW_ON_SCREEN)}
    monkeypatch.setattr(pretraining, "drawn_crops", lambda params, folder: drawn[params.kind])
    outputs = []
    for folder in (tmp_path / "straight", tmp_path / "broken"):
        folder.mkdir()
        monkeypatch.chdir(folder)
        outputs.append(folder / "base.pt")
        path = params_file(folder, learn={"steps": 5})
        if folder.name == "broken":
            np.savez(folder / "drawn.npz", **dataclasses.asdict(drawn[WIDE]))
            command = [sys.executable, "-c", _KILLED, str(path), str(outputs[-1]), "drawn.npz"]
            killed = subprocess.run(command, cwd=folder, check=False)
            assert killed.returncode == -signal.SIGKILL
            assert not outputs[-1].exists()
            (kept,) = (folder / ".dvc" / "tmp" / "custom-gaze" / "pretrain").glob("*/state.pt")
            assert torch.load(kept, weights_only=True)["step"] == 3
        pretraining.run(path, outputs[-1])
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


# Keeps its state after each step, and is killed as soon as the third one's is kept.
_KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from custom_gaze.demo.pretrain import crops, learning, run
crops.SIZE_PX = 96
learning.KEEP_EVERY_S = 0.0
keep = learning._keep
def kept(path, spent, *rest):
    keep(path, spent, *rest)
    if spent[0] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
learning._keep = kept
with np.load(sys.argv[3]) as drawn:
    parts = dict(drawn)
run.drawn_crops = lambda *_: crops.DrawnCrops(**parts)
run.run(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_drawn_parts_are_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = DomainParams(persons=2, crops_per_person=2)
    first = drawn_crops(params, tmp_path)
    (part,) = tmp_path.glob("*.npz")
    kept = part.stat().st_mtime_ns
    again = drawn_crops(params, tmp_path)
    assert part.stat().st_mtime_ns == kept
    np.testing.assert_array_equal(first.content, again.content)
    np.testing.assert_array_equal(first.gaze_deg, again.gaze_deg)


@pytest.mark.parametrize("first", [1000, 2000, 9_999, 999_999])
def test_persons_meant_for_something_else_are_refused(tmp_path: Path, first: int) -> None:
    path = params_file(tmp_path, domain={"first_person": first})
    with pytest.raises(InputError, match=r"person seed \d+ is not one for pretrain"):
        load_pretrain_params(path)


def test_no_shipped_pretraining_uses_a_person_of_another_purpose() -> None:
    """Neither the demo's, nor the bench's, nor those that settings are chosen on."""
    others = {seed for use, seeds in PERSON_SEEDS.items() if use != "pretrain" for seed in seeds}
    for path in sorted((REPOSITORY / "pretrain").glob("*.yaml")):
        if path.name == "dvc.yaml":
            continue
        params = load_pretrain_params(path)
        for used in (params.domain, params.heads_domain):
            assert others.isdisjoint(range(used.first_person, used.first_person + used.persons))
    assert others.isdisjoint(PERSON_SEEDS["pretrain"])
    assert set(check.OWN_PERSONS) | set(check.SCREEN_PERSONS) <= set(PERSON_SEEDS["tuning"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads_domain": {"first_person": 5}}, r"heads_domain.persons: person seed 5 is not one"),
        ({"domain": {"persons": 0}}, r"domain.persons is 0, but must lie in 1 … 100000"),
        ({"domain": {"kind": "deep"}}, r"domain.kind is 'deep', but must be one of wide, screen"),
        ({"domain": {"face_smallest_px": 300.0}}, "face_smallest_px is above"),
        ({"learn": {"steps": 10_000}}, "learn.steps is above learn.schedule_steps"),
        ({"learn": {"colour": 1}}, "learn has the unknown key 'colour'"),
    ],
)
def test_wrong_parameters_are_named(
    tmp_path: Path, change: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_pretrain_params(params_file(tmp_path, **change))


def test_the_shipped_base_is_what_its_provenance_say() -> None:
    base = load_embedded()
    provenance = json.loads(provenance_of(EMBEDDED_BASE).read_text())
    assert EMBEDDED_BASE.stat().st_size < 12e6
    assert provenance["sha256"] == base.sha256
    shipped = dataclasses.asdict(load_pretrain_params(SHIPPED))
    assert provenance["parameters"] == shipped
    assert shipped["domain"]["kind"] == WIDE
    assert 0.2 <= abs(provenance["figures"]["yaw_slope"]) <= 0.6
    assert 0.2 <= abs(provenance["figures"]["pitch_slope"]) <= 0.6


def test_the_shipped_base_at_448_answers_as_it_was_trained_at_224() -> None:
    """Its first block undoes the doubling of every pixel."""
    base = load_embedded()
    assert base.heads is not None
    network = learning.bin_network(base)
    x = torch.from_numpy(plain_batch(crops_of(PERSONS, DomainParams(crops_per_person=1)), [0, 1]))
    doubled = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.inference_mode():
        small = expected_angles(*network(x), base.heads)
        large = expected_angles(*BaseModule(base)(doubled), base.heads)
    torch.testing.assert_close(small, large, rtol=1e-4, atol=1e-3)


def test_the_shipped_base_sees_where_unseen_people_look() -> None:
    base = load_embedded()
    assert base.heads is not None
    crops = crops_of(range(2201, 2205), DomainParams(crops_per_person=6))
    images = [cv2.resize(crops.decoded(row), (448, 448)) for row in range(len(crops))]
    with torch.inference_mode():
        x = torch.from_numpy(normalise(np.stack(images).astype(np.uint8)))
        answers = expected_angles(*BaseModule(base)(x), base.heads).numpy()
    assert np.corrcoef(answers[:, 0], crops.gaze_deg[:, 0])[0, 1] > 0.7
    assert np.corrcoef(answers[:, 1], crops.gaze_deg[:, 1])[0, 1] > 0.6


def test_a_damaged_base_is_named_with_the_expected_hash(tmp_path: Path) -> None:
    path = tmp_path / "embedded_base.pt"
    content = bytearray(EMBEDDED_BASE.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    provenance_of(path).write_text(provenance_of(EMBEDDED_BASE).read_text())
    expected = json.loads(provenance_of(EMBEDDED_BASE).read_text())["sha256"]
    with pytest.raises(InputError, match=rf"embedded_base.pt: is damaged.*expected is {expected}"):
        load_embedded(path)
    path.unlink()
    with pytest.raises(InputError, match=r"embedded_base.pt: cannot be read"):
        load_embedded(path)
    provenance_of(path).write_text("{")
    with pytest.raises(InputError, match=r"embedded_base.json: is damaged"):
        load_embedded(path)


def test_the_saved_base_is_read_back_as_it_was_rounded(tmp_path: Path) -> None:
    """save_base and read_base keep float16 weights to the bit."""
    torch.manual_seed(0)
    network = learning.BinNetwork().eval()
    from custom_gaze.weights.base import save_base

    save_base(pretraining.as_base(network), tmp_path / "base.pt")
    read = read_base(tmp_path / "base.pt")
    wanted = network.trunk.state_dict()["layer4.1.conv2.weight"].half().float()
    torch.testing.assert_close(read.trunk_state["layer4.1.conv2.weight"], wanted, rtol=0, atol=0)
