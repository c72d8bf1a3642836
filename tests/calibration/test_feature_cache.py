from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import Project
from custom_gaze.calibration import feature_cache as features
from custom_gaze.calibration.feature_cache import (
    AugmentedSamples,
    Kept,
    Mapped,
    Part,
    Recomputed,
    frozen_features,
    make_ahead,
)
from custom_gaze.calibration.frozen_blocks import FrozenBlocks
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample, of_split, read_index
from custom_gaze.faces.crops import normalise
from custom_gaze.models.devices import SideBySide
from custom_gaze.models.network import GazeNetwork, take_batchnorm_statistics
from custom_gaze.stages import index

CPU = torch.device("cpu")
ALL = np.arange(24)


@pytest.fixture
def augmented(project: Project, prepare_synthetic: Callable) -> AugmentedSamples:
    prepare_synthetic("one", 4, 4)
    index.run(project.params, project.paths)
    samples = of_split(read_index(project.paths.index), "train")[:8]
    return AugmentedSamples(samples, project.paths, project.params.augment, seed=1)


@pytest.fixture
def network() -> GazeNetwork:
    torch.manual_seed(0)
    network = GazeNetwork("resnet18", "layer3").eval()
    take_batchnorm_statistics(network, torch.randn(8, 3, 64, 64))
    return network


def test_samples_come_frame_by_frame(
    augmented: AugmentedSamples, torch_threads: Callable[[int], None]
) -> None:
    assert len(augmented) == 8 * 3
    assert augmented.per_frame == 3
    images = list(map(augmented.image, range(24)))
    torch_threads(3)
    again = list(SideBySide().map(augmented.image, [7, 3, 23]))
    for image, number in zip(again, [7, 3, 23], strict=True):
        np.testing.assert_array_equal(image, images[number])


def test_memory_file_and_recomputing_agree(
    augmented: AugmentedSamples,
    network: GazeNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = frozen_features(network, augmented, CPU, tmp_path, memory_bytes=10**9)
    assert isinstance(kept, Kept)
    assert isinstance(kept.place, np.ndarray)
    mapped = frozen_features(network, augmented, CPU, tmp_path, memory_bytes=1000)
    assert isinstance(mapped, Kept)
    assert isinstance(mapped.place, Mapped)
    full = type("usage", (), {"free": 0})
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: full)
    computed = frozen_features(network, augmented, CPU, tmp_path / "elsewhere", memory_bytes=1000)
    assert isinstance(computed, Recomputed)
    rows = np.array([2, 3, 11, 23])
    assert kept[rows].shape == (4, 256, 4, 4)
    np.testing.assert_array_equal(kept[rows], mapped[rows])
    np.testing.assert_array_equal(kept[rows], computed[rows])


def resident_kib(path: Path) -> int:
    """How much of the mapped file counts as this process's memory."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.endswith(str(path)))
    rss = next(line for line in lines[start:] if line.startswith("Rss:"))
    return int(rss.split()[1])


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux")
def test_the_file_s_pages_are_given_back(
    augmented: AugmentedSamples, network: GazeNetwork, tmp_path: Path
) -> None:
    mapped = frozen_features(network, augmented, CPU, tmp_path, memory_bytes=1000)
    path = tmp_path / "features.f16"
    assert path.stat().st_size == 24 * 256 * 4 * 4 * 2
    assert resident_kib(path) == 0
    first = mapped[ALL]
    assert resident_kib(path) == 0
    np.testing.assert_array_equal(mapped[ALL], first)


def test_each_crop_is_read_once_and_few_are_held(
    augmented: AugmentedSamples,
    monkeypatch: pytest.MonkeyPatch,
    torch_threads: Callable[[int], None],
) -> None:
    torch_threads(3)
    read: list[str] = []
    load = features.load_crop

    def counting(sample: Sample, paths: Paths) -> np.ndarray:
        read.append(sample.filename)
        return load(sample, paths)

    monkeypatch.setattr(features, "load_crop", counting)
    list(SideBySide().map(augmented.image, range(24)))
    assert len(read) == len(set(read)) == 8  # though threads ask for each three times
    assert augmented._crop.cache_info().maxsize == features.CROPS_KEPT < 100


def test_features_are_the_network_s_own_rounded_to_float16(
    augmented: AugmentedSamples, network: GazeNetwork, tmp_path: Path
) -> None:
    kept = frozen_features(network, augmented, CPU, tmp_path, memory_bytes=10**9)[ALL]
    images = np.stack(list(map(augmented.image, range(24))))
    with torch.inference_mode():
        exact = network.frozen(torch.from_numpy(normalise(images))).numpy()
    assert kept.dtype == np.float16
    np.testing.assert_allclose(kept, exact, rtol=2**-10, atol=1e-4)


def test_a_sample_is_computed_when_it_is_first_drawn(
    augmented: AugmentedSamples,
    network: GazeNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once, alone, and to the same numbers whatever was drawn before it."""
    asked: list[int] = []
    made = augmented.image

    def counting(number: int) -> object:
        asked.append(number)
        return made(number)

    monkeypatch.setattr(augmented, "image", counting)
    kept = frozen_features(network, augmented, CPU, tmp_path, memory_bytes=10**9)
    assert asked == [0]  # tells the shape
    asked.clear()
    drawn = kept[np.array([7, 3, 7])]
    again = kept[np.array([5, 3])]
    assert sorted(asked) == [3, 5, 7]
    np.testing.assert_array_equal(drawn[0], drawn[2])
    np.testing.assert_array_equal(drawn[1], again[1])
    in_order = frozen_features(network, augmented, CPU, tmp_path, memory_bytes=10**9)[ALL]
    np.testing.assert_array_equal(in_order[[7, 3, 7]], drawn)
    assert isinstance(kept, Kept)
    assert np.flatnonzero(kept.done).tolist() == [3, 5, 7]


def test_threads_change_nothing_and_compute_each_sample_once(
    augmented: AugmentedSamples,
    network: GazeNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    torch_threads: Callable[[int], None],
) -> None:
    """Neither those of the network nor those of two trainings that want the same samples."""
    one_by_one = frozen_features(network, augmented, CPU, tmp_path, memory_bytes=10**9)[ALL]
    asked: list[int] = []
    made = augmented.image
    monkeypatch.setattr(augmented, "image", lambda number: asked.append(number) or made(number))
    torch_threads(3)
    kept = frozen_features(network, augmented, CPU, tmp_path, memory_bytes=10**9)
    asked.clear()
    with ThreadPoolExecutor(2) as pool:
        mine, theirs = pool.map(kept.__getitem__, [ALL[:16], ALL[8:]])
    np.testing.assert_array_equal(mine, one_by_one[:16])
    np.testing.assert_array_equal(theirs, one_by_one[8:])
    assert sorted(asked) == [*range(24)]


def test_what_several_will_draw_is_made_ahead_at_once(
    augmented: AugmentedSamples, network: GazeNetwork, tmp_path: Path
) -> None:
    kept = frozen_features(network, augmented, CPU, tmp_path, memory_bytes=10**9)
    assert isinstance(kept, Kept)
    odd, even = Part(kept, ALL[1::2]), Part(kept, ALL[::2])
    rows = np.array([0, 5])
    assert make_ahead([(odd, rows), (even, rows), (kept, np.array([10, 23]))])
    assert np.flatnonzero(kept.done).tolist() == [0, 1, 10, 11, 23]
    np.testing.assert_array_equal(odd[rows], kept[np.array([1, 11])])
    assert not make_ahead([(odd, rows), (even, rows)])  # they are there
    computed = Recomputed(FrozenBlocks(network, CPU, augmented.size_px), augmented)
    assert not make_ahead([(computed, rows), (np.zeros((9, 1, 1, 1), np.float16), rows)])
    assert not make_ahead([])


def test_an_interrupted_file_is_continued(
    augmented: AugmentedSamples,
    network: GazeNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features, "CHUNK", 5)
    whole = frozen_features(network, augmented, CPU, tmp_path / "whole", 1000)[ALL]
    first, second, third = np.split(np.random.default_rng(1).permutation(24), [6, 8])

    asked: list[int] = []
    made = augmented.image

    def counting(number: int) -> object:
        asked.append(number)
        if number == np.sort(third)[1]:
            raise KeyboardInterrupt
        return made(number)

    monkeypatch.setattr(augmented, "image", counting)
    cut = frozen_features(network, augmented, CPU, tmp_path / "cut", 1000)
    (
        cut[first],
        cut[second],
    )  # five are written down, the last ones are too few
    with pytest.raises(KeyboardInterrupt):
        cut[third]
    monkeypatch.setattr(augmented, "image", lambda number: asked.append(number) or made(number))
    asked.clear()
    continued = frozen_features(network, augmented, CPU, tmp_path / "cut", 1000)[ALL]
    assert asked == [0, *sorted({*range(24)} - {*np.sort(first)[:5].tolist()})]
    np.testing.assert_array_equal(continued, whole)
    (tmp_path / "cut" / "features.done").write_bytes(b"?")  # of another number of samples
    asked.clear()
    again = frozen_features(network, augmented, CPU, tmp_path / "cut", 1000)[ALL]
    assert asked == [0, *range(24)]
    np.testing.assert_array_equal(again, whole)


def test_a_disk_without_room_is_named(
    augmented: AugmentedSamples,
    network: GazeNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(features.os, "posix_fallocate", full, raising=False)
    with pytest.raises(CustomGazeError, match=r"features.f16: no room .*No space left on device"):
        frozen_features(network, augmented, CPU, tmp_path, memory_bytes=1000)
