"""Which images the project's sessions hold already, by content: nobody calibrates on one twice."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.yaml_files import read_yaml
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import SESSION_ID
from custom_gaze.data.dvc_cache import Cache
from custom_gaze.data.sessions import FRAME_NAME

DVC_SUFFIX = ".dvc"


@dataclass(frozen=True)
class Held:
    """What other sessions hold of some images.

    Attributes:
        sessions: the session that holds it, by the image's name; the first, where several do.
        unread: sessions that could not be compared, because neither their frames nor DVC's list of
            them are on this disk.
    """

    sessions: dict[str, str]
    unread: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """How many of the images each session holds, by its id."""
        found = list(self.sessions.values())
        return {name: found.count(name) for name in sorted(set(found))}


def held_images(
    folder: Path, names: Collection[str], sessions: Iterable[str], paths: Paths
) -> Held:
    """Compare images in `folder` with those of some sessions.

    By MD5, as DVC names them: a session's images on disk, and where there are none, those of DVC's
    own list of it.

    Raises:
        InputError: an image cannot be read.
    """
    wanted: defaultdict[str, list[str]] = defaultdict(list)
    sizes = set()
    for name in names:
        content = _read(folder / name)
        sizes.add(len(content))
        wanted[_md5(content)].append(name)
    found: dict[str, str] = {}
    unread = []
    for session in sessions:
        images = images_on_disk(paths.sessions / session)
        listed = None if images else listed_files(paths.sessions / session, paths)
        if listed is None and not images:
            unread.append(session)
        there = {_md5(_read(path)) for path in images if path.stat().st_size in sizes}
        for md5 in there | set((listed or {}).values()):
            for name in wanted.get(md5, ()):
                found.setdefault(name, session)
    return Held(found, tuple(unread))


def session_ids(paths: Paths) -> list[str]:
    """The project's sessions, on disk or known to DVC alone, sorted."""
    try:
        entries = list(os.scandir(paths.sessions))
    except FileNotFoundError:
        return []
    found = {
        entry.name.removesuffix(DVC_SUFFIX)
        for entry in entries
        if entry.name.endswith(DVC_SUFFIX) or entry.is_dir()
    }
    return sorted(name for name in found if SESSION_ID.fullmatch(name))


def images_on_disk(folder: Path) -> list[Path]:
    """The images of a session's frames; none where the folder is not there."""
    if not folder.is_dir():
        return []
    named = (FRAME_NAME.fullmatch(path.name) for path in sorted(folder.iterdir()))
    images = (folder / found[0] for found in named if found and found[2] == "jpg")
    return [path for path in images if path.is_file()]


def listed_files(folder: Path, paths: Paths) -> dict[str, str] | None:
    """What DVC has of a session, path in it → MD5; None where its list is not on this disk."""
    named = folder.with_name(f"{folder.name}{DVC_SUFFIX}")
    if not named.is_file():
        return None
    try:
        first = read_yaml(named)["outs"][0]
        return Cache(paths.root).listed(str(first["md5"]))
    except (CustomGazeError, TypeError, LookupError):
        return None


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
