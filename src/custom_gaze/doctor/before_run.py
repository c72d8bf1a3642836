"""What would keep a run under DVC from its end, found before it begins and changes a file.

DVC finds most of it only after it has written params.yaml, or at the end of the work, and says it
in its own words.
"""

import difflib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from custom_gaze.common.download import is_address, local_file
from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.config.params import FetchParams, Params
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import check_session_id
from custom_gaze.data.dvc_sessions import is_tracked
from custom_gaze.data.git_index import git
from custom_gaze.data.session_file import read_session_file
from custom_gaze.data.sessions import read_session
from custom_gaze.doctor.findings import Finding, Severity
from custom_gaze.doctor.screen import against_the_screen

WORDS = ("embedded", "random")  # of fetch.base and fetch.detector: no files
IDENTITY = {"user.name": "'Your Name'", "user.email": "you@example.com"}
OWN_SIGNS = ("exp run", "repro")  # of a DVC that runs stages


def check_repository(paths: Paths) -> list[str]:
    """Check that DVC can run an experiment in this git repository; returns warnings.

    Raises:
        InputError: it cannot; the message says what to do.
    """
    root = paths.root
    inside = git(root, "rev-parse", "--is-inside-work-tree")
    if inside is None:
        raise InputError("git is not installed; DVC keeps experiments in git")
    where = printable(root.resolve())
    commit = "git add -A && git commit -m 'start'"
    if inside.stdout.strip() != "true":
        raise InputError(f"{where}: is in no git repository; git init && {commit}")
    missing = [key for key in IDENTITY if not _identity(root, key)]
    if missing:
        commands = " && ".join(f"git config --global {key} {IDENTITY[key]}" for key in missing)
        raise InputError(f"git does not know your {' and '.join(missing)}; {commands}")
    if _said(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}") == "":
        raise InputError(f"{where}: nothing is committed yet, and a run starts from one; {commit}")
    if unmerged := _said(root, "diff", "--name-only", "--diff-filter=U"):
        file = printable(unmerged.splitlines()[0])
        raise InputError(f"{file}: is in the middle of a merge; finish it or `git merge --abort`")
    other = running(paths)
    if other is not None:
        raise InputError(
            f"another run is going on in this project ({other}); wait for its end, since a second "
            "one would change params.yaml under it"
        )
    if _said(root, "symbolic-ref", "--quiet", "HEAD") == "":
        branch = _said(root, "branch", "--points-at", "HEAD", "--format=%(refname:short)")
        names = [name for name in branch.splitlines() if not name.startswith("(")]
        back = f"; back: git switch {printable(names[0])}" if names else ""
        return [f"warning: git is on no branch, as a killed run leaves it{back}"]
    return []


def _identity(root: Path, key: str) -> str:
    """A part of git's identity as DVC finds it: in the environment or git's configuration."""
    variable = key.partition(".")[2].upper()
    given = [os.environ.get(f"GIT_{role}_{variable}") for role in ("AUTHOR", "COMMITTER")]
    return (all(given) and given[0]) or _said(root, "config", "--get", key)


def _said(root: Path, *words: str) -> str:
    done = git(root, *words)
    return "" if done is None or done.returncode != 0 else done.stdout.strip()


def running(paths: Paths) -> str | None:
    """The DVC that runs stages in this project's workspace, if one does; in words."""
    folder = paths.root / ".dvc" / "tmp"
    for pid in {
        *_pids(folder / "exps" / "run" / "workspace" / "workspace.json"),
        *_writers(folder),
    }:
        try:
            command = " ".join(psutil.Process(pid).cmdline())
        except psutil.Error:
            continue
        if pid != os.getpid() and any(sign in command for sign in OWN_SIGNS):
            return f"process {pid}"
    return None


def _pids(path: Path) -> Iterator[int]:
    """What DVC says of the experiment in the workspace, for as long as it runs or if it is killed.

    {"pid": …}
    """
    content = _json(path)
    if isinstance(content, dict) and isinstance(content.get("pid"), int):
        yield content["pid"]


def _writers(path: Path) -> Iterator[int]:
    """Who writes a stage's outputs: {"write": {path: {"pid": …, "cmd": …}}, "read": …}."""
    content = _json(path)
    written = content.get("write") if isinstance(content, dict) else None
    for entry in written.values() if isinstance(written, dict) else ():
        if isinstance(entry, dict) and isinstance(entry.get("pid"), int):
            yield entry["pid"]


def _json(path: Path) -> object:
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content


def check_files(fetch: FetchParams, paths: Paths) -> None:
    """Check that the base network and the detectors that are files are there; no address is asked.

    Raises:
        InputError: one is not, or an address has no SHA-256.
    """
    for key in ("detector", "mesh", "base"):
        source = getattr(fetch, key)
        if source is None or source in WORDS:
            continue
        if is_address(source):
            if getattr(fetch, f"{key}_sha256") is None:
                raise InputError(f"fetch.{key} is an address; set fetch.{key}_sha256 too")
            continue
        try:
            local_file(source, paths.root)
        except InputError as error:
            raise InputError(f"fetch.{key}: {error}") from None


def check_sessions(params: Params, paths: Paths) -> list[Finding]:
    """Check that the sessions' frames are here, under DVC, and of the screen that labels them.

    Returns what to warn of.

    Raises:
        InputError: a session is not there, its frames are not, or its targets lie beside the
            screen.
    """
    ids = (*params.sessions, *params.evaluate.sessions)
    for name in ids:
        _check_there(name, paths)
    found = []
    for name in ids:
        folder = paths.sessions / name
        said = read_session_file(folder)
        geometry = said.geometry_or(params.geometry)
        session = read_session(folder, geometry, said.reasons())
        unusable = [entry for entry in session.left_out if not entry.excluded]
        if len(unusable) > params.prepare.max_unusable_share * (
            len(unusable) + len(session.frames)
        ):
            raise InputError(
                f"{folder}: {len(unusable)} frames cannot be used, {len(session.frames)} can; the "
                f"first: {unusable[0].filename}: {unusable[0].reason}; see: custom-gaze doctor "
                f"{name}"
            )
        for finding in against_the_screen(session.frames, geometry, params.split.same_target_px):
            if finding.severity is Severity.ERROR:
                raise InputError(f"{folder}: {finding.what}; {finding.advice}")
            found.append(finding)
    return found


def _check_there(name: str, paths: Paths) -> None:
    folder = paths.sessions / check_session_id(name, "run")
    if folder.is_dir() and is_tracked(folder):
        return
    if folder.is_dir():
        raise InputError(f"{folder}: is not under DVC; dvc add {folder}")
    if is_tracked(folder):
        raise InputError(f"{folder}: its frames are not here; dvc pull {folder}")
    known = sorted(each.stem for each in paths.sessions.glob("*.dvc"))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known) or 'none yet'}"
    raise InputError(f"{name}: no such session in {paths.sessions}; {hint}")
