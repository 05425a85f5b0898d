"""Whether a database's write-ahead log may hold what its file does not; if not, the file is all."""

from __future__ import annotations

from pathlib import Path


def may_be_in_flight(path: Path) -> bool:
    """Whether a write-ahead log is there that anything stands in, or that somebody has open.

    A reader needs a shared-memory file, which cannot be made on read-only media or a full disk;
    where nothing is in flight it may read the database as immutable, and see all of it.  One that
    could not have that file made may have left an empty write-ahead log behind.
    """
    wal, shared = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
    return wal.exists() and (wal.stat().st_size > 0 or shared.exists())
