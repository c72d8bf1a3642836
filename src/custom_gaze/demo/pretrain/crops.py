"""The crops of all persons, drawn once by all cores, kept as JPEG and read back for training."""

import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.console import bar
from custom_gaze.common.files import whole_file
from custom_gaze.demo.pretrain.domain import draw_crops
from custom_gaze.demo.pretrain.params import DomainParams
from custom_gaze.demo.seeds import STREAM_CROP, stream
from custom_gaze.faces.crops import normalise

SIZE_PX = 224  # what the trunk's first block makes of 448 × 448
PERSONS_A_FILE = 20  # so many persons' work an interruption may cost each core

Part = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]  # bytes, sizes, gaze


@dataclass(frozen=True)
class DrawnCrops:
    """N crops in memory.

    Attributes:
        content: uint8 (bytes,), the JPEGs one after the other.
        offsets: int64 (N + 1,), where each begins.
        gaze_deg: float32 (N, 2) [yaw, pitch].
    """

    content: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    gaze_deg: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.gaze_deg)

    def decoded(self, index: int) -> NDArray[np.uint8]:
        """One crop (side, side, 3) RGB uint8, as large as it was drawn."""
        jpeg = self.content[self.offsets[index] : self.offsets[index + 1]]
        return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB), np.uint8)


def drawn_crops(params: DomainParams, folder: Path) -> DrawnCrops:
    """Draw what is not in `folder` yet, then read all of it.

    Raises:
        CustomGazeError: a file cannot be written.
    """
    last = params.first_person + params.persons
    parts = [
        range(first, min(first + PERSONS_A_FILE, last))
        for first in range(params.first_person, last, PERSONS_A_FILE)
    ]
    missing = [(part, params, _path(folder, part)) for part in parts]
    missing = [job for job in missing if not job[2].exists()]
    if missing:
        # Started afresh: a forked child would inherit torch's threads in an unknown state.
        context = multiprocessing.get_context("spawn")
        with context.Pool(min(os.cpu_count() or 1, len(missing))) as pool:
            done = len(parts) - len(missing)
            work = pool.imap_unordered(_draw_part, missing)
            for _ in bar(work, "drawing", len(parts), f"× {PERSONS_A_FILE} persons", done):
                pass
    return _joined([_read(_path(folder, part)) for part in parts])


def _path(folder: Path, part: range) -> Path:
    return folder / f"persons_{part.start}_{part.stop - 1}.npz"


def _draw_part(job: tuple[range, DomainParams, Path]) -> None:
    persons, params, path = job
    cv2.setNumThreads(1)  # there is a process on every core
    crops = crops_of(persons, params)
    sizes = np.diff(crops.offsets)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, content=crops.content, sizes=sizes, gaze_deg=crops.gaze_deg)


def crops_of(persons: Sequence[int], params: DomainParams) -> DrawnCrops:
    """Draw these persons' crops, whatever their seeds are meant for."""
    crops = [crop for seed in persons for crop in draw_crops(seed, params, SIZE_PX)]
    content = np.frombuffer(b"".join(crop.jpeg for crop in crops), np.uint8)
    sizes = np.array([len(crop.jpeg) for crop in crops], np.int64)
    return _joined([(content, sizes, np.array([crop.gaze_deg for crop in crops], np.float32))])


def _read(path: Path) -> Part:
    with np.load(path, allow_pickle=False) as part:
        return part["content"], part["sizes"], part["gaze_deg"]


def _joined(parts: Sequence[Part]) -> DrawnCrops:
    contents, sizes, angles = zip(*parts, strict=True)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    return DrawnCrops(np.concatenate(contents), offsets, np.concatenate(angles))


def training_batch(
    crops: DrawnCrops, rows: NDArray[np.int64], words: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Crops varied anew: uint8 (B, 224, 224, 3) RGB, and gaze float32 (B, 2) degrees.

    Half of them are mirrored, yaw with them; all are moved, scaled, lighter or darker, softer or
    harder, and of another white a little. `words` name the random stream.
    """
    rng = stream(STREAM_CROP, *words)
    images = np.empty((len(rows), SIZE_PX, SIZE_PX, 3), np.uint8)
    gaze_deg = crops.gaze_deg[rows].copy()
    for place, row in enumerate(rows):
        mirrored = rng.random() < 0.5
        images[place] = _varied(crops.decoded(int(row)), rng, mirrored)
        gaze_deg[place, 0] *= -1 if mirrored else 1
    return images, gaze_deg


def _varied(crop: NDArray[np.uint8], rng: np.random.Generator, mirrored: bool) -> NDArray[np.uint8]:
    scale = SIZE_PX / crop.shape[0]
    zoom = scale * float(np.exp(rng.normal(0, 0.07)))
    shift = rng.normal(0, 0.025 * SIZE_PX, 2)
    middle = (crop.shape[0] - 1) / 2
    sign = -1.0 if mirrored else 1.0
    matrix = np.array([[sign * zoom, 0, 0], [0, zoom, 0]])
    matrix[:, 2] = (SIZE_PX - 1) / 2 + shift - matrix[:, :2] @ [middle, middle]
    moved = cv2.warpAffine(crop, matrix, (SIZE_PX, SIZE_PX), borderMode=cv2.BORDER_REPLICATE)
    gamma, gain = np.exp(rng.normal(0, 0.2)), np.exp(rng.normal(0, 0.15) + rng.normal(0, 0.05, 3))
    tones = (np.arange(256)[:, None] / 255) ** gamma * gain * 255 + rng.normal(0, 6)  # (256, 3)
    table = np.clip(np.round(tones), 0, 255).astype(np.uint8)[None]
    return np.asarray(cv2.LUT(moved, table), np.uint8)


def plain_batch(crops: DrawnCrops, rows: Sequence[int]) -> NDArray[np.float32]:
    """Crops as they are, enlarged: x float32 (B, 3, 224, 224) normalised."""
    images = [
        cv2.resize(crops.decoded(row), (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_LINEAR)
        for row in rows
    ]
    return normalise(np.stack(images).astype(np.uint8))
