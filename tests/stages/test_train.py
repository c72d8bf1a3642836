import fcntl
import hashlib
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import Project, frozen_state
from custom_gaze.calibration import policy, trainer
from custom_gaze.calibration.candidates import read_candidates
from custom_gaze.calibration.frozen_blocks import features_of
from custom_gaze.calibration.starting_head import starting_network
from custom_gaze.common.errors import InputError
from custom_gaze.data.index import labels_deg, load_crop, of_split, read_index
from custom_gaze.evaluation.results import read_training_log
from custom_gaze.models.checkpoint import load_checkpoint
from custom_gaze.stages import train
from custom_gaze.weights.base import BaseNetwork, read_base, save_base
from custom_gaze.weights.load import load_base
from weights_nets import export, gaze_network


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_training_learns(ready: Project) -> None:
    ready.change(train={"epochs": 8, "learning_rate": 1e-3, "patience": 8})
    result = train.run(ready.params, ready.paths)
    log = read_training_log(ready.paths.training_log)
    assert log.epoch.tolist() == list(range(9))  # epoch 0 is the start
    assert result.epochs == 8
    assert log.train_loss[-1] < 0.3 * log.train_loss[0]
    assert result.exported.validation_loss == log.validation_loss.min()
    assert (result.train_frames, result.validation_frames) == (20, 6)


def test_frozen_means_frozen_to_the_bit(ready: Project) -> None:
    ready.change(train={"learning_rate": 1e-3})
    samples = of_split(read_index(ready.paths.index), "train")
    torch.manual_seed(ready.params.train.seed)
    base = read_base(ready.paths.base)
    start = starting_network(base, ready.params.train, samples, ready.paths)
    train.run(ready.params, ready.paths)
    for path in (ready.paths.checkpoint, ready.paths.last_checkpoint):
        checkpoint = load_checkpoint(path)
        assert checkpoint.frozen_through == "layer3"  # and not the word `auto`
        after = checkpoint.network()
        for name, tensor in frozen_state(start).items():
            assert torch.equal(tensor, frozen_state(after)[name]), name
        # BatchNorm stays in eval mode in the trained block too: its statistics do not move.
        for name, tensor in start.trunk.get_submodule("layer4").state_dict().items():
            if "running" in name:
                assert torch.equal(tensor, after.trunk.get_submodule("layer4").state_dict()[name])
    assert read_candidates(ready.paths.candidates).frozen_through == "layer3"
    moved = after.trunk.get_submodule("layer4.0.conv1").weight  # of the last checkpoint
    assert not torch.equal(moved, start.trunk.get_submodule("layer4.0.conv1").weight)


def test_two_trainings_give_the_same_bytes(ready: Project) -> None:
    train.run(ready.params, ready.paths)
    paths = (ready.paths.checkpoint, ready.paths.last_checkpoint, ready.paths.training_log)
    first = [sha256(path) for path in paths]
    for path in paths:
        path.unlink()
    train.run(ready.params, ready.paths)
    assert [sha256(path) for path in paths] == first
    ready.change(train={"seed": ready.params.train.seed + 1})
    train.run(ready.params, ready.paths)
    assert sha256(ready.paths.checkpoint) != first[0]


def test_best_and_last_are_apart(ready: Project) -> None:
    ready.change(train={"epochs": 60, "learning_rate": 3e-3, "patience": 1})
    train.run(ready.params, ready.paths)
    log = read_training_log(ready.paths.training_log)
    best, last = (
        load_checkpoint(ready.paths.checkpoint),
        load_checkpoint(ready.paths.last_checkpoint),
    )
    assert best.training.epoch == int(np.argmin(log.validation_loss))
    assert np.flatnonzero(log.exported).tolist() == [best.training.epoch]
    assert last.training.epoch == log.epoch[-1] < 60
    assert best.training.epoch + 1 == last.training.epoch  # stopped by the first worse one
    validation = of_split(read_index(ready.paths.index), "validation")
    crops = [load_crop(sample, ready.paths) for sample in validation]
    labels = torch.from_numpy(labels_deg(validation))
    for checkpoint in (best, last):
        network = checkpoint.network()
        features = features_of(network, crops, torch.device("cpu"))
        loss = torch.nn.functional.mse_loss(
            trainer.predict(network, features, len(labels), 8), labels
        )
        assert loss.item() == pytest.approx(checkpoint.training.validation_loss, rel=1e-3)


def test_early_stopping(ready: Project) -> None:
    ready.change(train={"epochs": 200, "learning_rate": 3e-2, "patience": 2})
    result = train.run(ready.params, ready.paths)
    assert result.epochs == result.exported.epoch + 2 < 200


def _killed_training(project: Project) -> None:
    """A training that is killed as soon as it has kept its state for the second time."""
    policy.KEEP_EVERY_S = 0.0
    keep, kept = trainer.save_tensors, 0

    def keeps(content: dict[str, object], path: Path) -> None:
        nonlocal kept
        keep(content, path)
        kept += 1
        if kept == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer.save_tensors = keeps
    train.run(project.params, project.paths)


def test_a_killed_training_ends_with_the_same_weights(ready: Project) -> None:
    ready.change(train={"epochs": 4, "patience": 4})
    train.run(ready.params, ready.paths)
    expected = sha256(ready.paths.checkpoint), sha256(ready.paths.last_checkpoint)
    ready.paths.checkpoint.unlink()
    ready.paths.last_checkpoint.unlink()

    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_killed_training, args=(ready,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not ready.paths.checkpoint.exists()
    scratch = ready.paths.root / ".dvc" / "tmp" / "custom-gaze"
    assert len(list(scratch.glob("train-*/state.pt"))) == 1

    train.run(ready.params, ready.paths)
    assert (sha256(ready.paths.checkpoint), sha256(ready.paths.last_checkpoint)) == expected
    assert not [path for path in scratch.iterdir() if path.is_dir()]


def test_a_change_starts_again_and_clears_what_the_old_training_left(ready: Project) -> None:
    """Another seed, another device or other code: an unfinished training of theirs is no start."""
    unfinished = ready.paths.root / ".dvc" / "tmp" / "custom-gaze"
    for key in ("train-idle", "train-busy"):
        (unfinished / key).mkdir(parents=True)
        (unfinished / key / "state.pt").write_bytes(b"of another training")
        (unfinished / f"{key}.lock").touch()
    with (unfinished / "train-busy.lock").open("w") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        train.run(ready.params, ready.paths)
    assert [path.name for path in unfinished.iterdir() if path.is_dir()] == ["train-busy"]


def test_the_code_is_part_of_what_a_training_is_resumed_by(
    ready: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    before = train._key(ready.params, ready.paths, cpu)
    assert train._key(ready.params, ready.paths, cpu) == before
    assert train._key(ready.params, ready.paths, torch.device("cuda")) != before
    monkeypatch.setattr(train, "code_version", lambda _: "0.1.0+changed")
    assert train._key(ready.params, ready.paths, cpu) != before


@pytest.mark.parametrize(
    ("key", "recipe"),
    [
        ("learning_rate", {"epochs": 50, "patience": 50}),
        ("peak_learning_rate", {"schedule": "cosine", "steps": 60}),
    ],
)
def test_a_learning_rate_that_diverges_is_named(
    ready: Project, key: str, recipe: dict[str, object]
) -> None:
    ready.change(train={key: 1.0, **recipe})
    base = read_base(ready.paths.base)
    loud = {name: tensor * 1e10 for name, tensor in base.trunk_state.items() if "conv" in name}
    state = {**base.trunk_state, **loud}
    save_base(BaseNetwork(base.trunk, state, None, "loud", "", "torchvision"), ready.paths.base)
    said = rf"training diverged in epoch \d+ .*; train\.{key} is 1: try a smaller one"
    with pytest.raises(InputError, match=said):
        train.run(ready.params, ready.paths)
    assert not ready.paths.checkpoint.exists()


def test_a_device_that_is_not_there(ready: Project) -> None:
    if torch.cuda.is_available():
        pytest.skip("CUDA is there")
    ready.change(train={"device": "cuda"})
    with pytest.raises(InputError, match="train.device is 'cuda', but torch sees none"):
        train.run(ready.params, ready.paths)


def test_a_block_the_trunk_has_not(ready: Project) -> None:
    ready.change(train={"frozen_through": "layer9"})
    with pytest.raises(InputError, match="train.frozen_through is 'layer9'"):
        train.run(ready.params, ready.paths)


@pytest.fixture(scope="module")
def folded_and_unfolded(tmp_path_factory: pytest.TempPathFactory) -> list[BaseNetwork]:
    """One network as the app's ONNX file, with BatchNorm folded into the convolutions and not."""
    folder = tmp_path_factory.mktemp("onnx")
    network = gaze_network("resnet18")
    return [
        load_base(export(network, folder / f"folded_{folded}.onnx", current=folded, folded=folded))
        for folded in (True, False)
    ]


@pytest.mark.long
def test_a_folded_base_trains_as_an_unfolded_one(
    ready: Project, folded_and_unfolded: list[BaseNetwork]
) -> None:
    recipe = {"method": "finetune", "start": "base"}
    ready.change(train={"epochs": 5, "learning_rate": 3e-4, "patience": 5, **recipe})
    logs = []
    for base, folded in zip(folded_and_unfolded, (True, False), strict=True):
        assert base.batchnorm_folded is folded
        save_base(base, ready.paths.base)
        train.run(ready.params, ready.paths)
        logs.append(read_training_log(ready.paths.training_log).validation_loss)
    for log in logs:
        assert log.min() < 0.8 * log[0]
    one, other = logs
    assert one[0] == pytest.approx(other[0], rel=1e-3)  # the same network to start from
    assert 0.5 < one.min() / other.min() < 2
