"""What setup writes into ~/.ssh/config: read back by OpenSSH and by DVC's library."""

import os
import shlex
import shutil
from pathlib import Path

import pytest

from custom_gaze.common.errors import InputError
from custom_gaze.remote import hostkeys

SSH = shutil.which("ssh")
pytestmark = pytest.mark.skipif(SSH is None, reason="needs OpenSSH's client")
LOCALHOST = ("localhost", 22)


@pytest.fixture
def ssh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """~/.ssh of a home with a space in its path, with one machine whose key has one as well."""
    folder = tmp_path / "my home" / ".ssh"
    (folder / "my keys").mkdir(parents=True)
    (folder / "my keys" / "id").touch()
    (folder / "config").write_text(
        f'Host far\n    HostName far.example\n    User "DOMAIN\\me"\n    Port 2222\n'
        f'    IdentityFile "{folder}/my keys/id"\n'
        f'    UserKnownHostsFile "{folder}/known hosts" /dev/null\n'
    )
    binaries = tmp_path / "bin"  # OpenSSH asks the user database for the home folder
    binaries.mkdir()
    (binaries / "ssh").write_text(f'#!/bin/sh\nexec {SSH} -F "$HOME/.ssh/config" "$@"\n')
    (binaries / "ssh").chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path / "my home"))
    monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
    return folder


def test_a_key_whose_path_has_a_space_breaks_no_other_host(ssh_folder: Path) -> None:
    from asyncssh.config import SSHClientConfig

    said = hostkeys.include_for_dvc("far", LOCALHOST, lambda _: True)
    assert said == f"wrote {ssh_folder}/custom-gaze-far.conf, which {ssh_folder}/config includes"
    key = f"{ssh_folder}/my keys/id"
    assert hostkeys.ssh_config("elsewhere.example")["hostname"] == ["elsewhere.example"]
    block = hostkeys.ssh_config("far-verified")
    assert (block["hostname"], block["port"], block["user"]) == (
        ["far.example"],
        ["2222"],
        ["DOMAIN\\me"],
    )
    assert block["identityfile"] == [key]
    dvc = SSHClientConfig.load(
        None, [ssh_folder / "config"], False, False, False, "u", (), "far-verified", ()
    )
    assert dvc.get("IdentityFile") == [key]
    assert dvc.get("User") == "DOMAIN\\me"
    assert str(dvc.get("ProxyCommand")).startswith("sh -c ")
    assert hostkeys.include_for_dvc("far", LOCALHOST, lambda _: False) == ""
    listed = hostkeys.ssh_config("far")["userknownhostsfile"][0]
    assert hostkeys._first_file(listed) == ssh_folder / "known hosts"


@pytest.mark.parametrize(
    "block",
    [
        "Host far-verified\n    IdentityFile a b c\n",  # as it was written for a path with a space
        "Host far-verified\n    HostName far.example\n    ProxyCommand sh -c x\n",
        "Host *\n    HostName other\n    Port 2222\n    ProxyCommand sh -c x\n",
    ],
    ids=["error", "meant otherwise", "for every host"],
)
def test_an_entry_that_ssh_does_not_read_as_meant_is_taken_back(
    ssh_folder: Path, monkeypatch: pytest.MonkeyPatch, block: str
) -> None:
    before = (ssh_folder / "config").read_bytes()
    monkeypatch.setattr(hostkeys, "entry_for_dvc", lambda *_: block)
    with pytest.raises(InputError, match="custom-gaze-far.conf|does not read the entry"):
        hostkeys.include_for_dvc("far", LOCALHOST, lambda _: True)
    assert (ssh_folder / "config").read_bytes() == before
    assert not (ssh_folder / "custom-gaze-far.conf").exists()


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("localhost", "-W localhost:22 far"),
        ("192.0.2.7", "-W 192.0.2.7:22 far"),
        ("fe80::1%eth0", "-W '[fe80::1%%eth0]:22' far"),
        ("$(touch pwned)", "-W '$(touch pwned):22' far"),
    ],
)
def test_the_address_is_a_word_of_the_command_that_a_shell_runs(
    ssh_folder: Path, address: str, written: str
) -> None:
    (proxy,) = [
        line.partition("ProxyCommand ")[2]
        for line in hostkeys.entry_for_dvc("far", (address, 22)).splitlines()
        if "ProxyCommand" in line
    ]
    assert shlex.split(proxy)[2].endswith(written)


def test_a_value_that_cannot_be_quoted_is_refused(ssh_folder: Path) -> None:
    for value in ('a"b', "a\nb", "a\\\\b", "a b\\"):
        with pytest.raises(InputError, match="cannot stand in an entry for DVC"):
            hostkeys._value(value)
