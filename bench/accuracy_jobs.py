"""The calibrations of bench/accuracy.py as jobs: here in turn, in local processes, or on SLURM.

A job is one person, base network and k, all methods of which share one training. It writes its own
result file, so the same command goes on wherever it stopped. Local processes and SLURM are both
submitit's, of which the bench asks only that a function be called elsewhere.
"""

import os
import re
import shutil
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from accuracy_bases import base_network
from accuracy_methods import METHODS, TRAINED, Case, measured
from accuracy_person import Settings, World, check_targets
from accuracy_results import Results
from accuracy_views import views_of
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.models.devices import pick_device

if TYPE_CHECKING:
    from submitit import Job as Submitted

THREADS = 2  # more do not help one image at a time
LOCAL, SLURM = "local", "slurm"
POLL_S = {LOCAL: 0.2, SLURM: 2.0}
LATE_POLLS = 10


@dataclass(frozen=True)
class Job:
    """One calibration; `base` as base_network takes it, `work` an absolute path."""

    base: str
    person: str
    k: int
    world: World
    settings: Settings
    work: Path

    def __str__(self) -> str:
        return f"person {self.person}, {self.k} targets, {Path(self.base).name} base"


Told = Callable[[Job, str | None], None]  # a job's end, and why it failed


@dataclass(frozen=True)
class Elsewhere:
    """Where jobs run that do not run here: a name that submitit knows, how many at once, how long
    one may take, and what else SLURM is told of them (partition, account)."""

    cluster: str
    at_once: int
    minutes: int
    slurm: dict[str, str]


def run_job(job: Job) -> None:
    """Calibrate, measure, and keep the result; nothing where it is there already.

    Raises:
        CustomGazeError: the base or the person's frames cannot be used, or a write failed.
    """
    started = time.monotonic()
    torch.set_num_threads(min(THREADS, torch.get_num_threads()))
    device = pick_device("auto", "train.device")
    base = base_network(job.base, job.work)
    results = Results(base, job.settings, job.world, job.work)
    if job.k not in results.missing(job.person):  # another process has been quicker
        return
    person = job.world.person(job.person, job.work)
    held_out = len(set(person.targets[person.test].tolist()))
    present = held_out + len(person.order)
    check_targets((job.k,), present, held_out, f"{person.name}'s first session")
    scratch = job.work / "unfinished" / f"{results.weights}-{results.name(job.person, job.k)}"
    scratch.mkdir(parents=True, exist_ok=True)
    told = person, base, job.settings, (job.k,), device, scratch / "features"
    trained = not TRAINED.isdisjoint(job.settings.methods or METHODS)
    views = views_of(*told, augmented=trained)
    case = Case(person, base, views, job.settings, job.k, device, scratch / "training.pt")
    results.write(measured(case, started))
    shutil.rmtree(scratch, ignore_errors=True)


def run_here(jobs: Sequence[Job], told: Told) -> None:
    """One after the other in this process; one that fails leaves its traceback in a file."""
    for job in jobs:
        try:
            run_job(job)
        except CustomGazeError as error:
            told(job, str(error))
        except Exception as error:
            log = job.work / "failed" / f"{job.person}-{job.k}-{Path(job.base).name}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(traceback.format_exc(), encoding="utf-8")
            told(job, f"{type(error).__name__}: {printable(error, 200)}; see {log}")
        else:
            told(job, None)


def run_elsewhere(jobs: Sequence[Job], where: Elsewhere, told: Told) -> None:
    """In processes of submitit's, so many at once; those under way are cancelled on Ctrl-C.

    Raises:
        InputError: submitit, or SLURM, is not here.
    """
    waiting = list(reversed(jobs))
    under_way: dict[Submitted[None], Job] = {}
    submit = _submitter(jobs[0].work / "jobs", where)
    try:
        while waiting or under_way:
            while waiting and len(under_way) < where.at_once:
                job = waiting.pop()
                under_way[submit(job)] = job
            time.sleep(POLL_S[where.cluster])
            for submitted in _ended(list(under_way), where.cluster):
                told(under_way.pop(submitted), _failure(submitted))
    finally:
        for submitted in under_way:
            submitted.cancel(check=False)


def _submitter(folder: Path, where: Elsewhere) -> "Callable[[Job], Submitted[None]]":
    try:
        import submitit
    except ImportError:
        raise InputError(
            f"--executor {where.cluster}: needs submitit: pip install submitit"
        ) from None
    if where.cluster == SLURM and shutil.which("sbatch") is None:
        raise InputError(
            "--executor slurm: there is no sbatch here; run it where jobs are submitted"
        )
    here = str(Path(__file__).parent)  # where a job finds this module
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *([before] if before else [])])
    executor = submitit.AutoExecutor(folder=folder, cluster=where.cluster)
    executor.update_parameters(
        name="accuracy",
        timeout_min=where.minutes,
        cpus_per_task=THREADS,
        slurm_additional_parameters=where.slurm,
    )
    return lambda job: executor.submit(run_job, job)


def _ended(under_way: "Sequence[Submitted[None]]", cluster: str) -> "list[Submitted[None]]":
    """The jobs that wrote their result, or are gone without one.

    SLURM is asked by squeue: many clusters keep no accounts, which submitit would ask.
    """
    queued = None if cluster == LOCAL else _queued()

    def gone(submitted: "Submitted[None]") -> bool:
        if cluster == LOCAL:
            return bool(submitted.done())
        return queued is not None and str(submitted.job_id) not in queued

    return [each for each in under_way if each.paths.result_pickle.exists() or gone(each)]


def _queued() -> set[str] | None:
    """The user's jobs that SLURM has not done with; None where it does not answer."""
    command = ["squeue", "--me", "--noheader", "--format=%A"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return set(found.stdout.split()) if found.returncode == 0 else None


def _failure(submitted: "Submitted[None]") -> str | None:
    """Why a job has failed, in a line; None where it has not."""
    where = f"see {submitted.paths.stderr}"
    for _ in range(LATE_POLLS):  # a file system of several machines shows a file late
        if submitted.paths.result_pickle.exists():
            error = submitted.exception()
            return None if error is None else f"{_last_line(str(error))}; {where}"
        time.sleep(POLL_S[LOCAL])
    return f"ended without a result; {where}"


def _last_line(said: str) -> str:
    """Of submitit's message, which holds a traceback between rules: what was raised."""
    _, *between = re.split(r"\n?-{10,}\n?", said)
    lines = (between[0] if between else said).strip().splitlines()
    return printable(lines[-1] if lines else "no message", 300)


def jobs_of(
    bases: Sequence[str], results: Sequence[Results], world: World, settings: Settings, work: Path
) -> Iterator[Job]:
    """What has still to be measured, a person's jobs together."""
    for person in world.names:
        for base, kept in zip(bases, results, strict=True):
            for k in kept.missing(person):
                yield Job(base, person, k, world, settings, work)
