"""`custom-gaze predict`: where the persons in an image, a folder or a session look."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from custom_gaze.common.console import bar
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import write_bytes
from custom_gaze.common.untrusted import lies_inside
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import SESSION_ID
from custom_gaze.data.prepared import LeftOut
from custom_gaze.data.session_file import read_heeded
from custom_gaze.data.sessions import (
    FRAME_NAME,
    Frame,
    FrameError,
    load_frame,
)
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.inference.predict_output import Prediction, PredictResult, png
from custom_gaze.inference.predictor import Gaze, GazeReader, load_reader


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
            one frame has a prediction, or `output` is no .png.
        CustomGazeError: the picture cannot be written.
    """
    if output is not None and output.suffix.lower() != ".png":
        raise InputError(f"{output}: the picture is written as PNG; give it a name ending in .png")
    path = session_folder(target, paths)
    images = _images(path) if path.is_dir() else (path,)
    reader = load_reader(params, paths, model)
    done, failed = _read(images, reader)
    if not done:
        raise InputError(_nothing(images, failed))
    folder = images[0].parent
    labelled, not_labelled, geometry = _labels(folder, images, paths, reader.model.geometry)
    is_session = bool(labelled) and folder.resolve().parent == paths.sessions.resolve()
    trained_on = is_session and folder.resolve().name in (reader.model.sessions or ())
    rows = []
    for image, gaze in done:
        label, note = labelled.get(image.name), not_labelled.get(image.name, "")
        rows.append(_prediction(image.name, gaze, label, note, geometry))
    errors_deg = [row.error_deg for row in rows if row.error_deg is not None]
    result = PredictResult(
        name=path.resolve().name,
        model=reader.model.path,
        geometry=geometry,
        predictions=tuple(rows),
        without_prediction=tuple(failed),
        mean_error_deg=float(np.mean(errors_deg)) if errors_deg else None,
        trained_on=folder.resolve().name if trained_on else None,
        other_faces=reader.other_faces,
        picture=output,
    )
    if output is not None:
        write_bytes(output, png(done, result), made_of=[image for image, _ in done])
    return result


def _read(
    images: Sequence[Path], reader: GazeReader
) -> tuple[list[tuple[Path, Gaze]], list[LeftOut]]:
    """The gaze in each image, and the images without one."""
    done: list[tuple[Path, Gaze]] = []
    failed: list[LeftOut] = []
    for image in bar(images, "predicting"):
        try:
            if not lies_inside(image.parent, image):
                raise InputError("is a link that leaves its folder")
            done.append((image, reader.read(load_frame(image))))
        except FrameError as error:
            failed.append(LeftOut(image.name, error.reason))
        except InputError as error:
            failed.append(LeftOut(image.name, str(error)))
    return done, failed


def session_folder(target: str, paths: Paths) -> Path:
    """The folder that `target` names: a session's id first, else a path.

    Raises:
        InputError: there is neither.
    """
    if SESSION_ID.fullmatch(target) and (paths.sessions / target).is_dir():
        return paths.sessions / target
    path = Path(target)
    if not path.exists():
        known = ", ".join(sorted(entry.name for entry in paths.sessions.glob("*/"))) or "none yet"
        raise InputError(
            f"{target}: no such file or folder, and no session in {paths.sessions} ({known})"
        )
    return path


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


def _labels(
    folder: Path, images: Sequence[Path], paths: Paths, geometry: ScreenGeometry
) -> tuple[dict[str, Frame], dict[str, str], ScreenGeometry]:
    """By filename: the frames with labels, and why others have none; and the labels' screen, where
    the session has its own. Where the folder is no session, or none of its labels can be used, the
    images are without labels."""
    if any(FRAME_NAME.fullmatch(image.name) for image in images):
        with suppress(InputError):
            session, geometry = read_heeded(folder, paths, geometry)
            labelled = {frame.image.name: frame for frame in session.frames}
            reasons = {entry.filename: entry.reason for entry in session.left_out}
            return labelled, reasons, geometry
    return {}, {}, geometry


def _nothing(images: Sequence[Path], failed: Sequence[LeftOut]) -> str:
    if len(failed) == 1:
        return f"{images[0]}: {failed[0].reason}; choose an image with one clear face"
    first = failed[0]
    return (
        f"{images[0].parent}: none of {len(failed)} images has a prediction; "
        f"{first.filename}: {first.reason}"
    )


def _prediction(
    filename: str, gaze: Gaze, label: Frame | None, note: str, geometry: ScreenGeometry
) -> Prediction:
    x_px, y_px = geometry.to_pixels((gaze.yaw_deg, gaze.pitch_deg)).tolist()
    error_px = error_deg = None
    if label is not None:
        error_px = float(np.hypot(x_px - label.target_x_px, y_px - label.target_y_px))
        error_deg = error_px * geometry.deg_per_pixel
    return Prediction(
        filename=filename,
        yaw_deg=gaze.yaw_deg,
        pitch_deg=gaze.pitch_deg,
        x_px=x_px,
        y_px=y_px,
        face_score=gaze.face.score,
        target_x_px=label.target_x_px if label else None,
        target_y_px=label.target_y_px if label else None,
        error_deg=error_deg,
        error_px=error_px,
        note=note,
    )
