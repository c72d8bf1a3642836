"""Host keys: learnt with the user's consent, pinned in known_hosts, and held for DVC too.

OpenSSH and git verify host keys; DVC (asyncssh) does not and has no option for it. It does read
~/.ssh/config: under the name HOST-verified it connects through `ssh -W`, so that the connection
OpenSSH has verified carries DVC's own.
"""

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.files import whole_file
from custom_gaze.common.untrusted import printable
from custom_gaze.remote.programs import call, last_line
from custom_gaze.remote.settings import VERIFIED
from custom_gaze.remote.ssh import ANSWER_S, OPTIONS, VERIFY, check_host, explain

Consent = Callable[[str], bool]
_PLAIN = re.compile(r"[A-Za-z0-9_./~%@:+,=-]+")


def ssh_config(host: str, file: Path | None = None) -> dict[str, list[str]]:
    """What OpenSSH makes of its configuration, or of one file, for `host`: lower-case key → values.

    Raises:
        InputError: it cannot be read.
    """
    done = _run(["ssh", *(("-F", str(file)) if file else ()), "-G", check_host(host)])
    if done.returncode:
        raise InputError(f"{file or '~/.ssh/config'}: {printable(last_line(done.stderr))}")
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
        line = learnt.read_text(encoding="utf-8", errors="surrogateescape").strip()
        shown = _run(["ssh-keygen", "-l", "-f", str(learnt)]).stdout.split()
    fingerprint = f"{shown[1]} ({shown[-1].strip('()')})"
    if not consent(f"{host} shows the host key {fingerprint}. Pin it?"):
        raise InputError(f"{host}: its key {fingerprint} was not accepted; nothing was changed")
    target = _first_file(ssh_config(host)["userknownhostsfile"][0])
    before = target.read_text(encoding="utf-8", errors="surrogateescape") if target.exists() else ""
    joint = "" if not before or before.endswith("\n") else "\n"
    _write_private(target, before + joint + line)
    return f"pinned the host key {fingerprint} in {target}"


def _first_file(listed: str) -> Path:
    """The first of several paths as `ssh -G` lists them: with spaces in between, and not quoted."""
    words = listed.split(" ")
    for end in range(len(words), 0, -1):
        path = Path(" ".join(words[:end])).expanduser()
        if path.parent.is_dir():
            return path
    return Path(words[0]).expanduser()


def entry_for_dvc(host: str, sshd: tuple[str, int]) -> str:
    """The block of ~/.ssh/config through which DVC's connections are verified.

    `sshd`: address and port at which the machine reaches its own sshd.

    Raises:
        InputError: a value of ~/.ssh/config cannot stand in another entry.
    """
    config = ssh_config(host)
    address, port = sshd
    target = shlex.quote(f"{address if ':' not in address else f'[{address}]'}:{port}")
    target = target.replace("%", "%%")  # ssh puts values in the place of %h and the like
    # DVC's library drops what the proxy prints: a terminal is the only way to tell the user.
    proxy = (
        "if (: >/dev/tty) 2>/dev/null; then exec 2>/dev/tty; fi; "
        "exec ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=8 "
        "-o ServerAliveInterval=5 -o ServerAliveCountMax=3 -o LogLevel=ERROR "
        f"-W {target} {shlex.quote(host)}"
    )
    lines = [
        f"# custom-gaze: DVC verifies no host key; this leads it through {host}, as OpenSSH does.",
        f"Host {host}{VERIFIED}",
        f"    HostName {_value(config['hostname'][0])}",
        f"    Port {_value(config['port'][0])}",
        f"    User {_value(config['user'][0])}",
        *(f"    HostKeyAlias {_value(alias)}" for alias in config.get("hostkeyalias", [])),
        *(f"    IdentityFile {_value(path)}" for path in _identities(config)),
        f"    ProxyCommand sh -c {shlex.quote(proxy)}",
        "",
    ]
    return "\n".join(lines)


def _identities(config: dict[str, list[str]]) -> list[str]:
    files = config.get("identityfile", [])
    return [path for path in files if Path(path).expanduser().is_file()]


def _value(text: str) -> str:
    """A value as ~/.ssh/config takes it, for OpenSSH and for DVC's library."""
    if _PLAIN.fullmatch(text):
        return text
    if not text.isprintable() or '"' in text or "\\\\" in text or text.endswith("\\"):
        raise InputError(f"~/.ssh/config: {printable(text)!r} cannot stand in an entry for DVC")
    return f'"{text}"'


def include_for_dvc(host: str, sshd: tuple[str, int], consent: Consent) -> list[str]:
    """Write the block into a file of its own and let ~/.ssh/config include it.

    Returns:
        What was changed; nothing where all of it is there already.

    Raises:
        InputError: the user did not agree, or ~/.ssh/config cannot be read, before or with the
            entry, which is taken back then.
    """
    folder = Path.home() / ".ssh"
    own, config = folder / f"custom-gaze-{host}.conf", folder / "config"
    wanted = entry_for_dvc(host, sshd)
    line = f"Include {_value(str(own))}"
    before = config.read_text(encoding="utf-8", errors="surrogateescape") if config.exists() else ""
    has_block = own.exists() and own.read_text(encoding="utf-8", errors="surrogateescape") == wanted
    has_line = line in before.splitlines()
    if has_block and has_line:
        return []
    question = (
        f"DVC's own connections verify no host key. Add `{line}` to {config}, so that they go "
        f"through OpenSSH as {host}{VERIFIED}?"
    )
    if not consent(question):
        raise InputError("DVC would connect without verifying the host; nothing more was changed")
    kept = {path: path.read_bytes() if path.exists() else None for path in (own, config)}
    expected = ssh_config(host)
    changed = []
    try:
        if not has_block:
            _write_private(own, wanted)
            changed.append(f"wrote {own}")
        _check_block(host, ssh_config(host + VERIFIED, own), expected)
        if not has_line:
            _write_private(config, f"{line}\n{before}")
            changed.append(f"added `{line}` to {config}")
        _check_block(host, ssh_config(host + VERIFIED), expected)
        if ssh_config(host) != expected:
            raise InputError(f"{config}: with `{line}` ssh reads {host} otherwise than before")
    except BaseException:
        for path, content in kept.items():
            if content is None:
                path.unlink(missing_ok=True)
            elif path.read_bytes() != content:
                _write_private(path, content.decode())
        raise
    return changed


def _check_block(host: str, found: dict[str, list[str]], expected: dict[str, list[str]]) -> None:
    """Whether ssh reads the block for DVC as it is meant.

    Raises:
        InputError: it does not.
    """
    keys = ("hostname", "port", "user")
    same = all(found.get(key) == expected.get(key) for key in keys)
    proxy = "".join(found.get("proxycommand", [])).startswith("sh -c ")
    if not same or not proxy or set(_identities(expected)) - set(found.get("identityfile", [])):
        raise InputError(
            f"ssh does not read the entry {host}{VERIFIED} for DVC as it is meant; nothing was "
            "changed. Is there another one in ~/.ssh/config?"
        )


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
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
    target.chmod(mode)


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return call(*command, timeout_s=ANSWER_S)
    except subprocess.TimeoutExpired:
        raise CustomGazeError(f"{command[0]}: no answer within {ANSWER_S:g} seconds") from None
    except FileNotFoundError:
        raise CustomGazeError(f"{command[0]} is not installed here (OpenSSH's client)") from None
