"""Connect to a PostgreSQL server, always in the same way, and tell whether it holds a log.

What a log is made of is not known here, so that an audit can share this.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from engine.errors import RunoffError, UsageProblem, WrongDatabase
from engine.store.leaving import BACK_S, Leaving
from engine.store.link import Link, say_goodbye
from engine.store.location import Address, Location
from engine.store.postgres_errors import lost, translated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncpg import Connection

SCHEMA = "runoff"
CONNECT_S = 10.0
ANSWER_S = 60.0
"""A server that is silent for so long while it is asked counts as lost.  A connection that a
firewall forgot, or a proxy holds, would otherwise be waited for without end."""
STANDSTILL_S = 5
"""A writer that holds the head and says nothing for so long loses its connection, or one that is
frozen would hold up all others for ever."""
_ALIVE = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_CERTIFICATES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
WRITER = _ALIVE | {
    "synchronous_commit": "on",
    "idle_in_transaction_session_timeout": f"{STANDSTILL_S}s",
}
READER = _ALIVE | {"default_transaction_read_only": "on"}


async def linked(
    location: Location, settings: dict[str, str], leaving: Leaving | None = None
) -> Link:
    """A connection to the server of ``location``, and the way to the next one."""
    leaving = leaving or Leaving()

    async def connect() -> Connection[Any]:
        return await connected(location, settings)

    try:
        with leaving.bounded(BACK_S):
            driver = await connect()
    except TimeoutError as error:
        raise lost(error) from error
    return Link(driver, connect, leaving)


async def connected(location: Location, settings: dict[str, str]) -> Connection[Any]:
    """The driver's own connection to the server of ``location``, ready for the log's tables."""
    assert location.address is not None
    asyncpg = _driver()
    _refuse_missing_certificates(location.address)
    with translated():
        try:
            connection: Connection[Any] = await asyncpg.connect(
                location.address.reveal(),
                timeout=CONNECT_S,
                command_timeout=ANSWER_S,
                server_settings={"search_path": SCHEMA, "application_name": "runoff"} | settings,
            )
        except asyncpg.UndefinedObjectError as error:
            raise _unknown_setting(str(error), settings) from error
        except (asyncpg.DataError, asyncpg.PostgresSyntaxError) as error:
            raise _unknown_setting(str(error), ()) from error
        except ValueError as error:
            if isinstance(error, asyncpg.InterfaceError):
                raise
            raise UsageProblem(
                "the driver for PostgreSQL does not understand DATABASE_URL.",
                remedy="check host, port, and the settings behind the ?.",
            ) from error
    with translated(connection):
        encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        await say_goodbye(connection)
        raise WrongDatabase(
            f"{location.url} holds texts in {encoding}; a log needs UTF8.",
            remedy="make a database with ENCODING 'UTF8' TEMPLATE template0.",
        )
    return connection


def _unknown_setting(text: str, ours: Iterable[str]) -> RunoffError:
    """A setting that the server does not know: one of ours where it is too old for us."""
    if any(name in text for name in ours):
        return WrongDatabase(
            f"the database server is too old for a log: {text}.",
            remedy="use PostgreSQL 12 or newer.",
        )
    return UsageProblem(
        f"the database server does not understand DATABASE_URL: {text}.",
        remedy="check the settings behind the ?.",
    )


def _refuse_missing_certificates(address: Address) -> None:
    """The driver's own error says neither which file, nor that it is no server that is missing.

    It would wait for a pipe without end.
    """
    options = parse_qs(urlsplit(address.reveal()).query)
    for name in _CERTIFICATES:
        for file in options.get(name, []):
            if not Path(file).is_file():
                raise UsageProblem(
                    f"{file!r}, which DATABASE_URL names as {name}, is no file.",
                    remedy="correct the path in DATABASE_URL.",
                )


def _driver() -> Any:
    """The module ``asyncpg``.

    Raises WrongDatabase when it is not installed.
    """
    try:
        import asyncpg  # noqa: PLC0415
    except ImportError:
        raise WrongDatabase(
            "this installation has no driver for PostgreSQL.",
            remedy="pip install 'runoff[postgres]'",
        ) from None
    return asyncpg


async def is_log(connection: Connection[Any]) -> bool:
    """Whether the database has the tables of a log."""
    with translated(connection):
        found = await connection.fetchval("SELECT to_regclass($1)::text", f"{SCHEMA}.events")
    return found is not None


async def refuse_missing(connection: Connection[Any], location: Location) -> None:
    """Raise WrongDatabase where there is no log."""
    if not await is_log(connection):
        raise WrongDatabase(
            f"there is no Runoff log in {location.url}.",
            remedy="check DATABASE_URL; `runoff seed` and `runoff import` start a new one there.",
        )
