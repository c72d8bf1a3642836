"""Which device torch computes on, how precisely, and how many things at once."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch

from custom_gaze.common.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


def pick_device(wanted: str, key: str) -> torch.device:
    """'auto' takes CUDA, then MPS, then the CPU.

    Raises:
        InputError: torch does not see the device that the parameter `key` asks for.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return torch.device(next(name for name in there if there[name]))
    if not there[wanted]:
        raise InputError(f"{key} is {wanted!r}, but torch sees none here; set it to auto")
    return torch.device(wanted)


def lower_precision(device: torch.device) -> AbstractContextManager[object]:
    """A context whose convolutions and matrix products run in bfloat16 where that is faster.

    That is on CUDA GPUs that have it. A CPU needs matrix units for it (AMX), and without them takes
    longer than in float32, so there, as on MPS, nothing changes.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """A context inside `lower_precision` that computes in float32 again.

    Where nothing lowers the precision it is none at all, so that exporters meet no trace of it.
    """
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


class SideBySide:
    """Threads that each do one thing at a time, in each of which torch has its share of threads.

    One crop does not fill several threads, which wait for one another in every layer: of two crops
    on a thread each, both are there before one is that has two threads. And what has one thread
    computes the same numbers however many cores there are.
    """

    def __init__(self, most: int = 16) -> None:
        """`most` at the same time, and no more than torch has threads here.

        Each of them has what a network makes of a crop in memory.
        """
        own = torch.get_num_threads()
        self.count = min(own, most)
        self._pool = ThreadPoolExecutor(self.count)
        if self.count > 1:
            begun, threads = threading.Barrier(self.count), max(1, own // self.count)

            def begin(_: int) -> None:
                torch.get_num_threads()  # a thread's first look takes over what others have set
                torch.set_num_threads(threads)
                begun.wait()  # so that each of them does this once

            list(self._pool.map(begin, range(self.count)))
            torch.set_num_threads(own)  # what threads that are started later take over

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`function` of each item, in their order; where there is one thread, in the caller's.

        Contexts of torch (inference mode, autocast) are a thread's own: `function` enters them
        itself.
        """
        if self.count == 1:
            yield from map(function, items)
            return
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(self._pool.submit(function, item))
                if len(waiting) > 2 * self.count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()
