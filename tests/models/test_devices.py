"""Several things at once, each on its share of torch's threads."""

import threading
from collections.abc import Callable

import pytest
import torch

from custom_gaze.models.devices import SideBySide


@pytest.mark.parametrize(("own", "most", "count", "threads"), [(2, 16, 2, 1), (5, 2, 2, 2)])
def test_so_many_at_once_in_order_with_their_share_of_threads(
    torch_threads: Callable[[int], None], own: int, most: int, count: int, threads: int
) -> None:
    torch_threads(own)
    together = SideBySide(most)
    assert together.count == count
    met = threading.Barrier(count)

    def one(number: int) -> tuple[int, int, int]:
        met.wait(timeout=60)  # none comes past it alone
        return number, torch.get_num_threads(), threading.get_ident()

    numbers, shares, where = zip(*together.map(one, range(4 * count)), strict=True)
    assert numbers == (*range(4 * count),)
    assert set(shares) == {threads}
    assert len(set(where)) == count
    assert threading.get_ident() not in where
    assert torch.get_num_threads() == own
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [own]


def test_with_one_thread_it_is_a_plain_map(torch_threads: Callable[[int], None]) -> None:
    torch_threads(1)
    where = SideBySide().map(lambda _: threading.get_ident(), range(3))
    assert set(where) == {threading.get_ident()}


def test_a_failure_comes_out_and_what_has_not_begun_is_not_begun(
    torch_threads: Callable[[int], None],
) -> None:
    torch_threads(2)
    begun: list[int] = []
    going = threading.Event()

    def one(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise ValueError("the first")
        going.wait(timeout=60)

    together = SideBySide()
    with pytest.raises(ValueError, match="the first"):
        list(together.map(one, range(100)))
    going.set()
    together._pool.shutdown(wait=True)
    assert len(begun) <= 3
