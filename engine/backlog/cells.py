"""Cells: reading what a table holds, whatever type it was written as.

SQLite lets any column hold any type, and old backlogs make use of it.  A cell that cannot be read
as what it should be counts as absent, with a finding; it never ends an import.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from engine.backlog.findings import Findings
from engine.errors import UsageProblem
from engine.ids import checked_id

Cell = int | float | str | bytes | None

COUNT_MAX = 2**53
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_MAX = 10**11
_MILLISECONDS_MAX = 10**14
_TRUE = frozenset({"1", "true", "t", "yes", "y"})
_FALSE = frozenset({"0", "false", "f", "no", "n", ""})


class Row:
    """One row of a table: ``number`` is its place there, ``fields`` are named as we name them."""

    def __init__(
        self, table: str, number: int, fields: Mapping[str, Cell], findings: Findings
    ) -> None:
        self._table = table
        self.number = number
        self._fields = fields
        self._findings = findings

    def has(self, field: str) -> bool:
        """Whether the table has such a column at all."""
        return field in self._fields

    def cell(self, field: str) -> Cell:
        """What stands there; None also when there is no such column."""
        return self._fields.get(field)

    def text(self, field: str, bytes_max: int) -> str | None:
        """The text there, cut when its encoded form would be longer than ``bytes_max``."""
        text = text_of(self.cell(field))
        if text is None:
            return None
        short = clipped(text, bytes_max)
        if short is not text:
            self._note(field, f"longer than {bytes_max} bytes, cut", text)
        return short

    def count(self, field: str) -> int | None:
        """The whole number there, from 0 to 2**53."""
        cell = self.cell(field)
        number = whole_number(cell)
        if number is None and cell is not None:
            self._note(field, "not a count, left out", cell)
        return number

    def truth(self, field: str) -> bool | None:
        """The yes or no there."""
        cell = self.cell(field)
        truth = truth_of(cell)
        if truth is None and cell is not None:
            self._note(field, "neither true nor false, left out", cell)
        return truth

    def time_us(self, field: str) -> int | None:
        """The time there, in Unix microseconds."""
        cell = self.cell(field)
        time_us = time_us_of(cell)
        if time_us is None and cell is not None:
            self._note(field, "not a time, left out", cell)
        return time_us

    def id(self, field: str) -> str | None:
        """The id there, within the limits for ids; None, with a finding, for any other."""
        text = text_of(self.cell(field))
        if text is None:
            self._note(field, "missing, row skipped", f"row {self.number}")
            return None
        try:
            return checked_id(text, field)
        except UsageProblem:
            self._note(field, "not usable as an id, row skipped", text)
            return None

    def digest(self, fields: Sequence[str]) -> str:
        """Names this row by its number and what stands in ``fields``: 32 hex digits."""
        content = (self.number, *(self.cell(field) for field in fields))
        return hashlib.sha256(repr(content).encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def _note(self, field: str, what: str, example: object) -> None:
        self._findings.note(f"{self._table}.{field} is {what}", example)


def text_of(cell: Cell) -> str | None:
    """A cell as text; numbers in their shortest form, bytes as UTF-8 with replacements."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    return str(cell)


def whole_number(cell: Cell) -> int | None:
    """A cell as a number from 0 to 2**53, also when it was written as text or as a fraction."""
    try:
        if isinstance(cell, str | bytes):
            cell = int(cell)
        number = int(cell) if cell is not None and cell == int(cell) else -1
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number <= COUNT_MAX else None


def truth_of(cell: Cell) -> bool | None:
    """A cell as a boolean: 0 and 1, or the usual words."""
    if cell is None:
        return None
    word = str(text_of(cell)).strip().lower()
    if word in _TRUE:
        return True
    return False if word in _FALSE else None


def time_us_of(cell: Cell) -> int | None:
    """A cell as Unix microseconds.

    Text is ISO 8601 with a blank or a ``T`` in the middle, UTC unless it says otherwise; a number
    counts seconds, milliseconds or microseconds, by its size.  Times before 1970 are no times.
    """
    if isinstance(cell, int | float):
        return _time_us_of_number(cell)
    try:
        moment = datetime.fromisoformat(str(text_of(cell)).strip())
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        time_us = (aware - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return None
    return time_us if time_us >= 0 else None


def _time_us_of_number(number: float) -> int | None:
    if not 0 <= number <= COUNT_MAX:
        return None
    if number < _SECONDS_MAX:
        return int(number * 1_000_000)
    if number < _MILLISECONDS_MAX:
        return int(number * 1_000)
    return int(number)


def clipped(text: str, bytes_max: int) -> str:
    """``text`` itself, or a beginning of it whose JSON form has at most ``bytes_max`` bytes."""
    # No character takes more than six bytes in JSON, so most texts need no measuring.
    if 6 * len(text) + 2 <= bytes_max or len(msgspec.json.encode(text)) <= bytes_max:
        return text
    fits, too_long = 0, min(len(text), bytes_max)
    while fits + 1 < too_long:
        middle = (fits + too_long) // 2
        if len(msgspec.json.encode(text[:middle])) <= bytes_max:
            fits = middle
        else:
            too_long = middle
    return text[:fits]
