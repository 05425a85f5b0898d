"""A connection pooler between us and a server: what it drops is set anew; it must pool sessions.

One that lends a server's session for a transaction at a time has settings of ours in force for
others, and theirs for us: a commit that is acknowledged might not be on the disk.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import WrongDatabase

if TYPE_CHECKING:
    from asyncpg import Connection

ROUNDS = 3
"""So often a mark is looked for: which session a pooler lends next depends on what others do."""

_MARK = "runoff.session"


def is_between(connection: Connection[Any], backend_pid: int) -> bool:
    """Whether the process that serves us is not the one that greeted us.

    A pooler greets its clients itself, with a key of its own; whatever only passes bytes on
    (an address translation, a load balancer) leaves the server's as it is.
    """
    return connection.get_server_pid() != backend_pid


def refuses_settings(error: BaseException) -> bool:
    """Whether a connection failed since a pooler passes no settings on."""
    import asyncpg  # noqa: PLC0415

    return isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error)


def mixes_sessions(error: BaseException) -> bool:
    """Whether a statement that we have prepared is not there, or another's is in its place."""
    import asyncpg  # noqa: PLC0415

    return isinstance(
        error, asyncpg.DuplicatePreparedStatementError | asyncpg.InvalidSQLStatementNameError
    )


async def settle(
    connection: Connection[Any],
    settings: Mapping[str, str],
    another: Callable[[], Awaitable[Connection[Any]]],
) -> None:
    """Put ``settings`` in force; ``another`` opens one more connection by the same way.

    Raises WrongDatabase when the session is not ours alone.
    """
    mark = secrets.token_hex(8)
    await _set(connection, {**settings, _MARK: mark})
    other = await another()
    try:
        for _ in range(ROUNDS):
            await _set(other, {_MARK: "another"})
            await _look(connection, mark)
    finally:
        other.terminate()


async def _set(connection: Connection[Any], values: Mapping[str, str]) -> None:
    # Without parameters, so that nothing is prepared: a pooler may not know whose that is.
    said = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in values.items())
    await connection.execute(f"SELECT {said}")


async def _look(connection: Connection[Any], mark: str) -> None:
    """Raise WrongDatabase unless the session still bears ``mark``."""
    import asyncpg  # noqa: PLC0415

    found = f"current_setting('{_MARK}', true) IS NOT DISTINCT FROM '{mark}'"
    try:
        await connection.execute(f"SELECT 1 / ({found})::int")
    except asyncpg.DivisionByZeroError:
        raise mixed() from None


def mixed() -> WrongDatabase:
    """The error about a pooler that lends sessions by the transaction."""
    return WrongDatabase(
        "DATABASE_URL leads to a connection pooler that pools transactions.",
        remedy="name the server itself, or a pool of sessions (pool_mode = session).",
    )
