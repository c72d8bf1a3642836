"""Commits with git and objects with rsync, both over the one verified connection.

Commits go to and come from refs of their own: nothing that is checked out is touched. Objects are
named by their content and travel into `.incoming` of the other side's folder; there they are
compared with their hash before they are moved into place (store.py), so a transfer that was cut
goes on where it was. Where rsync is missing on a side, tar carries them, and begins anew.
"""

import functools
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.data.dvc_cache import FOLDER, Cache, files_in
from custom_gaze.remote import store
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.engine import ref_of
from custom_gaze.remote.programs import call, last_line
from custom_gaze.remote.replies import Answer, NotAsked
from custom_gaze.remote.repository import FETCHED, git
from custom_gaze.remote.request import Payload

_SENT = "refs/custom-gaze/sent/"
_MOST_PACK_BYTES = 1 << 28  # an experiment is some kB, the commits that it builds on a few MB
_STALLED_S = 15  # so long rsync waits for a byte
_FORBIDDEN = (
    *("Permission denied (13)", "Operation not permitted (1)", "Read-only file system (30)"),
    "insufficient permission",
)
_SILENT = ("timeout in data", "connection unexpectedly closed")


def send_commit(connection: Connection, commit: str) -> None:
    """Push a commit with what it builds on; no branch there moves by that."""
    # No hook of the user's: DVC's pre-push would push the whole cache.
    words = ("push", "-q", "--no-verify", "--no-follow-tags", "--recurse-submodules=no")
    target = connection.address(connection.settings.project)
    _git(connection, *words, target, f"+{commit}:{_SENT}{commit}")


def fetch_experiment(connection: Connection, base: str, name: str) -> str:
    """Bring the commits of an experiment that was made from the commit `base`; return its own.

    It has another name than DVC's until its files are here too.
    """
    root = connection.settings.root
    # fsckObjects: no path that leads out, no `.git` in a tree.
    strict = ("-c", "fetch.fsckObjects=true", "-c", "gc.auto=0", "-c", "core.hooksPath=/dev/null")
    alone = ("fetch", "-q", "--no-tags", "--no-recurse-submodules")
    source = connection.address(connection.settings.project)
    wanted = f"+{ref_of(base, name)}:{FETCHED}"
    _git(connection, *strict, *alone, source, wanted, most=_MOST_PACK_BYTES)
    commit = git(root, "rev-parse", "--verify", f"{FETCHED}^{{commit}}").strip()
    ancestry = ("merge-base", "--is-ancestor", base, commit)
    if call("git", "-C", str(root), *ancestry).returncode:
        raise NotAsked(connection.host, f"{name} does not come from commit {base[:8]}")
    return commit


def send_objects(connection: Connection, cache: Cache, transfer: str, payload: Payload) -> int:
    """Send those of a run's objects that the store lacks; return how many.

    Raises:
        CustomGazeError: its disk is full, or may not be written, or one arrived damaged.
        InputError: one is neither here nor there.
        NotAsked: the far machine asks for others: faces of another session, for instance.
        Lost: the connection was cut; the same command goes on where it was.
    """
    host, here, elsewhere = connection.host, payload.here, payload.elsewhere
    there = connection.ask(store.objects, names=[*here, *elsewhere], transfer=transfer)
    others = [name for name in there.gone if name not in here]
    if others and elsewhere:
        paths = sorted({elsewhere.get(name, name) for name in others})
        raise InputError(
            f"neither here nor on {host}: files of {', '.join(paths)}; "
            "`dvc add` a session again where it was captured; `dvc repro -f fetch` for models"
        )
    if others:
        raise NotAsked(host, f"it asks for {others[0]}, which this run does not use")
    if there.gone:
        target = f"{connection.settings.store}/{store.INCOMING}/{transfer}"
        _copy(connection, f"{cache.folder}/files/md5", target, there, there.gone)
        damaged = connection.ask(store.arrived, transfer=transfer, names=there.gone).gone
        if damaged:
            raise CustomGazeError(
                f"{host}: {len(damaged)} objects arrived damaged, {damaged[0]} first; "
                "try again, and if it stays so, `dvc add` the session again here"
            )
    return len(there.gone)


def fetch_objects(connection: Connection, cache: Cache, commit: str, outs: dict[str, str]) -> int:
    """Bring the objects of these outputs (path → object) that are not here; return how many.

    Files come before the folders that list them, each verified and moved into place whole.

    Raises:
        CustomGazeError: the store lacks one, or the disk here is too small for them (nothing is
            fetched then), or one arrived damaged.
        NotAsked: it sent something else.
        Lost: the connection was cut; what has arrived is kept, and goes on where it was.
    """
    host, folder = connection.host, str(cache.folder)
    missing = cache.whole(dict.fromkeys(outs.values()))[1]
    if not missing:
        return 0
    there = connection.ask(store.objects, names=missing)
    place = Path(store.make_incoming(folder, commit))
    lists = {name: there.lists[name].encode() for name in missing if name in there.lists}
    wanted = [name for name in missing if not name.endswith(FOLDER)]
    wanted += [name for content in lists.values() for name in files_in(content).values()]
    files = [name for name in dict.fromkeys(wanted) if not cache.has(name)]
    known = {*lists, *(name for name in there.sizes if not name.endswith(FOLDER))}
    if gone := [name for name in (*missing, *files) if name not in known]:
        paths = [printable(path, 100) for path, name in outs.items() if name in gone]
        raise CustomGazeError(
            f"{host}: the store lacks {', '.join(paths) or f'{len(gone)} files of folders'}; "
            "nothing was changed here. Run it again there: custom-gaze remote train"
        )
    needed, free = sum(there.sizes[name] for name in files), shutil.disk_usage(folder).free
    if needed > free:
        raise CustomGazeError(
            f"{folder}: {needed} bytes would come, {free} are free; free some space"
        )
    for name, content in lists.items():
        path = place / store.place_of(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    if files:
        most, source = max(there.sizes[n] for n in files), f"{connection.settings.store}/files/md5"
        _copy(connection, source, str(place), there, files, most)
    if damaged := store.take_in(folder, commit, [*files, *lists], cache.is_shared):
        raise CustomGazeError(f"{host}: {damaged[0]} arrived damaged; try again")
    return len(files) + len(lists)


def _copy(
    connection: Connection,
    source: str,
    target: str,
    there: Answer,
    names: Sequence[str],
    most: int | None = None,
) -> None:
    """Copy objects between two folders, of which one is the far machine's.

    `most`: they are brought here, none with more bytes; the far machine may announce little and
    send without an end.
    """
    down, shell = most is not None, connection.shell
    given = "".join(f"{store.place_of(name)}\n" for name in names)
    if there.rsync and _has_rsync():
        # A file that was cut goes on where it was, for its hash is compared later.
        words = ["rsync", "--files-from=-", "--inplace", "--append", "--no-links", "--no-devices"]
        words += ["--perms", "--chmod=D700,F600", f"--timeout={_STALLED_S}"]
        words += ["--blocking-io", "-e", shell]  # `cat` in the carrier cannot do without
        far = connection.address(f"{source if down else target}/")
        words += [far, f"{target}/"] if down else [f"{source}/", far]
    else:
        pack = f"tar -c -f - -C {shlex.quote(source)} -T -"
        unpack = f"tar -x -o -f - -C {shlex.quote(target)}"
        over = f"{shell} {connection.host} {shlex.quote(pack if down else unpack)}"
        words = ["sh", "-c", f"{over} | {unpack}" if down else f"{pack} | {over}"]
    _carry(connection, words, "here" if down else "there", given, most)


def _has_rsync() -> bool:
    """rsync 3: what macOS calls so is another program."""
    version = call("rsync", "--version").stdout if shutil.which("rsync") else ""
    return re.match(r"rsync +version v?[3-9]", version) is not None


def _git(connection: Connection, *words: str, most: int | None = None) -> None:
    _carry(connection, ["git", "-C", str(connection.settings.root), *words], "there", most=most)


def _carry(
    connection: Connection, words: list[str], where: str, given: str = "", most: int | None = None
) -> None:
    """Run git, rsync or tar, and say in one line why it failed."""
    own = {"GIT_SSH_COMMAND": connection.shell, "GIT_SSH_VARIANT": "simple"}
    limit = None
    if most is not None:
        most += 1 << 16
        limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))
    done = subprocess.run(
        words,
        env={**os.environ, **own, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
        input=given,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
        preexec_fn=limit,
        start_new_session=True,  # Ctrl-C is ours to answer
    )
    host, said, program = connection.host, done.stderr, "tar" if words[0] == "sh" else words[0]
    if done.returncode == 0 and program != "tar":  # which says so on one of two sides
        return
    if "No space left on device" in said or "Disk quota exceeded" in said:
        raise CustomGazeError(f"{host}: the disk is full {where}; free some space")
    if any(sign in said for sign in _FORBIDDEN):
        raise CustomGazeError(f"{host}: no permission to write {where}")
    if "File too large" in said or "SIGXFSZ" in said or done.returncode == -signal.SIGXFSZ:
        raise NotAsked(host, "more than it announced")
    if done.returncode:
        if any(sign in said for sign in _SILENT) or connection.has_ended():
            raise connection.lost()
        lines = [line for line in said.splitlines() if "error" in line or "fatal" in line]
        raise CustomGazeError(f"{host}: {program}: {printable((lines or [last_line(said)])[0])}")
