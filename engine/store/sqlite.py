"""The log in SQLite: WAL, every acknowledged commit on disk, one writing connection.

SQLAlchemy migrates the schema; everything else talks to aiosqlite's connection itself, because
importing SQLAlchemy costs half of what an engine needs to be ready again, and each statement
through it four thread hops where one is enough (docs/adr/0004).
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from engine.errors import ServerLost
from engine.events import COLUMNS, GENESIS, Head, Record
from engine.store.protocol import (
    PAGE_ROWS,
    FoldRow,
    Found,
    Kept,
    Prior,
    Query,
    Shape,
    StoredProjection,
)
from engine.store.sqlite_errors import overtaken, translated
from projections.fold import Checkpoint

if TYPE_CHECKING:
    from engine.store.hops import HopConnection
    from engine.store.same_files import SameFiles

_SELECT = f"SELECT {', '.join(COLUMNS)} FROM events"  # noqa: S608  fixed names
_INSERT = (
    f"INSERT INTO events ({', '.join(COLUMNS)})"  # noqa: S608  fixed names
    f" VALUES ({', '.join('?' * len(COLUMNS))})"
)
_FOLD = "SELECT pos, recorded_us, type, schema, data FROM events WHERE pos > ? AND pos <= ?"
_NAMES_PER_QUERY = 500
_PRIOR = "SELECT command_id, min(request), min(pos), max(pos) FROM events WHERE command_id"
_VERSIONS = "SELECT stream, max(version) FROM events WHERE stream"


class SqliteReader(ABC):
    """Reading a log in one SQLite file, whatever runs the statements."""

    @abstractmethod
    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        """Run one statement; its rows."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the file."""

    async def head(self) -> Head:
        """The end of the log."""
        rows = await self.execute("SELECT pos, hash FROM events ORDER BY pos DESC LIMIT 1")
        return Head(*rows[0]) if rows else Head(0, GENESIS)

    async def last_epoch(self) -> int:
        """The epoch of the last event, 0 when there is none."""
        rows = await self.execute("SELECT epoch FROM events ORDER BY pos DESC LIMIT 1")
        return int(rows[0][0]) if rows else 0

    async def records(self, query: Query, after: int = 0, limit: int = PAGE_ROWS) -> list[Record]:
        """The next records beyond position ``after``."""
        where, parameters = _conditions(query, after)
        order = "DESC" if query.newest_first else "ASC"
        sql = f"{_SELECT} WHERE {where} ORDER BY pos {order} LIMIT ?"
        return [Record(*row) for row in await self.execute(sql, (*parameters, limit))]

    async def fold_rows(
        self, after: int, until: int, types: frozenset[str] | None = None
    ) -> list[FoldRow]:
        """The next page of rows in ``after`` < pos <= ``until``."""
        parameters: list[int | str] = [after, until]
        if types is None:
            sql = f"{_FOLD} ORDER BY pos LIMIT {PAGE_ROWS}"
        else:
            marks = ",".join("?" * len(types))
            sql = f"{_FOLD} AND +type IN ({marks}) ORDER BY pos LIMIT {PAGE_ROWS}"
            parameters += sorted(types)
        return await self.execute(sql, parameters)

    async def hash_at(self, pos: int) -> bytes | None:
        """The chain hash at ``pos``."""
        rows = await self.execute("SELECT hash FROM events WHERE pos = ?", (pos,))
        return rows[0][0] if rows else None

    async def shapes(self) -> list[Shape]:
        """Every type and version of event in the log, with the position of its first."""
        table = "SELECT 1 FROM sqlite_schema WHERE name = 'event_shapes'"
        if await self.execute(table):
            rows = await self.execute("SELECT type, schema, first_pos FROM event_shapes")
        else:  # a reader of a log that no writer of today's schema has opened yet
            rows = await self.execute(
                "SELECT type, schema, min(pos) FROM events GROUP BY type, schema"
            )
        return [Shape(*row) for row in rows]

    async def projections(self) -> list[StoredProjection]:
        """Every stored projection version and its checkpoint."""
        rows = await self.execute(
            "SELECT name, version, pos, hash, digest FROM projections ORDER BY name, version"
        )
        return [StoredProjection(r[0], r[1], Checkpoint(r[2], r[3], r[4])) for r in rows]

    async def projection_rows(self, name: str, version: int) -> list[tuple[str, str]]:
        """All rows of a stored projection, in key order."""
        table = _table(name, version)
        rows = await self.execute(f"SELECT key, data FROM {table} ORDER BY key")  # noqa: S608
        return [(key, data) for key, data in rows]

    async def projection_row(self, name: str, version: int, key: str) -> str | None:
        """One row of a stored projection, or None."""
        table = _table(name, version)
        if not await self.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)):
            return None
        sql = f"SELECT data FROM {table} WHERE key = ?"  # noqa: S608
        rows = await self.execute(sql, (key,))
        return rows[0][0] if rows else None


class SqliteStore(SqliteReader):
    """An event store in one SQLite file; made by ``engine.store.database``."""

    is_shared = False

    def __init__(self, driver: HopConnection, files: SameFiles | None = None) -> None:
        self._driver = driver
        self._files = files
        self._tables: set[str] = set()

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        """Run one statement in one thread hop; its rows."""
        with translated():
            return list(await self._driver.execute_fetchall(sql, parameters))

    async def drop_projection(self, name: str, version: int) -> None:
        """Forget a projection; its rows can always be rebuilt."""
        table = _table(name, version)
        self._tables.discard(table)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"DROP TABLE IF EXISTS {table}")
            connection.execute(
                "DELETE FROM projections WHERE name = ? AND version = ?", (name, version)
            )
            connection.execute("COMMIT")

        with translated():
            await self._driver.hop(work)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[SqliteTransaction, None]:
        """Begin at the first look or at the end, append and commit at the end of the block."""
        transaction = SqliteTransaction(self._driver, self._tables, self._files)
        try:
            yield transaction
            await transaction.commit()
        except BaseException:
            self._tables.clear()
            await transaction.roll_back()
            raise

    async def until_back(self) -> None:
        """There is no server."""
        raise ServerLost("there is no server.", remedy="report this.")

    async def close(self) -> None:
        """Close connection and thread; an open aiosqlite thread would hang the interpreter."""
        await self._driver.close()


class SqliteTransaction:
    """One atomic append to a SqliteStore, in two hops to the connection's thread."""

    def __init__(
        self, driver: HopConnection, tables: set[str], files: SameFiles | None = None
    ) -> None:
        self._driver = driver
        self._tables = tables
        self._files = files
        self._appended: list[tuple[Sequence[Record], Sequence[Kept]]] = []

    async def look(self, command_ids: Sequence[str], streams: Sequence[str]) -> Found:
        """Those of ``command_ids`` that the log holds, and the last version of each stream."""

        def work(connection: sqlite3.Connection) -> Found:
            _begin(connection)
            prior = _by_name(connection, _PRIOR, command_ids)
            versions = _by_name(connection, _VERSIONS, streams)
            found = {row[0]: row[1] for row in versions}
            return Found(
                {row[0]: Prior(*row[1:]) for row in prior}, dict.fromkeys(streams, 0) | found
            )

        with translated():
            return await self._driver.hop(work)

    async def append(self, records: Sequence[Record], kept: Sequence[Kept] = ()) -> None:
        """Add rows that continue the log, and rows of projections, at the end of the block."""
        self._appended.append((records, kept))

    async def commit(self) -> None:
        """Write what was appended, and commit to the file that bears the log's name."""

        def work(connection: sqlite3.Connection) -> None:
            _begin(connection)
            for records, kept in self._appended:
                _insert(connection, records)
                self._keep(connection, kept)
            connection.execute("COMMIT")
            if self._files is not None:
                self._files.check()

        with translated():
            await self._driver.hop(work)

    async def roll_back(self) -> None:
        """Forget everything."""

        def work(connection: sqlite3.Connection) -> None:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

        with translated():
            await self._driver.hop(work)

    def _keep(self, connection: sqlite3.Connection, projections: Sequence[Kept]) -> None:
        for kept in projections:
            table = _table(kept.name, kept.version)
            if table not in self._tables:
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {table}"
                    " (key TEXT PRIMARY KEY, data TEXT NOT NULL) STRICT, WITHOUT ROWID"
                )
                self._tables.add(table)
            if kept.is_whole:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608
            connection.executemany(
                f"INSERT INTO {table} (key, data) VALUES (?, ?)"  # noqa: S608
                " ON CONFLICT (key) DO UPDATE SET data = excluded.data",
                kept.changes,
            )
        connection.executemany(
            "INSERT OR REPLACE INTO projections VALUES (?, ?, ?, ?, ?)",
            [(kept.name, kept.version, *kept.checkpoint) for kept in projections],
        )


def _begin(connection: sqlite3.Connection) -> None:
    if not connection.in_transaction:
        connection.execute("BEGIN IMMEDIATE")


def _insert(connection: sqlite3.Connection, records: Sequence[Record]) -> None:
    try:
        connection.executemany(_INSERT, records)
    except sqlite3.IntegrityError as error:
        # A writer that was overtaken breaks several rules at once, and which of them SQLite
        # names first is undefined; another row in our place settles it.
        sql = "SELECT 1 FROM events WHERE pos = ? AND hash IS NOT ?"
        if connection.execute(sql, (records[0].pos, records[0].hash)).fetchone():
            raise overtaken() from error
        raise


def _by_name(connection: sqlite3.Connection, sql: str, names: Sequence[str]) -> list[Any]:
    """Rows of ``sql``, which ends in the column that must be one of ``names``."""
    column = sql.rpartition(" ")[2]
    found: list[Any] = []
    for start in range(0, len(names), _NAMES_PER_QUERY):
        part = names[start : start + _NAMES_PER_QUERY]
        marks = ",".join("?" * len(part))
        found += connection.execute(f"{sql} IN ({marks}) GROUP BY {column}", part)
    return found


def _table(name: str, version: int) -> str:
    assert name.replace("_", "").isalnum(), name
    return f"projection_{name}_v{version}"


def _conditions(query: Query, after: int) -> tuple[str, list[Any]]:
    parts = ["1"]
    parameters: list[Any] = []
    for column in ("session", "run", "phase", "attempt"):
        value = getattr(query, column)
        if value is not None:
            parts.append(f"{column} = ?")
            parameters.append(value)
    if query.session is not None:
        # All of a session stands in its stream, whose index finds it.
        parts.append("stream = ?")
        parameters.append(f"drain/{query.session}")
    if after:
        parts.append("pos < ?" if query.newest_first else "pos > ?")
        parameters.append(after)
    if query.until is not None:
        parts.append("pos <= ?")
        parameters.append(query.until)
    if query.types:
        parts.append("(" + " OR ".join(["type GLOB ?"] * len(query.types)) + ")")
        parameters += query.types
    return " AND ".join(parts), parameters
