"""The log in SQLite: WAL, every acknowledged commit on disk, one writing connection.

SQLAlchemy migrates the schema; everything else talks to aiosqlite's connection itself, because
importing SQLAlchemy costs half of what an engine needs to be ready again, and each statement
through it four thread hops where one is enough (docs/adr/0004).
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

from engine.errors import Fenced
from engine.events import COLUMNS, Record
from engine.store.protocol import (
    PAGE_ROWS,
    FoldRow,
    Found,
    Kept,
    Prior,
    Shape,
    T,
)
from engine.store.reading import FOLD_COLUMNS, SqlReader, rows_of, table_of
from engine.store.sqlite_errors import translated

if TYPE_CHECKING:
    from engine.store.hops import HopConnection
    from engine.store.same_files import SameFiles

_INSERT = (
    f"INSERT INTO events ({', '.join(COLUMNS)})"  # noqa: S608  fixed names
    f" VALUES ({', '.join('?' * len(COLUMNS))})"
)
_FOLD = f"SELECT {FOLD_COLUMNS} FROM events WHERE pos > ? AND pos <= ?"  # noqa: S608
_NAMES_PER_QUERY = 500
_PRIOR = "SELECT command_id, min(request), min(pos), max(pos) FROM events WHERE command_id"
_VERSIONS = "SELECT stream, max(version) FROM events WHERE stream"


class SqliteReader(SqlReader):
    """Reading a log in one SQLite file, whatever runs the statements.

    Ordered by position, all of a session would be read and sorted for each page of it.
    """

    session_order = "version"

    async def has_table(self, name: str) -> bool:
        """Whether there is a table ``name``."""
        return bool(await self.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", name))

    @staticmethod
    def mark(number: int) -> str:  # noqa: ARG004  they are counted by themselves
        """What stands for a parameter in a statement."""
        return "?"

    @staticmethod
    def types_condition(types: Sequence[str], number: int) -> tuple[str, list[Any]]:  # noqa: ARG004
        """That the type is one of ``types``, which may have stars; and its parameters."""
        return "(" + " OR ".join(["type GLOB ?"] * len(types)) + ")", list(types)

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
        return await self.execute(sql, *parameters)

    async def shapes(self) -> list[Shape]:
        """Every type and version of event in the log, with the position of its first."""
        if await self.has_table("event_shapes"):
            rows = await self.execute("SELECT type, schema, first_pos FROM event_shapes")
        else:  # a reader of a log that no writer of today's schema has opened yet
            rows = await self.execute(
                "SELECT type, schema, min(pos) FROM events GROUP BY type, schema"
            )
        return [Shape(*row) for row in rows]


class SqliteStore(SqliteReader):
    """An event store in one SQLite file; made by ``engine.store.database``."""

    is_shared = False

    def __init__(self, driver: HopConnection, files: SameFiles | None = None) -> None:
        self._driver = driver
        self._files = files
        self._tables: set[str] = set()

    async def execute(self, sql: str, *parameters: Any) -> list[Any]:
        """Run one statement in one thread hop; its rows."""
        with translated():
            return list(await self._driver.execute_fetchall(sql, parameters))

    async def read_projection(
        self, name: str, version: int, by: Callable[[Iterable[tuple[str, str]]], T]
    ) -> T:
        """What ``by`` makes of all rows of a stored projection, in the connection's thread."""
        with translated():
            return await self._driver.hop(lambda each: read_rows(each, name, version, by))

    def watch(self, files: SameFiles) -> None:
        """From here on a commit counts only if it went to these files."""
        self._files = files

    async def drop_projection(self, name: str, version: int) -> None:
        """Forget a projection; its rows can always be rebuilt."""
        table = table_of(name, version)
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
            if self._files is not None:
                self._files.check()
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
            table = table_of(kept.name, kept.version)
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


def read_rows(
    connection: sqlite3.Connection,
    name: str,
    version: int,
    by: Callable[[Iterable[tuple[str, str]]], T],
) -> T:
    """What ``by`` makes of the rows of a projection; the statement ends with it, come what may."""
    with closing(connection.execute(rows_of(name, version))) as rows:
        return by(rows)


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
            raise Fenced.overtaken() from error
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
