"""Faults against a real sshd: nothing is lost here, nothing is left there, and again works."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_site import Site, far_site, finish, kill
from sshd import NO_SSHD, SSHD, Machine, wait_until

pytestmark = pytest.mark.skipif(SSHD is None, reason=NO_SSHD)


@pytest.fixture(scope="module")
def one_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with far_site(tmp_path_factory.mktemp("faults")) as site:
        yield site


@pytest.fixture
def site(one_site: Site) -> Iterator[Site]:
    """The site without a fault in force; afterwards nothing may run there."""
    yield one_site
    for name in ("hold", "fail"):
        (one_site.machine.home / name).unlink(missing_ok=True)
    for way in ("up", "down"):
        one_site.machine.limit(way, None)
    one_site.git("reset", "-q", "--hard")
    one_site.git("clean", "-fdq", "--exclude=.dvc")
    one_site.wait_for_quiet()


def metric(site: Site, name: str) -> float:
    """The metric of an experiment as `dvc exp show` has it."""
    shown = json.loads(site.dvc("exp", "show", "--json", "-A"))
    for row in shown:
        for experiment in row["experiments"] or []:
            for rev in experiment["revs"]:
                if rev["name"] == name:
                    value: float = rev["data"]["metrics"]["reports/metrics.json"]["data"][
                        "error_deg"
                    ]
                    return value
    raise AssertionError(f"{name} is not in dvc exp show")


def test_a_run_comes_back_with_its_metrics_and_its_model(site: Site) -> None:
    said = site.ok("train", "--name", "plain", "-S", "train.seed=7", "--apply")
    assert "5 of 5 files sent" in said
    assert "loss 3.20" in said
    assert "experiment plain is here, 3 files brought" in said
    sent = [line for line in said.splitlines() if line.startswith("sent ")]
    assert len(sent) == 1
    assert sent[0].startswith(("sent 1.0 MB, received 1.5 MB", "sent 1.1 MB, received 1.5 MB"))
    assert metric(site, "plain") == 7.5
    assert (site.project / "models/custom_gaze.onnx").stat().st_size == 1_500_000
    assert (site.project / "models/parts/seed").read_text() == "7"


def test_the_second_run_sends_only_what_changed(site: Site) -> None:
    said = site.ok("train", "--name", "second", "-S", "train.seed=8")
    assert "0 of 5 files sent" in said
    number, unit = said.splitlines()[-1].split()[1:3]
    assert (unit.rstrip(","), float(number) < 100) == ("kB", True)


def test_a_second_run_at_once_is_refused_and_ctrl_c_only_detaches(site: Site) -> None:
    site.hold(True)
    first = site.start("train", "--name", "first", "-S", "train.seed=11")
    site.wait_for_training("first", first)
    second = site.run("train", "--name", "other", "-S", "train.seed=12")
    assert second.returncode == 1
    assert "first has been running there since" in second.stderr
    assert "custom-gaze remote attach first" in second.stderr
    assert not (site.there / "runs" / "other").exists()

    status = site.ok("status")
    assert "first" in status
    assert "stage train, epoch 1 of 2, loss 3.20, validation 2.10°" in status

    kill(first, signal.SIGINT)
    code, _, errors = finish(first)
    assert code == 130
    assert "detached; first goes on there; come back: custom-gaze remote attach first" in errors

    again = site.start("attach")
    site.hold(False)
    code, output, errors = finish(again)
    assert code == 0, errors
    assert "experiment first is here" in output
    assert metric(site, "first") == 11.5
    assert "loss 3.20" in site.ok("logs", "first")
    assert "other" not in site.experiments()


def test_the_connection_cut_during_training_is_taken_up_again(site: Site) -> None:
    site.hold(True)
    run = site.start("train", "--name", "cut-training", "-S", "train.seed=21")
    site.wait_for_training("cut-training", run)
    wait_until(site.machine.connections, "somebody reads along")
    before = set(site.machine.connections())
    site.machine.cut()
    site.wait_while(run, lambda: set(site.machine.connections()) - before, "connects again")
    site.hold(False)
    code, output, errors = finish(run)
    assert code == 0, errors
    assert output.count("loss 3.20") == 1  # it goes on where it was, nothing twice
    assert metric(site, "cut-training") == 21.5


def test_the_client_killed_during_training(site: Site) -> None:
    site.hold(True)
    command = ("train", "--name", "killed-training", "-S", "train.seed=22")
    run = site.start(*command)
    site.wait_for_training("killed-training", run)
    kill(run)
    finish(run)
    site.hold(False)
    assert "experiment killed-training is here" in site.ok(*command)  # the same command goes on
    assert metric(site, "killed-training") == 22.5


def test_a_run_that_fails_there(site: Site) -> None:
    (site.machine.home / "fail").touch()
    before = site.fingerprint()
    command = ("train", "--name", "failing", "-S", "train.seed=31")
    done = site.run(*command)
    assert done.returncode == 1
    assert "failing failed there with code" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    shown = done.stdout.splitlines()
    assert "out of memory, as it were" in done.stdout
    assert shown.count("line 40") == 2  # as it came, and among the last lines
    assert shown.count("line 1") == 1
    assert site.fingerprint() == before
    site.wait_for_quiet()
    (site.machine.home / "fail").unlink()
    site.ok(*command)
    assert metric(site, "failing") == 31.5


def test_stop_ends_every_process_and_again_works(site: Site) -> None:
    site.hold(True)
    command = ("train", "--name", "stopped", "-S", "train.seed=41")
    run = site.start(*command)
    site.wait_for_training("stopped", run)
    said = site.ok("stop", "stopped")
    assert "stopped: ended with" in said
    code, _, errors = finish(run)
    assert code == 1
    assert "stopped was stopped" in errors
    site.wait_for_quiet()
    assert site.run("fetch", "stopped").returncode == 2
    site.hold(False)
    site.ok(*command)
    assert metric(site, "stopped") == 41.5


def test_a_run_killed_there_leaves_no_orphan_in_the_way(site: Site) -> None:
    """As when memory runs out: supervisor and DVC die, the stage lives on."""
    site.hold(True)
    command = ("train", "--name", "orphan", "-S", "train.seed=51")
    run = site.start(*command)
    site.wait_for_training("orphan", run)
    pid = json.loads((site.there / "runs" / "orphan" / "pid.json").read_text())["pid"]
    found = site.machine.processes()
    stage = [pid for pid in found if b"tiny.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    dvc = [pid for pid in found if b"exp\0run" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert stage
    assert dvc
    for victim in (pid, *dvc):
        os.kill(victim, signal.SIGKILL)
    code, _, errors = finish(run)
    assert code == 1
    assert "orphan was killed there" in errors
    assert set(site.machine.processes()) & set(stage)
    site.hold(False)
    (site.machine.home / "hold").touch()
    again = site.start(*command)
    wait_until(
        lambda: not set(site.machine.processes()) & set(stage), "the orphan is ended", seconds=60
    )
    site.hold(False)
    code, _, errors = finish(again)
    assert code == 0, errors
    assert metric(site, "orphan") == 51.5


def test_a_name_used_before(site: Site) -> None:
    site.ok("train", "--name", "taken", "-S", "train.seed=61")
    before = site.fingerprint()
    for changes in ("train.seed=61", "train.seed=62"):
        done = site.run("train", "--name", "taken", "-S", changes)
        assert done.returncode == 2
        assert "the name taken was used before" in done.stderr
    assert site.fingerprint() == before
    assert metric(site, "taken") == 61.5


def test_uncommitted_changes_are_refused_by_name(site: Site) -> None:
    note = site.project / "notes.txt"
    stage = site.project / "src" / "tiny.py"
    image = site.project / "data/sessions/one/img_0.json"
    kept = {path: path.read_bytes() for path in (stage, image)}
    mode = image.stat().st_mode
    try:
        note.write_text("mine")
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

        done = site.run("train", "--name", "dirty", "-S", "sessions=[two]")
        assert done.returncode == 2
        assert "session 'two' is not part of commit" in done.stderr
        assert "not sent, git does not know it: notes.txt" in done.stdout
    finally:
        note.unlink()
        for path, content in kept.items():
            path.write_bytes(content)
        image.chmod(mode)
    assert not (site.there / "runs" / "dirty").exists()


@pytest.mark.parametrize("fault", ["cut", "kill"])
def test_a_push_broken_in_the_middle(site: Site, fault: str) -> None:
    seed = {"cut": 71, "kill": 72}[fault]
    name = f"push-{fault}"
    session = f"late-{fault}"
    folder = site.project / "data" / "sessions" / session
    folder.mkdir()
    (folder / "frame.jpg").write_bytes(os.urandom(1_500_000))
    site.dvc("add", "-q", f"data/sessions/{session}")
    site.commit()
    command = ("train", "--name", name, "-S", f"train.seed={seed}", "-S", f"sessions=[{session}]")
    site.machine.limit("up", 900_000)
    before = site.fingerprint()
    run = site.start(*command)
    incoming = site.there / "store" / ".incoming"
    site.wait_while(
        run, lambda: incoming.is_dir() and any(incoming.iterdir()), "half a file arrives"
    )
    site.machine.cut() if fault == "cut" else kill(run)
    code, _, errors = finish(run)
    assert code != 0
    if fault == "cut":
        assert (code, "jowestdgxe: the connection was cut" in errors) == (1, True)
    site.wait_for_quiet()
    assert not (site.there / "runs" / name).exists()
    assert site.fingerprint() == before
    site.machine.limit("up", None)
    said = site.ok(*command)
    assert "2 of 2 files sent" in said
    assert not any(incoming.iterdir())
    assert metric(site, name) == seed + 0.5


@pytest.mark.parametrize("fault", ["cut", "kill"])
def test_a_fetch_broken_in_the_middle(site: Site, fault: str) -> None:
    seed = {"cut": 81, "kill": 82}[fault]
    name = f"fetch-{fault}"
    site.hold(True)
    run = site.start("train", "--name", name, "-S", f"train.seed={seed}")
    site.wait_for_training(name, run)
    kill(run)
    finish(run)
    site.hold(False)
    wait_until((site.there / "runs" / name / "result.json").exists, "it ends", seconds=60)

    before = site.fingerprint()
    objects = site.project / ".dvc" / "cache" / "files" / "md5"
    site.machine.limit("down", 600_000)
    fetch = site.start("fetch", name)
    site.wait_while(
        fetch,
        lambda: any(path.stat().st_size > 0 for path in objects.glob("*/.*.part")),
        "half a file arrives",
    )
    site.machine.cut() if fault == "cut" else kill(fetch)
    code, _, errors = finish(fetch)
    assert code != 0
    if fault == "cut":
        assert (code, "jowestdgxe: the connection" in errors) == (1, True)
    after = site.fingerprint()
    assert {path for path in after if after[path] != before.get(path)} <= {"refs"}
    assert name not in site.experiments()  # it is listed when all of it is here
    site.wait_for_quiet()

    site.machine.limit("down", None)
    assert f"experiment {name} is here" in site.ok("fetch", name)
    assert metric(site, name) == seed + 0.5


def test_a_store_that_lacks_a_file(site: Site) -> None:
    """Neither fetch nor apply leaves anything half changed; a new run makes it whole."""
    site.hold(True)
    command = ("train", "--name", "lacking", "-S", "train.seed=91")
    run = site.start(*command)
    site.wait_for_training("lacking", run)
    kill(run)
    finish(run)
    site.hold(False)
    wait_until((site.there / "runs" / "lacking" / "result.json").exists, "it ends", seconds=60)
    newest = max(
        (path for path in (site.there / "store" / "files" / "md5").glob("*/*")),
        key=lambda path: (path.stat().st_size == 1_500_000, path.stat().st_mtime),
    )
    kept = newest.rename(site.machine.home / "taken-away")
    before = site.fingerprint()
    done = site.run("fetch", "lacking")
    assert done.returncode == 1
    assert "the store lacks models/custom_gaze.onnx; nothing was changed here" in done.stderr
    after = site.fingerprint()
    assert {path for path in after if after[path] != before.get(path)} <= {"refs"}
    assert "lacking" not in site.experiments()
    kept.rename(newest)
    site.ok("fetch", "lacking")

    name = newest.parent.name + newest.name
    here = site.project / ".dvc" / "cache" / "files" / "md5" / name[:2] / name[2:]
    aside = here.rename(site.project.parent / "aside")
    newest.rename(site.machine.home / "taken-away")
    before = site.fingerprint()
    done = site.run("fetch", "lacking", "--apply")
    assert done.returncode == 1
    assert site.fingerprint() == before
    aside.rename(here)
    (site.machine.home / "taken-away").rename(newest)


def test_what_dvc_push_left_half_is_sent_again(site: Site) -> None:
    """DVC's own push over SSH writes in place: a cut one leaves a file with the wrong content."""
    (site.project / "data/sessions/partial").mkdir()
    (site.project / "data/sessions/partial/frame.jpg").write_bytes(os.urandom(200_000))
    site.dvc("add", "-q", "data/sessions/partial")
    site.commit()
    site.dvc("push", "-q", "data/sessions/partial.dvc")
    store = site.there / "store" / "files" / "md5"
    (half,) = [path for path in store.glob("*/*") if path.stat().st_size == 200_000]
    half.write_bytes(half.read_bytes()[:100_000])
    said = site.ok("train", "--name", "whole", "-S", "sessions=[partial]")
    assert "1 of 2 files sent" in said
    assert half.stat().st_size == 200_000


def test_no_permission_to_write_there(site: Site) -> None:
    (site.project / "data/sessions/denied").mkdir()
    (site.project / "data/sessions/denied/frame.jpg").write_bytes(os.urandom(1000))
    site.dvc("add", "-q", "data/sessions/denied")
    site.commit()
    command = ("train", "--name", "denied", "-S", "sessions=[denied]")
    store = site.there / "store"
    incoming = store / ".incoming"
    incoming.mkdir(exist_ok=True)
    with forbidden(incoming):
        done = site.run(*command)
    assert done.returncode == 1
    assert "no permission to write there" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (site.there / "runs" / "denied").exists()
    site.ok(*command)


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


def test_the_disk_full_there(site: Site) -> None:
    """The store lies on a file system of 3 MB, in a mount namespace of a second sshd's own."""
    store = site.there / "store"
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs `unshare -m` (root) for a small file system of its own")
    (site.project / "data/sessions/large").mkdir()
    (site.project / "data/sessions/large/frame.jpg").write_bytes(os.urandom(5_000_000))
    site.dvc("add", "-q", "data/sessions/large")
    site.commit()
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
    assert done.returncode == 1
    assert "the disk is full there" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (site.there / "runs" / "full").exists()
    site.ok(*command)


def test_around_the_training_under_ten_seconds(site: Site) -> None:
    """100 small files as a session; what DVC itself takes there counts."""
    folder = site.project / "data" / "sessions" / "hundred"
    folder.mkdir()
    for number in range(100):
        (folder / f"img_{number}.jpg").write_bytes(os.urandom(100_000))
    site.dvc("add", "-q", "data/sessions/hundred")
    site.commit()
    started = time.monotonic()
    said = site.ok("train", "--name", "timed", "-S", "sessions=[hundred]")
    seconds = time.monotonic() - started
    print(f"{seconds:.1f} s around a run on 100 frames, load {os.getloadavg()[0]:.1f}")
    assert "101 of 101 files sent" in said
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert seconds < 10 * busy


def test_nothing_there_is_readable_by_others_and_no_secret_is_in_git(site: Site) -> None:
    assert site.there.stat().st_mode & 0o077 == 0
    for run in (site.there / "runs").iterdir():
        for path in (run, *run.iterdir()):
            assert path.stat().st_mode & 0o077 == 0, path
    local = site.project / ".dvc" / "config.local"
    assert local.stat().st_mode & 0o077 == 0
    assert "rustyeyes_train/store" in local.read_text()
    tracked = site.git("ls-files").split()
    assert ".dvc/config.local" not in tracked
    for path in tracked:
        assert str(site.machine.root) not in (site.project / path).read_text(errors="ignore")


def test_plain_dvc_commands_work_as_typed(site: Site) -> None:
    """push, exp push, exp list, exp pull and pull, without our commands."""
    site.dvc("push", "-q", "data/sessions/one.dvc")
    site.git("push", "-q", "jowestdgxe", "HEAD:main")
    name = site.experiments()[0]
    assert name in site.dvc("exp", "list", "--all-commits", "jowestdgxe")
    site.dvc("exp", "remove", name)
    assert name not in site.experiments()
    site.dvc("exp", "pull", "jowestdgxe", name)
    assert name in site.experiments()
