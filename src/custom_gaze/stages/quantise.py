"""The quantise stage: models/custom_gaze.onnx in 8 bits, where `export.int8` asks for it.

The trunk's convolutions and what lies between them compute with unsigned 8-bit activations and
signed 8-bit weights, a scale for each output channel (onnxruntime's static quantisation, nodes
between pairs of QuantizeLinear and DequantizeLinear). Pooling, head and correction stay in float32:
they cost nothing, and a degree is told there by small differences. The activations' ranges are the
smallest and largest values that training crops give.

The file is written only where it answers as the float model does, to within TOLERANCE_DEG on
average. That bounds how far the mean error can move, whatever the truth is, so no label is looked
at: the gate may use the frames that nothing was trained, calibrated or chosen on, the test targets'
and the cross-session ones, and still tells nothing about how good a model is there. Only the 8-bit
file depends on it, never the model that is exported.

Where all convolutions in 8 bits are not close enough, the last one and then the last quarter of
them are left in float32: what they round, nothing behind them averages out. How many is chosen on
other frames than the gate's, the validation's crops.
"""

import json
import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.console import bar
from custom_gaze.common.files import whole_folder, write_json
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample, load_crop, of_split, read_index
from custom_gaze.data.splits import CROSS_SESSION, TEST, TRAIN, VALIDATION
from custom_gaze.faces import crops
from custom_gaze.geometry import angular_error_deg
from custom_gaze.models.onnx_metadata import QUANTISATION_KEY, props_of
from custom_gaze.models.onnx_runtime import cpu_session, exported_session, predict_onnx

# Between both models' answers, on average. At right angles to an error of 2.5°, which is a good
# one, half a degree adds 0.05° to it; in line with it, half a degree.
TOLERANCE_DEG = 0.5
CHOSEN_DEG = 0.25  # the same of the try that is taken: on other days' crops it will be more
CALIBRATION_CROPS = 200  # at most, evenly spread over the training frames
COMPARED_CROPS = 100  # at most, of those that choose and of those that judge
TIMED_RUNS = 30
QUANTISED_OPS = ("Conv", "Relu", "MaxPool", "Add")
NOT_ASKED_FOR = "export.int8 is false"


@dataclass(frozen=True)
class QuantiseResult:
    """What `custom-gaze quantise` says it did."""

    written: bool
    reason: str


def run(params: Params, paths: Paths) -> QuantiseResult:
    """Write models/int8/, with the 8-bit model where it is asked for and good enough, and
    reports/int8.json, which says what was measured or why there is none.

    Latencies are measured, so with `export.int8` the report differs from run to run; the model does
    not.

    Raises:
        InputError: the model, the index or a crop is missing or damaged.
    """
    report: dict[str, Any] = {"written": False, "reason": NOT_ASKED_FOR}
    content = None
    if params.export.int8:
        content, report = _measured(paths)
    with whole_folder(paths.int8_model.parent) as folder:
        said = {key: report[key] for key in ("written", "reason")}
        (folder / "int8.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        if content is not None and report["written"]:
            (folder / paths.int8_model.name).write_bytes(content)
    write_json(paths.int8_report, report)
    return QuantiseResult(report["written"], report["reason"])


def _measured(paths: Paths) -> tuple[bytes, dict[str, Any]]:
    """The 8-bit model's content, and the report on it: of the first try that the validation's
    crops find close enough, else of the last."""
    samples = read_index(paths.index)
    calibration = spread(of_split(samples, TRAIN), CALIBRATION_CROPS)
    choosing = spread(of_split(samples, VALIDATION), COMPARED_CROPS)
    unseen = [sample for sample in samples if sample.split in (TEST, CROSS_SESSION)]
    judging = spread(unseen, COMPARED_CROPS)
    plain = exported_session(paths.model, paths.checkpoint)
    answers = _answers(plain, choosing, paths)

    tries: dict[str, float] = {}
    for in_float in _in_float(paths.model):
        images = bar(calibration, "calibrating", unit="crops")
        content = quantised(paths.model, (load_crop(s, paths) for s in images), in_float)
        small = cpu_session(content)
        apart_deg = angular_error_deg(_answers(small, choosing, paths), answers)
        tries[str(in_float)] = round(float(apart_deg.mean()), 4)
        if apart_deg.mean() <= CHOSEN_DEG:
            break
    apart_deg = angular_error_deg(*(_answers(each, judging, paths) for each in (small, plain)))
    written, reason = accepted(float(apart_deg.mean()), len(judging))
    x = crops.normalise(load_crop(judging[0], paths)[None])
    latency_ms = latencies_ms([plain, small], x, TIMED_RUNS)
    report = {
        "written": written,
        "reason": reason,
        "answers_apart_deg": {
            "mean": round(float(apart_deg.mean()), 4),
            "largest": round(float(apart_deg.max()), 4),
        },
        "compared_crops": len(judging),
        "convolutions_left_in_float": in_float,
        "chosen_by_answers_apart_deg": tries,  # by convolutions left in float
        "choosing_crops": len(choosing),
        "calibration_crops": len(calibration),
        "latency_ms": {"float": round(latency_ms[0], 2), "int8": round(latency_ms[1], 2)},
    }
    return content, report


def _answers(session: Any, samples: Sequence[Sample], paths: Paths) -> NDArray[np.float32]:
    """A model's angles (N, 2) for some crops; no label is read."""
    crop_by_crop = (crops.normalise(load_crop(sample, paths)[None]) for sample in samples)
    return np.concatenate([predict_onnx(session, x) for x in crop_by_crop])


def _in_float(model: Path) -> list[int]:
    """How many convolutions, counted from the end, each try leaves in float32."""
    import onnx

    count = sum(node.op_type == "Conv" for node in onnx.load(str(model)).graph.node)
    return [0, 1, max(2, count // 4)]


def accepted(apart_deg: float, crops_compared: int) -> tuple[bool, str]:
    """Whether a model whose answers are so far from the float one's may stand beside it, and why,
    in one line."""
    apart = f"its answers are {apart_deg:.3f}° from the float model's"
    where = f"on average over {crops_compared} crops that neither trained nor calibrated it"
    if apart_deg <= TOLERANCE_DEG:  # NaN is no agreement either
        return True, f"{apart} {where}"
    return False, f"not written: {apart} {where}, more than {TOLERANCE_DEG:g}°"


def spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most so many of the samples, evenly spread."""
    if len(samples) <= most:
        return list(samples)
    return [samples[place] for place in np.linspace(0, len(samples) - 1, most).round().astype(int)]


def quantised(model: Path, images: Iterable[NDArray[np.uint8]], in_float: int = 0) -> bytes:
    """The model in `model` in 8 bits, its ranges taken from crops uint8 (H, W, 3) RGB.

    The last `in_float` convolutions and what follows them stay in float32. The same crops give the
    same bytes. Input, output and metadata stay as they are.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
    from onnxruntime.quantization.quantize import quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[NDArray[np.uint8]] = iter(images)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            image = next(self._left, None)
            return None if image is None else {"input": crops.normalise(image[None])}

    plain = onnx.shape_inference.infer_shapes(onnx.load(str(model)), strict_mode=True)
    names = _maps(plain, in_float)
    with tempfile.TemporaryDirectory() as folder, _without_advice():
        made = Path(folder) / "int8.onnx"
        quantize_static(
            plain,
            str(made),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED_OPS),
            nodes_to_quantize=names,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        small = onnx.load(str(made))
    said = f"{len(names)} nodes: activations of 8 bits unsigned, weights of 8 bits signed a channel"
    onnx.helper.set_model_props(small, {**props_of(plain), QUANTISATION_KEY: said})
    onnx.checker.check_model(small, full_check=True)
    content: bytes = small.SerializeToString(deterministic=True)
    return content


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep onnxruntime from advising, by the root logger, what has been done already."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def _maps(model: Any, in_float: int) -> list[str]:
    """The names of the nodes that work on maps (N, channels, h, w), not on features or angles,
    up to the last `in_float` convolutions."""
    values = (*model.graph.value_info, *model.graph.output)
    rank = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    nodes = [
        node
        for node in model.graph.node
        if node.op_type in QUANTISED_OPS and rank.get(node.output[0]) == 4
    ]
    convolutions = [place for place, node in enumerate(nodes) if node.op_type == "Conv"]
    end = convolutions[-in_float] if in_float else len(nodes)
    return [node.name for node in nodes[:end]]


def latencies_ms(sessions: Sequence[Any], x: NDArray[np.float32], runs: int) -> list[float]:
    """Median milliseconds of each session on one crop, taken in turns."""
    times: list[list[float]] = [[] for _ in sessions]
    for _ in range(runs + 1):
        for session, taken in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(None, {"input": x})
            taken.append(1000 * (time.perf_counter() - start))
    return [float(np.median(taken[1:])) for taken in times]  # the first run sets up
