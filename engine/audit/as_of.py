"""A log as it stood at a position, as a file of its own: for audits of what was there by then.

Every row up to there is copied as it is stored, so that what is wrong with it there is wrong here;
so is every anchor up to there.  Stored projections and what the database derives of the rows by
itself are of today, and are left behind.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.audit.anchored import Anchor, lines_of, said_by
from engine.audit.chain import Row, chained
from engine.audit.connection import reachable
from engine.audit.local import BY_ATTEMPT, ROWS_ALONE, local, not_copied
from engine.errors import LogUnreadable, not_written
from engine.store.location import Location

_COLUMNS = ", ".join(Row._fields)
_COPY = f"INSERT INTO main.events SELECT {_COLUMNS} FROM log.events WHERE pos <= ?"  # noqa: S608
_COMMAND = "SELECT command_id FROM log.events WHERE pos = ?"
_LAST_BEFORE = "SELECT max(pos) FROM log.events WHERE pos < ? AND command_id IS NOT ?"
_FROM = f"SELECT {_COLUMNS} FROM log.events WHERE pos >= ? AND pos <= ? ORDER BY pos"  # noqa: S608
_UNWRITTEN = (
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CANTOPEN),
    *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE),
)


@contextmanager
def local_as_of(location: Location, until: int | None) -> Generator[tuple[Location, int | None]]:
    """Where the log up to ``until`` can be read as a file while the block runs.

    With the position that it really ends at: a command that goes on beyond ``until`` is left out
    whole.  None is all of the log, where it stands.  Raises as ``local`` does, LogUnreadable for
    rows that cannot be read, StorageFailed where there is no room for a copy.
    """
    with local(location) as place:
        if until is None:
            yield place, None
            return
        with TemporaryDirectory(prefix="runoff-as-of-") as folder:
            prefix = Location(place.url, Path(folder) / place.path.name)
            yield prefix, _copied(place, prefix, until)


def _copied(place: Location, prefix: Location, until: int) -> int:
    """Copy what belongs to the commands that are whole by ``until``; where the last one ends."""
    prefix.beside("files").symlink_to(place.beside("files"))
    try:
        with closing(sqlite3.connect(prefix.path, uri=True, isolation_level=None)) as file:
            file.execute("PRAGMA journal_mode = OFF")
            file.execute("PRAGMA synchronous = OFF")
            file.execute("ATTACH ? AS log", (reachable(place.path),))
            for statement in (*ROWS_ALONE, "BEGIN"):
                file.execute(statement)
            end = _whole(file, until)
            file.execute(_COPY, (end,))
            if end:
                _copy_anchors(file, place, prefix, end)
            for statement in (BY_ATTEMPT, "COMMIT"):
                file.execute(statement)
    except sqlite3.Error as error:
        raise _told(error, prefix.path) from error
    except OSError as error:
        raise not_written(str(prefix.path), error) from error
    return end


def _told(error: sqlite3.Error, path: Path) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0)
    if code in _UNWRITTEN or code & 0xFF in _UNWRITTEN:
        return not_copied(path, error)
    return LogUnreadable(
        f"the log cannot be read: {error}.", remedy="restore the database from a backup."
    )


def _whole(file: sqlite3.Connection, until: int) -> int:
    """The last position at or before ``until`` that a command ends at, 0 for none."""
    here = file.execute(_COMMAND, (until,)).fetchone()
    behind = file.execute(_COMMAND, (until + 1,)).fetchone()
    if here is None or here != behind:
        return until
    return int(file.execute(_LAST_BEFORE, (until, here[0])).fetchone()[0] or 0)


def _copy_anchors(file: sqlite3.Connection, place: Location, prefix: Location, end: int) -> None:
    source, target = place.beside("anchors"), prefix.beside("anchors")
    if not source.is_file():
        if os.path.lexists(source):
            target.mkdir()  # what stands there is no file, and shall be found here, too
        return
    beyond: Anchor | None = None
    with source.open("rb") as lines, target.open("wb") as kept:
        for line in lines_of(lines, source.stat().st_size):
            anchor = said_by(line)
            if anchor is None or anchor.pos <= end:
                kept.write(line)
            elif beyond is None or anchor.pos < beyond.pos:
                beyond = anchor
        if beyond is not None and (proved := _proved(file, end, beyond)) is not None:
            kept.write(f"{proved.pos} {proved.digest}\n".encode())


def _proved(file: sqlite3.Connection, end: int, beyond: Anchor) -> Anchor | None:
    """The anchor of ``end`` that one behind it stands for, if the rows between lead from it there.

    One anchor covers all that was committed since the last one, which may be days older.
    """
    first: bytes | None = None
    last = b""
    for values in file.execute(_FROM, (end, beyond.pos)):
        row = Row._make(values)
        if first is None:
            first = row.hash
        elif chained(last, row[:-1]) != row.hash:
            return None
        last = row.hash
    if not isinstance(first, bytes) or last.hex() != beyond.digest:
        return None
    return Anchor(end, first.hex())
