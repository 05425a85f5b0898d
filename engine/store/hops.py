"""A connection that does several statements in one hop to its thread.

Every call to aiosqlite is handed to a thread and back, about a tenth of a millisecond each way on
a busy machine.  A batch needs some twelve statements; in one hop they cost one hand-over.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import aiosqlite

T = TypeVar("T")


class HopConnection(aiosqlite.Connection):
    """An aiosqlite connection with one more verb."""

    async def hop(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` with the bare connection in the connection's own thread."""
        execute: Callable[..., Awaitable[T]] = cast("Any", self)._execute  # noqa: SLF001
        return await execute(work, self._conn)


async def connect(uri: str) -> HopConnection:
    """Open ``uri``; transactions are begun and ended by explicit statements only."""

    def connector() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, isolation_level=None)

    connection = HopConnection(connector, iter_chunk_size=64)
    try:
        await connection
    except Exception:
        thread = cast("Any", connection)._thread  # noqa: SLF001
        if thread.ident is not None:  # it was started
            # It has one more answer to give, and the loop may be gone in a moment.
            thread.join()
        raise
    return connection
