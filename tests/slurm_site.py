"""A SLURM on one machine in a folder: munged, slurmctld and a slurmd a node, as this user, on ports
of their own, all of which end with it. Debian's slurm-wlm and munge bring the programs."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SBIN = "/usr/sbin"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "srun", "sinfo")
PATIENCE_S = 30


class NotAtHand(Exception):
    """SLURM is not installed, or will not run here; the message says which part of it."""


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:{SBIN}")
    if found is None:
        raise NotAtHand(f"there is no {name}")
    return found


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@dataclass
class Cluster:
    """A running SLURM: what a client's environment needs, and its daemons by name."""

    folder: Path
    environment: dict[str, str]
    daemons: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def start(self, name: str, command: list[str]) -> None:
        around = {**os.environ, **self.environment}
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env=around, start_new_session=True
            )

    def lose(self, node: str) -> None:
        """As when a node's power fails: its slurmd, and all that it has started, are gone."""
        self.daemons[node].kill()
        self.daemons.pop(node).wait()
        mark = f"SLURMD_NODENAME={node}\0".encode()
        its = [entry for entry in Path("/proc").iterdir() if mark in _read(entry / "environ")]
        parents = [_read(entry / "stat").rpartition(b")")[2].split()[1:2] for entry in its]
        above = {int(pid) for parent in parents for pid in parent} - {int(e.name) for e in its}
        steps = {pid for pid in above if _read(Path(f"/proc/{pid}/comm")) == b"slurmstepd\n"}
        for pid in [*steps, *(int(entry.name) for entry in its)]:  # it could still say so, first
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@contextmanager
def slurm(
    folder: Path, processors: int, nodes: int = 1, more: str = "", around: tuple[str, ...] = ()
) -> Iterator[Cluster]:
    """Start SLURM in `folder`, with nodes node0, node1, …; `more` are lines of its configuration,
    `around` is what each node is started with, e.g. a mount namespace.

    Raises:
        NotAtHand: a program is missing, or ends, or no node comes up.
    """
    programs = {name: _program(name) for name in PROGRAMS}
    folder.chmod(0o755)
    (folder / "munge").mkdir(mode=0o755)
    (folder / "state").mkdir()
    key, munge = folder / "munge" / "key", folder / "munge" / "socket"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    conf = folder / "slurm.conf"
    names = [f"node{number}" for number in range(nodes)]
    conf.write_text(_conf(folder, munge, processors, names) + more)
    cluster = Cluster(folder, {"SLURM_CONF": str(conf)})
    files = ("pid-file", "log-file", "seed-file")
    own = [f"--{name}={folder / 'munge' / name}" for name in files]
    keys = [f"--key-file={key}", f"--socket={munge}", *own]
    try:
        cluster.start("munged", [programs["munged"], "--foreground", "--force", *keys])
        _wait(munge.exists, cluster)
        cluster.start("slurmctld", [programs["slurmctld"], "-D", "-f", str(conf)])
        for name in names:
            (folder / f"spool-{name}").mkdir()
            cluster.start(name, [*around, programs["slurmd"], "-D", "-N", name, "-f", str(conf)])
        _wait(lambda: _idle(programs["sinfo"], cluster.environment) == nodes, cluster)
        yield cluster
    finally:
        _end_jobs(programs, cluster)
        for process in reversed(cluster.daemons.values()):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _end_jobs(programs: dict[str, str], cluster: Cluster) -> None:
    """What still runs would outlive the daemons."""
    around = {**os.environ, **cluster.environment}
    until = time.monotonic() + 10
    listed = [programs["squeue"], "--noheader", "--format=%A"]
    while time.monotonic() < until:
        said = subprocess.run(listed, env=around, capture_output=True, text=True, check=False)
        if not (jobs := said.stdout.split()):
            return
        subprocess.run([programs["scancel"], *jobs], env=around, check=False)
        time.sleep(0.2)


def _conf(folder: Path, munge: Path, processors: int, nodes: list[str]) -> str:
    controller, *daemons = _free_ports(1 + len(nodes))
    host, user = socket.gethostname().split(".")[0], getpass.getuser()
    address = f"NodeHostname={host} NodeAddr=127.0.0.1 CPUs={processors} State=UNKNOWN"
    return "\n".join(
        [
            "ClusterName=test",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmUser={user}",
            f"SlurmdUser={user}",
            f"SlurmctldPort={controller}",
            "AuthType=auth/munge",
            f"AuthInfo=socket={munge}",
            "CredType=cred/munge",
            f"StateSaveLocation={folder}/state",
            f"SlurmdSpoolDir={folder}/spool-%n",
            f"SlurmctldPidFile={folder}/slurmctld.pid",
            f"SlurmdPidFile={folder}/slurmd-%n.pid",
            f"SlurmctldLogFile={folder}/slurmctld.log",
            f"SlurmdLogFile={folder}/slurmd-%n.log",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "MpiDefault=none",
            "ReturnToService=2",
            "KillWait=1",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_CPU",
            "SlurmdParameters=config_overrides",
            "SchedulerParameters=defer_batch,sched_interval=1,batch_sched_delay=0",
            *(f"NodeName={n} Port={p} {address}" for n, p in zip(nodes, daemons, strict=True)),
            f"PartitionName=all Nodes={','.join(nodes)} Default=YES MaxTime=INFINITE State=UP",
            "",
        ]
    )


def _idle(sinfo: str, environment: dict[str, str]) -> int:
    """How many nodes wait for work."""
    command = [sinfo, "--noheader", "--Node", "--format=%t"]
    found = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return found.stdout.split().count("idle")


def _wait(ready: Callable[[], bool], cluster: Cluster) -> None:
    until = time.monotonic() + PATIENCE_S
    while not ready():
        ended = [name for name, process in cluster.daemons.items() if process.poll() is not None]
        if ended or time.monotonic() > until:
            name = ended[0] if ended else list(cluster.daemons)[-1]
            said = (cluster.folder / f"{name}.out").read_text(errors="replace").strip().splitlines()
            raise NotAtHand(f"{name} does not run: {said[-1] if said else 'no word of it'}")
        time.sleep(0.1)
