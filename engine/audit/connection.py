"""A connection for audits: the standard library's, read-only, on media of any kind."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote


def connect(path: Path) -> sqlite3.Connection:
    """Open the database at ``path`` so that no byte of it can change."""
    uri = f"file:{quote(str(path))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        # On read-only media the shared-memory file cannot be made; without a WAL there is nothing
        # in flight, so reading the file as immutable is exact.
        if path.with_name(f"{path.name}-wal").exists():
            raise
        connection = sqlite3.connect(f"{uri}&immutable=1", uri=True, isolation_level=None)
    return connection
