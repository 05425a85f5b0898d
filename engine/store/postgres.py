"""The log in PostgreSQL, shared by several writers: appends take turns on the head row.

A transaction locks the head before it looks and holds it until it has committed, so positions are
in the order of commits and no reader can see one whose predecessor is still on its way.  Reading
goes over a connection of its own and sees only what is committed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from engine.errors import Fenced, RunoffError, ServerLost
from engine.events import COLUMNS, Head, Record
from engine.store.leaving import Leaving
from engine.store.link import CLOSE_S, Link
from engine.store.protocol import (
    PAGE_ROWS,
    End,
    FoldRow,
    Found,
    Kept,
    Prior,
    Shape,
)
from engine.store.reading import FOLD_COLUMNS, SqlReader, table_of

if TYPE_CHECKING:
    from asyncpg import Connection
    from asyncpg.transaction import Transaction

CHANNEL = "runoff"
_BYTES = ("request", "hash")
_NUMBERS = ("pos", "version", "idx", "schema", "occurred_us", "recorded_us", "cause", "epoch")
_TYPES: dict[str, str] = {
    name: "bytea" if name in _BYTES else "bigint" if name in _NUMBERS else "text"
    for name in COLUMNS
}
_ARRAYS = ", ".join(f"${n}::{_TYPES[name]}[]" for n, name in enumerate(COLUMNS, 1))
_INSERT = (
    f"INSERT INTO events ({', '.join(COLUMNS)})"  # noqa: S608  fixed names
    f" SELECT * FROM unnest({_ARRAYS})"
)
_FOLD = f"SELECT {FOLD_COLUMNS} FROM events WHERE pos > $1 AND pos <= $2"  # noqa: S608
_LOCK = "SELECT pos, hash, epoch, recorded_us FROM head FOR UPDATE"
_PRIOR = """
SELECT command_id, (array_agg(request))[1], min(pos), max(pos) FROM events
 WHERE command_id = ANY($1::text[]) GROUP BY command_id"""
_VERSIONS = """
SELECT stream, max(version) FROM events WHERE stream = ANY($1::text[]) GROUP BY stream"""


class PostgresReader(SqlReader):
    """Reading a log over one connection, one statement at a time."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._turn = anyio.Lock()

    async def execute(self, sql: str, *parameters: Any) -> list[Any]:
        """Run one statement; its rows."""
        async with self._turn:
            with self._link.asking() as driver:
                return await driver.fetch(sql, *parameters)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._link.close()

    async def has_table(self, name: str) -> bool:
        """Whether there is a table ``name``."""
        return bool((await self.execute("SELECT to_regclass($1) IS NOT NULL", name))[0][0])

    @staticmethod
    def mark(number: int) -> str:
        """What stands for the parameter ``number`` in a statement."""
        return f"${number}"

    @staticmethod
    def types_condition(types: Sequence[str], number: int) -> tuple[str, list[Any]]:
        """That the type is one of ``types``, which may have stars; and its parameter."""
        return f"type LIKE ANY(${number}::text[])", [list(map(_pattern, types))]

    async def fold_rows(
        self, after: int, until: int, types: frozenset[str] | None = None
    ) -> list[FoldRow]:
        """The next page of rows in ``after`` < pos <= ``until``."""
        if types is None:
            rows = await self.execute(f"{_FOLD} ORDER BY pos LIMIT {PAGE_ROWS}", after, until)
        else:
            sql = f"{_FOLD} AND type = ANY($3::text[]) ORDER BY pos LIMIT {PAGE_ROWS}"
            rows = await self.execute(sql, after, until, sorted(types))
        return [tuple(row) for row in rows]

    async def shapes(self) -> list[Shape]:
        """Every type and version of event in the log, with the position of its first."""
        rows = await self.execute("SELECT type, schema, first_pos FROM event_shapes")
        return [Shape(*row) for row in rows]


class PostgresStore(PostgresReader):
    """An event store on a server; made by ``engine.store.postgres_database``."""

    is_shared = True

    def __init__(self, reading: Link, writing: Link, leaving: Leaving) -> None:
        super().__init__(reading)
        self.leaving = leaving
        self._writing = writing
        self._writers_turn = anyio.Lock()
        self._readers_way_back = anyio.Lock()

    async def execute(self, sql: str, *parameters: Any) -> list[Any]:
        """Run one statement; its rows.  Reading waits for a server that is away."""
        while True:
            driver = self._link.driver
            try:
                return await super().execute(sql, *parameters)
            except ServerLost:
                if self._writing.is_closing:
                    raise
                async with self._readers_way_back:
                    if self._link.driver is driver:
                        await self._link.until_back()

    async def until_back(self) -> None:
        """Wait until the server can be reached, over new connections.

        Raises ServerLost when the store is closed meanwhile, or the process has to end.
        """
        async with self._writers_turn:
            await self._writing.until_back()

    async def drop_projection(self, name: str, version: int) -> None:
        """Forget a projection; its rows can always be rebuilt.

        They stay until others take their place in one step: engines go on to write what has
        changed among them, and of a table made anew a reader of an older moment sees no row.
        """
        async with self._locked():
            with self._writing.asking() as driver:
                # The head first: a writer that holds it may be about to write these rows.
                await driver.execute(_LOCK)
                await driver.execute(
                    "DELETE FROM projections WHERE name = $1 AND version = $2", name, version
                )
                await _drop_if_altered(driver, table_of(name, version))

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[PostgresTransaction, None]:
        """Begin with the head locked; append and commit at the end of the block."""
        async with self._locked():
            transaction = PostgresTransaction(self._writing)
            yield transaction
            await transaction.write()

    @asynccontextmanager
    async def _locked(self) -> AsyncGenerator[None, None]:
        """A transaction of the writing connection, taken back if the block raises."""
        async with self._writers_turn:
            with self._writing.asking() as driver:
                transaction = driver.transaction()
                await transaction.start()
            try:
                yield
            except BaseException:
                await self._taken_back(transaction)
                raise
            with self._writing.asking():
                await transaction.commit()

    async def _taken_back(self, transaction: Transaction) -> None:
        """A connection that is gone has taken it back already, and so does one that is let go."""
        with anyio.CancelScope(shield=True), suppress(RunoffError), self._writing.asking():
            with anyio.fail_after(CLOSE_S):
                await transaction.rollback()

    async def close(self) -> None:
        """Let go of both connections."""
        await self._writing.close()
        await super().close()


class _Held(NamedTuple):
    """The head row, while it is locked."""

    pos: int
    hash: bytes
    epoch: int
    recorded_us: int

    @classmethod
    def behind(cls, record: Record) -> _Held:
        """What the head row says once ``record`` is the last one."""
        return cls(record.pos, record.hash, record.epoch, record.recorded_us)


class PostgresTransaction:
    """One atomic append to a PostgresStore."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._held: _Held | None = None
        self._appended: list[tuple[Sequence[Record], Sequence[Kept]]] = []

    async def look(self, command_ids: Sequence[str], streams: Sequence[str]) -> Found:
        """Those of ``command_ids`` that the log holds, and the last version of each stream."""
        with self._link.asking() as driver:
            held = await self._lock(driver)
            prior = await driver.fetch(_PRIOR, command_ids)
            versions = await driver.fetch(_VERSIONS, streams) if streams else []
        found: dict[str, int] = {row[0]: row[1] for row in versions}
        return Found(
            {row[0]: Prior(*tuple(row)[1:]) for row in prior},
            dict.fromkeys(streams, 0) | found,
            End(Head(held.pos, held.hash), held.epoch),
        )

    async def append(self, records: Sequence[Record], kept: Sequence[Kept] = ()) -> None:
        """Add rows that continue the log, and rows of projections, at the end of the block."""
        self._appended.append((records, kept))

    async def write(self) -> None:
        """Write what was appended."""
        for records, kept in self._appended:
            with self._link.asking() as driver:
                held = await self._lock(driver)
                if records:
                    _refuse_overtaken(records, held)
                    await driver.execute(_INSERT, *zip(*records, strict=True))
                    self._held = _Held.behind(records[-1])
            for each in kept:
                with self._link.asking() as driver:
                    await _keep(driver, each)

    async def _lock(self, driver: Connection[Any]) -> _Held:
        """Wait for the head and hold it."""
        if self._held is None:
            row = await driver.fetchrow(_LOCK)
            if row is None:
                raise Fenced("the log has lost its head row.", remedy="restore it from a backup.")
            self._held = _Held(*row)
        return self._held


async def _keep(driver: Connection[Any], kept: Kept) -> None:
    table = table_of(kept.name, kept.version)
    # Every time, since another writer may have dropped it meanwhile.
    await driver.execute(
        f"CREATE TABLE IF NOT EXISTS {table}"
        ' (key text COLLATE "C" PRIMARY KEY, data text COLLATE "C" NOT NULL)'
    )
    if kept.is_whole:
        await driver.execute(f"DELETE FROM {table}")  # noqa: S608
    await _put(driver, table, dict(kept.changes))
    await driver.execute(
        "INSERT INTO projections VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name, version)"
        " DO UPDATE SET pos = excluded.pos, hash = excluded.hash, digest = excluded.digest",
        kept.name,
        kept.version,
        *kept.checkpoint,
    )


async def _put(driver: Connection[Any], table: str, rows: Mapping[str, str]) -> None:
    await driver.execute(
        f"INSERT INTO {table} (key, data) SELECT * FROM unnest($1::text[], $2::text[])"  # noqa: S608
        " ON CONFLICT (key) DO UPDATE SET data = excluded.data",
        list(rows),
        list(rows.values()),
    )


async def _drop_if_altered(driver: Connection[Any], table: str) -> None:
    """Drop a table that takes no rows as projections have them; or cannot be read."""
    from asyncpg import PostgresError  # noqa: PLC0415  an extra

    try:
        async with driver.transaction():
            await _put(driver, table, {})
            await driver.execute(f"SELECT count(data) FROM {table}")  # noqa: S608
    except PostgresError:
        await driver.execute(f"DROP TABLE IF EXISTS {table}")


def _refuse_overtaken(records: Sequence[Record], held: _Held) -> None:
    """The database would refuse, too, but by whichever of its rules comes first."""
    for record in records:
        continues = record.pos == held.pos + 1 and record.epoch >= held.epoch
        if not continues or record.recorded_us < held.recorded_us:
            raise Fenced.overtaken()
        held = _Held.behind(record)


def _pattern(glob: str) -> str:
    """A LIKE pattern for a type that may have stars."""
    escaped = glob.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return escaped.replace("*", "%").replace("?", "_")


__all__ = ["CHANNEL", "PostgresReader", "PostgresStore"]
