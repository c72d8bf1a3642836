"""Host keys: learnt with the user's consent, pinned in known_hosts, and held for DVC too.

OpenSSH and git verify host keys; DVC (asyncssh) does not and has no option for it. It does read
~/.ssh/config: under the name HOST-verified it connects through `ssh -W`, so that the connection
OpenSSH has verified carries DVC's own.
"""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from custom_gaze.errors import CustomGazeError, InputError
from custom_gaze.files import whole_file
from custom_gaze.remote.connection import ANSWER_S, OPTIONS, VERIFY, check_host, explain
from custom_gaze.remote.settings import VERIFIED

Consent = Callable[[str], bool]


def ssh_config(host: str) -> dict[str, list[str]]:
    """What OpenSSH makes of its configuration for `host`: lower-case key → values."""
    done = _run(["ssh", "-G", check_host(host)])
    if done.returncode:
        raise InputError(f"~/.ssh/config: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    return found


def learn(host: str, consent: Consent) -> str:
    """Ask `host` for its key, show its fingerprint, and pin it if the user agrees.

    Nothing but the key is exchanged before: no login is tried.

    Returns:
        What was changed.

    Raises:
        CustomGazeError: the machine cannot be reached.
        InputError: the user did not agree.
    """
    with tempfile.TemporaryDirectory(prefix="custom-gaze-") as scratch:
        learnt = Path(scratch) / "known_hosts"
        done = _run(
            [
                "ssh",
                *("-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={learnt}"),
                *("-o", "GlobalKnownHostsFile=/dev/null", "-o", "PreferredAuthentications=none"),
                *("-o", "UpdateHostKeys=no", "-o", "HashKnownHosts=no"),
                *OPTIONS,
                host,
                "true",
            ]
        )
        if not learnt.exists() or not learnt.stat().st_size:
            raise explain(host, done.stderr.splitlines(), done.returncode, had_answered=False)
        line = learnt.read_text().strip()
        shown = _run(["ssh-keygen", "-l", "-f", str(learnt)]).stdout.split()
    fingerprint = f"{shown[1]} ({shown[-1].strip('()')})"
    if not consent(f"{host} shows the host key {fingerprint}. Pin it?"):
        raise InputError(f"{host}: its key {fingerprint} was not accepted; nothing was changed")
    target = Path(ssh_config(host)["userknownhostsfile"][0].split()[0]).expanduser()
    before = target.read_text() if target.exists() else ""
    joint = "" if not before or before.endswith("\n") else "\n"
    _write_private(target, before + joint + line)
    return f"pinned the host key {fingerprint} in {target}"


def entry_for_dvc(host: str, sshd: tuple[str, str]) -> str:
    """The block of ~/.ssh/config through which DVC's connections are verified.

    `sshd`: address and port at which the machine reaches its own sshd.
    """
    config = ssh_config(host)
    address, port = sshd
    # DVC's library drops what the proxy prints: a terminal is the only way to tell the user.
    proxy = (
        "if (: >/dev/tty) 2>/dev/null; then exec 2>/dev/tty; fi; "
        "exec ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=8 "
        "-o ServerAliveInterval=5 -o ServerAliveCountMax=3 -o LogLevel=ERROR "
        f"-W {address if ':' not in address else f'[{address}]'}:{port} {shlex.quote(host)}"
    )
    lines = [
        f"# custom-gaze: DVC verifies no host key; this leads it through {host}, as OpenSSH does.",
        f"Host {host}{VERIFIED}",
        f"    HostName {config['hostname'][0]}",
        f"    Port {config['port'][0]}",
        f"    User {config['user'][0]}",
        *(f"    HostKeyAlias {alias}" for alias in config.get("hostkeyalias", [])),
        *(f"    IdentityFile {path}" for path in config.get("identityfile", []) if _is_file(path)),
        f"    ProxyCommand sh -c {shlex.quote(proxy)}",
        "",
    ]
    return "\n".join(lines)


def _is_file(path: str) -> bool:
    return Path(path).expanduser().is_file()


def include_for_dvc(host: str, sshd: tuple[str, str], consent: Consent) -> list[str]:
    """Write the block into a file of its own and let ~/.ssh/config include it.

    Returns:
        What was changed; nothing where all of it is there already.

    Raises:
        InputError: the user did not agree, or ~/.ssh/config cannot be read.
    """
    folder = Path.home() / ".ssh"
    own, config = folder / f"custom-gaze-{host}.conf", folder / "config"
    wanted = entry_for_dvc(host, sshd)
    line = f"Include {own}"
    before = config.read_text() if config.exists() else ""
    has_block = own.exists() and own.read_text() == wanted
    has_line = line in before.splitlines()
    if has_block and has_line:
        return []
    question = (
        f"DVC's own connections verify no host key. Add `{line}` to {config}, so that they go "
        f"through OpenSSH as {host}{VERIFIED}?"
    )
    if not consent(question):
        raise InputError("DVC would connect without verifying the host; nothing more was changed")
    changed = []
    if not has_block:
        _write_private(own, wanted)
        changed.append(f"wrote {own}")
    if not has_line:
        _write_private(config, f"{line}\n{before}")
        changed.append(f"added `{line}` to {config}")
    return changed


def check_entry(host: str) -> None:
    """Log in as DVC will; OpenSSH says why, where DVC would say `Connection lost`.

    Raises:
        CustomGazeError: it fails.
    """
    name = host + VERIFIED
    done = _run(["ssh", *OPTIONS, *VERIFY, name, "true"])
    if done.returncode:
        raise explain(name, done.stderr.splitlines(), done.returncode, had_answered=False)


def _write_private(path: Path, content: str) -> None:
    """Replace a file of ~/.ssh, whole or not at all; a link stays a link."""
    target = Path(os.path.realpath(path))
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    text = content if content.endswith("\n") else content + "\n"
    with whole_file(target) as temporary:
        temporary.write_text(text)
    target.chmod(mode)


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=ANSWER_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise CustomGazeError(f"{command[0]}: no answer within {ANSWER_S:g} seconds") from None
    except FileNotFoundError:
        raise CustomGazeError(f"{command[0]} is not installed here (OpenSSH's client)") from None
