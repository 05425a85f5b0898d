"""A connection for audits: the standard library's, read-only, on media of any kind."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from engine.store.in_flight import may_be_in_flight
from engine.store.tables import TABLES, refuse_odd


def connect(path: Path) -> sqlite3.Connection:
    """Open the database at ``path`` so that no byte of it can change.

    Raises LogUnreadable where a view stands in the place of a table.
    """
    connection = sqlite3.connect(reachable(path), uri=True, isolation_level=None)
    try:
        refuse_odd(connection.execute(TABLES), is_copy=True)
    except BaseException:
        connection.close()
        raise
    return connection


def reachable(path: Path) -> str:
    """The URI by which the database at ``path`` can be read."""
    uri = f"file:{quote(str(path))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError:
        if may_be_in_flight(path):
            raise
        return f"{uri}&immutable=1"
    return uri


def last_pos(connection: sqlite3.Connection) -> int:
    """The last position of the log, 0 where none can be told, such as behind a damaged end."""
    try:
        (pos,) = connection.execute("SELECT max(pos) FROM events").fetchone()
    except sqlite3.Error:
        return 0  # whoever reads up to there meets it, and says where
    return pos if isinstance(pos, int) else 0
