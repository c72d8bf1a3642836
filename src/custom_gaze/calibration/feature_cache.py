"""What the frozen blocks make of every augmented sample: computed when it is first drawn, and kept.

The frozen part of the network never changes, so each augmented sample has to pass through it once
and not once an epoch, and one that no batch draws never does. The outputs are kept in memory where
all of them would fit into the budget, else in a memory-mapped file, else they are computed anew
whenever they are asked for. All three ways give the same numbers, in whatever order samples are
drawn: a sample always goes through the network alone and is always rounded to float16.
"""

import mmap
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from custom_gaze.calibration.frozen_blocks import FrozenBlocks
from custom_gaze.common.console import bar
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.files import write_bytes
from custom_gaze.config.params import AugmentParams
from custom_gaze.config.paths import Paths
from custom_gaze.data.augmentation import Augmenter
from custom_gaze.data.index import Sample, load_crop
from custom_gaze.models.devices import SideBySide
from custom_gaze.models.network import GazeNetwork

CROPS_KEPT = 32  # decoded
CHUNK = 64  # samples between two entries in the record of a file that an interrupted run left


class Store(Protocol):
    """Where features are kept: rows (N, channels, h, w) in float16."""

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float16]: ...


class Part:
    """Some rows of a store, as a store of their own."""

    def __init__(self, store: Store, rows: NDArray[np.int64]) -> None:
        self.store, self.rows = store, rows

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        part: NDArray[np.float16] = self.store[self.rows[rows]]
        return part


class AugmentedSamples:
    """The training frames' augmented samples: frame by frame, `per_frame` of each, the plain crop
    first."""

    def __init__(
        self, samples: Sequence[Sample], paths: Paths, params: AugmentParams, seed: int
    ) -> None:
        self._names = [f"{sample.session}/{sample.filename}" for sample in samples]
        # A frame's samples are wanted one after another; all crops at once would be 0.6 MB each.
        self._crop = lru_cache(CROPS_KEPT)(lambda frame: load_crop(samples[frame], paths))
        self._reading = threading.Lock()  # else every thread reads the next frame
        self._own = threading.local()
        self.per_frame = params.samples + 1
        self._params, self._seed = params, seed

    def __len__(self) -> int:
        return len(self._names) * self.per_frame

    @property
    def size_px(self) -> int:
        """The crops' side."""
        return len(self._crop(0))

    def image(self, number: int) -> NDArray[np.uint8]:
        """One sample, uint8 (H, W, 3) RGB; threads may ask at the same time."""
        if not hasattr(self._own, "augmenter"):
            self._own.augmenter = Augmenter(self._params, self._seed)
        frame, sample = divmod(number, self.per_frame)
        with self._reading:
            crop = self._crop(frame)
        made: NDArray[np.uint8] = self._own.augmenter(crop, self._names[frame], sample)
        return made


class Mapped:
    """A memory-mapped file. Its pages are given back after each use: the system keeps them where
    there is room, but the process does not grow to the size of the file."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        """`path` has the size that `shape` needs.

        Raises:
            OSError: it cannot be mapped.
        """
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._rows = np.frombuffer(self._map, np.float16).reshape(shape)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        part: NDArray[np.float16] = self._rows[rows]  # a copy
        self._map.madvise(mmap.MADV_DONTNEED)
        return part

    def __setitem__(self, row: int, value: NDArray[np.float16]) -> None:
        self._rows[row] = value

    def flush(self) -> None:
        """Return when everything lies in the file."""
        self._map.flush()
        self._map.madvise(mmap.MADV_DONTNEED)


class Recomputed:
    """Keeps nothing: computes what is asked for, each time.

    On the CPU samples are made and pass through the network side by side; a GPU gets them in
    batches, which the CPU's threads make ahead.
    """

    def __init__(self, blocks: FrozenBlocks, augmented: AugmentedSamples) -> None:
        self._blocks, self._augmented, self._threads = blocks, augmented, SideBySide()

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        return np.stack(list(self.each(rows.tolist())))

    def each(self, rows: Sequence[int]) -> Iterator[NDArray[np.float16]]:
        """The rows one by one, in their order."""
        if self._blocks.device.type == "cpu":
            return self._threads.map(self._one, rows)
        images = self._threads.map(self._augmented.image, rows)
        return self._blocks.each(images, self._threads)

    def _one(self, row: int) -> NDArray[np.float16]:
        return self._blocks.one(self._augmented.image(row))


class Kept:
    """Computes a row when it is first asked for, and keeps it. Threads may ask at the same time.

    Attributes:
        place: where all N rows have room.
        done: (N,) which of them are there.
    """

    def __init__(
        self, source: Recomputed, place: NDArray[np.float16] | Mapped, record: "Record"
    ) -> None:
        self._source, self.place, self._record = source, place, record
        self.done = record.done
        self._computing = threading.Lock()  # what one computes, another one mostly wants next

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        self.make(rows)
        part: NDArray[np.float16] = self.place[rows]
        return part

    def make(self, rows: NDArray[np.int64]) -> int:
        """Compute those of some rows that are missing, and return how many those were."""
        with self._computing:
            missing = np.unique(rows[~self.done[rows]])
            if len(missing) == 0:
                return 0
            made = self._source.each(missing.tolist())
            shown = bar(made, "augmented samples", len(missing), "crops", leave=False)
            for row, value in zip(missing, shown, strict=True):
                self.place[row] = value
                self.done[row] = True
                if isinstance(self.place, Mapped):
                    self._record.after_one(self.place)
        return len(missing)


def make_ahead(drawn: Iterable[tuple[Store, NDArray[np.int64]]]) -> bool:
    """Have the rows that batches will draw of one `Kept`, or of parts of it, computed now; whether
    any was missing. Other stores have nothing to make ahead.

    All at once they keep every thread at it. A batch that finds its own missing has them computed
    while what trains beside it goes on, and is then waited for.
    """
    roots = [
        (store.store, store.rows[rows]) if isinstance(store, Part) else (store, rows)
        for store, rows in drawn
    ]
    kept = [(store, rows) for store, rows in roots if isinstance(store, Kept)]
    return bool(kept) and kept[0][0].make(np.concatenate([rows for _, rows in kept])) > 0


class Record:
    """Which rows of a file an interrupted run may go on with; without a path nothing is written.

    Attributes:
        done: (N,) bool.
    """

    def __init__(self, count: int, path: Path | None = None) -> None:
        self.done, self._path, self._new = np.zeros(count, bool), path, 0

    def read(self) -> None:
        """Take over what an interrupted run wrote down, if anything."""
        content = self._path.read_bytes() if self._path and self._path.is_file() else b""
        if len(content) == -(-len(self.done) // 8):
            bits = np.unpackbits(np.frombuffer(content, np.uint8), count=len(self.done))
            self.done[:] = bits.astype(bool)

    def after_one(self, place: Mapped) -> None:
        """Of a new row: write down which are there, where there are enough to make it worth it."""
        self._new += 1
        if self._path is None or (self._new < CHUNK and not self.done.all()):
            return
        place.flush()  # only what lies in the file may be called done
        write_bytes(self._path, np.packbits(self.done).tobytes())
        self._new = 0


def frozen_features(
    network: GazeNetwork,
    augmented: AugmentedSamples,
    device: torch.device,
    scratch: Path,
    memory_bytes: int,
) -> Kept | Recomputed:
    """Where the features of all samples are computed as they are drawn, and kept in the first place
    that has room for them.

    Args:
        network: its frozen blocks are used; they must not change afterwards.
        augmented: what to compute, N samples.
        device: where the network lies.
        scratch: folder for the memory-mapped file. What it holds of an interrupted run is used.
        memory_bytes: how much memory the features may take.

    Raises:
        CustomGazeError: the disk has no room for the file after all.
    """
    source = Recomputed(FrozenBlocks(network, device, augmented.size_px), augmented)
    first = next(source.each([0]))
    shape = (len(augmented), *first.shape)
    size = int(np.prod(shape)) * 2
    if size <= memory_bytes:
        # Pages that nothing is written to take no memory.
        return Kept(source, np.empty(shape, np.float16), Record(len(augmented)))
    scratch.mkdir(parents=True, exist_ok=True)
    if size <= 0.8 * shutil.disk_usage(scratch).free + _size(scratch / "features.f16"):
        return _mapped(source, shape, scratch)
    return source


def _mapped(source: Recomputed, shape: tuple[int, ...], scratch: Path) -> Kept:
    """A memory-mapped file, with what an interrupted run left in it."""
    path, record = scratch / "features.f16", Record(shape[0], scratch / "features.done")
    size = int(np.prod(shape)) * 2
    if _size(path) == size:
        record.read()
    try:
        _reserve(path, size)
        place = Mapped(path, shape)
    except OSError as error:
        raise CustomGazeError(
            f"{path}: no room for the features ({error.strerror}); free some space, or lower "
            "augment.samples"
        ) from None
    return Kept(source, place, record)


def _reserve(path: Path, size: int) -> None:
    """Make the file that large and take its blocks now: a disk that fills up later, while the file
    is mapped, would end the process with a bus error."""
    with path.open("ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
