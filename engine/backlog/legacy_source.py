"""The old database itself: opened so that not a byte of it changes, and read table by table.

SQLite writes beside a database even when it only reads it: a reader of a WAL database makes
``-wal`` and ``-shm`` files, and a journal that a crash left behind is rolled back into the file.
So a database with such a side file is copied to a temporary directory, with the side file, and
read there, which also gives what its last writer had committed.  A WAL database without one is
opened as immutable; any other with plain read locks.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import msgspec

from engine.backlog.cells import Cell, Row
from engine.backlog.findings import Findings, printable
from engine.errors import (
    LogHeld,
    LogUnreadable,
    RunoffError,
    StorageFailed,
    UsageProblem,
    WrongDatabase,
)

SOURCE_BYTES_MAX = 1024**3
TABLE_ROWS_MAX = 500_000
RUNOFF_APPLICATION_ID = 0x52554E46
_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100
_WAL_MODE = 2
_LOCK_WAIT_S = 5.0
_ROW_COMPLAINT = re.compile(r"\w value in |^CHECK constraint failed")
_ROW_NUMBERS = ("rowid", "_rowid_", "oid")


class Table(msgspec.Struct, frozen=True):
    """A table as it is read: our field names, each with the column names it may go by."""

    name: str
    fields: dict[str, tuple[str, ...]]
    required: tuple[str, ...] = ()


class Source:
    """An opened database; use ``opened``."""

    def __init__(self, connection: sqlite3.Connection, name: str, sha256: str) -> None:
        self._connection = connection
        self.name = name
        self.sha256 = sha256
        self._tables = _table_names(connection)

    def rows(self, table: Table, findings: Findings) -> list[Row]:
        """All rows in the order of the table, numbered by rowid; none without table or columns.

        Raises WrongDatabase when a required table or column is missing, UsageProblem when there
        are too many rows.
        """
        found = self._tables.get(table.name)
        if found is None:
            if table.required:
                raise self._lacks(f"no table {table.name}")
            return []
        columns = _columns(self._connection, found)
        chosen = _chosen(table, columns)
        for field in table.required:
            if field not in chosen:
                names = " or ".join(table.fields[field])
                raise self._lacks(f"no column {names} in its table {table.name}")
        if not chosen:
            return []
        self._connection.text_factory = partial(_decoded, table.name, findings)
        return [
            Row(table.name, number, dict(zip(chosen, cells, strict=True)), findings)
            for number, cells in self._numbered(found, columns, list(chosen.values()))
        ]

    def _numbered(
        self, table: str, columns: dict[str, str], chosen: list[str]
    ) -> Iterator[tuple[int, tuple[Cell, ...]]]:
        rowid = _row_number_name(self._connection, table, columns)
        first = f"{rowid}, " if rowid else ""
        order = f" ORDER BY {rowid}" if rowid else ""
        names = first + ", ".join(map(_quoted, chosen))
        # Every name comes from the database's own catalogue and is quoted.
        query = f"SELECT {names} FROM {_quoted(table)}{order} LIMIT {TABLE_ROWS_MAX + 1}"  # noqa: S608
        for count, row in enumerate(self._connection.execute(query), start=1):
            if count > TABLE_ROWS_MAX:
                raise UsageProblem(
                    f"the table {table} of {self.name} has more than {TABLE_ROWS_MAX} rows.",
                    remedy="delete old rows in a copy of it, and import the copy.",
                )
            yield (row[0], row[1:]) if rowid else (count, row)

    def _lacks(self, what: str) -> WrongDatabase:
        return WrongDatabase(
            f"{self.name} holds no backlog that can be imported: it has {what}.",
            remedy="name a database with the tables runs (id) and phases (run_id, phase_id).",
        )


@contextmanager
def opened(path: Path) -> Generator[Source]:
    """The database at ``path``, read-only, in one consistent state.

    Raises WrongDatabase when it is missing, empty, foreign or a log of Runoff itself,
    LogUnreadable when it is damaged, LogHeld when another process keeps it locked or writes it,
    StorageFailed when there is no room for a copy.
    """
    name = printable(path.name)
    header, real = _checked_file(path)
    before = _stamp(real)
    sha256 = _sha256(before)
    with tempfile.TemporaryDirectory(prefix="runoff-import-") as scratch:
        try:
            with closing(_connected(real, header, before, Path(scratch))) as connection:
                _prepare(connection, name)
                yield Source(connection, name, sha256)
        except sqlite3.Error as error:
            raise _told(error, name) from error
        except UnicodeDecodeError as error:
            # Damaged names of columns, which no text factory sees.
            raise _damaged(name, "its names are not UTF-8") from error
        except OSError as error:
            raise StorageFailed(
                f"{name} cannot be copied for reading: {error.strerror}.",
                remedy="make room in the directory for temporary files (TMPDIR).",
            ) from error
    if _stamp(real) != before:
        raise LogHeld(
            f"{name} changed while it was read.",
            remedy="stop the program that writes it, or import a copy.",
        )


def _checked_file(path: Path) -> tuple[bytes, Path]:
    """The header and the real path of a regular file that is an SQLite database, not ours."""
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
        if not stat.S_ISREG(mode):
            raise _wrong(path, "is not a file")
        with real.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            size_bytes = os.fstat(file.fileno()).st_size
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise _wrong(path, f"cannot be opened ({why})") from error
    if not header:
        raise _wrong(path, "is empty")
    if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
        raise _wrong(path, "is not an SQLite database")
    if int.from_bytes(header[68:72]) == RUNOFF_APPLICATION_ID:
        raise WrongDatabase(
            f"{printable(path.name)} is a log of Runoff, not a backlog to import.",
            remedy="work on it directly: set DATABASE_URL to it.",
        )
    if size_bytes > SOURCE_BYTES_MAX:
        raise UsageProblem(
            f"{printable(path.name)} has {size_bytes} bytes; the limit is {SOURCE_BYTES_MAX}.",
            remedy="delete old rows in a copy of it, VACUUM, and import the copy.",
        )
    return header, real


def _wrong(path: Path, what: str) -> WrongDatabase:
    return WrongDatabase(
        f"{printable(str(path), 512)} {what}.",
        remedy="name the SQLite file of an existing backlog, e.g. old.db.",
    )


def _stamp(real: Path) -> dict[Path, tuple[int, int]]:
    """The database and its side files that hold anything, each with size and change time (ns)."""
    found: dict[Path, tuple[int, int]] = {}
    for side in ("", "-wal", "-journal"):
        path = real.with_name(real.name + side)
        try:
            status = path.stat()
        except OSError:
            continue
        if status.st_size > 0:
            found[path] = (status.st_size, status.st_mtime_ns)
    return found


def _sha256(files: dict[Path, tuple[int, int]]) -> str:
    """Digest of the database's bytes, followed by those of its side files."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _connected(
    real: Path, header: bytes, files: dict[Path, tuple[int, int]], scratch: Path
) -> sqlite3.Connection:
    if len(files) > 1:
        for path in files:
            shutil.copyfile(path, scratch / path.name)
        uri = (scratch / real.name).as_uri()
    elif _WAL_MODE in header[18:20]:
        uri = f"{real.as_uri()}?immutable=1"
    else:
        uri = f"{real.as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=_LOCK_WAIT_S, isolation_level=None)


def _prepare(connection: sqlite3.Connection, name: str) -> None:
    """Trust nothing, then hold one state: https://sqlite.org/security.html, section 1.2."""
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA query_only = ON")
    connection.execute("BEGIN")
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    # The structure is checked first.  Rows that break a constraint are read like any others.
    if verdict != "ok" and not _ROW_COMPLAINT.search(verdict):
        raise _damaged(name, verdict.splitlines()[-1])


def _told(error: sqlite3.Error, name: str) -> RunoffError:
    text = str(error)
    if "locked" in text or "busy" in text:
        return LogHeld(
            f"{name} is locked by another process.",
            remedy="stop the program that writes it, or import a copy.",
        )
    if "not a database" in text:
        return WrongDatabase(
            f"{name} is not an SQLite database, or it is encrypted.",
            remedy="name the SQLite file of an existing backlog.",
        )
    return _damaged(name, text)


def _damaged(name: str, what: str) -> LogUnreadable:
    return LogUnreadable(
        f"{name} is damaged: {printable(what)}.",
        remedy=f"rescue what can be: sqlite3 {name} .recover | sqlite3 rescued.db,"
        " and import that.",
    )


def _table_names(connection: sqlite3.Connection) -> dict[str, str]:
    """Lower case name → name, of ordinary tables; views and virtual tables may run code."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
    return {
        name.lower(): name
        for name, sql in rows
        if not str(sql).upper().startswith("CREATE VIRTUAL")
    }


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    """Lower case column name → column name."""
    rows = connection.execute(f"PRAGMA table_info({_quoted(table)})")
    return {row[1].lower(): row[1] for row in rows}


def _chosen(table: Table, columns: dict[str, str]) -> dict[str, str]:
    """Our field name → the first column there is that may be meant."""
    found: dict[str, str] = {}
    for field, names in table.fields.items():
        column = next((columns[name] for name in names if name in columns), None)
        if column is not None:
            found[field] = column
    return found


def _row_number_name(
    connection: sqlite3.Connection, table: str, columns: dict[str, str]
) -> str | None:
    """A name for the hidden row number that no column takes; None for tables without one."""
    free = next((name for name in _ROW_NUMBERS if name not in columns), None)
    try:
        connection.execute(f"SELECT {free} FROM {_quoted(table)} LIMIT 0")  # noqa: S608
    except sqlite3.OperationalError:
        return None
    return free


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _decoded(table: str, findings: Findings, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
        findings.note(f"{table}: text that is not UTF-8, wrong bytes replaced", text)
        return text
