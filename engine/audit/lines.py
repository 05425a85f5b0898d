"""Lines: what rules and folds can see of a log, command by command."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from engine.audit.connection import last_pos
from engine.events import AnyEvent, decode_page
from engine.pace import Pace

PAGE_ROWS = 2000
UNSEEN = (
    "usage.recorded",
    "usage.rejected",
    "usage.estimate_imported",
    "attempt.spawned",
    "attempt.adopted",
    "engine.started",
    "backlog.tier_registered",
    "backlog.import_finished",
    "session.coefficients_in_force",
    "attempt.estimated",
    "calibration.proposed",
    "calibration.drift_alarmed",
    "calibration.coefficients_adopted",
    "daemon.configured",
    "daemon.paused",
    "daemon.resumed",
)
"""Types that no rule and no fold reads."""

_PLACES = ", ".join("?" * len(UNSEEN))
_LINES = f"""
SELECT pos, recorded_us, type, schema, data, command_id, cause
  FROM events WHERE type NOT IN ({_PLACES}) AND pos <= ? ORDER BY pos"""  # noqa: S608  fixed
_SAID = """
SELECT pos, recorded_us, type, schema, data FROM events
 WHERE attempt = ? AND pos < ? AND (type = 'attempt.finished' OR type GLOB 'diagnosis.*')
 ORDER BY pos"""
_END = 2**63 - 1


class Line(NamedTuple):
    """What is read of a row of the log."""

    pos: int
    recorded_us: int
    command_id: str
    cause: int | None
    data: str
    event: AnyEvent


def read_lines(
    connection: sqlite3.Connection, until: int | None = None, pace: Pace | None = None
) -> Iterator[Line]:
    """The lines of a log up to position ``until``; ``pace`` is told how far they are read.

    Raises UnknownEvent at what this program does not know.
    """
    end = last_pos(connection) if until is None else until
    cursor = connection.execute(_LINES, (*UNSEEN, _END if until is None else until))
    while rows := cursor.fetchmany(PAGE_ROWS):
        if pace is not None:
            pace(rows[0][0], end)
        events = decode_page([row[:5] for row in rows])
        for row, event in zip(rows, events, strict=True):
            yield Line(row[0], row[1], row[5], row[6], row[4], event)


def said_of(connection: sqlite3.Connection, attempt_id: str, before: int) -> list[AnyEvent]:
    """The end of an attempt, and every diagnosis of it, before position ``before``, in order."""
    rows = connection.execute(_SAID, (attempt_id, before)).fetchall()
    return decode_page([row[:5] for row in rows])


def commands(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Lines in groups of one command each."""
    group: list[Line] = []
    for line in lines:
        if group and group[0].command_id != line.command_id:
            yield group
            group = []
        group.append(line)
    if group:
        yield group
