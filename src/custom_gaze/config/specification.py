"""What the labels and crops of a run's sessions share, as a dataset and a network carry it."""

import dataclasses
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic.dataclasses import dataclass

from custom_gaze.common.errors import InputError
from custom_gaze.common.stage_files import CHECKED, SHA256
from custom_gaze.common.untrusted import printable
from custom_gaze.config.sections import section_of
from custom_gaze.geometry import ScreenGeometry

CropFrom = Literal["mesh", "detector box"]
HASHES = ("detector_sha256", "mesh_sha256")  # of a Specification, in its order


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """All that decides which numbers reach the network; `as_dict` is its stored form."""

    margin: float = 1.5  # side of the square over the larger side of the face's box
    size_px: int = 448
    crop: str = "square about the box's centre, each edge clipped to the frame, whole pixels"
    resize: str = "triangle, antialiased, aspect not kept"
    channels: str = "RGB"
    layout: str = "NCHW"
    scale: float = 255.0  # pixel / scale, then (value - mean) / std
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # ImageNet's, as in the app
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def as_dict(self) -> dict[str, Any]:
        """The specification as plain JSON values, equal after a round trip through JSON."""
        entries = dataclasses.asdict(self)
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in entries.items()
        }

    @classmethod
    def of(cls, stored: Any) -> "Preprocessing":
        """The specification that is `stored`, or whose `as_dict` is.

        Raises:
            ValueError: `stored` is none, or one that this version does not make.
        """
        if isinstance(stored, cls):
            return stored
        if isinstance(stored, dict) and {"margin", "size_px"} <= stored.keys():
            margin, size_px = stored["margin"], stored["size_px"]
            known = isinstance(margin, float) and isinstance(size_px, int)
            if known and 1.0 <= margin <= 4.0 and 32 <= size_px <= 1024:
                spec = cls(margin, size_px)
                if spec.as_dict() == stored:
                    return spec
        raise ValueError("its preprocessing is not one of this version's")


PREPROCESSING = Preprocessing()


@dataclass(frozen=True, config=CHECKED)
class Specification:
    """The screen of the labels, and how the crops were cut.

    The two hashes are those of the files that found the faces. `detector_sha256` is None where a
    model of an earlier version does not say; where it does, `mesh_sha256` None means no mesh.
    """

    geometry: ScreenGeometry
    preprocessing: Preprocessing
    crop_from: CropFrom
    detector_sha256: str | None = None
    mesh_sha256: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; data/specification.json has them by these keys, and manifest.json all
        but the hashes."""
        return {
            "geometry": dataclasses.asdict(self.geometry),
            "preprocessing": self.preprocessing.as_dict(),
            "crop_from": self.crop_from,
            "detector_sha256": self.detector_sha256,
            "mesh_sha256": self.mesh_sha256,
        }


def specification_of(content: Any, source: Path, remedy: str) -> Specification:
    """The specification among the keys of a data/specification.json, a checkpoint or a model.

    Raises:
        InputError: a key is missing, beside the hashes that earlier versions did not write, or
            holds no value that `prepare` writes.
    """
    names = [entry.name for entry in dataclasses.fields(Specification)]
    needed = [name for name in names if name not in HASHES]
    missing = [name for name in needed if not isinstance(content, dict) or name not in content]
    if missing:
        raise InputError(
            f"{source}: does not say by which {missing[0]} it was made, as files of an earlier "
            f"version do not; {remedy}"
        )
    try:
        geometry = section_of(ScreenGeometry, content["geometry"], "geometry.", str(source))
        preprocessing = Preprocessing.of(content["preprocessing"])
        if content["crop_from"] not in get_args(CropFrom):
            raise ValueError(f"crop_from is {printable(content['crop_from'], 40)!r}")
        hashes = [_hash(name, content.get(name)) for name in HASHES]
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from None
    except ValueError as error:
        raise InputError(f"{source}: {error}; {remedy}") from None
    return Specification(geometry, preprocessing, content["crop_from"], *hashes)


def _hash(name: str, value: Any) -> str | None:
    if value is None or (isinstance(value, str) and SHA256.fullmatch(value)):
        return value
    raise ValueError(f"{name} is {printable(value, 40)!r}, no SHA-256")
