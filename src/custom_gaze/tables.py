"""Tables: numeric CSV files in, aligned text out."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from custom_gaze.errors import InputError


def read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """A CSV file of numbers as one float64 array (rows,) a column.

    Raises:
        InputError: it is missing, empty or holds something else.
    """
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        values = np.array([[float(cell) for cell in row] for row in rows[1:]])
        return dict(zip(rows[0], values.T, strict=True))
    except OSError:
        raise InputError(f"{path}: not found; run `dvc repro`") from None
    except (ValueError, IndexError):
        raise InputError(f"{path}: no table of numbers; run `dvc repro -f`") from None


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
