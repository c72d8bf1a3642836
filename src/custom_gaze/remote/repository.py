"""The git repository here: what is uncommitted, bundles, experiments.

The project may be a folder of the repository: paths are relative to the project throughout.
"""

import tempfile
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.frames import pieces
from custom_gaze.remote.programs import call
from custom_gaze.remote.replies import Bundle, Done, Run, Tips, not_asked
from custom_gaze.remote.settings import Settings

_FETCHED = "refs/custom-gaze/fetched"  # keeps what was fetched until it is an experiment
_MOST_BUNDLE_BYTES = 1 << 28  # an experiment is some kB, the commits that it builds on a few MB
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


def _known_of(root: Path, commits: list[str]) -> list[str]:
    """Those of these commits that are in the repository here."""
    asked = "".join(f"{commit}\n" for commit in commits)
    done = call("git", "-C", str(root), "cat-file", "--batch-check", given=asked)
    words = [line.split() for line in done.stdout.splitlines()]
    return [entry[0] for entry in words if entry[1:2] == ["commit"]]


def send_commit(connection: Connection, root: Path, project: str, commit: str) -> None:
    """Put the far machine's repository on `commit`, which is HEAD; only what is new is sent.

    Raises:
        AgentError: files of it were changed, or its disk is full.
    """
    tips = connection.ask("tips", Tips, project=project).tips
    request = {"do": "commit", "project": project, "commit": commit}
    if commit in tips:
        connection.send({**request, "bundle": False})
    else:
        known = [f"^{tip}" for tip in _known_of(root, tips)]
        with tempfile.TemporaryDirectory(prefix="custom-gaze-") as scratch:
            path = Path(scratch) / "commits.bundle"  # `-` is a file's name in a folder of the repo
            git(root, "bundle", "create", "-q", str(path), "HEAD", *known)
            connection.send({**request, "bundle": True})
            with path.open("rb") as file:
                for chunk, last in pieces(file):
                    connection.send({"last": last}, chunk)
    connection.receive(Done)


def fetch_experiment(
    connection: Connection, root: Path, settings: Settings, run: Run, name: str
) -> str:
    """Bring an experiment's commits under another name; return its commit.

    It becomes an experiment by `name_experiment`, once its files are here too.

    Raises:
        NotAsked: what came is no experiment of this name on the run's commit.
    """
    ref = run.refs[name]
    baseline = f"refs/exps/{run.commit[:2]}/{run.commit[2:]}/"
    if ref != baseline + name:
        raise not_asked(connection.host, f"the ref {ref} for the experiment {name}")
    with tempfile.TemporaryDirectory(prefix="custom-gaze-") as scratch:
        path = Path(scratch) / "experiment.bundle"
        commit = _receive_bundle(connection, root, settings.project, ref, path)
        if not commit:
            strict = ("-c", "fetch.fsckObjects=true")  # no path that leads out, no `.git` in a tree
            alone = ("--no-tags", "--no-recurse-submodules")
            git(root, *strict, "fetch", "-q", *alone, str(path), f"+{ref}:{_FETCHED}")
            commit = git(root, "rev-parse", "--verify", f"{_FETCHED}^{{commit}}").strip()
    ancestry = ("merge-base", "--is-ancestor", run.commit, commit)
    if call("git", "-C", str(root), *ancestry).returncode:
        raise not_asked(connection.host, f"{name} does not come from commit {run.commit[:8]}")
    return commit


def _receive_bundle(
    connection: Connection, root: Path, project: str, ref: str, path: Path
) -> str | None:
    """Write the bundle of what is not here; or return the commit, where all of it is."""
    tips = git(root, "for-each-ref", "--format=%(objectname)").split()
    known = set(connection.ask("tips", Tips, project=project).tips)
    shared = [tip for tip in sorted({*tips, head(root)}) if tip in known]
    connection.send({"do": "bundle", "project": project, "ref": ref, "known": shared})
    left = _MOST_BUNDLE_BYTES
    with path.open("wb") as file:
        while True:
            message, payload = connection.receive(Bundle)
            if message.known is not None:
                if message.known not in shared:
                    raise not_asked(connection.host, f"the commit {message.known[:8]}")
                return message.known
            left -= len(payload)
            if left < 0:
                raise not_asked(connection.host, f"more than {_MOST_BUNDLE_BYTES >> 20} MB of git")
            file.write(payload)
            if message.last:
                return None


def name_experiment(root: Path, ref: str, commit: str) -> None:
    """Let DVC see the experiment.

    Raises:
        CustomGazeError: another one has its name.
    """
    git(root, "check-ref-format", ref)
    git(root, "update-ref", ref, commit, "0" * 40)
    git(root, "update-ref", "-d", _FETCHED)


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
