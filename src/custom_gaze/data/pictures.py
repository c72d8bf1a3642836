"""A JPEG's bytes, which nobody vouches for, as pixels."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError

MAX_IMAGE_PIXELS = 50_000_000  # six times a 4K frame; decoded, that is 150 MB


class NoPicture(InputError):
    """Why some bytes are no picture that can be used, as the end of a sentence."""


def decoded(content: bytes) -> NDArray[np.uint8]:
    """A JPEG as uint8 (H, W, 3) RGB; an EXIF orientation is ignored, as in the app.

    Raises:
        NoPicture: it is truncated, no JPEG, or absurdly large.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
                if image.width * image.height > MAX_IMAGE_PIXELS:
                    raise NoPicture(f"has {image.width} x {image.height} pixels, far too many")
                return np.array(image.convert("RGB"), dtype=np.uint8)
    except Image.DecompressionBombError:
        raise NoPicture("has far too many pixels") from None
    except UnidentifiedImageError:
        raise NoPicture("is no JPEG image") from None
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        raise NoPicture(f"is damaged ({' '.join(str(error).split())})") from None
