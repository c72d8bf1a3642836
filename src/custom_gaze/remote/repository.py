"""The git repository here: what is uncommitted, bundles, experiments."""

import subprocess
from pathlib import Path

from custom_gaze.errors import CustomGazeError, InputError
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.frames import PAYLOAD

_FETCHED = "refs/custom-gaze/fetched"  # keeps what was fetched until it is an experiment


def git(root: Path, *words: str) -> str:
    """What a git command prints.

    Raises:
        CustomGazeError: it failed.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise CustomGazeError("git is not installed here") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"code {done.returncode}"]
        raise CustomGazeError(f"git {words[0]}: {lines[-1]}")
    return done.stdout


def head(root: Path) -> str:
    """The commit that a run starts from.

    Raises:
        InputError: there is none yet.
    """
    try:
        return git(root, "rev-parse", "--verify", "HEAD^{commit}").strip()
    except CustomGazeError:
        raise InputError("nothing is committed here yet; a run starts from a commit") from None


def uncommitted(root: Path) -> tuple[list[str], list[str]]:
    """(changed files that git knows, files that it does not know), relative to the root."""
    listing = git(root, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames")
    entries = [entry for entry in listing.split("\0") if entry]
    changed = [entry[3:] for entry in entries if not entry.startswith("??")]
    return changed, [entry[3:] for entry in entries if entry.startswith("??")]


def experiment_ref(root: Path, name: str) -> tuple[str, str] | None:
    """(ref, commit) of an experiment here."""
    shape = "--format=%(refname) %(objectname)"
    listing = git(root, "for-each-ref", shape, f"refs/exps/*/*/{name}")
    for line in listing.splitlines():
        ref, commit = line.split()
        return ref, commit
    return None


def is_known(root: Path, commit: str) -> bool:
    """Whether this commit is in the repository here."""
    done = subprocess.run(
        ["git", "-C", str(root), "cat-file", "-e", f"{commit}^{{commit}}"],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def send_commit(connection: Connection, root: Path, project: str, commit: str) -> None:
    """Put the repository there on `commit`, which is HEAD; only what is new is sent.

    Raises:
        FarError: files were changed there, or the disk is full.
    """
    tips: list[str] = connection.ask("tips", project=project)["tips"]
    request = {"do": "commit", "project": project, "commit": commit}
    if commit in tips:
        connection.send({**request, "bundle": False})
    else:
        known = [f"^{tip}" for tip in tips if is_known(root, tip)]
        command = ["git", "-C", str(root), "bundle", "create", "-q", "-", "HEAD", *known]
        made = subprocess.run(command, capture_output=True, check=False)
        if made.returncode:
            raise CustomGazeError(f"git bundle: {made.stderr.decode(errors='replace').strip()}")
        connection.send({**request, "bundle": True})
        content = made.stdout
        for start in range(0, len(content), PAYLOAD):
            last = start + PAYLOAD >= len(content)
            connection.send({"last": last}, content[start : start + PAYLOAD])
    connection.receive()


def fetch_experiment(
    connection: Connection, root: Path, project: str, ref: str, scratch: Path
) -> str:
    """Bring an experiment's commits under another name; return its commit.

    It becomes an experiment by `name_experiment`, once its files are here too.
    """
    tips = git(root, "for-each-ref", "--format=%(objectname)").split()
    known = sorted({*tips, head(root)})
    there: list[str] = connection.ask("tips", project=project)["tips"]
    shared = [tip for tip in known if tip in there]
    path = scratch / "experiment.bundle"
    connection.send({"do": "bundle", "project": project, "ref": ref, "known": shared})
    with path.open("wb") as file:
        while True:
            header, payload = connection.receive()
            if "known" in header:
                known_commit: str = header["known"]
                return known_commit
            file.write(payload)
            if header["last"]:
                break
    git(root, "fetch", "-q", "--no-tags", str(path), f"+{ref}:{_FETCHED}")
    return git(root, "rev-parse", _FETCHED).strip()


def name_experiment(root: Path, ref: str, commit: str) -> None:
    """Let DVC see the experiment.

    Raises:
        CustomGazeError: another one has its name.
    """
    git(root, "update-ref", ref, commit, "0" * 40)
    git(root, "update-ref", "-d", _FETCHED)
