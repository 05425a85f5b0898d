"""Open a log, whatever kind of database it is in."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from engine.store import database
from engine.store.direct import open_direct
from engine.store.location import Location
from engine.store.lock import WriterLock, holder_of
from engine.store.protocol import EventStore, LogReader


async def open_reader(location: Location) -> LogReader:
    """A reader that changes nothing.

    Raises WrongDatabase where there is no log, ServerLost when the server cannot be reached.
    """
    if location.address is None:
        return await database.open_reader(location)
    # Imported only for a server: the driver is an extra.
    from engine.store import postgres_database  # noqa: PLC0415

    return await postgres_database.open_reader(location)


async def open_quick(location: Location) -> LogReader:
    """A reader for one question, on one snapshot; a file is read without thread or SQLAlchemy."""
    if location.address is None:
        return open_direct(location)
    from engine.store import postgres_database  # noqa: PLC0415

    return await postgres_database.open_reader(location, snapshot=True)


async def open_writer(location: Location, *, create: bool) -> EventStore:
    """A writing store, at today's schema; hold the log first.  ``create`` allows a new one."""
    if location.address is None:
        return await database.open_writer(location, create=create)
    from engine.store import postgres_database  # noqa: PLC0415

    return await postgres_database.open_writer(location, create=create)


async def forgetful_settings(location: Location, reader: LogReader) -> list[str] | None:
    """Settings of a server that are off, so that it may lose what it acknowledged; None for a file.

    A connection can change neither (PostgreSQL 15, "Write Ahead Log").
    """
    if location.address is None:
        return None
    from engine.store.postgres import PostgresReader  # noqa: PLC0415

    assert isinstance(reader, PostgresReader)
    settings = ["fsync", "full_page_writes"]
    sql = "SELECT name FROM pg_settings WHERE name = ANY($1::text[]) AND setting = 'off'"
    return sorted(row[0] for row in await reader.execute(sql, settings))


def check(location: Location) -> None:
    """Refuse a file that is no log before anything opens it; a server answers for itself."""
    if location.address is None:
        database.check_file(location)


async def is_missing(location: Location) -> bool:
    """Whether a writer would start a new log here."""
    if location.address is None:
        return database.is_missing(location)
    from engine.store import postgres_database  # noqa: PLC0415

    return await postgres_database.is_missing(location)


@contextmanager
def held(location: Location, program: str) -> Generator[None, None, None]:
    """Be the one writer of a log in a file; a log on a server has as many as it likes.

    Raises LogHeld naming the holder.
    """
    if location.address is not None:
        location.path.parent.mkdir(parents=True, exist_ok=True)
        yield
        return
    lock = WriterLock(location.beside("lock"), program)
    try:
        yield
    finally:
        lock.close()


def holder(location: Location) -> str | None:
    """Who writes a log in a file: empty when nobody does, None when that cannot be told."""
    return holder_of(location.beside("lock")) if location.address is None else None


__all__ = [
    "check",
    "forgetful_settings",
    "held",
    "holder",
    "is_missing",
    "open_quick",
    "open_reader",
    "open_writer",
]
