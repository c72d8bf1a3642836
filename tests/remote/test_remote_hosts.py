"""A machine that cannot be reached, refuses us, or is not the one it was: one line, in time."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_site import Site, far_site, make_project
from sshd import NO_SSHD, SSHD, Machine, free_port, make_key

pytestmark = pytest.mark.skipif(SSHD is None, reason=NO_SSHD)
IN_TIME_S = 11.0  # ten seconds, and one for a busy machine


@pytest.fixture(scope="module")
def one_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with far_site(tmp_path_factory.mktemp("hosts")) as site:
        yield site


@pytest.fixture
def site(one_site: Site) -> Iterator[Site]:
    """The site as it was set up, whatever the test before did to it."""
    ssh = one_site.machine.client_home / ".ssh"
    kept = {path: path.read_bytes() for path in ssh.iterdir()}
    authorized = one_site.machine.root / "authorized_keys"
    kept[authorized] = authorized.read_bytes()
    yield one_site
    for path in set(ssh.iterdir()) - set(kept):
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
    one_site.wait_for_quiet()


def refused(site: Site, *words: str) -> str:
    """The one line that a command ends with, within the time allowed."""
    started = time.monotonic()
    done = site.run(*words)
    seconds = time.monotonic() - started
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("custom-gaze: jowestdgxe: ")
    assert seconds < IN_TIME_S
    return lines[0]


def test_a_host_that_nobody_knows(site: Site) -> None:
    config = site.machine.client_home / ".ssh" / "config"
    config.write_text(config.read_text().replace("127.0.0.1", "no-such-machine.invalid"))
    assert "no such machine; add it to ~/.ssh/config" in refused(site, "train")


def test_a_host_that_refuses(site: Site) -> None:
    site.machine.write_config(free_port())
    assert "it refuses the connection" in refused(site, "train")


def test_a_host_that_is_silent_is_named_in_ten_seconds_not_two_minutes(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        site.machine.write_config(server.getsockname()[1])
        said = refused(site, "status")
    assert "no answer within" in said


def test_a_host_that_dies_after_its_banner(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            held.append(connection)

        held: list[socket.socket] = []
        threading.Thread(target=greet, daemon=True).start()
        site.machine.write_config(server.getsockname()[1])
        assert "no answer within" in refused(site, "status")
        held[0].close()


def test_a_key_that_is_not_ours(site: Site) -> None:
    other = make_key(site.machine.root / "somebody")
    shutil.copy(other.with_suffix(".pub"), site.machine.root / "authorized_keys")
    assert "it does not let us in" in refused(site, "train")


def test_a_host_key_that_was_never_pinned(site: Site) -> None:
    site.machine.known_hosts.write_text("")
    assert "host key is not known here; run `custom-gaze remote setup" in refused(site, "train")


def test_a_changed_host_key_stops_every_path(site: Site) -> None:
    """Our commands, git, and DVC's own connections, which verify nothing by themselves."""
    (site.project / "data/sessions/secret").mkdir()
    (site.project / "data/sessions/secret/frame.jpg").write_bytes(os.urandom(1000))
    site.dvc("add", "-q", "data/sessions/secret")
    site.commit()
    stored = set((site.there / "store").rglob("*"))
    heads = site.call("git", "-C", str(site.there / "project"), "rev-parse", "HEAD").stdout
    other = make_key(site.machine.root / f"other-{time.monotonic_ns()}")
    address = f"[127.0.0.1]:{site.machine.port}"
    line = f"{address} {other.with_suffix('.pub').read_text()}"
    site.machine.known_hosts.write_text(line)

    for words in (("train",), ("status",), ("fetch", "x"), ("setup", "--yes")):
        said = refused(site, *words)
        assert "its host key is not the one pinned here; nothing was sent" in said
    typed = (
        ("git", "push", "jowestdgxe", "HEAD:main"),
        (sys.executable, "-m", "dvc", "push", "data/sessions/secret.dvc"),
        (sys.executable, "-m", "dvc", "exp", "list", "--all-commits", "jowestdgxe"),
    )
    for command in typed:
        done = site.call(*command, seconds=60)
        assert done.returncode != 0, command
    assert set((site.there / "store").rglob("*")) == stored
    now = site.call("git", "-C", str(site.there / "project"), "rev-parse", "HEAD").stdout
    assert now == heads
    assert site.machine.known_hosts.read_text() == line  # nobody has put the new key there


def test_a_lax_config_of_the_user_changes_nothing(site: Site) -> None:
    """`StrictHostKeyChecking no` in ~/.ssh/config lets ssh through, but not us and not DVC."""
    config = site.machine.client_home / ".ssh" / "config"
    config.write_text(config.read_text() + "    StrictHostKeyChecking no\n")
    other = make_key(site.machine.root / f"lax-{time.monotonic_ns()}")
    key = other.with_suffix(".pub").read_text()
    site.machine.known_hosts.write_text(f"[127.0.0.1]:{site.machine.port} {key}")
    assert "not the one pinned here" in refused(site, "status")
    for known in (site.machine.known_hosts.read_text(), ""):  # another key, and none
        site.machine.known_hosts.write_text(known)
        push = (sys.executable, "-m", "dvc", "push", "data/sessions/one.dvc")
        assert site.call(*push, seconds=60).returncode != 0
        assert site.machine.known_hosts.read_text() == known


def test_dvc_itself_gives_up_on_a_silent_host_in_time(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        site.machine.write_config(server.getsockname()[1])
        started = time.monotonic()
        done = site.call(sys.executable, "-m", "dvc", "push", "data/sessions/one.dvc")
    assert done.returncode != 0
    assert time.monotonic() - started < IN_TIME_S + 8


def test_setup_asks_before_it_pins_or_changes_anything(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    machine.root.mkdir()
    machine.create()
    machine.start()
    try:
        site = make_project(tmp_path / "project", machine)
        ssh = machine.client_home / ".ssh"
        before = {path.name: path.read_bytes() for path in ssh.iterdir()}
        done = site.run("setup")
        assert done.returncode == 2
        public = machine.host_key.with_suffix(".pub")
        fingerprint = subprocess.run(
            ["ssh-keygen", "-l", "-f", str(public)], capture_output=True, text=True, check=True
        ).stdout.split()[1]
        assert f"shows the host key {fingerprint}" in done.stderr
        assert "--yes" in done.stderr
        assert {path.name: path.read_bytes() for path in ssh.iterdir()} == before
        assert not list(machine.home.glob("rustyeyes*"))
        assert not (site.project / ".dvc" / "config.local").exists()
        said = site.run("train")
        assert said.returncode == 2
        assert said.stderr == (
            "custom-gaze: no machine is set up; run `custom-gaze remote setup`\n"
        )
    finally:
        machine.stop()


def test_setup_again_changes_nothing_and_repairs_what_is_missing(site: Site) -> None:
    said = site.ok("setup", "--yes", "--python", sys.executable)
    assert "proof: 65,536 bytes pushed with DVC, fetched back, the same" in said
    assert "torch" in said
    for word in ("made", "pinned", "wrote", "added", "→"):
        assert not any(line.startswith(word) for line in said.splitlines())
    store = site.there / "store" / "files" / "md5"
    assert not [path for path in store.glob("*/*") if path.stat().st_size == 65_536]
    assert site.git("remote", "get-url", "jowestdgxe").startswith("ssh://jowestdgxe-verified/")
    assert "jowestdgxe" not in (site.project / ".dvc" / "config").read_text()


def test_setup_makes_the_environment_that_the_project_pins(site: Site) -> None:
    """venv and pip for real, with a requirements file that asks for nothing."""
    (site.project / "pyproject.toml").write_text(
        "[project]\nname = 'tiny'\nversion = '1'\n[tool.setuptools]\npackages = []\n"
    )
    site.commit()
    done = site.run("setup", "--yes")
    # pip has to build an editable package; where it finds no setuptools, that is what is said.
    env = site.there / "env" / "bin" / "python"
    assert env.exists()
    assert done.returncode != 0
    assert "dvc is not there" in done.stderr or "pip install failed there" in done.stderr, (
        done.stderr
    )
