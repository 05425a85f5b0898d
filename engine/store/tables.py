"""Whether the tables of a log in a file are tables at all, and hold each column to its type.

A view may go on without end, and a loose table holds text where numbers are read.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.errors import LogUnreadable

TABLES = """
SELECT name, type, strict FROM pragma_table_list WHERE schema = 'main'
   AND (name IN ('migrations', 'events', 'event_shapes', 'open_attempts', 'projections')
        OR name GLOB 'projection_*')"""


def refuse_odd(tables: Iterable[tuple[str, str, int]], *, is_copy: bool = False) -> None:
    """Raise LogUnreadable for one of ``TABLES`` that no migration can have made.

    ``is_copy``: of the rows alone, in tables that take any type.
    """
    for name, kind, is_strict in tables:
        if kind != "table" or not (is_strict or is_copy):
            what = f"a {kind}" if kind != "table" else "a table that takes any type"
            raise LogUnreadable(
                f"the database cannot be read: {name} is {what}, which no migration made.",
                remedy="restore it from a backup; `runoff verify` names what else is altered.",
            )
