"""OpenSSH as it is called here: its options, and what it says as one line that tells what to do."""

import re

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.untrusted import printable

ANSWER_S = 9.0  # with Python's own start, an unreachable machine is named within ten seconds

# BatchMode: never a prompt.
OPTIONS = [
    *("-T", "-x", "-a", "-o", "BatchMode=yes", "-o", "ConnectTimeout=8"),
    *("-o", "ServerAliveInterval=4", "-o", "ServerAliveCountMax=3"),
    *("-o", "ControlMaster=no", "-o", "ControlPath=none"),
]
# A key that is not pinned stops everything, whatever the user's own config says.
VERIFY = ["-o", "StrictHostKeyChecking=yes"]

# It becomes part of a file's name, an address and a line of ~/.ssh/config, and the name of a remote
# for DVC, which makes it lower-case, and for git, which takes no `..` and no `.lock`.
_HOST = re.compile(r"(?!.*(?:\.\.|\.lock$))[a-z0-9_][a-z0-9._-]{0,253}")


class Unreachable(CustomGazeError):
    """The machine cannot be reached, or refuses us."""


class UnknownHostKey(Unreachable):
    """No key of this machine is pinned here."""


class Lost(CustomGazeError):
    """The connection ended in the middle."""


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


def explain(
    host: str, complaints: list[str], code: int | None, had_answered: bool
) -> CustomGazeError:
    """What ssh printed, as one line that says what to do."""
    text = "\n".join(complaints)
    lines = [line for line in complaints if line.strip() and not line.startswith("@")]
    if had_answered:
        return Lost(f"{host}: the connection was cut")
    if unverified := _not_verified(host, text):
        return unverified
    known = {
        "Could not resolve hostname": "no such machine; add it to ~/.ssh/config",
        "Connection refused": "it refuses the connection; does sshd run there, on that port?",
        "timed out": f"no answer within {ANSWER_S:g} seconds; is it switched on?",
        "No route to host": "no way to it; is the network up?",
        "Permission denied": f"it does not let us in; does `ssh -o BatchMode=yes {host}` work? "
        "A key with a passphrase has to be in ssh-agent (ssh-add)",
    }
    for line in reversed(lines):  # ssh's own word is the last: a banner may say anything before
        for sign, meaning in known.items():
            if sign in line:
                return Unreachable(f"{host}: {meaning}")
    if code == 127 or "python3: " in text:
        return Unreachable(f"{host}: python3 is missing there (3.10 or newer)")
    last = printable(lines[-1]) if lines else f"ssh ended with code {code}"
    return Unreachable(f"{host}: {last}")


def _not_verified(host: str, text: str) -> Unreachable | None:
    """A host key that is another one than was pinned, or of which none was."""
    on_the_way = "Connection closed by UNKNOWN port" in text  # a jump host's ssh has ended first
    which = f"the jump host on the way to {host} (ProxyJump in ~/.ssh/config)"
    if "IDENTIFICATION HAS CHANGED" in text:
        who, again = (which, "") if on_the_way else (host, f" and run {_setup(host)}")
        return Unreachable(
            f"{who}: its host key is not the one pinned here; nothing was sent. Somebody may be "
            f"listening in; if the machine was set up anew, remove the old key (ssh-keygen -R)"
            f"{again}"
        )
    if "Host key verification failed" not in text and "host key is known" not in text:
        return None
    if on_the_way:
        return Unreachable(
            f"{host}: the host key of {which} is not known here; log in to that one once, "
            "`ssh JUMPHOST`, and accept its key if it is the right one; then again"
        )
    return UnknownHostKey(f"{host}: its host key is not known here; run {_setup(host)} first")


def _setup(host: str) -> str:
    return f"`custom-gaze remote setup --host {host}`"
