"""Open a SQLite log: for the one writer, or for reading; never create one by accident."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from engine.errors import StorageFailed, UsageProblem, WrongDatabase, raise_if_below
from engine.store.in_flight import may_be_in_flight
from engine.store.location import Location
from engine.store.migrate import APPLICATION_ID, Migration, pending, statements
from engine.store.same_files import SameFiles
from engine.store.sqlite import SqliteStore
from engine.store.sqlite_errors import translated
from engine.store.tables import TABLES, refuse_odd

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

LOCK_WAIT = "RUNOFF_LOCK_WAIT_SECONDS"
LOCK_WAIT_S = 5.0
"""How long to wait while another program has the database locked, unless the variable says else."""

_LOCK_WAIT_S_MAX = 3600
_HEADER_BYTES = 100
_NAME_BYTES_MAX = 255 - len("-anchors.before-1234567890123456")
_PATH_BYTES_MAX = 512 - len("-journal")
"""What SQLite can open at all, with its own files beside it (``MAX_PATHNAME`` of os_unix.c)."""
_MAGIC = b"SQLite format 3\0"
_WRITER_PRAGMAS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 8000",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA cache_size = -16384",
    "PRAGMA temp_store = MEMORY",
)
READER_PRAGMAS = ("PRAGMA query_only = 1",)


def lock_wait() -> str:
    """The pragma that says how long to wait for a lock.

    Raises UsageProblem when the environment variable is no number of seconds.
    """
    text = os.environ.get(LOCK_WAIT, "")
    try:
        seconds = float(text) if text else LOCK_WAIT_S
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= _LOCK_WAIT_S_MAX:
        raise UsageProblem(
            f"{LOCK_WAIT}={text[:80]!a} is no number of seconds.",
            remedy=f"give one from 0 to {_LOCK_WAIT_S_MAX}, or leave it out for {LOCK_WAIT_S:g}.",
        )
    return f"PRAGMA busy_timeout = {round(seconds * 1000)}"


_BESIDE = ("-journal", "-wal", "-shm", "-lock")
"""Files that are opened with a log; a pipe in the place of one would be waited for.

Anchors are not: what stands in their place is for ``verify`` to find, and for writers to refuse.
"""


def _is_something_else(path: Path) -> bool:
    """Whether something bears the name that is no file, by one look: it may go at any moment.

    Whoever closes the log last removes what stands beside it.
    """
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


def check_file(location: Location) -> None:
    """Refuse what is no Runoff log before anything opens it.

    Raises WrongDatabase for a missing, foreign or empty file, LogUnreadable for a damaged header,
    StorageFailed where a limit or the disk forbids to read it.
    """
    path, shown = location.path, location.shown
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise WrongDatabase(
                f"{shown} is not a file.",
                remedy="check DATABASE_URL; it must name a database file.",
            )
        for name in _BESIDE:
            beside = path.with_name(path.name + name)
            if _is_something_else(beside):
                raise WrongDatabase(
                    f"{beside} belongs to the log, and is not a file.",
                    remedy="move it away, and put back what stood there.",
                )
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        raise WrongDatabase(
            f"there is no database at {shown}.",
            remedy="check DATABASE_URL; `runoff seed` and `runoff import` start a new one there.",
        ) from None
    except OSError as error:
        raise_if_below(shown, error)
        raise WrongDatabase(
            f"cannot read {shown}: {error.strerror}.", remedy="check DATABASE_URL and permissions."
        ) from error
    _check_header(shown, header)


def _check_header(shown: str, header: bytes) -> None:
    if not header:
        raise WrongDatabase(f"{shown} is an empty file, not a Runoff log.", remedy="check the URL.")
    if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
        raise WrongDatabase(
            f"{shown} is not a SQLite database.", remedy="check DATABASE_URL; nothing was changed."
        )
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise WrongDatabase(
            f"{shown} is a SQLite database of another program, not a Runoff log.",
            remedy="if it is an older backlog, `runoff import` takes it into a log of its own.",
        )


async def open_reader(location: Location) -> SqliteStore:
    """A store that can only read; changes no byte of the database."""
    check_file(location)
    uri = f"file:{quote(str(location.path))}?mode=ro"
    try:
        return await _open(uri, READER_PRAGMAS)
    except StorageFailed:
        if may_be_in_flight(location.path):
            raise
        return await _open(f"{uri}&immutable=1", READER_PRAGMAS)


async def open_writer(location: Location, *, create: bool) -> SqliteStore:
    """The writing store, at today's schema.  Hold the WriterLock first.

    ``create`` allows a new file to be started; the caller says so to the user.
    """
    fresh = create and _is_fresh(location.path)
    if not fresh:
        check_file(location)
        _check_writable(location)
    uri = f"file:{quote(str(location.path))}?mode=rwc"
    files = SameFiles(location.path, location.link) if not fresh else None
    store = await _open(uri, _WRITER_PRAGMAS, files)
    try:
        if fresh:
            # Before WAL mode, so that the mark stands in the file itself from the first moment.
            await store.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        await store.execute("PRAGMA journal_mode = WAL")
        if fresh:
            store.watch(SameFiles(location.path, location.link))
        await _migrate(store, uri)
    except BaseException:
        await store.close()
        raise
    return store


def _check_writable(location: Location) -> None:
    found = location.path.stat()
    if not found.st_mode & 0o222 or not os.access(location.path, os.W_OK):
        raise StorageFailed(
            f"{location.shown} is read-only.",
            remedy="make it writable, or use commands that only read.",
        )
    if found.st_nlink > 1:
        # SQLite names the write-ahead log and its locks after the file: each name has its own.
        raise StorageFailed(
            f"{location.shown} has {found.st_nlink} names (hard links);"
            " writing by two of them ruins a log.",
            remedy="remove the other names (`find -samefile`); `cp` or a backup makes a copy.",
        )


def is_missing(location: Location) -> bool:
    """Whether a writer would start a new database here."""
    return _is_fresh(location.path)


def _is_fresh(path: Path) -> bool:
    try:
        return path.stat().st_size == 0 and path.is_file()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise WrongDatabase(
            f"cannot look at {path}: {error.strerror}.", remedy="check DATABASE_URL."
        ) from error
    if not path.parent.is_dir():
        raise WrongDatabase(
            f"there is no folder {path.parent} to put {path.name} in.",
            remedy="check DATABASE_URL, or make the folder.",
        )
    _refuse_too_long(path)
    return True


def _refuse_too_long(path: Path) -> None:
    """Raise WrongDatabase for a name that leaves none to the files beside it, or to SQLite."""
    for what, bytes_max in ((path.name, _NAME_BYTES_MAX), (str(path), _PATH_BYTES_MAX)):
        if len(os.fsencode(what)) > bytes_max:
            raise WrongDatabase(
                f"{path} is too long: {what!r} has {len(os.fsencode(what))} bytes of {bytes_max}.",
                remedy="choose a shorter name, or a folder that is less deep.",
            )


async def _open(uri: str, pragmas: Sequence[str], files: SameFiles | None = None) -> SqliteStore:
    from engine.store.hops import connect  # noqa: PLC0415  --help opens nothing

    with translated():
        store = SqliteStore(await connect(uri), files)
    try:
        for pragma in (lock_wait(), *pragmas):
            await store.execute(pragma)
        refuse_odd(await store.execute(TABLES))
    except BaseException:
        await store.close()
        raise
    return store


async def _migrate(store: SqliteStore, uri: str) -> None:
    table = "SELECT 1 FROM sqlite_schema WHERE name = 'migrations'"
    applied: dict[int, str] = {}
    if await store.execute(table):
        rows = await store.execute("SELECT number, sha256 FROM migrations")
        applied = {row[0]: row[1] for row in rows}
    outstanding = pending(applied)
    if outstanding:
        with translated():
            await _apply_all(uri, outstanding)


async def _apply_all(uri: str, outstanding: Sequence[Migration]) -> None:
    """Bring the schema up to date, each migration in a transaction of its own."""
    # Imported here: a third to half a second that no engine shall spend on being ready again.
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415
    from sqlalchemy.pool import NullPool  # noqa: PLC0415

    from engine.store.hops import connect  # noqa: PLC0415

    engine = create_async_engine(
        "sqlite+aiosqlite://", async_creator=lambda: connect(uri), poolclass=NullPool
    )
    try:
        async with engine.connect() as connection:
            for pragma in (lock_wait(), *_WRITER_PRAGMAS):
                await connection.exec_driver_sql(pragma)
            for migration in outstanding:
                await _apply(connection, migration)
    except DBAPIError as error:
        raise error.orig or error from error
    finally:
        await engine.dispose()


async def _apply(connection: AsyncConnection, migration: Migration) -> None:
    await connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        await connection.exec_driver_sql(
            "CREATE TABLE IF NOT EXISTS migrations"
            " (number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL) STRICT"
        )
        for statement in statements(migration.sql):
            await connection.exec_driver_sql(statement)
        await connection.exec_driver_sql(
            "INSERT INTO migrations VALUES (?, ?, ?)",
            (migration.number, migration.name, migration.sha256),
        )
        await connection.exec_driver_sql("COMMIT")
    except BaseException:
        # What failed may have ended the transaction by itself; what it was matters more.
        with suppress(Exception):
            await connection.exec_driver_sql("ROLLBACK")
        raise
