"""What the `session` verbs change: exclusions, a session's name, whether it is there at all.

Each verb holds the lock of all that add sessions, takes single steps that each are whole, and
repeated after a kill goes on where it was. Raw frames are never changed. git's index is left so
that neither a commit nor `dvc exp run` brings back what is gone: see data/git_index.py.
"""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import write_bytes, write_text
from custom_gaze.common.temporary import temporary_place
from custom_gaze.common.untrusted import printable, read_text
from custom_gaze.common.yaml_files import parse_yaml
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import check_new_session_id, check_session_id
from custom_gaze.config.session_lists import write_session_lists
from custom_gaze.data import git_index
from custom_gaze.data.dvc_sessions import (
    dvc_file,
    ensure_session_file,
    is_tracked,
    put_under_dvc,
    sessions_lock,
)
from custom_gaze.data.held import listed_files
from custom_gaze.data.session_file import (
    EXCLUDED_FRAME,
    MOST_WORDS,
    Exclusion,
    SessionFile,
    read_session_file,
    session_file,
    write_session_file,
)
from custom_gaze.data.session_list import frame_names, session_of
from custom_gaze.geometry import ScreenGeometry


@dataclass(frozen=True)
class Removed:
    """A session that is gone; `back` are the commands that bring it back, none where nothing
    remembers it. `unnamed` says that params.yaml named it and does no longer."""

    id: str
    back: tuple[str, ...]
    unnamed: bool


def exclude(
    name: str, frames: Sequence[str], because: str, paths: Paths
) -> tuple[SessionFile, list[str]]:
    """Exclude frames of a session from all that `prepare` makes, for a reason; one that is
    excluded already gets this reason.

    Returns what is said of the session now, and the frames by their images' names.

    Raises:
        InputError: there is no such session or frame, or the reason is none.
        CustomGazeError: the file cannot be written.
    """
    reason = " ".join(because.split())
    if not reason or not reason.isprintable() or len(reason) > MOST_WORDS:
        raise InputError(f"--because: say why in a few words, at most {MOST_WORDS} characters")
    with sessions_lock(paths):
        folder = session_of(name, paths)
        wanted = _frames(folder, frames, paths)
        reasons = {**read_session_file(folder).reasons(), **dict.fromkeys(wanted, reason)}
        return _say(folder, paths, reasons), wanted


def exclude_each(name: str, because: Mapping[str, str], paths: Paths) -> None:
    """The same for images of a session with a reason for each, too long ones cut.

    Raises:
        InputError, CustomGazeError: as `exclude`.
    """
    with sessions_lock(paths):
        folder = session_of(name, paths)
        _frames(folder, list(because), paths)
        new = {image: printable(reason, MOST_WORDS) for image, reason in because.items()}
        _say(folder, paths, {**read_session_file(folder).reasons(), **new})


def include(name: str, frames: Sequence[str], paths: Paths) -> tuple[SessionFile, list[str]]:
    """Take exclusions back; a frame that is not excluded stays included.

    Returns what is said of the session now, and the frames that were excluded until now.

    Raises:
        InputError: there is no such session or frame.
        CustomGazeError: the file cannot be written.
    """
    with sessions_lock(paths):
        folder = session_of(name, paths)
        reasons = read_session_file(folder).reasons()
        unknown = [frame for frame in frames if _image(frame) not in reasons]
        _frames(folder, unknown, paths)  # refuses what is none of its
        taken = [image for image in map(_image, frames) if image in reasons]
        left = {image: why for image, why in reasons.items() if image not in taken}
        return _say(folder, paths, left), taken


def set_geometry(name: str, geometry: ScreenGeometry | None, paths: Paths) -> None:
    """Give a session the screen of its own capture; None: that of params.yaml.

    Raises:
        InputError: there is no such session.
        CustomGazeError: the file cannot be written.
    """
    with sessions_lock(paths):
        folder = session_of(name, paths)
        said = read_session_file(folder)
        _write(folder, paths, SessionFile(excluded=said.excluded, geometry=geometry))


def remove(name: str, params: Params, paths: Paths) -> Removed:
    """Remove a session: its folder, its files, its crops, its name in params.yaml. What DVC keeps
    of it stays in DVC's cache; what it has not yet is put there first.

    Raises:
        InputError: nothing of the session is there; it is the only one that runs train on.
        CustomGazeError: dvc or git failed, or something cannot be written.
    """
    check_session_id(name, "session")
    folder = paths.sessions / name
    files = (dvc_file(folder), session_file(folder))
    with sessions_lock(paths):
        prepared = paths.dataset / name
        if not any(os.path.lexists(path) for path in (folder, prepared, *files)):
            session_of(name, paths)  # refuses
        if params.sessions == (name,):
            raise InputError(
                f"{paths.params}: sessions names {name} alone, and a run needs one; name another "
                "there first"
            )
        if os.path.lexists(folder):
            put_under_dvc(folder, paths)
        back = _ways_back(folder, paths)
        unnamed = name in (*params.sessions, *params.evaluate.sessions)
        _rename_in_params({name: None}, params, paths)
        git_index.forget(paths.root, *files)
        shutil.rmtree(prepared, ignore_errors=True)
        if os.path.lexists(folder):
            with temporary_place(folder) as place:  # at once: half a session is never there
                os.rename(folder, place / "gone")
        _rename_in_gitignore(folder, None, paths)
        for path in reversed(files):  # the .dvc file last: until then the same command goes on
            path.unlink(missing_ok=True)
    return Removed(name, back, unnamed)


def rename(name: str, new: str, params: Params, paths: Paths) -> None:
    """Give a session another id, wherever it stands; its crops are made anew by the next run.

    Raises:
        InputError: there is no such session, or the new id is taken or none.
        CustomGazeError: dvc or git failed, or something cannot be written.
    """
    check_new_session_id(new, "the new id")
    with sessions_lock(paths):
        folder = session_of(name, paths)
        renamed = paths.sessions / new
        if not is_tracked(folder):
            put_under_dvc(folder, paths)
        text = _renamed(dvc_file(folder), name, new)
        _refuse_taken(folder, renamed, text)
        write_text(dvc_file(renamed), text)
        if session_file(folder).exists():
            write_bytes(session_file(renamed), session_file(folder).read_bytes())
        ensure_session_file(renamed, paths)
        _rename_in_gitignore(folder, new, paths)
        if os.path.lexists(folder):
            os.rename(folder, renamed)
        git_index.add(paths.root, dvc_file(renamed), session_file(renamed))
        git_index.forget(paths.root, dvc_file(folder), session_file(folder))
        _rename_in_params({name: new}, params, paths)
        shutil.rmtree(paths.dataset / name, ignore_errors=True)
        for path in (session_file(folder), dvc_file(folder)):  # .dvc last, as in `remove`
            path.unlink(missing_ok=True)


def _image(frame: str) -> str:
    """The image of a frame that was named by it, its JSON file, its stem or a path to one."""
    return f"{Path(frame).name.removesuffix('.json').removesuffix('.jpg')}.jpg"


def _frames(folder: Path, frames: Sequence[str], paths: Paths) -> list[str]:
    """The images of the frames that were named, each once.

    Raises:
        InputError: one is none of this session's.
    """
    there = frame_names(folder, paths)  # None where nothing here knows
    images = list(dict.fromkeys(map(_image, frames)))
    for image in images:
        if not re.fullmatch(EXCLUDED_FRAME, image) or (there is not None and image not in there):
            shown = printable(repr(image), 80)
            raise InputError(
                f"{folder.name}: has no frame {shown}; name it as in img_1768123456789.jpg"
            )
    return images


def _say(folder: Path, paths: Paths, reasons: dict[str, str]) -> SessionFile:
    excluded = tuple(Exclusion(frame=frame, because=why) for frame, why in reasons.items())
    said = SessionFile(excluded=excluded, geometry=read_session_file(folder).geometry)
    _write(folder, paths, said)
    return said


def _write(folder: Path, paths: Paths, said: SessionFile) -> None:
    write_session_file(folder, said)
    git_index.add(paths.root, session_file(folder))


def _refuse_taken(folder: Path, renamed: Path, text: str) -> None:
    """Refuse an id that something has, other than what a killed `rename` of the same left."""
    taken = InputError(f"{renamed.name!r} exists already in {renamed.parent}; choose another id")
    if not any(map(os.path.lexists, (renamed, dvc_file(renamed), session_file(renamed)))):
        return
    if not is_tracked(renamed) or read_text(dvc_file(renamed)) != text:
        raise taken
    both = [path for path in map(session_file, (folder, renamed)) if path.exists()]
    if len({path.read_bytes() for path in both}) > 1 or (
        os.path.lexists(folder) and os.path.lexists(renamed)
    ):
        raise taken


def _renamed(path: Path, name: str, new: str) -> str:
    """A .dvc file's text with the folder called `new`.

    Raises:
        InputError: it does not name the folder `name`, and nothing else, on a line of its own.
    """
    text = read_text(path)
    line = rf"^([ \t-]*path:[ \t]*)['\"]?{re.escape(name)}['\"]?[ \t]*$"
    changed, count = re.subn(line, rf"\g<1>{new}", text, flags=re.M)
    try:
        (out,) = parse_yaml(changed, str(path))["outs"]
        known = count == 1 and out["path"] == new
    except (LookupError, TypeError, ValueError):
        known = False
    if not known:
        raise InputError(f"{path}: does not name {name} as `dvc add` does; `dvc add` it anew")
    return changed


def _rename_in_params(names: dict[str, str | None], params: Params, paths: Paths) -> None:
    """In both lists of params.yaml: another id instead of one, or nothing."""
    trained, tested = (
        [new for name in ids if (new := names.get(name, name)) is not None]
        for ids in (params.sessions, params.evaluate.sessions)
    )
    write_session_lists(list(dict.fromkeys(trained)), list(dict.fromkeys(tested)), paths.params)


def _rename_in_gitignore(folder: Path, new: str | None, paths: Paths) -> None:
    """DVC adds a line for each session where .gitignore does not ignore all."""
    path = folder.parent / ".gitignore"
    if not path.exists():
        return
    lines = read_text(path).splitlines()
    own, other = f"/{folder.name}", f"/{new}" if new else None
    if own in lines:
        kept = [other if line == own else line for line in lines if line != other]
        write_text(path, "".join(f"{line}\n" for line in kept if line is not None))
        git_index.add(paths.root, path)


def _ways_back(folder: Path, paths: Paths) -> tuple[str, ...]:
    """The commands that bring a session back: git has its two small files, in the last commit or
    as objects that were staged, DVC's cache or remote its frames."""
    if not git_index.in_git(paths.root):
        return ()
    commands = []
    committed = []
    for path in (dvc_file(folder), session_file(folder)):
        if not path.exists():
            continue
        name = path.relative_to(paths.root)
        blob = git_index.kept(paths.root, path)
        if blob == git_index.committed(paths.root, path):
            committed.append(str(name))
        elif blob:
            commands.append(f"git cat-file -p {blob} > {name}")
    if committed:
        commands.insert(0, f"git checkout HEAD -- {' '.join(committed)}")
    named = dvc_file(folder).relative_to(paths.root)
    verb = "pull" if listed_files(folder, paths) is None else "checkout"  # from the remote, or here
    return (*commands, f"dvc {verb} {named}") if commands else ()
