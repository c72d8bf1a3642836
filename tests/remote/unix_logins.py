"""Logins of their own on this machine, which end with the test; only root can make them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("useradd", "userdel", "groupadd", "groupdel", "setpriv", "unshare")


class NotAtHand(Exception):
    """No logins can be made here; the message says why."""


@dataclass(frozen=True)
class Logins:
    """People of one group, and one who is not of it. `inside`: what their programs are started
    with where this Python lies in a folder that is closed to them."""

    group: str
    people: tuple[str, ...]
    stranger: str
    inside: tuple[str, ...]

    def as_one(self, login: str, *words: str) -> "subprocess.CompletedProcess[str]":
        """A program as somebody who has logged in."""
        who = ("setpriv", f"--reuid={login}", f"--regid={login}", "--init-groups")
        return subprocess.run((*who, *words), capture_output=True, text=True, check=False, cwd="/")


@contextmanager
def logins(count: int) -> Iterator[Logins]:
    """So many people, named cgtest-PID-N, whose group is cgtest-PID.

    Raises:
        NotAtHand: we are not root, or a program is missing.
    """
    if os.getuid() != 0:
        raise NotAtHand("only root can make logins")
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        raise NotAtHand(f"there is no {missing[0]}")
    inside = _inside()
    group = f"cgtest-{os.getpid()}"
    names = [f"{group}-{number}" for number in range(count + 1)]
    made: list[str] = []
    _do("groupadd", group)
    try:
        for name in names:  # with "*" for a password: nobody knows it, and sshd takes it for open
            groups = ("-G", group) if name != names[-1] else ()
            _do("useradd", "-M", "-U", *groups, "-d", "/", "-s", "/bin/sh", "-p", "*", name)
            made.append(name)
        yield Logins(group, tuple(names[:-1]), names[-1], inside)
    finally:
        for name in made:
            _end_all(name)
            _do("userdel", name)
        _do("groupdel", group)


def _do(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotAtHand(f"{words[0]}: {done.stderr.strip()}")


def _end_all(login: str) -> None:
    """userdel refuses somebody of whom something runs."""
    uid = int(subprocess.run(["id", "-u", login], capture_output=True, check=True).stdout)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        theirs = [entry for entry in Path("/proc").glob("[0-9]*") if _owner(entry) == uid]
        if not theirs:
            return
        for entry in theirs:
            with suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)
        time.sleep(0.05)


def _owner(path: Path) -> int:
    try:
        return path.stat().st_uid
    except OSError:
        return -1


def _inside() -> tuple[str, ...]:
    """A mount namespace in which everybody reaches this Python.

    root's own often lies in /root, which is closed: there that is an empty folder with nothing in
    it but Python.

    Raises:
        NotAtHand: one would be needed, and cannot be made.
    """
    base = Path(sys.base_prefix)
    closed = [p for p in reversed(base.parents) if p.stat().st_mode & 0o005 != 0o005]
    if not closed:
        return ()
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        raise NotAtHand(f"Python lies in {closed[0]}, and `unshare -m` is not allowed")
    script = (
        'mount --bind "$1" /mnt && mount -t tmpfs -o mode=755 none "$2" && mkdir -p "$1" && '
        'mount --bind /mnt "$1" && umount /mnt && shift 2 && exec "$@"'
    )
    return ("unshare", "-m", "sh", "-c", script, "sh", str(base), str(closed[0]))
