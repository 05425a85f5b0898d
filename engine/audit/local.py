"""A log as a file that the standard library reads: itself, or a snapshot of a server's.

Audits walk a log in SQLite's terms, row by row.  A log on a server is fetched first, in one
snapshot of the server's, into a temporary file with the same columns, without a rule of its own;
from there on there is one way to audit.  What the server's tables hold is copied as it is: nothing
is computed and nothing left out, so that what is wrong there is wrong here.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine.audit.chain import Row
from engine.errors import StorageFailed
from engine.pace import Pace
from engine.store.link import say_goodbye
from engine.store.location import Location
from engine.store.postgres_connection import READER, connected, refuse_missing
from engine.store.postgres_errors import translated

_PAGE_ROWS = 2000
_FIRST_POS = -(2**63)
_PROJECTION = re.compile(r"projection_[a-z0-9_]+_v[0-9]+")
ROWS_ALONE = (
    f"CREATE TABLE events (pos INTEGER PRIMARY KEY, {', '.join(Row._fields[1:])})",
    "CREATE TABLE projections (name, version, pos, hash, digest)",
)
"""Tables for a copy of a log that is only audited: whatever stood in the log has room there."""
BY_ATTEMPT = "CREATE INDEX events_by_attempt ON events (attempt) WHERE attempt IS NOT NULL"
_BEGINNING = (
    *ROWS_ALONE,
    "CREATE TABLE event_shapes (type, schema, first_pos)",
    "BEGIN",
)
_END = (BY_ATTEMPT, "COMMIT")


@contextmanager
def local(location: Location, pace: Pace | None = None) -> Generator[Location, None, None]:
    """Where the log can be read as a file while the block runs; ``pace`` of fetching it, if so.

    Raises WrongDatabase where a server has no log, ServerLost when it cannot be reached.
    """
    if location.address is None:
        yield location
        return
    with TemporaryDirectory(prefix="runoff-snapshot-") as folder:
        place = Location(location.url, Path(folder) / location.path.name)
        # Before the log, so that what is anchored meanwhile does not seem to be missing.
        anchors = location.beside("anchors")
        if anchors.is_file():
            shutil.copyfile(anchors, place.beside("anchors"))
        place.beside("files").symlink_to(location.beside("files"))
        with ThreadPoolExecutor(1) as thread:
            # In a thread of its own, because the caller may be a coroutine of another loop.
            thread.submit(asyncio.run, _fetch(location, place.path, pace)).result()
        yield place


async def _fetch(location: Location, path: Path, pace: Pace | None) -> None:
    server = await connected(location, READER)
    try:
        await refuse_missing(server, location)
        with translated(server), _written(path), closing(_file(path)) as file:
            await _copy(server, file, pace)
    finally:
        await say_goodbye(server)


def _file(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(path, isolation_level=None)
    file.execute("PRAGMA journal_mode = OFF")
    file.execute("PRAGMA synchronous = OFF")
    return file


@contextmanager
def _written(path: Path) -> Generator[None, None, None]:
    """What is wrong with the snapshot's file is said of it, not of the log."""
    try:
        yield
    except sqlite3.Error as error:
        raise not_copied(path, error) from error


def not_copied(path: Path, error: sqlite3.Error) -> StorageFailed:
    """The copy of a log at ``path`` could not be written, because of ``error``."""
    return StorageFailed(
        f"the snapshot {path} could not be written: {error}.",
        remedy="make room in that folder, or name another one with TMPDIR.",
    )


async def _copy(server: Any, file: sqlite3.Connection, pace: Pace | None) -> None:
    """All rows of the log and of the stored projections, as of one moment."""
    await server.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    for statement in _BEGINNING:
        file.execute(statement)
    columns = ", ".join(Row._fields)
    page = f"SELECT {columns} FROM events WHERE pos >= $1 ORDER BY pos LIMIT {_PAGE_ROWS}"  # noqa: S608
    insert = f"INSERT INTO events VALUES ({', '.join('?' * len(Row._fields))})"  # noqa: S608
    start, end = _FIRST_POS, await server.fetchval("SELECT max(pos) FROM events") or 0
    while rows := await server.fetch(page, start):
        file.executemany(insert, map(tuple, rows))
        start = rows[-1][0] + 1
        if pace is not None:
            pace(start - 1, end)
    rows = await server.fetch("SELECT name, version, pos, hash, digest FROM projections")
    file.executemany("INSERT INTO projections VALUES (?, ?, ?, ?, ?)", map(tuple, rows))
    rows = await server.fetch("SELECT type, schema, first_pos FROM event_shapes")
    file.executemany("INSERT INTO event_shapes VALUES (?, ?, ?)", map(tuple, rows))
    names = await server.fetch(
        "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = 'runoff'"
    )
    for name in filter(_PROJECTION.fullmatch, (row[0] for row in names)):
        file.execute(f"CREATE TABLE {name} (key, data)")
        rows = await server.fetch(f"SELECT key, data FROM {name}")  # noqa: S608  matched above
        file.executemany(f"INSERT INTO {name} VALUES (?, ?)", map(tuple, rows))  # noqa: S608
    for statement in _END:
        file.execute(statement)
