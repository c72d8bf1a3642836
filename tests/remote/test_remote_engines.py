"""Runs on a real SLURM of three nodes, and as services of a real systemd of the user."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_site import Site, finish, is_stage, read_until
from slurm_site import Cluster, NotAtHand, slurm
from sshd import NO_SSHD, SSHD, wait_until

pytest_plugins = ["remote_fixtures"]
pytestmark = [pytest.mark.skipif(SSHD is None, reason=NO_SSHD), pytest.mark.long]
QUICK = "SlurmdTimeout=5\nMessageTimeout=2\n"  # a lost node is noticed in seconds
SETTINGS = "engine: slurm\nsbatch: --partition=all --time=30 --mem=0\n"


@pytest.fixture
def cluster(site: Site, tmp_path: Path) -> Iterator[Cluster]:
    """A SLURM of three nodes with a processor each, which whoever logs in there finds."""
    try:
        with slurm(tmp_path, processors=1, nodes=3, more=QUICK) as running:
            conf = running.environment["SLURM_CONF"]
            site.machine.log_in_with("sh", before=f"export SLURM_CONF={conf}")
            yield running
    except NotAtHand as reason:
        pytest.skip(f"SLURM is not at hand: {reason}")


def nodes_of_stages(site: Site) -> list[str]:
    """On which nodes something trains."""
    found = []
    for pid in site.machine.processes():
        if is_stage(pid):
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            found += [v[16:].decode() for v in variables if v.startswith(b"SLURMD_NODENAME=")]
    return sorted(found)


def called(cluster: Cluster, *words: str) -> str:
    around = {**os.environ, **cluster.environment}
    return subprocess.run(words, env=around, check=True, capture_output=True, text=True).stdout


def test_an_array_on_several_nodes_one_of_which_is_lost(site: Site, cluster: Cluster) -> None:
    for name in ("moon", "star"):
        site.add_session(name, {"frame.jpg": os.urandom(1000)})
    (site.project / "remote.yaml").write_text(SETTINGS)
    site.hold(True)
    command = ("queue", "one", "moon", "star", "-j", "2", "--name", "night", "-S", "train.seed=4")
    run = site.start(*command)
    site.wait_while(run, lambda: len(nodes_of_stages(site)) == 2, "two train, on two nodes")
    time.sleep(2)
    assert nodes_of_stages(site) == ["node0", "node1"]  # the third waits, though node2 is free
    assert "night" in site.ok("status")
    assert "2 running" in site.ok("status")
    assert "1 pending" in site.ok("status")

    cluster.lose("node0")
    queued = ("squeue", "--noheader", "--array", "--states=PENDING", "--format=%K")
    wait_until(lambda: "0" in called(cluster, *queued).split(), "its task is queued again")
    job = (site.far_folder / "runs" / "night" / "job").read_text()
    called(cluster, "scontrol", "update", f"JobId={job}_0", "StartTime=now")  # SLURM waits 2 min
    site.hold(False)
    code, said, errors = finish(run)
    assert code == 0, errors
    names = [f"night-{session}" for session in ("one", "moon", "star")]
    for name in names:
        assert f"experiment {name} is here" in said
    refs = site.call(
        "git", "-C", str(site.far_folder / "project"), "for-each-ref", "refs/exps/**/night-*"
    )
    assert sorted(line.rpartition("/")[2] for line in refs.stdout.splitlines()) == sorted(names)
    logs = site.ok("logs", "night").splitlines()
    begun = [line for line in logs if line.startswith("experiment ")]
    assert begun == [f"experiment {names[0]}", *(f"experiment {name}" for name in names)]
    assert not list((site.far_folder / "runs" / "night").glob("copy-*"))

    # Two runs at once; one is stopped, and none of its processes is left.
    site.hold(True)
    first = site.start("train", "--name", "sun", "-S", "train.seed=5")
    read_until(first, "loss 3.20")
    second = site.start("train", "--name", "rain", "-S", "train.seed=6")
    read_until(second, "loss 3.20")
    assert "sun: ended with every process" in site.ok("stop", "sun")
    code, _, errors = finish(first)
    assert (code, "sun was stopped" in errors) == (1, True)
    assert len(nodes_of_stages(site)) == 1
    site.hold(False)
    code, _, errors = finish(second)
    assert code == 0, errors
    assert site.metric("rain") == 6.5
    assert not called(cluster, "squeue", "--noheader").strip()


def test_a_cluster_that_refuses_says_why(site: Site, cluster: Cluster) -> None:
    (site.project / "remote.yaml").write_text("engine: slurm\n")  # one GPU, which no node has
    done = site.run("train", "--name", "refused", "-S", "train.seed=41")
    assert done.returncode == 1
    assert "sbatch failed there: sbatch: error: " in done.stderr
    assert not (site.far_folder / "runs" / "refused").exists()
    cluster.daemons["slurmctld"].kill()
    (site.project / "remote.yaml").write_text(SETTINGS)
    done = site.run("train", "--name", "refused", "-S", "train.seed=41")
    assert done.returncode == 1
    assert "sbatch" in done.stderr


@pytest.fixture
def systemd(site: Site) -> Iterator[dict[str, str]]:
    """A systemd of the user there; it wants to see that the machine was booted with one."""
    program = "/usr/lib/systemd/systemd"
    if not Path(program).exists():
        pytest.skip("systemd is not at hand")
    folder = tempfile.mkdtemp(prefix="xdg-")  # a socket's path may have about 100 characters
    around = {**os.environ, "XDG_RUNTIME_DIR": folder, "HOME": str(site.machine.home)}
    booted = (
        f"mount -t tmpfs none /run/systemd && mkdir /run/systemd/system && exec {program} --user"
    )
    asked = ["systemctl", "--user", "show-environment"]
    with subprocess.Popen(["unshare", "-m", "sh", "-c", booted], env=around) as manager:
        try:
            until = time.monotonic() + 20
            while subprocess.run(asked, env=around, capture_output=True, check=False).returncode:
                if manager.poll() is not None or time.monotonic() > until:
                    pytest.skip("a systemd of the user (`unshare -m`, root) is not at hand")
                time.sleep(0.2)
            site.machine.log_in_with("sh", before=f"export XDG_RUNTIME_DIR={folder}")
            yield around
        finally:
            manager.terminate()
            manager.wait()
            shutil.rmtree(folder, ignore_errors=True)


def test_a_service_of_systemd(site: Site, systemd: dict[str, str]) -> None:
    """Stopped, none of its processes is left; the same command again ends well."""
    (site.project / "remote.yaml").write_text("engine: systemd\n")
    site.hold(True)
    command = ("train", "--name", "service", "-S", "train.seed=51")
    run = site.start(*command)
    read_until(run, "loss 3.20")
    listed = ["systemctl", "--user", "list-units", "--no-legend", "custom-gaze-*"]
    units = subprocess.run(listed, env=systemd, check=True, capture_output=True, text=True).stdout
    assert "custom-gaze-service-" in units
    assert "service" in site.run("train", "--name", "another").stderr  # one run at a time
    assert "service: ended with every process" in site.ok("stop", "service")
    assert not [pid for pid in site.machine.processes() if is_stage(pid)]
    code, _, errors = finish(run)
    assert (code, "service was stopped" in errors) == (1, True)
    site.hold(False)
    assert "experiment service is here" in site.ok(*command)
    assert site.metric("service") == 51.5
