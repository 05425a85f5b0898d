"""What the database derives of the rows by itself, held against them, with plain SQL (S35).

Others go by these tables: which types the log holds, and which attempts are open.
"""

from __future__ import annotations

import sqlite3
from itertools import pairwise

from engine.audit.chain import Report

_TABLES = "SELECT name FROM sqlite_schema WHERE name IN ('event_shapes', 'open_attempts')"
_SHAPES = "SELECT type, schema, min(pos), max(pos) FROM events GROUP BY type, schema ORDER BY 1, 2"
_STORED = "SELECT type, schema, first_pos FROM event_shapes"
_OPEN = "SELECT attempt, run, phase, started_pos, closed_pos FROM open_attempts"
_DUE = """
SELECT began.attempt, began.run, began.phase, began.pos, ended.pos
  FROM events AS began LEFT JOIN events AS ended
    ON ended.attempt = began.attempt AND ended.type = 'attempt.finished'
 WHERE began.type = 'attempt.started'"""
_ODD_ATTEMPTS = (f"{_DUE} EXCEPT {_OPEN}", f"{_OPEN} EXCEPT {_DUE}")


def check_derived(connection: sqlite3.Connection, report: Report) -> None:
    """Report what either table has otherwise, and one that is not there as it was made."""
    for table, check in (("event_shapes", check_shapes), ("open_attempts", check_open_attempts)):
        try:
            check(connection, report)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
            report(f"S35: {table} cannot be asked: {error}", None)


def check_shapes(connection: sqlite3.Connection, report: Report) -> None:
    """Report types that are listed otherwise, and versions that go back.

    No program appends to a log that holds a newer version of a type, so none is followed by an
    older one.
    """
    found = connection.execute(_SHAPES).fetchall()
    for (kind, _, _, last), (other, schema, first, _) in pairwise(found):
        if kind == other and first < last:
            report(f"S35: a {kind} of an older version stands behind version {schema}", last)
    if "event_shapes" in _tables(connection):
        stored = set(connection.execute(_STORED))
        for kind, schema, first in stored ^ {row[:3] for row in found}:
            what = f"S35: event_shapes and the log differ in {kind} version {schema}"
            report(what, _position(first))


def check_open_attempts(connection: sqlite3.Connection, report: Report) -> None:
    """Report attempts that are listed otherwise than they started and ended."""
    if "open_attempts" not in _tables(connection):
        return  # a copy of a server's log
    for query in _ODD_ATTEMPTS:
        for row in connection.execute(query):
            report("S35: open_attempts and the log differ in an attempt", _position(row[3]))


def _position(stored: object) -> int | None:
    """``stored`` where it is a number: a table that was made anew may hold anything."""
    return stored if isinstance(stored, int) else None


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute(_TABLES)}
