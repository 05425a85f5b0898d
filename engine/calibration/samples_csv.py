"""Samples as a table of comma-separated values, in and out.

Wanted columns: category, complexity, predicted, actual, success, truncated.  Taken if they are
there: run_id, phase_id, timestamp, selected_budget, deliverables, coefficient_version.  Others are
ignored.  Rows are in the order of events.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from engine.calibration.samples import Sample
from engine.errors import UsageProblem
from engine.iso_time import iso, unix_us

ROWS_MAX = 1_000_000
WANTED = ("category", "complexity", "predicted", "actual", "success", "truncated")
VERSION_COLUMN = "coefficient_version"
OPTIONAL = (
    "run_id",
    "phase_id",
    "timestamp",
    "selected_budget",
    "deliverables",
    VERSION_COLUMN,
)
COLUMNS = ("run_id", "phase_id", *WANTED, "timestamp", "selected_budget", "deliverables")
SHOWN_CHARS = 40

_TRUTHS: Mapping[str, bool] = {
    **dict.fromkeys(("true", "True", "1", "1.0", "yes", "t"), True),
    **dict.fromkeys(("false", "False", "0", "0.0", "no", "f", "", "none", "null"), False),
}
_NONE = frozenset({"", "none", "null", "na", "n/a"})


class _Unread(ValueError):
    """A cell that does not say what its column should."""


def samples_from_csv(text: str, origin: str, version_column: str | None = None) -> list[Sample]:
    """The samples in ``text``, each at the number of its row.

    ``version_column`` names the column with the coefficients' version.  Raises UsageProblem, with
    ``origin`` and the line, for a missing column, a cell that cannot be read, and too many rows.
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        columns = _columns(next(reader, list[str]()), origin, version_column)
        return [_sample(row, pos, columns) for pos, row in _rows(reader, origin)]
    except _Unread as error:
        raise _problem(f"{origin}, line {reader.line_num}: {error}.") from None
    except csv.Error as error:
        raise _problem(f"{origin}, line {reader.line_num}: it is not CSV ({error}).") from None


def _problem(problem: str) -> UsageProblem:
    return UsageProblem(
        problem, remedy="see the columns in docs/reference/calibration.md; nothing was read."
    )


class _Columns(NamedTuple):
    """Where each column is; -1 for one that there is not."""

    width: int
    category: int
    complexity: int
    predicted: int
    actual: int
    success: int
    truncated: int
    run_id: int
    phase_id: int
    timestamp: int
    selected_budget: int
    deliverables: int
    coefficient_version: int


def _columns(header: Sequence[str], origin: str, version_column: str | None) -> _Columns:
    names = [name.strip() for name in header]
    missing = [name for name in WANTED if name not in names]
    if version_column is not None and version_column not in names:
        missing.append(version_column)
    if missing:
        raise _problem(f"{origin} has no column {', '.join(missing)[:200]}.")
    twice = next((name for name in (*WANTED, *OPTIONAL) if names.count(name) > 1), None)
    if twice is not None:
        raise _problem(f"{origin} has the column {twice} twice.")
    places = {name: names.index(name) if name in names else -1 for name in (*WANTED, *OPTIONAL)}
    if version_column is not None:
        places[VERSION_COLUMN] = names.index(version_column)
    return _Columns(width=len(names), **places)


def _rows(reader: Iterator[list[str]], origin: str) -> Iterator[tuple[int, list[str]]]:
    pos = 0
    for row in reader:
        if not row:
            continue
        pos += 1
        if pos > ROWS_MAX:
            raise UsageProblem(
                f"{origin} has more than {ROWS_MAX} rows.", remedy="calibrate from fewer."
            )
        yield pos, row


def _sample(row: list[str], pos: int, columns: _Columns) -> Sample:
    if len(row) != columns.width:
        raise _Unread(f"it has {len(row)} cells where the header has {columns.width}")
    row.append("")  # so that a column that there is not, which stands at -1, says nothing
    deliverables = _number(row[columns.deliverables], "deliverables")
    return Sample(
        pos,
        row[columns.run_id],
        row[columns.phase_id],
        row[columns.category] or None,
        row[columns.complexity] or None,
        _number(row[columns.predicted], "predicted"),
        _number(row[columns.actual], "actual"),
        _truth(row[columns.success], "success"),
        _truth(row[columns.truncated], "truncated"),
        row[columns.coefficient_version],
        _time_us(row[columns.timestamp]),
        _number(row[columns.selected_budget], "selected_budget"),
        int(deliverables) if deliverables is not None and 0 <= deliverables < ROWS_MAX else None,
    )


def _number(text: str, name: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        stripped = text.strip()
        if stripped.lower() in _NONE:
            return None
        raise _Unread(f"{name} is {stripped[:SHOWN_CHARS]!a}, which is no number") from None


def _truth(text: str, name: str) -> bool:
    found = _TRUTHS.get(text)  # as it stands, which costs less than to fold every cell
    if found is None:
        found = _TRUTHS.get(text.strip().lower())
    if found is None:
        raise _Unread(f"{name} is {text[:SHOWN_CHARS]!a}, neither true nor false")
    return found


def _time_us(text: str) -> int | None:
    """When, if it says so in a way that can be read; a time is for the eye and for --since."""
    if not text:
        return None
    try:
        return unix_us(text)
    except ValueError:
        return None


def csv_from_samples(samples: Sequence[Sample]) -> Iterator[str]:
    """The table, line by line, header first.

    Read again, it gives the same samples, each at the number of its row and without its alias.
    """
    write = _line_writer()
    yield write((*COLUMNS, VERSION_COLUMN))
    for each in samples:
        yield write(
            (
                each.run_id,
                each.phase_id,
                each.category,
                each.complexity,
                each.estimated,
                each.actual,
                each.success,
                each.truncated,
                None if each.at_us is None else iso(each.at_us),
                each.budget,
                each.deliverables,
                each.version,
            )
        )


def _line_writer() -> Callable[[Sequence[object]], str]:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")

    def write(cells: Sequence[object]) -> str:
        out.seek(0)
        out.truncate()
        writer.writerow(["" if cell is None else cell for cell in cells])
        return out.getvalue()

    return write
