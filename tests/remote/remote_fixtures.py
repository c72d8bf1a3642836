"""One machine and one tiny project for all the tests that one process runs."""

from collections.abc import Iterator

import pytest

from remote_site import Site, far_site
from sshd import NO_SSHD, SSHD


@pytest.fixture(scope="session")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if SSHD is None:
        pytest.skip(NO_SSHD)
    with far_site(tmp_path_factory.mktemp("remote")) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """The site as it was set up; afterwards no fault is in force and nothing runs."""
    machine = shared_site.machine
    ssh = machine.client_home / ".ssh"
    settings = [*ssh.iterdir(), machine.root / "authorized_keys"]
    kept = {path: path.read_bytes() for path in settings}
    yield shared_site
    for name in ("hold", "fail"):
        (machine.home / name).unlink(missing_ok=True)
    machine.log_in_with("sh")
    for way in ("up", "down"):
        machine.limit(way, None)
    for path in set(ssh.iterdir()) - set(kept):
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
        path.chmod(0o600)  # a key that others may read is none to ssh
    shared_site.wait_for_quiet()
    shared_site.clean()
