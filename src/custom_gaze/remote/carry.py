"""Commits with git and objects with rsync, both over the one verified connection.

Commits go to and come from refs of their own: nothing that is checked out is touched. Objects are
named by their content and travel into `.incoming` of the other side's folder; there they are
compared with their hash before they are moved into place (store.py), so a transfer that was cut
goes on where it was. Where rsync is missing on a side, DVC carries them (carry_dvc.py).
"""

import functools
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import printable
from custom_gaze.data.dvc_cache import FOLDER, Cache, files_in
from custom_gaze.remote import carry_dvc, store
from custom_gaze.remote.committed import Out
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.programs import call, last_line
from custom_gaze.remote.replies import Lacking, Listed, Run, Taken, not_asked
from custom_gaze.remote.repository import FETCHED, git
from custom_gaze.remote.settings import Settings

_SENT = "refs/custom-gaze/sent/"
_MOST_PACK_BYTES = 1 << 28  # an experiment is some kB, the commits that it builds on a few MB
_MOST_LIST_BYTES = 1 << 27  # about 100 bytes a file
_STALLED_S = 15  # so long rsync waits for a byte
_FORBIDDEN = (
    *("Permission denied (13)", "Operation not permitted (1)", "Read-only file system (30)"),
    "insufficient permission",
)
_CUT = (10, 12, 30, 35, 128, 255)  # rsync, git and ssh, where the line went


def send_commit(connection: Connection, root: Path, settings: Settings, commit: str) -> None:
    """Push a commit with what it builds on; no branch there moves by that.

    Raises:
        CustomGazeError: the push failed.
        Lost: the connection was cut; the same again goes on.
    """
    # No hook of the user's: DVC's pre-push would push the whole cache.
    words = ("push", "-q", "--no-verify", "--no-follow-tags", "--recurse-submodules=no")
    target = connection.git_address(settings.project)
    _git(connection, root, *words, target, f"+{commit}:{_SENT}{commit}")


def fetch_experiment(
    connection: Connection, root: Path, settings: Settings, run: Run, name: str
) -> str:
    """Bring an experiment's commits under another name; return its commit.

    It becomes an experiment by `name_experiment`, once its files are here too.

    Raises:
        NotAsked: what came is no experiment of this name on the run's commit.
    """
    ref = run.refs[name]
    if ref != f"refs/exps/{run.commit[:2]}/{run.commit[2:]}/{name}":
        raise not_asked(connection.host, f"the ref {ref} for the experiment {name}")
    # fsckObjects: no path that leads out, no `.git` in a tree.
    strict = ("-c", "fetch.fsckObjects=true", "-c", "gc.auto=0", "-c", "core.hooksPath=/dev/null")
    alone = ("fetch", "-q", "--no-tags", "--no-recurse-submodules")
    source = connection.git_address(settings.project)
    _git(connection, root, *strict, *alone, source, f"+{ref}:{FETCHED}", most=_MOST_PACK_BYTES)
    commit = git(root, "rev-parse", "--verify", f"{FETCHED}^{{commit}}").strip()
    ancestry = ("merge-base", "--is-ancestor", run.commit, commit)
    if call("git", "-C", str(root), *ancestry).returncode:
        raise not_asked(connection.host, f"{name} does not come from commit {run.commit[:8]}")
    return commit


def send_objects(
    connection: Connection, cache: Cache, settings: Settings, run: str, objects: dict[str, str]
) -> list[str]:
    """Send those of these objects (name → the path they are of) that the store lacks; which.

    Raises:
        CustomGazeError: its disk is full, or may not be written, or one arrived damaged.
        NotAsked: the far machine asks for others: faces of another session, for instance.
        Lost: the connection was cut; the same command goes on where it was.
    """
    there = connection.ask("lacking", Lacking, store=settings.store, objects=list(objects))
    if others := set(there.lacking) - set(objects):
        what = f"it asks for {others.pop()}, which this run does not use"
        raise not_asked(connection.host, what)
    if not there.lacking:
        return []
    if not (there.rsync and _has_rsync()):
        carry_dvc.push(connection, cache.root, [objects[name] for name in there.lacking])
        left = connection.ask("lacking", Lacking, store=settings.store, objects=there.lacking)
        damaged = left.lacking
    else:
        target = connection.rsync_address(f"{settings.store}/{store.INCOMING}/{run}/")
        _rsync(connection, f"{cache.folder}/files/md5/", target, there.lacking, "there")
        asked = {"store": settings.store, "run": run, "objects": there.lacking}
        damaged = connection.ask("take_in", Taken, **asked).damaged
    if damaged:
        raise CustomGazeError(
            f"{connection.host}: {len(damaged)} objects arrived damaged, {damaged[0]} first; "
            "try again, and if it stays so, `dvc add` the session again here"
        )
    return there.lacking


def fetch_objects(
    connection: Connection, cache: Cache, settings: Settings, commit: str, outs: list[Out]
) -> int:
    """Bring the objects of these outputs that are not here; return how many.

    Files come before the folders that list them, each verified and moved into place whole.

    Raises:
        CustomGazeError: the store lacks one, or the disk here is too small for them (nothing is
            fetched then), or one arrived damaged.
        NotAsked: it sent something else.
        Lost: the connection was cut; what has arrived is kept, and goes on where it was.
    """
    wanted = list(dict.fromkeys(out.md5 for out in outs))
    folders = [name for name in wanted if name.endswith(FOLDER)]
    getting = _Getting(connection, cache, settings, commit, outs)
    missing = [name for name in wanted if not cache.has(name)]
    sizes = getting.sizes(missing)
    lists = [name for name in missing if name in folders]
    if sum(sizes[name] for name in lists) > _MOST_LIST_BYTES:
        raise not_asked(connection.host, f"lists of more than {_MOST_LIST_BYTES >> 20} MB")
    getting.bring("lists", lists, sizes)
    inside = [name for entry in folders for name in getting.members(entry)]
    files = [name for name in [*wanted, *inside] if not name.endswith(FOLDER)]
    files = [name for name in dict.fromkeys(files) if not cache.has(name)]
    sizes |= getting.sizes([name for name in files if name not in sizes])
    getting.bring(commit, files, sizes)
    getting.take_in(commit, files)
    getting.take_in("lists", lists)
    return len(files) + len(lists)


class _Getting:
    """The objects of one experiment on their way here."""

    def __init__(
        self,
        connection: Connection,
        cache: Cache,
        settings: Settings,
        commit: str,
        outs: list[Out],
    ) -> None:
        self._connection, self._cache, self._settings = connection, cache, settings
        self._commit, self._outs = commit, outs
        self._with_rsync = _has_rsync()

    def sizes(self, names: list[str]) -> dict[str, int]:
        """What these have in bytes there; all of them have to be there, and to fit here."""
        if not names:
            return {}
        host, folder = self._connection.host, self._cache.folder
        asked = {"store": self._settings.store, "objects": names}
        answer = self._connection.ask("listed", Listed, **asked)
        self._with_rsync = self._with_rsync and answer.rsync
        if gone := [name for name in names if name not in answer.sizes]:
            broken = [out.path for out in self._outs if out.md5 in gone]
            what = ", ".join(printable(path, 100) for path in broken)
            what = what or f"{len(gone)} files of folders"
            raise CustomGazeError(
                f"{host}: the store lacks {what}; nothing was changed here. "
                "Run it again there: custom-gaze remote train"
            )
        folder.mkdir(parents=True, exist_ok=True)
        needed, free = sum(answer.sizes[name] for name in names), shutil.disk_usage(folder).free
        if needed > free:
            raise CustomGazeError(
                f"{folder}: {needed} bytes would come, {free} are free; free some space"
            )
        return {name: answer.sizes[name] for name in names}

    def bring(self, incoming: str, names: list[str], sizes: dict[str, int]) -> None:
        """Let them arrive in `.incoming`; nothing is in place yet."""
        if not names:
            return
        store.make_incoming(str(self._cache.folder))
        place = self._cache.folder / store.INCOMING / incoming
        if not self._with_rsync:
            carry_dvc.fetch(self._connection, self._cache, self._commit, self._outs, place, names)
            return
        source = self._connection.rsync_address(f"{self._settings.store}/files/md5/")
        most = max(sizes[name] for name in names)
        _rsync(self._connection, source, f"{place}/", names, "here", most)

    def members(self, name: str) -> list[str]:
        """The objects of a folder's files; its list is here, or has just arrived."""
        if self._cache.has(name):
            return list(self._cache.listed(name).values())
        path = self._cache.folder / store.INCOMING / "lists" / store.place_of(name)
        try:
            return list(files_in(path.read_bytes()).values())
        except (OSError, ValueError) as error:
            shutil.rmtree(path.parent.parent, ignore_errors=True)
            raise not_asked(self._connection.host, f"{name}: {printable(error)}") from None

    def take_in(self, incoming: str, names: list[str]) -> None:
        shared = self._cache.is_shared
        damaged = store.take_in(str(self._cache.folder), incoming, names, shared) if names else []
        if damaged:
            raise CustomGazeError(
                f"{self._connection.host}: {damaged[0]} arrived damaged; try again"
            )


def _has_rsync() -> bool:
    """rsync 3: what macOS calls so is another program."""
    if not shutil.which("rsync"):
        return False
    return re.match(r"rsync +version v?[3-9]", call("rsync", "--version").stdout) is not None


def _rsync(
    connection: Connection,
    source: str,
    target: str,
    names: Sequence[str],
    where: str,
    most: int | None = None,
) -> None:
    """Copy objects; a file that was cut goes on where it was, for its hash is compared later."""
    words = ["rsync", "--files-from=-", "--inplace", "--append", "--no-links", "--no-devices"]
    words += ["--perms", "--chmod=D700,F600", f"--timeout={_STALLED_S}", "-e", connection.shell]
    given = "".join(f"{store.place_of(name)}\n" for name in names)
    done = _run(connection, [*words, source, target], None, given, most)
    _check(connection, done, "rsync", where)


def _git(connection: Connection, root: Path, *words: str, most: int | None = None) -> None:
    done = _run(connection, ["git", "-C", str(root), *words], root, "", most)
    _check(connection, done, "git", "there")


def _run(
    connection: Connection, words: list[str], root: Path | None, given: str, most: int | None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words,
        cwd=root,
        env=connection.environment,
        input=given,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
        preexec_fn=_no_file_above(most),
        start_new_session=True,  # Ctrl-C is ours to answer
    )


def _no_file_above(most: int | None) -> Callable[[], None] | None:
    """The far machine may announce little and send without an end."""
    if most is None:
        return None
    limit = most + (1 << 16)
    return functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))


def _check(
    connection: Connection, done: "subprocess.CompletedProcess[str]", program: str, where: str
) -> None:
    """Say in one line why git or rsync failed."""
    if done.returncode == 0:
        return
    host, said = connection.host, done.stderr
    if "No space left on device" in said or "Disk quota exceeded" in said:
        raise CustomGazeError(f"{host}: the disk is full {where}; free some space")
    if any(sign in said for sign in _FORBIDDEN):
        raise CustomGazeError(f"{host}: no permission to write {where}")
    if "File too large" in said or "SIGXFSZ" in said or done.returncode == -25:
        raise not_asked(host, "more than it announced")
    if done.returncode in _CUT and connection.has_ended():
        raise connection.why()
    if "timeout in data" in said or "connection unexpectedly closed" in said:
        raise connection.lost()
    lines = [line for line in said.splitlines() if "error" in line or "fatal" in line]
    raise CustomGazeError(f"{host}: {program}: {printable((lines or [last_line(said)])[0])}")
