"""A picture of the crop that training would see of one image, and of the boxes it comes from."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import write_bytes
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.config.specification import Preprocessing
from custom_gaze.data.sessions import load_frame
from custom_gaze.faces.crops import gaze_crop, gaze_crop_box, jpeg
from custom_gaze.faces.finder import FoundFace, load_finder

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class CropPicture:
    """The two PNGs of `crop_picture`."""

    crop: Path
    boxes: Path
    face: FoundFace
    crop_from: str


def crop_picture(image: Path, output: Path, params: Params, paths: Paths) -> CropPicture:
    """Write the crop that training would see of `image` to `output` as PNG, and beside it
    `<output's stem>_boxes.png`: the frame with the boxes drawn in.

    The crop has been through the dataset's JPEG, so it is what training sees to the pixel.

    Raises:
        InputError: the image cannot be read, or has no face or several; `output` is no .png.
        CustomGazeError: writing failed.
    """
    from PIL import Image

    if output.suffix.lower() != ".png":
        raise InputError(f"{output}: the crop is written as PNG; give it a name ending in .png")
    spec = Preprocessing(params.prepare.margin, params.prepare.size_px)
    finder = load_finder(paths.faces, params.prepare.min_score)
    frame = load_frame(image)
    try:
        face = finder.find(frame)
        crop = gaze_crop(frame, face.box, spec)
    except InputError as error:
        raise InputError(f"{image}: {error}; choose a frame with one clear face") from None
    stored = Image.open(io.BytesIO(jpeg(crop, params.prepare.jpeg_quality)))
    boxes = output.with_name(f"{output.stem}_boxes.png")
    write_bytes(output, _png(stored), made_of=[image])
    drawn = _png(_drawn(frame, face, spec, finder.mesh is not None))
    write_bytes(boxes, drawn, made_of=[image])
    return CropPicture(output, boxes, face, finder.crop_from)


def _png(image: "Image") -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def _drawn(
    frame: NDArray[np.uint8], face: FoundFace, spec: Preprocessing, with_mesh: bool
) -> "Image":
    """The frame as a Pillow image with the detector's box, the mesh's and the crop's drawn in."""
    from PIL import Image, ImageDraw

    height_px, width_px = frame.shape[:2]
    crop = gaze_crop_box(face.box, width_px, height_px, spec.margin)
    boxes = [("detector", face.detected, (255, 210, 0)), ("crop", crop, (255, 60, 60))]
    if with_mesh:
        boxes.insert(1, ("mesh", face.box, (60, 220, 60)))
    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture)
    line_px = max(1, min(width_px, height_px) // 240)
    for name, (x1, y1, x2, y2), colour in boxes:
        # The last pixel inside, so that the crop's outline covers what belongs to it.
        inside = (x1, y1, max(x1, x2 - 1), max(y1, y2 - 1))
        draw.rectangle(inside, outline=colour, width=line_px)
        draw.text((x1 + 2 * line_px, y1 + 2 * line_px), name, fill=colour)
    return picture
