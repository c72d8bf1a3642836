"""What takes long says so, on standard error: a bar after two seconds, a remark before a wait."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

from custom_gaze.common.untrusted import printable

Item = TypeVar("Item")


def remark(line: str) -> None:
    """Say at once why nothing seems to happen."""
    print(printable(line), file=sys.stderr, flush=True)


def bar(
    items: Iterable[Item],
    what: str,
    total: int | None = None,
    unit: str = "frames",
    done: int = 0,
) -> "tqdm[Item]":
    """Iterate over `items`; after two seconds a bar appears, beginning at `done`.

    `set_postfix_str(text, False)` adds figures that appear with the next redrawing.

    Where nobody watches (a log file, another machine), it prints a line now and then instead of
    redrawing itself ten times a second.
    """
    return tqdm(
        items,
        desc=printable(what, 60),
        total=total,
        initial=done,
        unit=f" {unit}",
        delay=2.0,
        mininterval=0.2 if sys.stderr.isatty() else 5.0,
        dynamic_ncols=True,
        file=sys.stderr,
        leave=True,
    )
