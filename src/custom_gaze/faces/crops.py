"""From a face's box to what the network sees: crop, resize, normalise, specified once.

RustyEyes cuts a square around the face, clips it to the frame, resizes it without keeping its
aspect and normalises it. Training has to see the same pixels, so nothing else in this package
resizes or normalises a face, and the specification travels with the dataset, the checkpoint and
the exported model.
"""

import io

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.config.specification import PREPROCESSING, Preprocessing

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in frame pixels
PixelBox = tuple[int, int, int, int]  # the same in whole pixels, x2 and y2 exclusive

MESH_GROWTH = 1.25  # the app grows the detector's box by 25 % before it looks for the mesh


def gaze_crop_box(face: Box, frame_width_px: int, frame_height_px: int, margin: float) -> PixelBox:
    """The part of the frame that the network sees, given the box of the mesh or of the detector.

    A square of `margin` times the box's larger side about the box's centre. Each edge is then
    clipped on its own, so at the frame's border the crop is no longer square.

    Raises:
        InputError: the square lies outside the frame.
    """
    x1, y1, x2, y2 = face
    side_px = margin * max(x2 - x1, y2 - y1)
    return _about_center(face, side_px, side_px, frame_width_px, frame_height_px)


def mesh_crop_box(face: Box, frame_width_px: int, frame_height_px: int) -> PixelBox:
    """The part of the frame that the face mesh sees: the detector's box grown by 25 %, clipped.

    Raises:
        InputError: the box lies outside the frame.
    """
    x1, y1, x2, y2 = face
    wide_px, high_px = MESH_GROWTH * (x2 - x1), MESH_GROWTH * (y2 - y1)
    return _about_center(face, wide_px, high_px, frame_width_px, frame_height_px)


def _about_center(
    face: Box, width_px: float, height_px: float, frame_width_px: int, frame_height_px: int
) -> PixelBox:
    """A box about the face's centre: each edge is clipped to the frame, then loses its fraction,
    as by the app's casts."""
    x, y = (face[0] + face[2]) / 2, (face[1] + face[3]) / 2
    across, down = (x - width_px / 2, x + width_px / 2), (y - height_px / 2, y + height_px / 2)
    x1, x2 = (int(min(max(edge, 0.0), frame_width_px)) for edge in across)
    y1, y2 = (int(min(max(edge, 0.0), frame_height_px)) for edge in down)
    if x2 <= x1 or y2 <= y1:
        raise InputError("the face's box lies outside the frame")
    return x1, y1, x2, y2


def cut(frame: NDArray[np.uint8], box: PixelBox) -> NDArray[np.uint8]:
    """The pixels of `box` in a frame (H, W, 3): a view (y2 - y1, x2 - x1, 3)."""
    x1, y1, x2, y2 = box
    return frame[y1:y2, x1:x2]


def resize(image: NDArray[np.uint8], width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Resize uint8 (H, W, 3) to (height_px, width_px, 3) with the app's triangle filter.

    Pillow's BILINEAR widens the triangle by the shrink factor, as the Rust image crate's
    `Triangle` does; the two agree to within one grey level.
    """
    from PIL import Image

    resized = Image.fromarray(image).resize((width_px, height_px), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def gaze_crop(frame: NDArray[np.uint8], face: Box, spec: Preprocessing) -> NDArray[np.uint8]:
    """Cut and resize a face: uint8 (H, W, 3) RGB → uint8 (size_px, size_px, 3) RGB.

    Raises:
        InputError: the crop lies outside the frame.
    """
    height_px, width_px = frame.shape[:2]
    box = gaze_crop_box(face, width_px, height_px, spec.margin)
    return resize(cut(frame, box), spec.size_px, spec.size_px)


def jpeg(crop: NDArray[np.uint8], quality: int) -> bytes:
    """A crop uint8 (H, W, 3) RGB as JPEG; subsampled colours would blur the iris's edge."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(crop).save(content, "JPEG", quality=quality, subsampling="4:4:4")
    return content.getvalue()


def normalise(crops: NDArray[np.uint8], spec: Preprocessing = PREPROCESSING) -> NDArray[np.float32]:
    """uint8 (N, H, W, 3) RGB → float32 (N, 3, H, W), the network's input, C-contiguous.

    Raises:
        ValueError: `crops` is no uint8 array of that shape.
    """
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[3] != 3:
        raise ValueError(f"crops must be uint8 (N, H, W, 3), not {crops.dtype} {crops.shape}")
    values = np.empty((len(crops), 3, *crops.shape[1:3]), dtype=np.float32)
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True)):
        plane = values[:, channel]
        np.divide(crops[..., channel], np.float32(spec.scale), out=plane)
        plane -= np.float32(mean)
        plane /= np.float32(std)
    return values
