"""What stands for a calibration where it matters alone how jobs run: it imports nothing heavy."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PretendJob:
    """Ends well, raises, or is killed by the kernel."""

    what: str
    work: Path

    def __str__(self) -> str:
        return self.what


def run(job: PretendJob) -> None:
    """Do what the job's name says, and leave SLURM's number of it."""
    (job.work / f"{job.what}.{os.environ.get('SLURM_JOB_ID', 'none')}").touch()
    if job.what == "raises":
        raise ValueError("on purpose")
    if job.what == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
