"""The plain reference of bench/train_speed.py: the specification taken literally.

The whole network sees every augmented sample in every epoch, in float32 and contiguous NCHW. They
are made on the fly by albumentations in a DataLoader's workers, from the crop's JPEG. The frozen
blocks have their gradients off. Nothing is kept from one epoch to the next but the weights.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from custom_gaze.config.params import AugmentParams, TrainParams
from custom_gaze.config.paths import Paths
from custom_gaze.data.augmentation import Augmenter
from custom_gaze.data.index import Sample, labels_deg
from custom_gaze.faces.crops import normalise
from custom_gaze.models.network import GazeNetwork

Item = tuple[Tensor, Tensor]  # x float32 (…, 3, H, W), y float32 (…, 2) degrees


class OnTheFly(Dataset[Item]):
    """Every sample of every frame, frame by frame, the plain crop first, made when asked
    for: the same bytes as the project's samples, by the same recipe."""

    def __init__(
        self, samples: Sequence[Sample], paths: Paths, params: AugmentParams, seed: int
    ) -> None:
        self._files = [sample.path(paths) for sample in samples]
        self._names = [f"{sample.session}/{sample.filename}" for sample in samples]
        self._labels = torch.from_numpy(labels_deg(samples))
        self._per_frame = params.samples + 1
        self._augmenter = Augmenter(params, seed)

    def __len__(self) -> int:
        return len(self._files) * self._per_frame

    def __getitem__(self, number: int) -> Item:
        frame, sample = divmod(number, self._per_frame)
        image = cv2.imread(str(self._files[frame]))
        assert image is not None  # the index has seen it
        crop = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
        made = self._augmenter(crop, self._names[frame], sample)
        return torch.from_numpy(normalise(made[None])[0]), self._labels[frame]


class Reference:
    """A network being fine-tuned the plain way.

    Attributes:
        network: on its device, in eval mode; BatchNorm stays there, as in the project's training.
    """

    def __init__(
        self,
        network: GazeNetwork,
        train: Dataset[Item],
        validation: Dataset[Item],
        params: TrainParams,
        workers: int,
    ) -> None:
        self.network = network.eval()
        self._device = next(network.parameters()).device
        self._optimizer = torch.optim.Adam(network.trained_parameters(), lr=params.learning_rate)
        order = torch.Generator().manual_seed(params.seed)
        self._train = self._loader(train, params, workers, order)
        self._validation = self._loader(validation, params, workers)

    def _loader(
        self,
        items: Dataset[Item],
        params: TrainParams,
        workers: int,
        order: torch.Generator | None = None,
    ) -> DataLoader[Item]:
        return DataLoader(
            items,
            params.batch_size,
            shuffle=order is not None,
            generator=order,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self._device.type == "cuda",
            worker_init_fn=_alone,
        )

    def _batches(self, loader: DataLoader[Item]) -> Iterator[Item]:
        for x, y in loader:
            yield x.to(self._device, non_blocking=True), y.to(self._device, non_blocking=True)

    def epoch(self) -> float:
        """One pass over all samples; returns the mean loss in degrees²."""
        total, count = 0.0, 0
        for x, y in self._batches(self._train):
            loss = torch.nn.functional.mse_loss(self.network(x), y)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            total, count = total + loss.item() * len(x), count + len(x)
        return total / count

    def validate(self) -> float:
        """Mean squared error in degrees² on the plain validation crops."""
        with torch.no_grad():
            pairs = [(self.network(x).cpu(), y.cpu()) for x, y in self._batches(self._validation)]
        predictions, true = (torch.cat(each) for each in zip(*pairs, strict=True))
        return torch.nn.functional.mse_loss(predictions, true).item()


def _alone(worker: int) -> None:
    cv2.setNumThreads(0)  # OpenCV's threads do not survive the fork
