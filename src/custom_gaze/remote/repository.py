"""The git repository here: what is uncommitted, experiments.

The project may be a folder of the repository: paths are relative to the project throughout.
"""

from pathlib import Path

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.remote.programs import call

FETCHED = "refs/custom-gaze/fetched"  # keeps what was fetched until it is an experiment
_EXPERIMENTS_OWN = ("params.yaml", "dvc.lock")
_EXPERIMENTS_FOLDER = "reports/"
_PLAIN_FILE, _NO_FILE = "100644", "000000"


def git(root: Path, *words: str) -> str:
    """What a git command prints.

    Raises:
        CustomGazeError: it failed.
    """
    try:
        done = call("git", "-C", str(root), *words)
    except FileNotFoundError:
        raise CustomGazeError("git is not installed here") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"code {done.returncode}"]
        raise CustomGazeError(f"git {words[0]}: {lines[-1]}")
    return done.stdout


def head(root: Path) -> str:
    """The commit that a run starts from.

    Raises:
        InputError: there is none yet, or the commits before it are not here.
    """
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


def subfolder(root: Path) -> str:
    """The project's folder in the repository; empty where it is the repository.

    Raises:
        InputError: DVC cannot run experiments in a folder of that name.
    """
    prefix = git(root, "rev-parse", "--show-prefix").rstrip("\n").rstrip("/")
    if not prefix.isascii():
        raise InputError(
            f"{prefix}: the project's folder in the repository is not named in ASCII letters "
            "alone, and DVC cannot run an experiment there (`dvc exp run --temp`); rename it"
        )
    return prefix


def uncommitted(root: Path) -> tuple[list[str], list[str]]:
    """(changed files that git knows, files that it does not know) of the project."""
    shape = ("--porcelain", "-z", "--untracked-files=all", "--no-renames")
    listing = git(root, "status", *shape, "--", ".")
    prefix = git(root, "rev-parse", "--show-prefix").rstrip("\n")
    entries = [(entry[:2], entry[3:].removeprefix(prefix)) for entry in listing.split("\0")]
    changed = [path for state, path in entries if path and state != "??"]
    return changed, [path for state, path in entries if path and state == "??"]


def experiment_commit(root: Path, name: str) -> str:
    """The commit of an experiment here; empty where there is none of this name."""
    listing = git(root, "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}")
    return listing.partition("\n")[0]


def name_experiment(root: Path, ref: str, commit: str) -> None:
    """Let DVC see the experiment.

    Raises:
        CustomGazeError: another one has its name.
    """
    git(root, "check-ref-format", ref)
    git(root, "update-ref", ref, commit, "0" * 40)
    forget_fetched(root)


def forget_fetched(root: Path) -> None:
    """What was fetched is an experiment here: its own ref keeps it."""
    git(root, "update-ref", "-d", FETCHED)


def changes_beyond_an_experiment(root: Path, commit: str) -> tuple[str, ...]:
    """What an experiment's commit changes besides params.yaml, dvc.lock and files of reports/.

    Compared with the last commit that HEAD shares with it. A run changes nothing else; a machine
    that lies might send another pipeline along, which the next `dvc repro` would run.
    """
    shared = git(root, "merge-base", "HEAD", commit).strip()
    prefix = git(root, "rev-parse", "--show-prefix").rstrip("\n")
    shape = ("--raw", "-z", "-r", "--no-renames", "--no-relative", "--no-ext-diff", "--abbrev=40")
    fields = git(root, "diff-tree", *shape, shared, commit).split("\0")
    found = []
    for about, path in zip(fields[::2], fields[1::2], strict=False):
        inside = path.removeprefix(prefix) if path.startswith(prefix) else "/"
        expected = inside in _EXPERIMENTS_OWN or inside.startswith(_EXPERIMENTS_FOLDER)
        if not expected or about.split()[1] not in (_PLAIN_FILE, _NO_FILE):
            found.append(path)
    return tuple(found)
