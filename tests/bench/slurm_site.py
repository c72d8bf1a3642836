"""A SLURM of one machine in a folder: munged, slurmctld and slurmd as this user, on ports of its
own, all of which end with it. Debian's slurm-wlm and munge bring the programs."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SBIN = "/usr/sbin"
DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "squeue", "scancel", "srun", "sinfo")
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


@contextmanager
def slurm(folder: Path, processors: int) -> Iterator[dict[str, str]]:
    """Start SLURM in `folder`; yields what a client's environment needs.

    Raises:
        NotAtHand: a program is missing, or ends, or no node comes up.
    """
    programs = {name: _program(name) for name in (*DAEMONS, *CLIENTS)}
    folder.chmod(0o755)
    (folder / "munge").mkdir(mode=0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key, munge = folder / "munge" / "key", folder / "munge" / "socket"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    conf = folder / "slurm.conf"
    conf.write_text(_conf(folder, munge, processors))
    environment = {"SLURM_CONF": str(conf)}
    files = ("pid-file", "log-file", "seed-file")
    own = [f"--{name}={folder / 'munge' / name}" for name in files]
    commands = {
        "munged": ["--foreground", "--force", f"--key-file={key}", f"--socket={munge}", *own],
        "slurmctld": ["-D", "-f", str(conf)],
        "slurmd": ["-D", "-f", str(conf)],
    }
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name in DAEMONS:
            command, around = [programs[name], *commands[name]], {**os.environ, **environment}
            with (folder / f"{name}.out").open("wb") as log:
                started.append(subprocess.Popen(command, stdout=log, stderr=log, env=around))
            if name == "munged":
                _wait(munge.exists, started, folder)
        _wait(lambda: _is_idle(programs["sinfo"], environment), started, folder)
        yield environment
    finally:
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _conf(folder: Path, munge: Path, processors: int) -> str:
    controller, daemon = _free_ports(2)
    name, user = socket.gethostname().split(".")[0], getpass.getuser()
    return "\n".join(
        [
            "ClusterName=test",
            f"SlurmctldHost={name}(127.0.0.1)",
            f"SlurmUser={user}",
            f"SlurmdUser={user}",
            f"SlurmctldPort={controller}",
            f"SlurmdPort={daemon}",
            "AuthType=auth/munge",
            f"AuthInfo=socket={munge}",
            "CredType=cred/munge",
            f"StateSaveLocation={folder}/state",
            f"SlurmdSpoolDir={folder}/spool",
            f"SlurmctldPidFile={folder}/slurmctld.pid",
            f"SlurmdPidFile={folder}/slurmd.pid",
            f"SlurmctldLogFile={folder}/slurmctld.log",
            f"SlurmdLogFile={folder}/slurmd.log",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "MpiDefault=none",
            "ReturnToService=2",
            "KillWait=1",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_CPU",
            "SlurmdParameters=config_overrides",
            "SchedulerParameters=defer_batch,sched_interval=1,batch_sched_delay=0",
            f"NodeName={name} NodeAddr=127.0.0.1 CPUs={processors} State=UNKNOWN",
            f"PartitionName=all Nodes={name} Default=YES MaxTime=INFINITE State=UP",
            "",
        ]
    )


def _is_idle(sinfo: str, environment: dict[str, str]) -> bool:
    command = [sinfo, "--noheader", "--format=%t"]
    found = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() == "idle"


def _wait(
    ready: Callable[[], bool], started: list["subprocess.Popen[bytes]"], folder: Path
) -> None:
    until = time.monotonic() + PATIENCE_S
    while not ready():
        ended = [
            name
            for name, process in zip(DAEMONS, started, strict=False)
            if process.poll() is not None
        ]
        if ended or time.monotonic() > until:
            name = ended[0] if ended else DAEMONS[len(started) - 1]
            said = (folder / f"{name}.out").read_text(errors="replace").strip().splitlines()
            raise NotAtHand(f"{name} does not run: {said[-1] if said else 'no word of it'}")
        time.sleep(0.1)
