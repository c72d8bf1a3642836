"""Frames as the app writes them, made in a line."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def jpeg(seed: int, size: tuple[int, int] = (32, 24), **options: Any) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def put(folder: Path, stamp: int, record: Any = None, image: bytes | None = None) -> None:
    """One pair; `record` may be a dict, or the JSON's text or bytes."""
    folder.mkdir(exist_ok=True)
    if record is None:
        record = {"timestamp": stamp, "screen_x": 100.0 + stamp, "screen_y": 200.5}
    text = record if isinstance(record, (str, bytes)) else json.dumps(record)
    content = text.encode() if isinstance(text, str) else text
    (folder / f"img_{stamp}.json").write_bytes(content)
    (folder / f"img_{stamp}.jpg").write_bytes(jpeg(stamp) if image is None else image)
