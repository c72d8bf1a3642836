"""The base network that the package brings: the demo world's stand-in for L2CS-Net."""

import dataclasses
import hashlib
import json
from pathlib import Path

from custom_gaze.common.errors import InputError
from custom_gaze.weights import torch_reader
from custom_gaze.weights.base import BaseNetwork

EMBEDDED = "embedded"
EMBEDDED_BASE = Path(__file__).with_name("embedded_base.pt")
REMEDY = "install custom-gaze again, or `git checkout` the file"


def provenance_of(base: Path) -> Path:
    """The .json beside a base network that `custom-gaze pretrain` wrote."""
    return base.with_suffix(".json")


def load_embedded(path: Path = EMBEDDED_BASE) -> BaseNetwork:
    """Read a base network that `custom-gaze pretrain` wrote, checked against its provenance.

    Raises:
        InputError: the file or its provenance are missing, or its SHA-256 is not the expected one.
    """
    try:
        expected = str(json.loads(provenance_of(path).read_text(encoding="utf-8"))["sha256"])
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); {REMEDY}") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{provenance_of(path)}: is damaged; {REMEDY}") from None
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != expected:
        raise InputError(
            f"{path}: is damaged: its SHA-256 is {sha256}, expected is {expected}; {REMEDY}"
        )
    loaded = torch_reader.read_torch(content, f"{path}")
    base = torch_reader.base_from_torch(loaded, f"{path}", path.name, sha256)
    return dataclasses.replace(base, sha256=sha256)
