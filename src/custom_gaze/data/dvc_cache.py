"""DVC's cache of one project: where an object lies, and which objects a folder is made of.

An object is a file named by its MD5; `<md5>.dir` is the JSON list of a folder's files.
"""

import json
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import MOST_TABLE_BYTES, printable, read_file, stays_inside

OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
FOLDER = ".dir"  # how the name of a folder's list ends


class Cache:
    """The objects of one project, wherever DVC's settings of any level put them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def _settings(self) -> tuple[Path, bool]:
        """(the cache's folder, whether a group shares it)"""
        from dvc.config import Config, ConfigError

        try:
            cache = Config(str(self.root / ".dvc"))["cache"]
        except ConfigError:  # said by DVC itself, which reads it too
            cache = {}
        folder = self.root / ".dvc" / (cache.get("dir") or "cache")
        return folder.resolve(), cache.get("shared") == "group"

    @property
    def folder(self) -> Path:
        return self._settings[0]

    @property
    def is_shared(self) -> bool:
        """Whether DVC lets the folder's group write into it."""
        return self._settings[1]

    def path(self, name: str) -> Path:
        """Where an object lies, if it does.

        Raises:
            CustomGazeError: that is no object's name.
        """
        if not OBJECT.fullmatch(name):
            raise CustomGazeError(f"{printable(name, 80)!r} is no object of DVC's cache")
        return self.folder / "files" / "md5" / name[:2] / name[2:]

    def has(self, name: str) -> bool:
        return self.path(name).is_file()

    def listed(self, name: str) -> dict[str, str]:
        """A folder's files: path in it → object.

        Raises:
            CustomGazeError: the list is not here, or damaged.
        """
        try:
            return files_in(read_file(self.path(name), MOST_TABLE_BYTES))
        except ValueError:
            raise CustomGazeError(f"{self.path(name)}: damaged; remove it and `dvc pull`") from None

    def whole(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """These objects with their folders' files, files first; and those that are not here."""
        found: dict[str, None] = {}
        gone: dict[str, None] = {}
        for name in names:
            is_folder = name.endswith(FOLDER) and self.has(name)
            inside = self.listed(name).values() if is_folder else ()
            for entry in [*inside, name]:
                (found if self.has(entry) else gone)[entry] = None
        return list(found), list(gone)


def files_in(content: bytes) -> dict[str, str]:
    """The files that a folder's list names: path in the folder → object.

    Raises:
        ValueError: it is no such list, or a path in it would lead out of the folder.
    """
    try:
        found = {entry["relpath"]: entry["md5"] for entry in json.loads(content)}
        for path, name in found.items():
            if not OBJECT.fullmatch(name) or name.endswith(FOLDER) or not stays_inside(path):
                raise ValueError(f"{printable(path, 80)!r} is no file inside a folder")
    except (KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("no list of files") from None
    return found
