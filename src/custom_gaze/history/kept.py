"""What was found once and cannot change: kept in .dvc/tmp, by the hash of what it was found in.

It may be removed at any time; it is found again then, which takes longer.
"""

from contextlib import suppress
from typing import Generic, TypeVar

from pydantic import BaseModel

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.files import write_text
from custom_gaze.common.stage_files import read_json
from custom_gaze.config.paths import Paths

RULES = 1  # of this folder's modules: what older ones kept is found anew
Found = TypeVar("Found", bound=BaseModel)


class Kept(Generic[Found]):
    """What is kept of one kind, each under a name of hexadecimal digits and dashes."""

    def __init__(self, schema: type[Found], paths: Paths) -> None:
        self._folder = paths.history_cache / f"{schema.__name__.lower()}-{RULES}"
        self._schema = schema

    def get(self, name: str) -> Found | None:
        """What is kept under a name; None where nothing is, or nothing that can be read."""
        with suppress(CustomGazeError):
            return read_json(self._folder / f"{name}.json", self._schema, "")
        return None

    def put(self, name: str, found: Found) -> Found:
        """Keep what was found, where this is a DVC project that can be written; returns it."""
        if self._folder.parents[2].is_dir():
            with suppress(CustomGazeError):
                write_text(self._folder / f"{name}.json", found.model_dump_json())
        return found
