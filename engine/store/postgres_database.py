"""Open a log on a PostgreSQL server: for a writer, or for reading; never make one by accident.

The log has a schema of its own, ``runoff``, so that a database may hold other things beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from engine.errors import LogUnreadable, UsageProblem, WrongDatabase
from engine.store.link import Link, say_goodbye
from engine.store.location import Address, Location
from engine.store.migrate import pending
from engine.store.postgres import SCHEMA, PostgresReader, PostgresStore
from engine.store.postgres_errors import translated

if TYPE_CHECKING:
    from asyncpg import Connection

CONNECT_S = 10.0
STANDSTILL_S = 5
"""A writer that holds the head and says nothing for so long loses its connection, or one that is
frozen would hold up all others for ever."""
_MIGRATION_LOCK = 0x52554E46
_ALIVE = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_CERTIFICATES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
WRITER = _ALIVE | {
    "synchronous_commit": "on",
    "idle_in_transaction_session_timeout": f"{STANDSTILL_S}s",
}
READER = _ALIVE | {"default_transaction_read_only": "on"}


async def open_reader(location: Location, *, snapshot: bool = False) -> PostgresReader:
    """A reader that can change nothing; ``snapshot``: all of it sees one moment.

    Raises WrongDatabase where there is no log, ServerLost when the server cannot be reached.
    """
    link = await linked(location, READER)
    try:
        await _refuse_missing(link.driver, location)
        if snapshot:
            with translated(link.driver):
                await link.driver.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    except BaseException:
        await link.close()
        raise
    return PostgresReader(link)


async def open_writer(location: Location, *, create: bool) -> PostgresStore:
    """A writing store, at today's schema; ``create`` allows a log to be started."""
    writing = await linked(location, WRITER)
    try:
        if not create:
            await _refuse_missing(writing.driver, location)
        await _migrate(writing.driver)
        reading = await linked(location, READER)
    except BaseException:
        await writing.close()
        raise
    return PostgresStore(reading, writing)


async def is_missing(location: Location) -> bool:
    """Whether a writer would start a new log here."""
    connection = await _open(location, READER)
    try:
        return not await _is_log(connection)
    finally:
        await say_goodbye(connection)


async def linked(location: Location, settings: dict[str, str]) -> Link:
    """A connection to the server of ``location``, and the way to the next one."""

    async def connect() -> Connection[Any]:
        return await _open(location, settings)

    return Link(await connect(), connect)


async def _open(location: Location, settings: dict[str, str]) -> Connection[Any]:
    """The driver's own connection to the server of ``location``, ready for the log's tables."""
    assert location.address is not None
    asyncpg = driver()
    _refuse_missing_certificates(location.address)
    with translated():
        connection: Connection[Any] = await asyncpg.connect(
            location.address.reveal(),
            timeout=CONNECT_S,
            server_settings={"search_path": SCHEMA, "application_name": "runoff"} | settings,
        )
    with translated(connection):
        encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        await say_goodbye(connection)
        raise WrongDatabase(
            f"{location.url} holds texts in {encoding}; a log needs UTF8.",
            remedy="make a database with ENCODING 'UTF8' TEMPLATE template0.",
        )
    return connection


def _refuse_missing_certificates(address: Address) -> None:
    """The driver's own error says neither which file, nor that it is no server that is missing."""
    options = parse_qs(urlsplit(address.reveal()).query)
    for name in _CERTIFICATES:
        for file in options.get(name, []):
            if not Path(file).exists():
                raise UsageProblem(
                    f"there is no file {file!r}, which DATABASE_URL names as {name}.",
                    remedy="correct the path in DATABASE_URL.",
                )


def driver() -> Any:
    """The module ``asyncpg``.

    Raises WrongDatabase when it is not installed.
    """
    try:
        import asyncpg  # noqa: PLC0415
    except ImportError:
        raise WrongDatabase(
            "this installation has no driver for PostgreSQL.",
            remedy="pip install 'runoff[postgres]'",
        ) from None
    return asyncpg


async def _is_log(connection: Connection[Any]) -> bool:
    with translated(connection):
        found = await connection.fetchval("SELECT to_regclass($1)::text", f"{SCHEMA}.events")
    return found is not None


async def _refuse_missing(connection: Connection[Any], location: Location) -> None:
    if not await _is_log(connection):
        raise WrongDatabase(
            f"there is no Runoff log in {location.url}.",
            remedy="check DATABASE_URL; `runoff seed` and `runoff import` start a new one there.",
        )


async def _migrate(connection: Connection[Any]) -> None:
    """Apply what is missing; several writers that start at once take turns."""
    with translated(connection):
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            await _refuse_foreign(connection)
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS migrations"
                " (number bigint PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL)"
            )
            rows = await connection.fetch("SELECT number, sha256 FROM migrations")
            for migration in pending({row[0]: row[1] for row in rows}, "postgres"):
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO migrations VALUES ($1, $2, $3)",
                    migration.number,
                    migration.name,
                    migration.sha256,
                )


async def _refuse_foreign(connection: Connection[Any]) -> None:
    """A schema of our name that holds tables, but not ours, is somebody else's."""
    names = await connection.fetch(
        "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = $1", SCHEMA
    )
    found = {row[0] for row in names}
    if found and "migrations" not in found:
        raise LogUnreadable(
            f"the schema {SCHEMA!r} of the database belongs to another program.",
            remedy="give the log a database of its own.",
        )


__all__ = ["READER", "WRITER", "driver", "is_missing", "linked", "open_reader", "open_writer"]
