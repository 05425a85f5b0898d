"""Open a log on a PostgreSQL server: for a writer, or for reading; never make one by accident.

The log has a schema of its own, ``runoff``, so that a database may hold other things beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from engine.errors import LogUnreadable
from engine.store.leaving import Leaving
from engine.store.link import PAUSE_S, say_goodbye
from engine.store.location import Location
from engine.store.migrate import pending
from engine.store.postgres import PostgresReader, PostgresStore
from engine.store.postgres_connection import (
    READER,
    SCHEMA,
    TABLES,
    WRITER,
    connected,
    is_log,
    linked,
    refuse_missing,
)
from engine.store.postgres_errors import translated

if TYPE_CHECKING:
    from asyncpg import Connection

MIGRATION_LOCK = 0x52554E46
_TRY_TURN = "SELECT pg_try_advisory_xact_lock($1)"
_RELATIONS = (
    "SELECT c.relname FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1"
)
_MIGRATION_S = 3600.0
"""Of a large log some take long, and whoever comes second waits for them."""


async def open_reader(location: Location, *, snapshot: bool = False) -> PostgresReader:
    """A reader that can change nothing; ``snapshot``: all of it sees one moment.

    Raises WrongDatabase where there is no log, ServerLost when the server cannot be reached.
    """
    link = await linked(location, READER)
    try:
        await refuse_missing(link.driver, location)
        if snapshot:
            with link.asking() as driver:
                await driver.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    except BaseException:
        await link.close()
        raise
    return PostgresReader(link)


async def open_writer(location: Location, *, create: bool) -> PostgresStore:
    """A writing store, at today's schema; ``create`` allows a log to be started."""
    leaving = Leaving()
    writing = await linked(location, WRITER, leaving)
    try:
        if not create:
            await refuse_missing(writing.driver, location)
        await _migrate(writing.driver)
        reading = await linked(location, READER, leaving)
    except BaseException:
        await writing.close()
        raise
    return PostgresStore(reading, writing, leaving)


async def is_missing(location: Location) -> bool:
    """Whether a writer would start a new log here."""
    connection = await connected(location, READER)
    try:
        return not await is_log(connection)
    finally:
        await say_goodbye(connection)


async def _migrate(connection: Connection[Any]) -> None:
    """Apply what is missing; several writers that start at once take turns."""
    with translated(connection):
        async with connection.transaction():
            await _take_turn(connection)
            await _begin_schema(connection)
            rows = await connection.fetch("SELECT number, sha256 FROM migrations")
            for migration in pending({row[0]: row[1] for row in rows}, "postgres"):
                await connection.execute(migration.sql, timeout=_MIGRATION_S)
                await connection.execute(
                    "INSERT INTO migrations VALUES ($1, $2, $3)",
                    migration.number,
                    migration.name,
                    migration.sha256,
                )


async def _take_turn(connection: Connection[Any]) -> None:
    """Wait for those who were there first, by short questions: a dead link answers none of them."""
    with anyio.fail_after(_MIGRATION_S):
        while True:
            if await connection.fetchval(_TRY_TURN, MIGRATION_LOCK):
                return
            await anyio.sleep(PAUSE_S)


async def _begin_schema(connection: Connection[Any]) -> None:
    """Make the schema, where there is none, and what migrations are counted in.

    The right to make them is asked even of who names what is there, so nothing is made twice.
    """
    there = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1"
    if not await connection.fetchval(there, SCHEMA):
        await connection.execute(f"CREATE SCHEMA {SCHEMA}")
    if not await _holds_a_log(connection):
        await connection.execute(
            "CREATE TABLE migrations"
            " (number bigint PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL)"
        )


async def _holds_a_log(connection: Connection[Any]) -> bool:
    """Whether the schema is one of a log, or empty; what holds anything else is somebody else's."""
    rows = await connection.fetch(_RELATIONS, SCHEMA)
    found = {row[0] for row in rows}
    if found and not found.issuperset(TABLES):
        raise LogUnreadable(
            f"the schema {SCHEMA!r} of the database belongs to another program.",
            remedy="give the log a database of its own.",
        )
    return bool(found)


__all__ = ["is_missing", "open_reader", "open_writer"]
