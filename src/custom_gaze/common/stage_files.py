"""Tables and JSON that one stage leaves for the next, read as what any hand may have changed since.

Each such file has one reader that checks all of it before anything is done with any of it, and
says in one line which file, which line or key, and what to do. Half a table is no shorter table:
ours end with a line's end, and one that does not was cut.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import MOST_TABLE_BYTES, printable, read_text

CHECKED = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
MOST_CELL = 1000  # characters; ours have 64 at most
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")  # no NaN, no infinity
WHOLE = re.compile(r"[0-9]{1,9}")
SHA256 = re.compile(r"[0-9a-f]{64}")
# A file in its folder: no way out of it. It may be a link, as DVC can be set to make them into its
# cache; what is in it is held to its hash.
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Row:
    """One line of a table; `cells` by column."""

    path: Path
    line: int
    cells: dict[str, str]
    remedy: str

    def number(self, column: str, low: float, high: float) -> float:
        """The number in a column, low … high.

        Raises:
            InputError: it is none, or out of range.
        """
        cell = self.cells[column]
        value = float(cell) if NUMBER.fullmatch(cell) else float("nan")
        if not low <= value <= high:
            raise self.refused(column, f"a number from {low:g} to {high:g}")
        return value

    def whole(self, column: str, high: int) -> int:
        """The whole number in a column, 0 … high.

        Raises:
            InputError: it is none, or out of range.
        """
        cell = self.cells[column]
        if not WHOLE.fullmatch(cell) or int(cell) > high:
            raise self.refused(column, f"a whole number from 0 to {high}")
        return int(cell)

    def word(self, column: str, allowed: re.Pattern[str] | Sequence[str], what: str) -> str:
        """The word in a column, where `allowed` has it.

        Raises:
            InputError: it is none that is allowed; `what` says which are.
        """
        cell = self.cells[column]
        fits = allowed.fullmatch(cell) if isinstance(allowed, re.Pattern) else cell in allowed
        if not fits:
            raise self.refused(column, what)
        return cell

    def refused(self, column: str, wanted: str) -> InputError:
        """The error that says what a column has and what it must have."""
        has = printable(repr(self.cells[column]), 60)
        return self.error(f"{column} is {has}, but must be {wanted}")

    def error(self, reason: str) -> InputError:
        """The error for this line."""
        return InputError(f"{self.path}: line {self.line}: {reason}; {self.remedy}")


def read_table(path: Path, header: Sequence[str], remedy: str) -> list[Row]:
    """The lines of a CSV file of ours behind its header, each with as many cells.

    Raises:
        InputError: it is missing, no regular file, no UTF-8, too large, cut in the middle of a
            line, has another header or no line behind it, or a line of it has too few or too many
            cells, a NUL or another control character.
    """
    text = read_text(path, MOST_TABLE_BYTES, remedy)
    lines = _lines(text, path, remedy)
    number, found = next(lines, (1, []))
    if found != list(header):
        has = printable(",".join(found), 80) or "nothing"
        raise InputError(f"{path}: line 1: its header is {has}, not {','.join(header)}; {remedy}")
    rows = []
    for number, cells in lines:
        if len(cells) != len(header):
            raise InputError(
                f"{path}: line {number}: has {len(cells)} cells, not {len(header)}; {remedy}"
            )
        rows.append(Row(path, number, dict(zip(header, cells, strict=True)), remedy))
    if not text.endswith("\n"):
        raise InputError(f"{path}: line {number}: is cut off, and what follows it; {remedy}")
    if not rows:
        raise InputError(f"{path}: has no line behind its header; {remedy}")
    return rows


def _lines(text: str, path: Path, remedy: str) -> Iterator[tuple[int, list[str]]]:
    """Each line's number, counted from 1, and its cells."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # an open quote, a NUL, a cell of more than 128 KiB
            where = f"{path}: line {reader.line_num or 1}"
            raise InputError(f"{where}: no line of a table ({error}); {remedy}") from None
        for cell in cells:
            if len(cell) > MOST_CELL or not cell.isprintable():
                what = "too long" if len(cell) > MOST_CELL else "no plain text"
                shown = printable(repr(cell), 60)
                where = f"{path}: line {reader.line_num}"
                raise InputError(f"{where}: the cell {shown} is {what}; {remedy}")
        yield reader.line_num, cells


class Strict(BaseModel):
    """A schema: every key is there and none besides; numbers are finite, and no strings."""

    model_config = CHECKED


Model = TypeVar("Model", bound=BaseModel)


def read_json(path: Path, schema: type[Model], remedy: str) -> Model:
    """A JSON file of ours as its schema has it.

    Raises:
        InputError: it is missing, no regular file, no UTF-8, too large, no JSON, or lacks a key,
            has one too many or a value out of range; the message names the first.
    """
    return model_of(read_text(path, advice=remedy), schema, path, remedy)


def model_of(text: str, schema: type[Model], path: Path, remedy: str) -> Model:
    """What the JSON `text` says, as its schema has it; `path` is where it comes from.

    Raises:
        InputError: as `read_json`.
    """
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = printable(".".join(str(part) for part in first["loc"]), 80)
        reason = printable(first["msg"], 160)
        raise InputError(f"{path}: {f'{key}: ' if key else ''}{reason}; {remedy}") from None
