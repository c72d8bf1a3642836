"""Tables: the training log in, aligned text out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.stage_files import read_table

# reports/training.csv. Errors and losses are of epochs, so the first is the start, number 0.
LOG_COLUMNS = ("epoch", "train_loss", "validation_loss", "validation_error_deg", "exported")
MOST_LOSS = 1e30  # degrees²; a training may go far astray before it is stopped


def read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """reports/training.csv, checked whole, as one float64 array (epochs,) a column.

    Raises:
        InputError: it is missing, or not what `train` writes; the message names the line.
    """
    rows = read_table(path, LOG_COLUMNS, "run `dvc repro -f train`, or `custom-gaze train`")
    for number, row in enumerate(rows):
        if row.whole("epoch", 10**6) != number:
            raise row.refused("epoch", str(number))
        row.whole("exported", 1)
    values = {name: [row.number(name, 0.0, MOST_LOSS) for row in rows] for name in LOG_COLUMNS}
    if sum(values["exported"]) > 1:
        raise rows[-1].error("exported is 1 in more than one epoch")
    return {name: np.array(column) for name, column in values.items()}


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text: the first column to the left, the others to the right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(header), rule, *(line(row) for row in rows)])
