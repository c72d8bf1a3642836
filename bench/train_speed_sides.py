"""The two sides of bench/train_speed.py, each in a process of its own, and how they take turns."""

import gc
import multiprocessing
import os
import resource
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from custom_gaze.calibration import trainer
from custom_gaze.calibration.starting_head import starting_network
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import of_split, read_index
from custom_gaze.data.splits import TRAIN, VALIDATION
from custom_gaze.evaluation.results import read_training_log
from custom_gaze.models.devices import pick_device
from custom_gaze.stages import train
from custom_gaze.weights.base import read_base
from speed_world import Peak, peak_mib, watched
from train_reference import OnTheFly, Reference

COSTS_SHOWN = 3
OUTSIDE = "outside of torch's operators: reading features, NumPy, Python"
LOADING = "making samples in the DataLoader: JPEG, augmentation, normalisation"


@dataclass(frozen=True)
class Job:
    """What a side is to do.

    Attributes:
        params: of the training.
        paths: of the project with index and base.
        threads: torch's; 0 leaves them as they are.
        workers: of the reference's DataLoader.
        profile: whether to take the first epoch apart; its seconds then mean nothing.
    """

    params: Params
    paths: Paths
    threads: int
    workers: int
    profile: bool = False


@dataclass
class Outcome:
    """What a side did. Seconds count from its start, its own turns alone.

    Attributes:
        total_s: of everything.
        epochs_s: each epoch's, from the first that trains.
        known_s: when each epoch's validation was known, epoch 0 first.
        losses: the validation's, degrees², in the same order.
        peak_mib: of the process.
        workers_mib: the largest peak among its DataLoader's workers, what they share included.
        imported_mib: resident before anything was done.
        watched: sampled while it worked.
        costs: the largest of the first epoch, name and share of its time.
        method: which candidate was exported.
    """

    total_s: float = 0.0
    epochs_s: list[float] = field(default_factory=list)
    known_s: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    peak_mib: float = 0.0
    workers_mib: float = 0.0
    imported_mib: float = 0.0
    watched: Peak = field(default_factory=Peak)
    costs: list[tuple[str, float]] = field(default_factory=list)
    method: str = ""


class Turns:
    """A clock that runs only while this side has its turn."""

    def __init__(self, other_end: Connection) -> None:
        self._other_end, self._worked_s = other_end, 0.0
        self._wait()

    def _wait(self) -> None:
        self._other_end.send(None)
        self._other_end.recv()
        self._since = time.perf_counter()

    def now_s(self) -> float:
        """Seconds worked."""
        return self._worked_s + time.perf_counter() - self._since

    def pass_on(self) -> None:
        """Let the other side work, and return when it is this side's turn again."""
        self._worked_s = self.now_s()
        self._wait()


def ours(job: Job, turns: Turns) -> Outcome:
    """`custom-gaze train` as it is; only its epochs are timed and wait for their turns.

    An epoch's validation counts as known when the next epoch begins or training is over.
    """
    outcome, begun_s = Outcome(), []
    original = trainer.Trainer.epoch

    def timed(self: trainer.Trainer, number: int) -> float:
        turns.pass_on()
        begun_s.append(turns.now_s())
        with _taken_apart(job.profile and number == 1, outcome):
            loss = original(self, number)
        if number > 0:
            outcome.epochs_s.append(turns.now_s() - begun_s[-1])
        return loss

    with mock.patch.object(trainer.Trainer, "epoch", timed):
        outcome.method = train.run(job.params, job.paths).method
    outcome.total_s = turns.now_s()
    outcome.known_s = [*begun_s[1:], outcome.total_s]
    outcome.losses = read_training_log(job.paths.training_log).validation_loss.tolist()
    return outcome


def reference(job: Job, turns: Turns) -> Outcome:
    """The plain reference on the same frames, from the base network's own head."""
    params, paths = replace(job.params.train, start="base"), job.paths
    device = pick_device(params.device, "--device")
    samples = read_index(paths.index)
    made = of_split(samples, TRAIN), of_split(samples, VALIDATION)
    torch.manual_seed(params.seed)
    network = starting_network(read_base(paths.base), params, made[0], paths).to(device)
    augment = job.params.augment
    augmented, plain = (
        OnTheFly(some, paths, each, params.seed)
        for some, each in zip(made, (augment, replace(augment, samples=0)), strict=True)
    )
    side = Reference(network, augmented, plain, params, 0 if job.profile else job.workers)
    outcome = Outcome(losses=[side.validate()], known_s=[turns.now_s()])
    for number in range(1, params.epochs + 1):
        if len(outcome.losses) - 1 - outcome.losses.index(min(outcome.losses)) >= params.patience:
            break
        turns.pass_on()
        begun_s = turns.now_s()
        with _taken_apart(job.profile and number == 1, outcome):
            side.epoch()
        outcome.epochs_s.append(turns.now_s() - begun_s)
        outcome.losses.append(side.validate())
        outcome.known_s.append(turns.now_s())
    outcome.total_s = turns.now_s()
    del side
    gc.collect()  # ends the workers, whose memory is known only then
    outcome.workers_mib = peak_mib(resource.RUSAGE_CHILDREN)
    return outcome


def whole(job: Job, turns: Turns) -> Outcome:
    """`custom-gaze train` without a pause."""
    method = train.run(job.params, job.paths).method
    return Outcome(total_s=turns.now_s(), method=method)


Side = Callable[[Job, Turns], Outcome]


@contextmanager
def _taken_apart(wanted: bool, outcome: Outcome) -> Iterator[None]:
    """Profile the block and keep its largest costs."""
    if not wanted:
        yield
        return
    kinds = [ProfilerActivity.CPU]
    cuda = torch.cuda.is_available()
    if cuda:
        kinds.append(ProfilerActivity.CUDA)
    with profile(activities=kinds) as profiler, record_function(OUTSIDE):
        yield
    spent = {
        LOADING if "DataLoader" in entry.key else entry.key: (
            entry.self_device_time_total if cuda else entry.self_cpu_time_total
        )
        for entry in profiler.key_averages()
    }
    whole_time = sum(spent.values())
    largest = sorted(spent, key=lambda name: -spent[name])[:COSTS_SHOWN]
    outcome.costs = [(name, spent[name] / whole_time) for name in largest]


def run_side(side: Side, job: Job, other_end: Connection) -> None:
    """A child process's whole life."""
    os.environ["DVC_ROOT"] = str(job.paths.root)  # what an interrupted training leaves lies there
    if job.threads:
        torch.set_num_threads(job.threads)
    imported_mib = peak_mib()
    turns = Turns(other_end)
    answer: Outcome | CustomGazeError
    try:
        with watched() as peak:
            answer = side(job, turns)
        answer.watched, answer.imported_mib, answer.peak_mib = peak, imported_mib, peak_mib()
    except CustomGazeError as error:
        answer = error
    other_end.send(answer)


def taking_turns(sides: Mapping[str, tuple[Side, Job]]) -> dict[str, Outcome]:
    """Run each side in a process of its own, an epoch of the one after an epoch of the other.

    Raises:
        CustomGazeError: a side failed.
    """
    context = multiprocessing.get_context("spawn")
    ends: dict[str, Connection] = {}
    processes = []
    outcomes: dict[str, Outcome] = {}
    try:
        for name, (side, job) in sides.items():
            ends[name], other_end = context.Pipe()
            process = context.Process(target=run_side, args=(side, job, other_end))
            process.start()
            other_end.close()
            processes.append(process)
        for name in ends:
            _answer(name, ends[name])  # it has imported what it needs
        waiting = deque(ends)
        while waiting:
            name = waiting.popleft()
            ends[name].send(None)
            answer = _answer(name, ends[name])
            if answer is None:
                waiting.append(name)
            else:
                outcomes[name] = answer
    finally:
        for process in processes:
            if len(outcomes) < len(sides):
                process.terminate()
            process.join()
    return outcomes


def _answer(name: str, end: Connection) -> Any:
    try:
        answer = end.recv()
    except EOFError:
        raise CustomGazeError(f"the process of {name} ended without an answer") from None
    if isinstance(answer, CustomGazeError):
        raise answer
    return answer
