"""SQLite's errors in the words of whoever runs this: the problem, a remedy, an exit code."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from engine.clock import REAL_WORK
from engine.errors import (
    AppendRefused,
    DiskFull,
    Fenced,
    LogHeld,
    LogUnreadable,
    RunoffError,
    StorageFailed,
    limits_told,
)


@contextmanager
def translated() -> Generator[None, None, None]:
    """SQLite's errors as ours, and want of memory; in a thread, so that it is real work."""
    try:
        with REAL_WORK, limits_told():
            yield
    except sqlite3.Error as error:
        raise translation(error) from error


def translation(error: sqlite3.Error) -> RunoffError:
    """What an error of SQLite means to the person running this, by its result code."""
    text = str(error)
    if "only grows at its end" in text:
        return Fenced.overtaken()
    if isinstance(error, sqlite3.IntegrityError):
        return AppendRefused(f"the log refused an append: {text}.", remedy="read the log again.")
    code = getattr(error, "sqlite_errorcode", None)
    if code is None and "decode" in text:
        # What stands in the file is no text: Python's own finding, which has no code of SQLite's.
        code = sqlite3.SQLITE_CORRUPT
    code = code or 0
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return DiskFull.at("the database's index of its write-ahead log")
    match code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return LogHeld(
                "the database is locked by another program.",
                remedy="close whatever else has it open for writing, then start again.",
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_ERROR:
            return LogUnreadable(
                f"the database cannot be read: {text}.",
                remedy="restore it from a backup; `runoff verify` names what is damaged.",
            )
        case sqlite3.SQLITE_FULL:
            return DiskFull.at("the database")
        case sqlite3.SQLITE_READONLY:
            return StorageFailed(
                "the database, or the folder that it is in, is read-only.",
                remedy="make both writable, or use commands that only read.",
            )
        case _:
            return StorageFailed(
                f"the database could not be used: {text}.",
                remedy="check free space, permissions and the disk; what was acknowledged is safe.",
            )
