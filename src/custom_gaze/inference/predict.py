"""`custom-gaze predict`: where the persons in an image, a folder or a session look."""

import dataclasses
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from custom_gaze.common.console import aligned, bar
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import write_bytes
from custom_gaze.common.untrusted import lies_inside, printable
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import SESSION_ID
from custom_gaze.data.sessions import (
    FRAME_NAME,
    Frame,
    FrameError,
    LeftOut,
    load_frame,
    read_session,
)
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.inference import drawing
from custom_gaze.inference.predictor import Gaze, GazeModel, load_reader

FRAMES_SHOWN = 6  # of a folder, in the picture


@dataclass(frozen=True)
class Prediction:
    """One frame's answer. Degrees: right and down positive; pixels: of the screen.

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
    """What `custom-gaze predict` says; `without_answer` names the frames it cannot read and why.

    `trained_on` is the session's id where the network was trained on it: then the errors tell
    how well it fits and not how well it will do.
    """

    name: str
    model: Path
    geometry: ScreenGeometry
    predictions: tuple[Prediction, ...]
    without_answer: tuple[LeftOut, ...]
    mean_error_deg: float | None
    trained_on: str | None
    picture: Path | None


@dataclass(frozen=True)
class _Source:
    """What was asked for: images, and the labels known for some of them."""

    name: str
    session_id: str | None
    images: tuple[Path, ...]
    labelled: dict[str, Frame]
    not_labelled: dict[str, str]


def run(
    target: str,
    params: Params,
    paths: Paths,
    model: Path | None = None,
    output: Path | None = None,
) -> PredictResult:
    """Predict an image, every JPEG of a folder, or a session of data/sessions by its id.

    `model` None means models/custom_gaze.onnx. `output` is written as PNG: the frame (of a folder
    up to six, spread over it) with face box and gaze arrows, and the screen with all points.

    Raises:
        InputError: there is nothing of that name, the model or the detector cannot be used, not
            one frame has an answer, or `output` is no .png.
        CustomGazeError: the picture cannot be written.
    """
    if output is not None and output.suffix.lower() != ".png":
        raise InputError(f"{output}: the picture is written as PNG; give it a name ending in .png")
    source = _find(target, params, paths)
    reader = load_reader(params, paths, model)
    done: list[tuple[Path, Gaze]] = []
    failed: list[LeftOut] = []
    for image in bar(source.images, "predicting"):
        try:
            if not lies_inside(image.parent, image):
                raise InputError("is a link that leaves its folder")
            done.append((image, reader.read(load_frame(image))))
        except FrameError as error:
            failed.append(LeftOut(image.name, error.reason))
        except InputError as error:
            failed.append(LeftOut(image.name, str(error)))
    if not done:
        raise InputError(_nothing(source, failed))
    rows = [_prediction(image, gaze, source, reader.model) for image, gaze in done]
    known = reader.model.sessions or ()
    result = PredictResult(
        name=source.name,
        model=reader.model.path,
        geometry=reader.model.geometry,
        predictions=tuple(rows),
        without_answer=tuple(failed),
        mean_error_deg=_mean([row.error_deg for row in rows if row.error_deg is not None]),
        trained_on=source.session_id if source.session_id in known else None,
        picture=output,
    )
    if output is not None:
        write_bytes(output, _png(done, result), made_of=[image for image, _ in done])
    return result


def session_folder(target: str, paths: Paths) -> Path:
    """The folder that `target` names: a session's id first, else a path.

    Raises:
        InputError: there is neither.
    """
    if SESSION_ID.fullmatch(target) and (paths.sessions / target).is_dir():
        return paths.sessions / target
    path = Path(target)
    if not path.exists():
        known = ", ".join(_session_ids(paths)) or "none yet"
        raise InputError(
            f"{target}: no such file or folder, and no session in {paths.sessions} ({known})"
        )
    return path


def _session_ids(paths: Paths) -> list[str]:
    if not paths.sessions.is_dir():
        return []
    return sorted(entry.name for entry in paths.sessions.iterdir() if entry.is_dir())


def _find(target: str, params: Params, paths: Paths) -> _Source:
    path = session_folder(target, paths)
    folder = path if path.is_dir() else path.parent
    images = _images(path) if path.is_dir() else (path,)
    labelled: dict[str, Frame] = {}
    not_labelled: dict[str, str] = {}
    if any(FRAME_NAME.fullmatch(image.name) for image in images):
        try:
            session = read_session(folder, params.geometry)
        except InputError:
            pass  # no session, or none of its labels can be used: images without labels then
        else:
            labelled = {frame.image.name: frame for frame in session.frames}
            not_labelled = {entry.filename: entry.reason for entry in session.left_out}
    name = path.resolve().name
    is_session = bool(labelled) and folder.resolve().parent == paths.sessions.resolve()
    return _Source(
        name, folder.resolve().name if is_session else None, images, labelled, not_labelled
    )


def _images(folder: Path) -> tuple[Path, ...]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
    found = [
        name
        for name in names
        if name.lower().endswith((".jpg", ".jpeg")) and not name.startswith(".")
    ]
    if not found:
        raise InputError(f"{folder}: holds no JPEG image")
    return tuple(folder / name for name in found)


def _nothing(source: _Source, failed: Sequence[LeftOut]) -> str:
    if len(failed) == 1:
        return f"{source.images[0]}: {failed[0].reason}; choose an image with one clear face"
    first = failed[0]
    return (
        f"{source.images[0].parent}: none of {len(failed)} images has an answer; "
        f"{first.filename}: {first.reason}"
    )


def _prediction(image: Path, gaze: Gaze, source: _Source, model: GazeModel) -> Prediction:
    geometry = model.geometry
    x_px, y_px = geometry.to_pixels((gaze.yaw_deg, gaze.pitch_deg)).tolist()
    label = source.labelled.get(image.name)
    error_px = error_deg = None
    if label is not None:
        error_px = float(np.hypot(x_px - label.target_x_px, y_px - label.target_y_px))
        error_deg = error_px * geometry.deg_per_pixel
    return Prediction(
        filename=image.name,
        yaw_deg=gaze.yaw_deg,
        pitch_deg=gaze.pitch_deg,
        x_px=x_px,
        y_px=y_px,
        face_score=gaze.face.score,
        target_x_px=label.target_x_px if label else None,
        target_y_px=label.target_y_px if label else None,
        error_deg=error_deg,
        error_px=error_px,
        note=source.not_labelled.get(image.name, ""),
    )


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _png(done: Sequence[tuple[Path, Gaze]], result: PredictResult) -> bytes:
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
    content = dataclasses.asdict(result)
    for name in ("model", "picture"):
        content[name] = None if content[name] is None else str(content[name])
    return json.dumps(content, indent=2, allow_nan=False)


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
        f"no answer: {printable(f'{entry.filename}: {entry.reason}')}"
        for entry in result.without_answer
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
