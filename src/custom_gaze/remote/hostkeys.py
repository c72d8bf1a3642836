"""Host keys: learnt with the user's consent, pinned in known_hosts, and held for DVC too.

OpenSSH and git verify host keys; DVC (asyncssh) does not and has no option for it. It does read
~/.ssh/config: under the name HOST-verified it connects through `ssh -W`, so that the connection
OpenSSH has verified carries DVC's own.
"""

import os
import re
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import write_bytes
from custom_gaze.common.untrusted import printable
from custom_gaze.remote.programs import ANSWER_S, OPTIONS, call, check_host, explain, last_line
from custom_gaze.remote.settings import VERIFIED

Consent = Callable[[str], bool]
_PLAIN = re.compile(r"[A-Za-z0-9_./~%@:+,=-]+")


def ssh_config(host: str, file: Path | None = None) -> dict[str, list[str]]:
    """What OpenSSH makes of its configuration, or of one file: lower-case key → values."""
    done = call("ssh", *(("-F", str(file)) if file else ()), "-G", check_host(host))
    if done.returncode:
        raise InputError(f"{file or '~/.ssh/config'}: {printable(last_line(done.stderr))}")
    found: dict[str, list[str]] = {}
    for key, _, value in (line.partition(" ") for line in done.stdout.splitlines()):
        found.setdefault(key, []).append(value)
    return found


def learn(host: str, consent: Consent) -> str:
    """Ask `host` for its key, show its fingerprint, and pin it if the user agrees; what was done.

    Nothing but the key is exchanged before: no login is tried.
    """
    with tempfile.TemporaryDirectory(prefix="custom-gaze-") as scratch:
        learnt = Path(scratch) / "known_hosts"
        only = (
            *("-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={learnt}"),
            *("-o", "GlobalKnownHostsFile=/dev/null", "-o", "PreferredAuthentications=none"),
            *("-o", "UpdateHostKeys=no", "-o", "HashKnownHosts=no"),
        )
        done = call("ssh", *only, *OPTIONS, host, "true", timeout_s=ANSWER_S)
        line = _text_of(learnt)
        if not line:
            raise explain(host, done.stderr.splitlines(), done.returncode)
        shown = call("ssh-keygen", "-l", "-f", str(learnt)).stdout.split()
    fingerprint = f"{shown[1]} ({shown[-1].strip('()')})"
    if not consent(f"{host} shows the host key {fingerprint}. Pin it?"):
        raise InputError(f"{host}: its key {fingerprint} was not accepted; nothing was changed")
    target = _first_file(ssh_config(host)["userknownhostsfile"][0])
    known = _text_of(target)
    _write_private(target, known + ("" if known[-1:] in ("", "\n") else "\n") + line)
    return f"pinned the host key {fingerprint} in {target}"


def _first_file(listed: str) -> Path:
    """The first of several paths as `ssh -G` lists them: with spaces in between, and not quoted."""
    words = listed.split(" ")
    paths = [Path(" ".join(words[:end])).expanduser() for end in range(len(words), 0, -1)]
    return next((path for path in paths if path.parent.is_dir()), paths[-1])


def entry_for_dvc(host: str, sshd: tuple[str, int]) -> str:
    """The block of ~/.ssh/config through which DVC's connections are verified.

    `sshd`: address and port at which the machine reaches its own sshd.
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
    own = [(key, config[key.lower()][0]) for key in ("HostName", "Port", "User")]
    own += [("HostKeyAlias", alias) for alias in config.get("hostkeyalias", [])]
    own += [("IdentityFile", path) for path in _identities(config)]
    return (
        f"# custom-gaze: DVC verifies no host key; this leads it through {host}, as OpenSSH does.\n"
        f"Host {host}{VERIFIED}\n"
        + "".join(f"    {key} {_value(value)}\n" for key, value in own)
        + f"    ProxyCommand sh -c {shlex.quote(proxy)}\n"
    )


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


def include_for_dvc(host: str, sshd: tuple[str, int], consent: Consent) -> str:
    """Write the block into a file of its own and let ~/.ssh/config include it; what was done.

    Raises:
        InputError: the user did not agree, or ssh would not read ~/.ssh/config with the entry as
            it is meant; nothing was changed then.
    """
    folder, name = Path.home() / ".ssh", host + VERIFIED
    own, config = folder / f"custom-gaze-{host}.conf", folder / "config"
    wanted, before = entry_for_dvc(host, sshd), _text_of(config)
    line = f"Include {_value(str(own))}"
    has_line = line in before.splitlines()
    if has_line and _text_of(own) == wanted:
        return ""
    question = f"DVC's own connections verify no host key. Add `{line}` to {config}, so that they "
    if not consent(f"{question}go through OpenSSH as {name}?"):
        raise InputError("DVC would connect without verifying the host; nothing more was changed")
    with tempfile.TemporaryDirectory(prefix="custom-gaze-") as scratch:
        block, plain, trial = (Path(scratch) / file for file in (own.name, "plain", "config"))
        _write_private(block, wanted)
        _write_private(plain, before)
        _write_private(trial, f"Include {_value(str(block))}\n{before}")
        real, found = ssh_config(host), ssh_config(name, trial)
        same = all(found.get(key) == real.get(key) for key in ("hostname", "port", "user"))
        proxy = "".join(found.get("proxycommand", [])).startswith("sh -c ")
        named = set(_identities(real)) <= set(found.get("identityfile", []))
        if not (same and proxy and named and ssh_config(host, trial) == ssh_config(host, plain)):
            raise InputError(
                f"ssh does not read the entry {name} for DVC as it is meant, or {host} otherwise "
                "than before; nothing was changed. Is there another one in ~/.ssh/config?"
            )
    _write_private(own, wanted)
    if not has_line:
        _write_private(config, f"{line}\n{before}")
    return f"wrote {own}, which {config} includes"


def check_entry(host: str) -> None:
    """Log in as DVC will; OpenSSH says why, where DVC would say `Connection lost`."""
    name = host + VERIFIED
    done = call("ssh", *OPTIONS, name, "true", timeout_s=ANSWER_S)
    if done.returncode:
        raise explain(name, done.stderr.splitlines(), done.returncode)


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""


def _write_private(path: Path, content: str) -> None:
    """Replace a file of ~/.ssh, whole or not at all, as closed as it was; a link stays a link."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = Path(os.path.realpath(path))
    as_closed_as = [each for each in (path.parent, target) if each.exists()]
    write_bytes(target, content.encode(errors="surrogateescape"), as_closed_as)
