"""git's index, kept in step with the files of data/sessions: they are added as DVC adds its own.

DVC's `core.autostage` stages a session's .dvc file. What is beside it, and what goes, has to be
staged too: experiments in a copy of the repository have only what git knows, and a file that is
staged and gone (`AD`) comes back in the next `dvc exp run`, which ends in a conflict.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import printable


def add(root: Path, *files: Path) -> None:
    """`git add` files of the project in `root`; nothing where it is no git repository.

    Raises:
        CustomGazeError: git refused.
    """
    _changed(root, ["add", "--force"], files)


def add_unknown(root: Path, *files: Path) -> None:
    """The same for those of the files that git does not know; of others it stages no change.

    Raises:
        CustomGazeError: git refused.
    """
    names = [str(file.relative_to(root)) for file in files]
    done = git(root, "ls-files", "-z", "--others", "--", *names) if names else None
    add(root, *(root / name for name in (done.stdout if done else "").split("\0") if name))


def forget(root: Path, *files: Path) -> None:
    """Take files out of git's index, those too that were staged and never committed; the files
    themselves stay.

    Raises:
        CustomGazeError: git refused.
    """
    _changed(root, ["rm", "--cached", "--force", "--quiet", "--ignore-unmatch"], files)


def kept(root: Path, file: Path) -> str | None:
    """The object that git keeps of a file's content from now on; None where git refuses."""
    return _object(root, "hash-object", "-w", "--", str(file.relative_to(root)))


def committed(root: Path, file: Path) -> str | None:
    """The object that the last commit has in a file's place; None where it has none."""
    return _object(root, "rev-parse", "--verify", "--quiet", f"HEAD:./{file.relative_to(root)}")


def _object(root: Path, *words: str) -> str | None:
    done = git(root, *words)
    return done.stdout.strip() if done is not None and done.returncode == 0 else None


def _changed(root: Path, words: Sequence[str], files: Sequence[Path]) -> None:
    if files and in_git(root):
        names = [str(file.relative_to(root)) for file in files]
        done = git(root, *words, "--", *names)
        if done is None or done.returncode != 0:
            said = done.stderr.strip().splitlines() if done else []
            reason = printable(said[0] if said else "no message")
            raise CustomGazeError(f"git {words[0]} failed ({reason}); run the same command again")


def in_git(root: Path) -> bool:
    """Whether the project in `root` is part of a git repository, and git is there."""
    done = git(root, "rev-parse", "--is-inside-work-tree")
    return done is not None and done.stdout.strip() == "true"


def git(root: Path, *words: str) -> "subprocess.CompletedProcess[str] | None":
    """git's answer in `root`; None where there is no git."""
    try:
        return subprocess.run(
            ["git", *words],
            cwd=root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError:
        return None
