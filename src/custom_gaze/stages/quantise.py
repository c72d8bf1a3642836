"""The quantise stage: models/custom_gaze.onnx in 8 bits, where `export.int8` asks for it.

The file is written only where it predicts what the float model does, to within TOLERANCE_DEG on
average. That bounds how far the mean error can move, whatever the truth is, so no label is looked
at: the gate may use the frames that nothing was trained, calibrated or chosen on, the test targets'
and the cross-session ones, and still tells nothing about how good a model is there. Only the 8-bit
file depends on it, never the model that is exported.

Where all convolutions in 8 bits are not close enough, the last one and then the last quarter of
them are left in float32: what they round, nothing behind them averages out. How many is chosen on
other frames than the gate's, the validation's crops.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.console import bar
from custom_gaze.common.files import whole_folder, write_json
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.augmentation import Augmenter
from custom_gaze.data.index import Sample, load_crop, of_split, read_index
from custom_gaze.data.splits import CROSS_SESSION, TEST, TRAIN, VALIDATION
from custom_gaze.faces.crops import normalise
from custom_gaze.geometry import angular_error_deg
from custom_gaze.models.onnx_runtime import cpu_session, exported_session, predict_onnx
from custom_gaze.models.quantisation import latencies_ms, quantised, tries_in_float

# Between both models' predictions, on average. At right angles to an error of 2.5°, which is a good
# one, half a degree adds 0.05° to it; in line with it, half a degree.
TOLERANCE_DEG = 0.5
CHOSEN_DEG = 0.25  # the same of the try that is taken: on other days' crops it will be more
# At most, evenly spread over the training frames, and samples of each as the fine-tune draws them:
# another day's light gives values that no crop of this one has, and what is beyond a range is cut.
CALIBRATION_FRAMES, SAMPLES = 20, 2
COMPARED_CROPS = 100  # at most, of those that choose and of those that judge
TIMED_RUNS = 30
NOT_ASKED_FOR = "export.int8 is false"


@dataclass(frozen=True)
class Measured:
    """The 8-bit model beside the float model."""

    predictions_apart_deg: dict[str, float]  # "mean" and "largest", on the crops that judge
    compared_crops: int  # those that judge
    convolutions_left_in_float: int  # counted from the end
    chosen_by_predictions_apart_deg: dict[str, float]  # mean of each try, by what it left in float
    choosing_crops: int
    calibration_crops: int  # those that set ranges and biases
    latency_ms: dict[str, float]  # of "float" and "int8", on one crop


@dataclass(frozen=True)
class QuantiseResult:
    """What `custom-gaze quantise` says it did; nothing is measured where nothing is asked for."""

    written: bool
    reason: str
    measured: Measured | None = None


def run(params: Params, paths: Paths) -> QuantiseResult:
    """Write models/int8/, with the 8-bit model where it is asked for and good enough, and
    reports/int8.json, which says what was measured or why there is none.

    Latencies are measured, so with `export.int8` the report differs from run to run; the model does
    not.

    Raises:
        InputError: the model, the index or a crop is missing or damaged.
    """
    result, content = QuantiseResult(False, NOT_ASKED_FOR), b""
    if params.export.int8:
        content, result = _measured(params, paths)
    said = {"written": result.written, "reason": result.reason}
    with whole_folder(paths.int8_model.parent) as folder:
        (folder / "int8.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        if result.written:
            (folder / paths.int8_model.name).write_bytes(content)
    write_json(paths.int8_report, said | (asdict(result.measured) if result.measured else {}))
    return result


def _measured(params: Params, paths: Paths) -> tuple[bytes, QuantiseResult]:
    """The 8-bit model's content, and what was measured of it: of the first try that the
    validation's crops find close enough, else of the last."""
    samples = read_index(paths.index)
    choosing = spread(of_split(samples, VALIDATION), COMPARED_CROPS)
    unseen = [sample for sample in samples if sample.split in (TEST, CROSS_SESSION)]
    judging = spread(unseen, COMPARED_CROPS)
    plain = exported_session(paths.model, paths.checkpoint)
    predicted = _predict(plain, choosing, paths)
    crops = calibration_crops(of_split(samples, TRAIN), params, paths)

    tries: dict[str, float] = {}
    for in_float in tries_in_float(paths.model):
        content = quantised(paths.model, partial(calibrating, crops), in_float)
        small = cpu_session(content)
        apart_deg = angular_error_deg(_predict(small, choosing, paths), predicted)
        tries[str(in_float)] = round(float(apart_deg.mean()), 4)
        if apart_deg.mean() <= CHOSEN_DEG:
            break
    apart_deg = angular_error_deg(*(_predict(each, judging, paths) for each in (small, plain)))
    mean_deg, largest_deg = float(apart_deg.mean()), float(apart_deg.max())
    x = next(_inputs(judging, paths))
    latencies = zip(("float", "int8"), latencies_ms([plain, small], x, TIMED_RUNS), strict=True)
    measured = Measured(
        {"mean": round(mean_deg, 4), "largest": round(largest_deg, 4)},
        compared_crops=len(judging),
        convolutions_left_in_float=in_float,
        chosen_by_predictions_apart_deg=tries,
        choosing_crops=len(choosing),
        calibration_crops=len(crops),
        latency_ms={name: round(taken, 2) for name, taken in latencies},
    )
    return content, QuantiseResult(*accepted(mean_deg, len(judging)), measured)


def calibration_crops(
    frames: Sequence[Sample], params: Params, paths: Paths
) -> list[NDArray[np.uint8]]:
    """The crops that ranges and biases are taken from: some frames' own, and samples of them."""
    augmenter = Augmenter(params.augment, params.train.seed)
    return [
        augmenter(crop, f"{frame.session}/{frame.filename}", number)
        for frame in spread(frames, CALIBRATION_FRAMES)
        for crop in [load_crop(frame, paths)]
        for number in range(1 + SAMPLES)
    ]


def calibrating(crops: Sequence[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
    """The same as the network takes them, with a bar for each time they are gone through."""
    return (normalise(crop[None]) for crop in bar(crops, "calibrating", unit="crops"))


def _inputs(samples: Iterable[Sample], paths: Paths) -> Iterator[NDArray[np.float32]]:
    """Crops as the network takes them, one by one; no label is read."""
    return (normalise(load_crop(sample, paths)[None]) for sample in samples)


def _predict(session: Any, samples: Sequence[Sample], paths: Paths) -> NDArray[np.float32]:
    """A model's angles (N, 2) for some crops."""
    return np.concatenate([predict_onnx(session, x) for x in _inputs(samples, paths)])


def accepted(apart_deg: float, crops_compared: int) -> tuple[bool, str]:
    """Whether a model whose predictions are so far from the float one's may stand beside it, and
    why, in one line."""
    apart = f"its predictions are {apart_deg:.3f}° from the float model's"
    where = f"on average over {crops_compared} crops that neither trained nor calibrated it"
    if apart_deg <= TOLERANCE_DEG:  # NaN is no agreement either
        return True, f"{apart} {where}"
    return False, f"not written: {apart} {where}, more than {TOLERANCE_DEG:g}°"


def spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most so many of the samples, evenly spread."""
    if len(samples) <= most:
        return list(samples)
    return [samples[place] for place in np.linspace(0, len(samples) - 1, most).round().astype(int)]
