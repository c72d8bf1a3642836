"""Faults against a real sshd: nothing is lost or left behind, and the same command works again."""

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from remote_site import Site, finish, kill, read_until
from sshd import NO_SSHD, SSHD, Machine, command_of, wait_until

pytest_plugins = ["remote_fixtures"]
pytestmark = pytest.mark.skipif(SSHD is None, reason=NO_SSHD)


@dataclass(frozen=True)
class Plain:
    """A run on 100 frames that came home."""

    said: str
    seconds: float
    logins: int


CHANGES = ("-S", "sessions=[hundred]", "-S", "train.seed=7")


@pytest.fixture(scope="session")
def plain(shared_site: Site) -> Plain:
    """The run `plain`, made once for those tests that need one."""
    site = shared_site
    site.add_session("hundred", {f"img_{n}.jpg": os.urandom(100_000) for n in range(100)})
    log = site.machine.root / "sshd.log"
    before = log.read_bytes().count(b"Accepted publickey")
    started = time.monotonic()
    said = site.ok("train", "--name", "plain", *CHANGES)
    seconds = time.monotonic() - started
    return Plain(said, seconds, log.read_bytes().count(b"Accepted publickey") - before)


def test_a_run_comes_back_and_the_next_one_sends_only_what_changed(
    site: Site, plain: Plain
) -> None:
    """100 frames; everything around the training counts: seconds, connections, bytes."""
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    print(f"{plain.seconds:.1f} s around a run on 100 frames, load {busy:.1f} for each core")
    assert plain.seconds < 60 * busy  # under 7 s on a free machine; connections and bytes tell more
    assert plain.logins == 1  # it sends, follows and fetches
    assert "101 of 101 files sent" in plain.said
    assert "loss 3.20" in plain.said
    assert "experiment plain is here, 3 files brought" in plain.said
    assert plain.said.splitlines()[-1] == "sent 10.1 MB, received 1.5 MB"
    shown = json.loads(site.dvc("exp", "show", "--json"))
    revs = {
        rev["name"]: rev["data"]
        for row in shown
        for e in row["experiments"] or []
        for rev in e["revs"]
    }
    assert revs["plain"]["metrics"]["reports/metrics.json"]["data"] == {"error_deg": 7.5}

    said = site.ok("train", "--name", "second", "--apply", *CHANGES[:3], "train.seed=8")
    assert "0 of 101 files sent" in said
    number, unit = said.splitlines()[-1].split()[1:3]
    assert (unit, float(number) < 100) == ("kB,", True)
    assert (site.project / "models/custom_gaze.onnx").stat().st_size == 1_500_000
    assert (site.project / "models/parts/seed").read_text() == "8"
    site.clean()

    here = site.fingerprint()
    for seed in ("train.seed=7", "train.seed=9"):  # a name used before
        done = site.run("train", "--name", "plain", *CHANGES[:3], seed)
        assert done.returncode == 2
        assert "the name plain was used before" in done.stderr
    assert site.fingerprint() == here
    assert site.metric("plain") == 7.5


def test_many_read_along_one_run_whatever_happens_to_them(site: Site) -> None:
    """A second one is refused; Ctrl-C detaches; killed, cut: the same command goes on."""
    site.hold(True)
    command = ("train", "--name", "first", "-S", "train.seed=11")
    first = site.start(*command)
    read_until(first, "loss 3.20")
    job = (site.far_folder / "runs" / "first" / "job").read_text()
    held = [os.readlink(entry) for entry in Path(f"/proc/{job}/fd").iterdir()]
    assert not [name for name in held if name.startswith(("pipe:", "socket:"))]  # ssh would wait
    second = site.run("train", "--name", "other", "-S", "train.seed=12")
    assert second.returncode == 1
    assert "first has been running there since" in second.stderr
    assert "custom-gaze remote attach first" in second.stderr
    assert not (site.far_folder / "runs" / "other").exists()
    assert "a run goes on there; set it up again" in site.run("setup", "--yes").stderr

    status = site.ok("status")
    assert "stage train, epoch 1 of 2, loss 3.20, validation 2.10°" in status

    kill(first, signal.SIGINT)
    code, _, errors = finish(first)
    assert code == 130
    assert "detached; first goes on there; come back: custom-gaze remote attach first" in errors

    attached = site.start("attach")  # without a name: the one that runs
    read_until(attached, "loss 3.20")
    kill(attached)
    finish(attached)
    wait_until(lambda: not site.machine.connections(), "its connection ends")

    again = site.start(*command)
    said = read_until(again, "loss 3.20")
    assert "first was started before (running); going on with it" in said
    site.machine.cut()
    wait_until(site.machine.connections, "connects again")
    site.hold(False)
    code, output, errors = finish(again)
    assert code == 0, errors
    assert "trying again for 60 seconds, first goes on there" in output
    assert "loss 3.20" not in output  # it goes on where it was, nothing twice
    assert "experiment first is here" in output
    assert site.metric("first") == 11.5
    assert "loss 3.20" in site.ok("logs", "first")
    assert "other" not in site.experiments()


def test_a_run_that_fails_is_stopped_or_killed_can_be_run_again(site: Site) -> None:
    """Each time by the same command; the last time it ends well."""
    command = ("train", "--name", "again", "-S", "train.seed=31")
    before = site.fingerprint()
    (site.machine.home / "fail").touch()
    done = site.run(*command)
    assert done.returncode == 1
    assert "again failed there with code" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    shown = done.stdout.splitlines()
    assert "out of memory, as it were" in done.stdout
    assert shown.count("line 40") == 2  # as it came, and among the last lines
    assert shown.count("line 1") == 1
    assert site.fingerprint() == before
    site.wait_for_quiet()
    (site.machine.home / "fail").unlink()

    site.hold(True)
    run = site.start(*command)
    read_until(run, "loss 3.20")
    assert "again: ended with" in site.ok("stop", "again")
    code, _, errors = finish(run)
    assert code == 1
    assert "again was stopped" in errors
    site.wait_for_quiet()
    assert site.run("fetch", "again").returncode == 2
    assert site.fingerprint() == before
    folder = site.far_folder / "runs" / "again"
    assert not list(folder.glob("copy-*"))  # no working copy is left

    run = site.start(*command)
    read_until(run, "loss 3.20")
    orphans = kill_all_but_the_stage(site, "again")
    code, _, errors = finish(run)
    assert code == 1
    assert "again was killed there" in errors
    assert set(site.machine.processes()) >= orphans
    assert site.fingerprint() == before

    run = site.start(*command)
    wait_until(lambda: not orphans & set(site.machine.processes()), "the orphan is ended")
    site.hold(False)
    code, _, errors = finish(run)
    assert code == 0, errors
    assert site.metric("again") == 31.5
    assert not list(folder.glob("copy-*"))


def kill_all_but_the_stage(site: Site, name: str) -> set[int]:
    """As when memory runs out: the job and DVC die, the stage, which is returned, lives on."""
    job = int((site.far_folder / "runs" / name / "job").read_text())
    commands = {pid: command_of(pid) for pid in site.machine.processes()}
    stage = {pid for pid, command in commands.items() if "tiny.py" in command}
    dvc = {pid for pid, command in commands.items() if "exp run" in command}
    assert stage
    assert dvc
    for victim in {job, *dvc} - stage:
        os.kill(victim, signal.SIGKILL)
    return stage


def test_uncommitted_changes_are_refused_by_name(site: Site) -> None:
    note = site.project / "notes.txt"
    other = site.project.parent / "other.txt"  # of the same repository, but no part of the project
    stage = site.project / "src" / "tiny.py"
    image = site.project / "data/sessions/one/img_0.json"
    kept = {path: path.read_bytes() for path in (stage, image, other)}
    mode = image.stat().st_mode
    try:
        note.write_text("mine")
        other.write_text("changed")
        with stage.open("a") as file:
            file.write("# changed\n")
        done = site.run("train", "--name", "dirty")
        assert done.returncode == 2
        assert "not committed, so the run would not see it: src/tiny.py" in done.stderr
        stage.write_bytes(kept[stage])

        image.chmod(0o644)
        image.write_text("changed")
        done = site.run("train", "--name", "dirty")
        assert done.returncode == 2
        assert "data/sessions/one has changed since it was added" in done.stderr
        image.write_bytes(kept[image])

        done = site.run("train", "--name", "dirty", "-S", "sessions=[nowhere]")
        assert done.returncode == 2
        assert "session 'nowhere' is not part of commit" in done.stderr
        assert "not sent, git does not know it: notes.txt" in done.stdout
    finally:
        note.unlink()
        for path, content in kept.items():
            path.write_bytes(content)
        image.chmod(mode)
    assert not (site.far_folder / "runs" / "dirty").exists()


def test_a_push_broken_in_the_middle(site: Site) -> None:
    """The connection cut, then the client killed; nothing starts until all of it is there."""
    site.add_session("late", {"frame.jpg": os.urandom(1_400_000)})
    command = ("train", "--name", "late", "-S", "train.seed=71", "-S", "sessions=[late]")
    before = site.fingerprint()
    incoming = site.far_folder / "store" / ".incoming"
    arrived = 0
    for fault, more in (("cut", 500_000), ("kill", 300_000)):
        site.machine.limit("up", more)
        run = site.start(*command)
        wait_for_more(site, run, incoming, arrived)
        site.machine.cut() if fault == "cut" else kill(run)
        code, _, errors = finish(run)
        if fault == "cut":
            assert (code, "jowestdgxe: the connection was cut" in errors) == (1, True)
        site.wait_for_quiet()
        assert arrived < size_of(incoming) < 1_400_000  # it goes on where it was
        arrived = size_of(incoming)
        assert not (site.far_folder / "runs" / "late").exists()
        assert site.fingerprint() == before
    site.machine.limit("up", None)

    # DVC's own push over SSH writes in place: a cut one leaves a file with the wrong content.
    site.dvc("push", "-q", "data/sessions/late.dvc")
    stored = {
        path.stat().st_size: path for path in (site.far_folder / "store").glob("files/md5/*/*")
    }
    half = stored[1_400_000]
    half.chmod(0o644)
    half.write_bytes(half.read_bytes()[:100_000])
    assert "1 of 2 files sent" in site.ok(*command)
    assert half.stat().st_size == 1_400_000
    assert not any(incoming.iterdir())
    assert site.metric("late") == 71.5


def wait_for_more(
    site: Site, client: "subprocess.Popen[str]", incoming: Path, arrived: int
) -> None:
    """Wait until more than `arrived` bytes of a file lie there."""
    site.wait_while(client, lambda: size_of(incoming) > arrived, "half a file arrives")


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_fetch_broken_in_the_middle_and_a_store_that_lacks_a_file(
    site: Site, plain: Plain
) -> None:
    """Neither fetch nor apply leaves anything half changed; the same command again succeeds."""
    name = site.object_of("plain", "models/custom_gaze.onnx")
    model = site.far_folder / "store" / "files" / "md5" / name
    site.forget("plain", "models/custom_gaze.onnx")
    before = site.fingerprint()
    aside = model.rename(site.machine.home / "taken-away")
    done = site.run("fetch", "plain")
    assert done.returncode == 1
    assert "the store lacks models/custom_gaze.onnx; nothing was changed here" in done.stderr
    assert_as_before(site, before)
    aside.rename(model)

    objects = site.project / ".dvc" / "cache" / "files" / "md5"
    incoming = site.project / ".dvc" / "cache" / ".incoming"
    arrived = 0
    for fault, more in (("cut", 600_000), ("kill", 300_000)):
        site.machine.limit("down", more)
        fetch = site.start("fetch", "plain")
        wait_for_more(site, fetch, incoming, arrived)
        site.machine.cut() if fault == "cut" else kill(fetch)
        code, _, errors = finish(fetch)
        if fault == "cut":
            assert (code, "jowestdgxe: the connection" in errors) == (1, True)
        assert_as_before(site, before)
        site.wait_for_quiet()
        assert arrived < size_of(incoming) < 1_500_000  # it goes on where it was
        arrived = size_of(incoming)
    site.machine.limit("down", None)
    said = site.ok("fetch", "plain")
    assert "experiment plain is here" in said
    number, unit = said.splitlines()[-1].split()[4:6]
    assert (unit, float(number) * 1000 < 1_550_000 - arrived) == ("kB", True)
    assert site.metric("plain") == 7.5

    here = objects / model.parent.name / model.name
    here.unlink()
    model.rename(aside)
    before = site.fingerprint()
    done = site.run("fetch", "plain", "--apply")
    assert done.returncode == 1
    assert "the store lacks models/custom_gaze.onnx" in done.stderr
    assert site.fingerprint() == before
    aside.rename(model)
    site.ok("fetch", "plain", "--apply")
    assert (site.project / "models/parts/seed").read_text() == "7"


def assert_as_before(site: Site, before: dict[str, bytes]) -> None:
    """No file changed and no experiment listed; what was fetched may be kept under its own ref."""
    after = site.fingerprint()
    assert {path for path in after if after[path] != before.get(path)} <= {"refs"}
    assert "plain" not in site.experiments()


def test_no_permission_to_write_on_the_far_machine(site: Site) -> None:
    site.add_session("denied", {"0.jpg": os.urandom(200_000)})
    command = ("train", "--name", "denied", "-S", "sessions=[denied]")
    incoming = site.far_folder / "store" / ".incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir()
    with forbidden(incoming):
        assert_stopped(site, "denied", site.run(*command), "no permission to write there")


def assert_stopped(
    site: Site, name: str, done: "subprocess.CompletedProcess[str]", reason: str
) -> None:
    """One line that tells why, and no run."""
    assert done.returncode == 1
    assert reason in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (site.far_folder / "runs" / name).exists()


class forbidden:
    """A folder that nobody may write to, root included (then by an attribute)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        self._mode(0o500)
        if os.getuid() == 0 and self._attribute("+i").returncode:
            self._mode(0o700)
            pytest.skip("root may write everywhere, and chattr +i does not work here")

    def __exit__(self, *_: object) -> None:
        if os.getuid() == 0:
            self._attribute("-i")
        self._mode(0o700)

    def _mode(self, mode: int) -> None:
        self.folder.chmod(mode)

    def _attribute(self, change: str) -> "subprocess.CompletedProcess[bytes]":
        chattr = shutil.which("chattr") or "/usr/bin/chattr"
        if not Path(chattr).exists():
            return subprocess.CompletedProcess([], 1)
        return subprocess.run([chattr, change, str(self.folder)], capture_output=True, check=False)


def test_the_far_machine_s_disk_full(site: Site) -> None:
    """The store lies on a file system of 3 MB, in a mount namespace of a second sshd's own."""
    store = site.far_folder / "store"
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs `unshare -m` (root) for a small file system of its own")
    site.add_session("large", {"frame.jpg": os.urandom(5_000_000)})
    command = ("train", "--name", "full", "-S", "sessions=[large]")
    small = Machine(site.machine.root)
    mount = f'mount -t tmpfs -o size=3m,mode=700 tmpfs "{store}" && exec "$@"'
    small.prefix = ("unshare", "-m", "sh", "-c", mount, "sh")
    config = site.machine.root / "sshd_config"
    kept = {path: path.read_text() for path in (config, site.machine.known_hosts)}
    try:
        config.write_text(
            kept[config]
            .replace(f"Port {site.machine.port}\n", f"Port {small.port}\n")
            .replace(f"{site.machine.root / 'pid'}\n", f"{site.machine.root / 'pid2'}\n")
        )
        pinned = kept[site.machine.known_hosts].replace(f":{site.machine.port} ", f":{small.port} ")
        site.machine.known_hosts.write_text(pinned)
        small.write_config()
        small.start()
        done = site.run(*command)
    finally:
        small.stop()
        for path, content in kept.items():
            path.write_text(content)
        site.machine.write_config()
    assert_stopped(site, "full", done, "the disk is full there")


def test_nothing_there_is_readable_by_others_and_no_secret_is_in_git(site: Site) -> None:
    assert site.far_folder.stat().st_mode & 0o077 == 0
    for run in (site.far_folder / "runs").iterdir():
        for path in (run, *run.iterdir()):
            assert path.stat().st_mode & 0o077 == 0, path
    local = site.project / ".dvc" / "config.local"
    assert local.stat().st_mode & 0o077 == 0
    assert "rustyeyes_train/store" in local.read_text()
    tracked = site.git("ls-files").split()
    assert ".dvc/config.local" not in tracked
    for path in tracked:
        assert str(site.machine.root) not in (site.project / path).read_text(errors="ignore")


@pytest.mark.parametrize("shell", ["fish", "tcsh"])
def test_a_login_that_is_none_of_the_usual(site: Site, shell: str) -> None:
    """Another shell, which greets; on the way a jump host; here shared connections are on."""
    assert shutil.which(shell), f"{shell} is not installed (tests/install_debian.sh)"
    site.machine.log_in_with(shell, before="echo Welcome home; echo welcome >&2")
    config = site.machine.client_home / ".ssh" / "config"
    hop = f"Host hop\n    HostName 127.0.0.1\n    HostKeyAlias hop\n    Port {site.machine.port}\n"
    own = "    ProxyJump hop\n    ControlMaster auto\n    ControlPath ~/cm-%C\n"
    key = f'    IdentityFile "{site.machine.client_home / ".ssh" / "id_ed25519"}"\n'
    config.write_text(config.read_text().replace("Host *", f"{own}{hop}{key}Host *"))
    public = " ".join(site.machine.host_key.with_suffix(".pub").read_text().split()[:2])
    with site.machine.known_hosts.open("a") as file:
        file.write(f"hop {public}\n")
    seed = {"fish": 91, "tcsh": 92}[shell]
    said = site.ok("train", "--name", shell, "-S", f"train.seed={seed}")
    assert f"experiment {shell} is here" in said
    assert "Welcome" not in said
    assert site.metric(shell) == seed + 0.5


def test_a_commit_that_is_older_than_the_tip_there(site: Site) -> None:
    """A branch there that is ahead is nobody's obstacle: commits go to refs of their own."""
    before = site.git("rev-parse", "HEAD").strip()
    site.commit()
    site.ok("train", "--name", "newer", "-S", "train.seed=81")
    site.git("reset", "-q", "--hard", before)
    assert "experiment older is here" in site.ok("train", "--name", "older", "-S", "train.seed=82")
    assert site.metric("older") == 82.5


def test_without_rsync_tar_carries(site: Site) -> None:
    """Named by a program of that name that is another one, as on macOS."""
    rsync = site.machine.root / "bin" / "rsync"
    rsync.write_text("#!/bin/sh\necho openrsync: protocol version 29\nexit 1\n")
    rsync.chmod(0o755)
    try:
        site.add_session("slow", {"frame.jpg": os.urandom(1000)})
        command = ("train", "--name", "slow", "-S", "sessions=[slow]", "-S", "train.seed=83")
        assert "2 of 2 files sent" in site.ok(*command)
    finally:
        rsync.unlink()
    assert site.metric("slow") == 83.5
    site.ok("fetch", "slow", "--apply")
    assert (site.project / "models/parts/seed").read_text() == "83"


def test_one_session_is_no_queue(site: Site) -> None:
    done = site.run("queue", "one")
    assert done.returncode == 2
    assert "for one: custom-gaze remote train" in done.stderr
