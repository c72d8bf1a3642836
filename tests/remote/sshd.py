"""A real sshd on loopback: another machine with a home folder, keys and settings of its own.

The client side is a second home whose ~/.ssh/config knows the machine as `jowestdgxe`. Both homes
have a space in their path. OpenSSH takes the home folder from the user database and not from $HOME,
so a small `ssh` on PATH names that config (dvc-facts: asyncssh and git follow $HOME).
"""

import contextlib
import ctypes
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_FOUND = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
SSHD = _FOUND if sys.platform == "linux" else None  # processes are found through /proc
NO_SSHD = "needs Linux and sshd (Debian: apt-get install openssh-server)"

# Runs ssh and passes so many bytes on, then swallows what comes: a line gone silent.
_LIMIT = """import os, subprocess, sys, threading
way, left, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
up = way == "up"
pipe = {"stdin" if up else "stdout": subprocess.PIPE}
ssh = subprocess.Popen(command, **pipe)
source, target = (0, ssh.stdin.fileno()) if up else (ssh.stdout.fileno(), 1)
os.dup2(os.open(os.devnull, os.O_RDWR), 1 if up else 0)

def relay():
    global left
    while chunk := os.read(source, 65536):
        while chunk and left:
            try:
                done = os.write(target, chunk[:left])
            except OSError:  # who asked for the connection is gone
                ssh.kill()
                return
            chunk, left = chunk[done:], left - done
    if up:
        ssh.stdin.close()

threading.Thread(target=relay, daemon=True).start()
os._exit(ssh.wait())
"""

_WRAPPER = """#!/bin/sh
for way in up down; do
    if [ -e {root}/limit_$way ]; then
        exec {python} {root}/limit.py $way "$(cat {root}/limit_$way)" {real} -F {config} "$@"
    fi
done
exec {real} -F {config} "$@"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until(condition: Callable[[], object], what: str, seconds: float = 600.0) -> None:
    """Return as soon as `condition` holds; fail by name when it does not in time.

    The time is for a machine that is busy with other things: it only ends what will never end.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.05)


def make_key(path: Path) -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True)
    return path


@dataclass
class Machine:
    """The far machine: its sshd, its home, and the home of the one who connects to it."""

    root: Path
    port: int = field(default_factory=free_port)
    prefix: tuple[str, ...] = ()  # what sshd is started with, e.g. a mount namespace
    process: "subprocess.Popen[bytes] | None" = None
    agent: str = ""  # the socket of an ssh-agent that is known here
    user: str = field(default_factory=getpass.getuser)  # who logs in

    @property
    def home(self) -> Path:
        """The far machine's home folder."""
        return self.root / "there at home"

    @property
    def client_home(self) -> Path:
        """The home folder here."""
        return self.root / "here at home"

    @property
    def known_hosts(self) -> Path:
        return self.client_home / ".ssh" / "known_hosts"

    @property
    def host_key(self) -> Path:
        return self.root / "host_key"

    def create(self) -> None:
        for folder in (self.home, self.client_home, self.client_home / ".ssh"):
            folder.mkdir(parents=True, mode=0o700)
        site = self.root / "dvc-site-there"
        for folder in (self.home, site):
            folder.mkdir(exist_ok=True)
            shutil.chown(folder, self.user)
        make_key(self.host_key)
        key = make_key(self.client_home / ".ssh" / "id_ed25519")
        shutil.copy(key.with_suffix(".pub"), self.root / "authorized_keys")
        self.write_config()
        self._write_ssh()
        self._write_git_config()
        # What a login finds: its own home, and no settings of the one who runs the tests.
        # PATH is what the tests themselves run with, and nothing is asked of a package index.
        path = os.environ["PATH"]
        (self.root / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.host_key}\n"
            f"AuthorizedKeysFile {self.root / 'authorized_keys'}\nPidFile {self.root / 'pid'}\n"
            "UsePAM no\nStrictModes no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nPermitRootLogin yes\nLogLevel VERBOSE\n"
            f"MaxStartups 100\nSubsystem sftp {_sftp_server()}\n"
            f'SetEnv "HOME={self.home}" PATH={path} LANG=C.UTF-8 OMP_NUM_THREADS=1 PIP_NO_INDEX=1 '
            f"DVC_SITE_CACHE_DIR={site}\n"
            f"ForceCommand cd {shlex.quote(str(self.home))} && . {self.root / 'login'}\n"
        )
        self.log_in_with("sh")

    def log_in_with(self, shell: str, before: str = "") -> None:
        """What each login runs its command with, and what it does before."""
        (self.root / "login").write_text(
            f'{before}\nif [ -z "$SSH_ORIGINAL_COMMAND" ]; then exec sh; fi\n'
            f'exec {shell} -c "$SSH_ORIGINAL_COMMAND"\n'
        )

    def write_config(self, port: int | None = None) -> None:
        ssh = self.client_home / ".ssh"
        config = ssh / "config"
        include = [line for line in _lines(config) if line.startswith("Include")]
        config.write_text(
            "\n".join(
                [
                    *include,
                    "Host jowestdgxe",
                    "    HostName 127.0.0.1",
                    f"    Port {port or self.port}",
                    f"    User {self.user}",
                    f'    IdentityFile "{ssh / "id_ed25519"}"',
                    "    IdentitiesOnly yes",
                    "Host *",
                    f'    UserKnownHostsFile "{self.known_hosts}"',
                    "    GlobalKnownHostsFile /dev/null",
                    "",
                ]
            )
        )

    def _write_ssh(self) -> None:
        binaries = self.root / "bin"
        binaries.mkdir()
        (self.root / "limit.py").write_text(_LIMIT)
        # ProxyJump hands on the path after -F as it is: it must have no space.
        (self.root / "ssh").symlink_to(self.client_home / ".ssh")
        config = self.root / "ssh" / "config"
        for name in ("ssh", "sftp"):
            script = binaries / name
            script.write_text(
                _WRAPPER.format(
                    real=shutil.which(name), config=config, root=self.root, python=sys.executable
                )
            )
            script.chmod(0o755)

    def limit(self, way: str, count: int | None) -> None:
        """Let only so many bytes through each new connection, `up` or `down`; then silence.

        So that what is cut in the middle is cut in the middle, however fast the machine is.
        """
        path = self.root / f"limit_{way}"
        path.unlink(missing_ok=True)
        if count is not None:
            path.write_text(str(count))

    def _write_git_config(self) -> None:
        for home in (self.home, self.client_home):
            (home / ".gitconfig").write_text(
                "[user]\n\tname = Test\n\temail = test@example.org\n[init]\n"
                "\tdefaultBranch = main\n[safe]\n\tdirectory = *\n[gc]\n\tauto = 0\n"
            )

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a user here."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DVC_", "GIT_", "SSH_", "MLFLOW_", "PYTHONPATH"))
        }
        python = str(Path(sys.executable).parent)
        return {
            **kept,
            **({"SSH_AUTH_SOCK": self.agent} if self.agent else {}),
            "HOME": str(self.client_home),
            "PATH": f"{self.root / 'bin'}:{python}:{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "true",
            "DVC_SITE_CACHE_DIR": str(self.root / "dvc-site"),
            "DO_NOT_TRACK": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "NO_ALBUMENTATIONS_UPDATE": "1",
            "OMP_NUM_THREADS": "1",
            "PIP_NO_INDEX": "1",
        }

    def start(self) -> None:
        log = (self.root / "sshd.log").open("ab")
        command = [*self.prefix, str(SSHD), "-D", "-e", "-f", str(self.root / "sshd_config")]
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # Debian's sshd wants it
        self.process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, preexec_fn=_end_with_tests
        )
        log.close()
        wait_until(self._answers, "sshd answers")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.root / "sshd.log").read_text()[-2000:]
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def connections(self) -> list[int]:
        """The sshd processes of open connections."""
        assert self.process is not None
        return [pid for pid in descendants(self.process.pid) if _name(pid) == "sshd"]

    def cut(self) -> None:
        """Break every open connection, as a network does; the listener goes on."""
        for pid in self.connections():
            _kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End sshd and everything that runs through it."""
        if self.process is not None:
            for pid in [*descendants(self.process.pid), self.process.pid]:
                _kill(pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
        self.end_all()

    def end_all(self) -> list[str]:
        """End what runs in either home; return the command lines."""
        ended = []
        for pid in [*self.processes(), *self.processes(self.client_home)]:
            ended.append(command_of(pid))
            _kill(pid, signal.SIGKILL)
        return ended

    def processes(self, home: Path | None = None) -> list[int]:
        """Processes that live in the far home: what a run or a login left behind."""
        mark = f"HOME={home or self.home}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    variables = (entry / "environ").read_bytes().split(b"\0")
                    state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
                except OSError:
                    continue
                if mark in variables and state != "Z":
                    found.append(int(entry.name))
        return found


def _end_with_tests() -> None:
    """Linux ends the process when the one that started it ends, however that happens."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Its children and theirs, at this moment."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def command_of(pid: int) -> str:
    """The command line of a process; empty where it has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip().split(":")[0]
    except OSError:
        return ""


def _kill(pid: int, what: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, what)


def _sftp_server() -> str:
    places = ("/usr/lib/openssh", "/usr/libexec/openssh", "/usr/lib/ssh", "/usr/libexec")
    return shutil.which("sftp-server", path=":".join(places)) or "internal-sftp"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
