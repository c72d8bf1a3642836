"""Several sessions as one new one: all their frames, each once; the sessions themselves stay."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import no_more_open_than, whole_folder
from custom_gaze.common.untrusted import read_file
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import check_new_session_id
from custom_gaze.data.dvc_sessions import (
    dvc_file,
    is_tracked,
    put_under_dvc,
    sessions_lock,
    whole_or_taken_back,
)
from custom_gaze.data.session_file import (
    Exclusion,
    SessionFile,
    read_session_file,
    session_file,
    write_session_file,
)
from custom_gaze.data.session_list import session_of
from custom_gaze.data.sessions import FRAME_NAME, MAX_IMAGE_BYTES
from custom_gaze.geometry import ScreenGeometry


@dataclass(frozen=True)
class Merged:
    """The new session: how many images it has, how many of those are excluded, and how many were
    left out since they were there already."""

    folder: Path
    frames: int
    excluded: int
    duplicates: int


@dataclass(frozen=True)
class _Gathered:
    files: dict[str, Path]  # where each file of the new session comes from, by its name
    reasons: dict[str, str]  # for its excluded images
    duplicates: int


def merge(names: Sequence[str], into: str, params: Params, paths: Paths) -> Merged:
    """Make the session `into` of all frames of others, byte for byte; of those with the same image
    the first one is taken. What is excluded in one of them is excluded in it. The app's own side
    files stay with the sessions they came with.

    Raises:
        InputError: there are not two sessions, one is not on disk or cannot be read, they were
            captured on different screens, two different images have one name, or `into` is taken.
        CustomGazeError: dvc or git failed; the project is then as it was before.
    """
    check_new_session_id(into, "the new id")
    if len(names) < 2 or len({*names, into}) <= len(names):
        raise InputError("session merge: name two or more different sessions, then a new id")
    with sessions_lock(paths):
        folders = [session_of(name, paths) for name in names]
        said = [read_session_file(folder) for folder in folders]
        geometry = _one_screen(names, said, params.geometry)
        found = _gathered(folders, said)
        excluded = tuple(Exclusion(frame=frame, because=w) for frame, w in found.reasons.items())
        folder = paths.sessions / into
        again = _is_there(folder, found.files)
        with whole_or_taken_back(folder, paths):
            if not again:
                _copy(found.files, folders, folder)
            if not (again and session_file(folder).exists()):
                write_session_file(folder, SessionFile(excluded=excluded, geometry=geometry))
            put_under_dvc(folder, paths)
    frames = sum(name.endswith(".jpg") for name in found.files)
    return Merged(folder, frames, len(excluded), found.duplicates)


def _one_screen(
    names: Sequence[str], said: Sequence[SessionFile], default: ScreenGeometry
) -> ScreenGeometry | None:
    """The screen that the sessions have in common; None: params.yaml's.

    Raises:
        InputError: they have none in common.
    """
    in_force = [one.geometry_or(default) for one in said]
    for name, geometry in zip(names, in_force, strict=True):
        if geometry != in_force[0]:
            raise InputError(
                f"session merge: {names[0]} and {name} were captured on different screens, and a "
                "session has one; name them side by side in `sessions` instead"
            )
    return next((one.geometry for one in said if one.geometry is not None), None)


def _gathered(folders: Sequence[Path], said: Sequence[SessionFile]) -> _Gathered:
    """All images of the sessions, each once, with the JSON files beside them.

    Raises:
        InputError: a session is not on disk, or two different images have one name.
    """
    files: dict[str, Path] = {}
    reasons: dict[str, str] = {}
    first_with: dict[str, str] = {}  # an image's hash and its name in the new session
    duplicates = 0
    for folder, one in zip(folders, said, strict=True):
        if not folder.is_dir():
            named = dvc_file(folder)
            raise InputError(f"{folder}: is not on disk; bring it here first: dvc pull {named}")
        names = sorted(name for name in os.listdir(folder) if FRAME_NAME.fullmatch(name))
        own = one.reasons()
        for name in (name for name in names if name.endswith(".jpg")):
            image = read_file(folder / name, MAX_IMAGE_BYTES)
            digest = hashlib.sha256(image).hexdigest()
            new = digest not in first_with
            kept_as = first_with.setdefault(digest, name)
            if name in own:
                reasons.setdefault(kept_as, own[name])
            if not new:
                duplicates += 1
                continue
            if name in files:
                raise InputError(
                    f"session merge: {files[name]} and {folder / name} are different images of "
                    "one name; name their sessions side by side in `sessions` instead"
                )
            files[name] = folder / name
            twin = name.replace(".jpg", ".json")
            if twin in names:
                files[twin] = folder / twin
    return _Gathered(files, reasons, duplicates)


def _copy(files: Mapping[str, Path], folders: Sequence[Path], folder: Path) -> None:
    with whole_folder(folder) as new:
        for name, source in files.items():
            (new / name).write_bytes(read_file(source, MAX_IMAGE_BYTES))
            no_more_open_than(new / name, source)
        no_more_open_than(new, *folders)


def _is_there(folder: Path, files: Mapping[str, Path]) -> bool:
    """Whether all of the new session is in `folder` already; False where it may be copied there.

    Raises:
        InputError: the id is taken by something else.
    """
    if not any(map(os.path.lexists, (folder, dvc_file(folder), session_file(folder)))):
        return False
    present = os.listdir(folder) if folder.is_dir() else []
    same = all(
        name in files and (folder / name).read_bytes() == files[name].read_bytes()
        for name in present
    )
    if same and len(present) == len(files):
        return True
    if same and present and not is_tracked(folder):  # a killed `dvc add` was linking its copies
        return False
    raise InputError(
        f"session merge: {folder.name!r} exists already in {folder.parent}; choose another id"
    )
