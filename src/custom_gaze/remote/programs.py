"""Other programs as they are called here: run to their end, never asking anything.

OpenSSH with its options, and what it says as one line that tells what to do.
"""

import re
import subprocess
import sys
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.untrusted import printable

DVC = (sys.executable, "-m", "dvc")
ANSWER_S = 9.0  # with Python's own start, an unreachable machine is named within ten seconds

# Never a prompt; and a key that is not pinned stops everything, whatever the user's config says.
# (Of an option that is given twice ssh takes the first.)
OPTIONS = [
    *("-T", "-x", "-a", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"),
    *("-o", "ConnectTimeout=8", "-o", "ServerAliveInterval=4", "-o", "ServerAliveCountMax=3"),
    *("-o", "ControlMaster=no", "-o", "ControlPath=none"),
]

# It becomes part of a file's name, an address and a line of ~/.ssh/config, and the name of a remote
# for DVC, which makes it lower-case, and for git, which takes no `..` and no `.lock`.
_HOST = re.compile(r"(?!.*(?:\.\.|\.lock$))[a-z0-9_][a-z0-9._-]{0,253}")


class Unreachable(CustomGazeError):
    """The machine cannot be reached, or refuses us."""


class UnknownHostKey(Unreachable):
    """No key of this machine is pinned here."""


class Lost(CustomGazeError):
    """The connection ended in the middle."""


def call(
    *words: str, root: Path | None = None, timeout_s: float | None = None, failed: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run a program in `root`; what it says is text, whatever its bytes are.

    Raises:
        CustomGazeError: it is not here, did not end in time, or has failed where `failed`, which
            says what that is, is not empty.
    """
    name = "dvc" if words[0] == sys.executable else words[0]
    try:
        done = subprocess.run(
            words,
            cwd=root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise CustomGazeError(f"{name}: no answer within {timeout_s:g} seconds") from None
    except FileNotFoundError:
        whose = " (OpenSSH's client)" if name.startswith("ssh") else ""
        raise CustomGazeError(f"{name} is not installed here{whose}") from None
    if failed and done.returncode:
        said = printable(last_line(done.stderr or f"code {done.returncode}"))
        raise CustomGazeError(f"{failed}: {said}")
    return done


def last_line(said: str) -> str:
    """The last line of what a program said."""
    return (said.strip().splitlines() or ["?"])[-1]


def check_host(host: str) -> str:
    """Return `host` if it can be given to ssh.

    Raises:
        InputError: it is no plain name: empty, an option, an address with a user or a port; or
            DVC or git could not call a remote so.
    """
    if not _HOST.fullmatch(host):
        raise InputError(
            f"--host {printable(repr(host), 80)}: name a machine as in ~/.ssh/config, of small "
            "letters, digits, - _ and . (one that is called otherwise there may have a second "
            "name: `Host DGX dgx`)"
        )
    return host


def explain(host: str, complaints: list[str], code: int | None) -> Unreachable:
    """Why ssh has not connected: what it printed, as one line that says what to do."""
    text = "\n".join(complaints)
    lines = [line for line in complaints if line.strip() and not line.startswith("@")]
    again = f"run `custom-gaze remote setup --host {host}`"
    jumps = "Connection closed by UNKNOWN port" in text  # a jump host's ssh has ended first
    which = f"the jump host on the way to {host} (ProxyJump in ~/.ssh/config)"
    if "IDENTIFICATION HAS CHANGED" in text:
        return Unreachable(
            f"{which if jumps else host}: its host key is not the one pinned here; nothing was "
            "sent. Somebody may be listening in; if the machine was set up anew, remove the old "
            f"key (ssh-keygen -R){'' if jumps else f' and {again}'}"
        )
    if "Host key verification failed" in text or "host key is known" in text:
        if not jumps:
            return UnknownHostKey(f"{host}: its host key is not known here; {again} first")
        return Unreachable(
            f"{host}: the host key of {which} is not known here; log in to that one once, "
            "`ssh JUMPHOST`, and accept its key if it is the right one; then again"
        )
    known = {
        "Could not resolve hostname": "no such machine; add it to ~/.ssh/config",
        "Connection refused": "it refuses the connection; does sshd run there, on that port?",
        "timed out": f"no answer within {ANSWER_S:g} seconds; is it switched on, and does "
        f"`ssh {host}` work?",
        "No route to host": "no way to it; is the network up?",
        "Permission denied": f"it does not let us in; does `ssh -o BatchMode=yes {host}` work? "
        "A key with a passphrase has to be in ssh-agent (ssh-add)",
    }
    # ssh's own word is the last: a banner may say anything before.
    meant = [known[sign] for line in reversed(lines) for sign in known if sign in line]
    if not meant and (code == 127 or "python3: " in text):
        meant = ["python3 is missing there (3.10 or newer)"]
    if not meant:
        meant = [printable(lines[-1]) if lines else f"ssh ended with code {code}"]
    return Unreachable(f"{host}: {meant[0]}")
