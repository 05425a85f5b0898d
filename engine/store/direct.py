"""A reader for one quick question: the standard library's connection, on this thread.

SQLAlchemy and a thread cost more than most questions do.  All of it reads from one snapshot, so a
writer that goes on meanwhile makes no stored row look wrong.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from engine.errors import LogUnreadable, StorageFailed
from engine.store.database import READER_PRAGMAS, check_file, lock_wait
from engine.store.in_flight import may_be_in_flight
from engine.store.location import Location
from engine.store.protocol import T
from engine.store.sqlite import SqliteReader, read_rows
from engine.store.sqlite_errors import translated
from engine.store.tables import TABLES, refuse_odd


class DirectReader(SqliteReader):
    """Reads a log with blocking calls; made by ``open_direct``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def execute(self, sql: str, *parameters: Any) -> list[Any]:
        """Run one statement; its rows."""
        with translated():
            return self._connection.execute(sql, parameters).fetchall()

    async def read_projection(
        self, name: str, version: int, by: Callable[[Iterable[tuple[str, str]]], T]
    ) -> T:
        """What ``by`` makes of all rows of a stored projection, which come in key order."""
        with translated():
            return read_rows(self._connection, name, version, by)

    async def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def open_direct(location: Location) -> DirectReader:
    """A reader on one snapshot of the log; changes no byte of the database.

    Raises WrongDatabase for a missing, foreign or empty file, LogUnreadable for a damaged one.
    """
    check_file(location)
    uri = f"file:{quote(str(location.path))}?mode=ro"
    try:
        return DirectReader(_connected(uri))
    except StorageFailed:
        if may_be_in_flight(location.path):
            raise
        return DirectReader(_connected(f"{uri}&immutable=1"))


def _connected(uri: str) -> sqlite3.Connection:
    with translated():
        connection = sqlite3.connect(uri, uri=True, isolation_level=None)
        try:
            for statement in (
                lock_wait(),
                *READER_PRAGMAS,
                "BEGIN",
            ):
                connection.execute(statement)
            refuse_odd(connection.execute(TABLES))
        except (sqlite3.Error, LogUnreadable):
            connection.close()
            raise
    return connection
