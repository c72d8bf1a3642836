"""Logins as people have them: shells and machines that greet, keys in an agent or locked.

That both homes have a space in their path holds for every test here (sshd.py).
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from remote_site import Site
from sshd import NO_SSHD, SSHD, wait_until

pytest_plugins = ["remote_fixtures"]
pytestmark = pytest.mark.skipif(SSHD is None, reason=NO_SSHD)
PUSH = (sys.executable, "-m", "dvc", "push", "data/sessions/one.dvc")
NEVER_S = 90.0  # a prompt that nobody answers would wait for ever


def python_there(site: Site) -> str:
    return str(site.project.parent.parent / "env" / "python")


def test_both_homes_have_a_space_in_their_path(site: Site) -> None:
    """A run goes and comes in every other test; here it is what DVC and git are left with."""
    assert " " in str(site.machine.home)
    assert " " in str(site.machine.client_home)
    address = f"ssh://jowestdgxe-verified{site.far_folder}"
    assert site.git("remote", "get-url", "jowestdgxe").strip() == f"{address}/project"
    assert site.git("ls-remote", "--heads", "jowestdgxe").split()[1] == "refs/heads/main"


def test_a_bashrc_that_prints(site: Site) -> None:
    """Ours goes on, with a commit to send too; DVC's own push cannot, and setup says what to do."""
    site.commit()
    bashrc = site.machine.home / ".bashrc"
    bashrc.write_text("echo Welcome back\necho to stderr too >&2\n")
    site.machine.log_in_with("env -u SHLVL bash")  # as the first shell of a login
    try:
        greeted = site.call("ssh", "jowestdgxe", "true")
        assert greeted.stdout.endswith("Welcome back\n")
        assert "Welcome" not in site.ok("status")
        done = site.run("setup", "--yes", "--python", python_there(site))
        assert done.returncode == 1
        assert "the shell there says 'Welcome back" in done.stderr
        assert "[[ $- == *i* ]] || return" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        far = site.call("git", "-C", str(site.far_project), "rev-parse", "HEAD").stdout
        assert far == site.git("rev-parse", "HEAD")
    finally:
        bashrc.unlink()


def test_a_login_banner(site: Site) -> None:
    """What sshd says to everybody before a login is no answer, and no reason for a failure."""
    text = "Welcome.\nIdle sessions are timed out; others: Connection refused, python3: no\n"
    with banner(site, text):
        assert "free of" in site.ok("status")
        pinned = site.machine.known_hosts.read_text()
        site.machine.known_hosts.write_text("")
        assert "shows the host key SHA256:" in site.run("setup").stderr
        site.machine.known_hosts.write_text(pinned)
        (site.machine.root / "authorized_keys").write_text("")
        done = site.run("status")
        assert "it does not let us in" in done.stderr


@contextmanager
def banner(site: Site, text: str) -> Iterator[None]:
    """Let sshd say this before each login."""
    machine, config = site.machine, site.machine.root / "sshd_config"
    before, file = config.read_text(), machine.root / "banner"
    file.write_text(text)

    def says_it(expected: bool) -> bool:
        return (text.split("\n")[0] in site.call("ssh", "jowestdgxe", "true").stderr) == expected

    def read_again(content: str, expected: bool) -> None:
        assert machine.process is not None
        config.write_text(content)
        machine.process.send_signal(signal.SIGHUP)
        wait_until(lambda: says_it(expected), "sshd has read its settings again")

    try:
        read_again(f"Banner {file}\n{before}", True)
        yield
    finally:
        read_again(before, False)


def test_a_key_in_the_agent_alone(site: Site, tmp_path: Path) -> None:
    """No file of it: for our connection, for git, for DVC's own."""
    with agent(site, tmp_path):
        key = site.machine.client_home / ".ssh" / "id_ed25519"
        assert site.call("ssh-add", str(key)).returncode == 0
        key.unlink()
        name_no_key(site)
        said = site.ok("setup", "--yes", "--python", python_there(site))
        assert "wrote" in said  # the entry for DVC names no key any more
        assert "fetched back, the same" in said
        block = site.machine.client_home / ".ssh" / "custom-gaze-jowestdgxe.conf"
        assert "IdentityFile" not in block.read_text()
        assert site.call("git", "ls-remote", "jowestdgxe").returncode == 0


def test_a_key_with_a_passphrase(site: Site, tmp_path: Path) -> None:
    """Without an agent one line says so and nobody is asked; with one it is a key like any."""
    key = site.machine.client_home / ".ssh" / "id_ed25519"
    lock = ["ssh-keygen", "-q", "-p", "-N", "a secret", "-f", str(key)]
    subprocess.run(lock, check=True, capture_output=True)
    for words in (("status",), ("setup", "--yes", "--python", python_there(site))):
        done = site.run(*words)
        assert done.returncode == 1
        assert "A key with a passphrase has to be in ssh-agent (ssh-add)" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert site.call(*PUSH, seconds=NEVER_S).returncode != 0
    with agent(site, tmp_path):
        answer = tmp_path / "answer"
        answer.write_text("#!/bin/sh\necho a secret\n")
        answer.chmod(0o755)
        asked = {"SSH_ASKPASS": str(answer), "SSH_ASKPASS_REQUIRE": "force"}
        command = ("env", *(f"{name}={value}" for name, value in asked.items()), "ssh-add")
        assert site.call(*command, str(key)).returncode == 0
        assert "free of" in site.ok("status")
        done = site.call(*PUSH, seconds=NEVER_S)
        assert done.returncode == 0, done.stderr


@contextmanager
def agent(site: Site, folder: Path) -> Iterator[None]:
    """A real ssh-agent, known to every command here."""
    socket = folder / "agent"
    command = [str(shutil.which("ssh-agent")), "-D", "-a", str(socket)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(socket.exists, "the agent answers")
            site.machine.agent = str(socket)
            yield
        finally:
            site.machine.agent = ""
            process.terminate()


def name_no_key(site: Site) -> None:
    config = site.machine.client_home / ".ssh" / "config"
    lines = config.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.strip().startswith("Identit")]
    config.write_text("".join(kept))
