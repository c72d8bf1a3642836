"""What `custom-gaze predict` found, and how it is shown: as a table, as JSON, as a picture."""

import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from custom_gaze.common.console import aligned
from custom_gaze.common.untrusted import printable
from custom_gaze.data.prepared import LeftOut
from custom_gaze.data.sessions import load_frame
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.inference import drawing
from custom_gaze.inference.predictor import Gaze

FRAMES_SHOWN = 6  # of a folder, in the picture


@dataclass(frozen=True)
class Prediction:
    """The gaze in one frame. Degrees: right and down positive; pixels: of the screen.

    Target and errors are None where the frame has no label; `note` then says why, if a label was
    to be expected.
    """

    filename: str
    yaw_deg: float
    pitch_deg: float
    x_px: float
    y_px: float
    face_score: float
    target_x_px: float | None
    target_y_px: float | None
    error_deg: float | None
    error_px: float | None
    note: str


@dataclass(frozen=True)
class PredictResult:
    """What `custom-gaze predict` says; `without_prediction` names the
    frames it cannot read and why.

    `trained_on` is the session's id where the network was trained on it: then the errors tell
    how well it fits and not how well it will do. `other_faces` says what it means that its crops
    were found by other files than models/faces, '' where they were not.
    """

    name: str
    model: Path
    geometry: ScreenGeometry
    predictions: tuple[Prediction, ...]
    without_prediction: tuple[LeftOut, ...]
    mean_error_deg: float | None
    trained_on: str | None
    other_faces: str
    picture: Path | None


def png(done: Sequence[tuple[Path, Gaze]], result: PredictResult) -> bytes:
    """Up to six of the frames, spread over them, beside the screen with all points, as PNG."""
    from PIL import Image

    chosen = np.unique(np.linspace(0, len(done) - 1, FRAMES_SHOWN).round().astype(int))
    frames = [drawing.with_gaze(load_frame(done[i][0]), done[i][1]) for i in chosen]
    if len(frames) > 1:
        frames = [
            drawing.close_up(frame, done[i][1]) for i, frame in zip(chosen, frames, strict=True)
        ]
    dots = [drawing.Dot((row.x_px, row.y_px), _target(row)) for row in result.predictions]
    drawn = drawing.compose(frames, dots, result.geometry, _caption(result))
    content = io.BytesIO()
    Image.fromarray(drawn).save(content, "PNG")
    return content.getvalue()


def _target(row: Prediction) -> tuple[float, float] | None:
    if row.target_x_px is None or row.target_y_px is None:
        return None
    return row.target_x_px, row.target_y_px


def _caption(result: PredictResult) -> str:
    if len(result.predictions) == 1:
        (row,) = result.predictions
        said = f"{row.filename} · yaw {row.yaw_deg:+.1f}°  pitch {row.pitch_deg:+.1f}°"
        return said + (f"  ·  error {row.error_deg:.2f}°" if row.error_deg is not None else "")
    said = f"{result.name} · {len(result.predictions)} frames"
    if result.mean_error_deg is None:
        return said
    return f"{said} · mean error {result.mean_error_deg:.2f}°"


def as_json(result: PredictResult) -> str:
    """The whole result as indented JSON."""
    return json.dumps(dataclasses.asdict(result), indent=2, allow_nan=False, default=str)


def as_text(result: PredictResult) -> str:
    """A table of all frames, what could not be read, and the mean error where labels exist."""
    header = ["frame", "yaw °", "pitch °", "x px", "y px"]
    with_labels = result.mean_error_deg is not None
    if with_labels:
        header += ["target x", "target y", "error °", "error px"]
    lines = [aligned(header, [_cells(row, with_labels) for row in result.predictions])]
    lines += [
        f"no label: {printable(f'{row.filename}: {row.note}')}"
        for row in result.predictions
        if row.note
    ]
    lines += [
        f"no prediction: {printable(f'{entry.filename}: {entry.reason}')}"
        for entry in result.without_prediction
    ]
    if result.mean_error_deg is not None:
        count = sum(row.error_deg is not None for row in result.predictions)
        pixels = result.mean_error_deg / result.geometry.deg_per_pixel
        lines.append(
            f"mean error {result.mean_error_deg:.2f}° ({pixels:.0f} px) over {count} "
            f"frame{'s' if count > 1 else ''}"
        )
    if result.trained_on:
        lines.append(
            f"the network was trained on {result.trained_on}: this tells how well it fits, "
            "`custom-gaze report` how well it does on targets it never saw"
        )
    if result.other_faces:
        lines.append(f"warning: {result.other_faces}")
    return "\n".join(lines)


def _cells(row: Prediction, with_labels: bool) -> list[str]:
    cells = [printable(row.filename, 100), f"{row.yaw_deg:.2f}", f"{row.pitch_deg:.2f}"]
    cells += [f"{row.x_px:.0f}", f"{row.y_px:.0f}"]
    if with_labels:
        formats = ("{:.0f}", "{:.0f}", "{:.2f}", "{:.0f}")
        values = (row.target_x_px, row.target_y_px, row.error_deg, row.error_px)
        cells += [
            "–" if value is None else form.format(value)
            for form, value in zip(formats, values, strict=True)
        ]
    return cells
