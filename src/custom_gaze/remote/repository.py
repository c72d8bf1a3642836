"""The git repository here: what is uncommitted, experiments, what DVC keeps for a commit.

The project may be a folder of the repository: paths are relative to the project throughout. A
commit may come from the far machine.
"""

import posixpath
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ValidationError

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.untrusted import MOST_TEXT_BYTES, printable, stays_inside
from custom_gaze.common.yaml_files import parse_yaml
from custom_gaze.remote.programs import call
from custom_gaze.remote.replies import Object, fault_of

LOCK = "dvc.lock"
FETCHED = "refs/custom-gaze/fetched"  # keeps what was fetched until it is an experiment


class Kept(BaseModel):
    """A file or folder that a commit names, and the object that DVC keeps of it, if it does."""

    path: str
    md5: Object | None = None  # `….dir` for a folder


class Stage(BaseModel):
    """A .dvc file, a stage in dvc.lock, or dvc.lock itself."""

    deps: list[Kept] = []
    params: dict[str, dict[str, object]] = {}  # by the file that they are in
    outs: list[Kept] = []
    stages: "dict[str, Stage]" = {}


def git(root: Path, *words: str) -> str:
    """What a git command prints."""
    return call("git", "-C", str(root), *words, failed=f"git {words[0]}").stdout


def head(root: Path) -> str:
    """The commit that a run starts from."""
    try:
        commit = git(root, "rev-parse", "--verify", "HEAD^{commit}").strip()
    except CustomGazeError:
        raise InputError("nothing is committed here yet; a run starts from a commit") from None
    if is_shallow(root):
        raise InputError(
            "this clone is shallow: its commits cannot be sent, and DVC loses experiments in it; "
            "`git fetch --unshallow`, then again"
        )
    return commit


def is_shallow(root: Path) -> bool:
    """Whether the history here was cut off when it was cloned."""
    return git(root, "rev-parse", "--is-shallow-repository").strip() == "true"


def prefix_of(root: Path) -> str:
    """The project's folder in the repository, with a slash behind; empty where it is all of it."""
    return git(root, "rev-parse", "--show-prefix").rstrip("\n")


def subfolder(root: Path) -> str:
    """The project's folder in the repository; empty where it is the repository."""
    prefix = prefix_of(root).rstrip("/")
    if not prefix.isascii():
        raise InputError(
            f"{prefix}: the project's folder in the repository is not named in ASCII letters "
            "alone, and DVC cannot run an experiment there (`dvc exp run --temp`); rename it"
        )
    return prefix


def uncommitted(root: Path) -> tuple[list[str], list[str]]:
    """(changed files that git knows, files that it does not know) of the project."""
    shape = ("--porcelain", "-z", "--untracked-files=all", "--no-renames")
    prefix = prefix_of(root)
    listing = git(root, "status", *shape, "--", ".").split("\0")
    entries = [(entry[:2] == "??", entry[3:].removeprefix(prefix)) for entry in listing if entry]
    return [path for new, path in entries if not new], [path for new, path in entries if new]


def experiment_commit(root: Path, name: str) -> str:
    """The commit of an experiment here; empty where there is none of this name."""
    listing = git(root, "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}")
    return listing.partition("\n")[0]


def outs_of(root: Path, commit: str) -> dict[str, str]:
    """What DVC keeps for a commit, outputs in dvc.lock and files with a .dvc file: path → object.

    Raises:
        CustomGazeError: the commit is not here.
        InputError: one of these files is not what DVC writes, or names a path outside the project.
    """
    blobs = _blobs(root, commit)
    in_git = {str(above) for path in blobs for above in (path, *PurePosixPath(path).parents)}
    found: dict[str, str] = {}
    for file in (path for path in blobs if path == LOCK or path.endswith(".dvc")):
        top = _read(root, commit, file, *blobs[file])
        for out in (out for stage in (top, *top.stages.values()) for out in stage.outs):
            path = posixpath.join(posixpath.dirname(file), out.path)
            if not stays_inside(path):
                what = f"{printable(path)!r} is no path inside the project"
                raise InputError(f"{printable(file)}: {what}")
            if out.md5 and path not in in_git:  # as reports are
                found[path] = out.md5
    return found


def locked(root: Path, commit: str, name: str) -> Stage:
    """What a commit's dvc.lock has of a stage; nothing where it has none."""
    blobs = _blobs(root, commit)
    lock = _read(root, commit, LOCK, *blobs[LOCK]) if LOCK in blobs else Stage()
    return lock.stages.get(name, Stage())


def _read(root: Path, commit: str, path: str, blob: str, size: int) -> Stage:
    what = f"{printable(path)} of commit {commit[:8]}"
    if size > MOST_TEXT_BYTES:
        raise InputError(f"{what}: has {size} bytes, too many for such a file")
    try:
        return Stage.model_validate(parse_yaml(git(root, "cat-file", "blob", blob), what) or {})
    except ValidationError as error:
        raise InputError(f"{what}: not what DVC writes: {fault_of(error)}") from None


def _blobs(root: Path, commit: str) -> dict[str, tuple[str, int]]:
    """The plain files of a commit below the project: path in the project → (blob, bytes)."""
    found = {}
    for line in git(root, "ls-tree", "-r", "-l", "-z", commit).split("\0"):
        about, _, path = line.partition("\t")
        mode, _, name, size = [*about.split(), "", "", "", ""][:4]
        if mode.startswith("100"):
            found[path] = (name, int(size))
    return found
