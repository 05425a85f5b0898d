"""Connect to a PostgreSQL server, always in the same way, and tell whether it holds a log.

What a log is made of is not known here, so that an audit can share this.
"""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from engine.errors import RunoffError, StorageFailed, UsageProblem, WrongDatabase
from engine.store import pooler
from engine.store.leaving import BACK_S, Leaving
from engine.store.link import Link, patiently, say_goodbye
from engine.store.location import Address, Location, taken_apart
from engine.store.postgres_errors import NotUnderstood, lost, translated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncpg import Connection

SCHEMA = "runoff"
TABLES = ("events", "migrations")
"""A schema in which these stand, which are made in one transaction, is that of a log."""
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
_READS = "default_transaction_read_only"
_CERTIFICATES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_OURS = _ALIVE | {
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
}
"""What a database or a role may set for other programs, and a log cannot go by: who waits for the
head must see what is committed meanwhile, and waits for as long as that takes."""
WRITER = _OURS | {
    "synchronous_commit": "on",
    "idle_in_transaction_session_timeout": f"{STANDSTILL_S}s",
}
KEEPER = WRITER | {"synchronous_commit": "off"}
"""Leases need not outlive a server: their renewal waits for no disk, and for no other server."""
READER = _OURS | {
    _READS: "on",
    "idle_in_transaction_session_timeout": "0",
}
_TIMEOUTS_SINCE = ("idle_session_timeout", "transaction_timeout")
"""Those that not every version has, which would refuse them as the settings of a connection."""
_BEGIN = (
    "SELECT current_setting('server_encoding') AS encoding, pg_backend_pid() AS pid,"
    " current_setting('search_path') AS path, current_setting('session_replication_role') AS role,"
    " current_setting('transaction_read_only') AS read_only"
) + "".join(
    f", CASE WHEN current_setting('{name}', true) <> '' THEN set_config('{name}', '0', false) END"
    for name in _TIMEOUTS_SINCE
)


_TABLES_OF_A_LOG = (
    "SELECT count(*) FROM pg_catalog.pg_class"
    " WHERE oid IN (to_regclass($1), to_regclass($2)) AND relkind = 'r'"
)


class _TakesNoWrites(StorageFailed):
    """A server that takes no writes, or none now."""


async def linked(
    location: Location,
    settings: dict[str, str],
    leaving: Leaving | None = None,
    *,
    is_waited_for: bool = False,
) -> Link:
    """A connection to the server of ``location``, and the way to the next one.

    ``is_waited_for``: a server that is away just now is waited for until the process leaves.
    """
    leaving = leaving or Leaving()

    async def connect() -> Connection[Any]:
        try:
            return await connected(location, settings)
        except (_TakesNoWrites, NotUnderstood) as error:
            # It did before: behind a failover a replica may be there that is to be promoted yet,
            # and a gateway answers for a server that is away.
            raise lost(error) from error

    try:
        with leaving.bounded(BACK_S):
            first = patiently(connect) if is_waited_for else connected(location, settings)
            driver = await first
    except TimeoutError as error:
        raise lost(error) from error
    return Link(driver, connect, leaving, ANSWER_S)


async def connected(location: Location, settings: dict[str, str]) -> Connection[Any]:
    """The driver's own connection to the server of ``location``, ready for the log's tables."""
    assert location.address is not None
    _refuse_missing_certificates(location.address)
    settings = {"search_path": SCHEMA} | settings
    connection = await _reached(location.address, settings)
    try:
        with translated(connection):
            await _begin(connection, location, settings)
    except RunoffError:
        await say_goodbye(connection)
        raise
    return connection


async def _reached(address: Address, settings: dict[str, str]) -> Connection[Any]:
    """A connection with ``settings``, or without them by way of a pooler that refuses them."""
    asyncpg = _driver()
    with translated():
        try:
            return await _first_of(address, settings)
        except asyncpg.ProtocolViolationError as error:
            if pooler.refuses_settings(error):
                return await _first_of(address, {})
            raise
        except asyncpg.UndefinedObjectError as error:
            raise _unknown_setting(str(error), settings) from error
        except (
            asyncpg.DataError,
            asyncpg.PostgresSyntaxError,
            asyncpg.CantChangeRuntimeParamError,
        ) as error:
            raise _unknown_setting(str(error), ()) from error
        except ValueError as error:
            if isinstance(error, asyncpg.InterfaceError | ssl.SSLError):
                raise
            raise UsageProblem(
                "the driver for PostgreSQL does not understand DATABASE_URL.",
                remedy="check host, port, and the settings behind the ?.",
            ) from error


async def _first_of(address: Address, settings: dict[str, str]) -> Connection[Any]:
    """A connection to the first server that can be reached, of those that ``address`` names.

    Each has its time: the driver has one for all, which the first that is silent would take up.
    """
    asyncpg = _driver()
    *others, last = address.each()
    for each in others:
        with suppress(
            OSError,
            TimeoutError,
            asyncpg.CannotConnectNowError,
            asyncpg.TargetServerAttributeNotMatched,
        ):
            return await _connected_to(each, settings)
    return await _connected_to(last, settings)


async def _connected_to(address: Address, settings: dict[str, str]) -> Connection[Any]:
    made: Connection[Any] = await _driver().connect(
        address.reveal(),
        timeout=CONNECT_S,
        command_timeout=ANSWER_S,
        server_settings={"application_name": "runoff"} | settings,
    )
    return made


async def _begin(connection: Connection[Any], location: Location, settings: dict[str, str]) -> None:
    """Make a connection ready.

    Raises WrongDatabase where no log can be kept by it, StorageFailed where none can be now.
    """
    address = location.address
    assert address is not None
    asyncpg = _driver()
    try:
        found = await connection.fetchrow(_BEGIN)
        assert found is not None, "a question without FROM has one row"
        if pooler.is_between(connection, found["pid"]) or found["path"] != SCHEMA:
            await pooler.settle(connection, settings, lambda: _reached(address, {}))
    except asyncpg.UndefinedObjectError as error:
        raise _unknown_setting(str(error), settings) from error
    except asyncpg.PostgresError as error:
        if pooler.mixes_sessions(error):
            raise pooler.mixed() from error
        raise
    if found["read_only"] == "on" and settings.get(_READS) != "on":
        raise _TakesNoWrites(
            f"{location.url} takes no writes: it is a replica, or read-only.",
            remedy="name the server that takes them, or all with ?target_session_attrs=primary.",
        )
    if found["role"] == "replica" and settings.get(_READS) != "on":
        # Only superusers may set it back, so that it cannot be among our own settings.
        raise WrongDatabase(
            f"{location.url} sets session_replication_role to replica: nothing guards a log there.",
            remedy="take that back: ALTER DATABASE (or ROLE) ... RESET session_replication_role.",
        )
    if found["encoding"] != "UTF8":
        raise WrongDatabase(
            f"{location.url} holds texts in {found['encoding']}; a log needs UTF8.",
            remedy="make a database with ENCODING 'UTF8' TEMPLATE template0.",
        )


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
    options = parse_qs(taken_apart(address.reveal()).query)
    for name in _CERTIFICATES:
        for file in options.get(name, []):
            _refuse_unusable(file, f"DATABASE_URL names as {name}")
        variable = f"PG{name.upper()}"
        fallback = os.environ.get(variable)
        if fallback and name not in options:
            _refuse_unusable(fallback, f"{variable} names")


def _refuse_unusable(file: str, by: str) -> None:
    is_file = Path(file).is_file()
    if not is_file or not os.access(file, os.R_OK):
        wrong = "cannot be read" if is_file else "is no file"
        raise UsageProblem(
            f"{file!r}, which {by}, {wrong}.",
            remedy="correct the path that is named there, or let this user read the file.",
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
            remedy="install the extra `postgres`: in a checkout, pip install '.[postgres]'",
        ) from None
    return asyncpg


async def is_log(connection: Connection[Any]) -> bool:
    """Whether the database has the tables of a log, not another program's that bear such a name."""
    with translated(connection):
        names = [f"{SCHEMA}.{name}" for name in TABLES]
        found = await connection.fetchval(_TABLES_OF_A_LOG, *names)
    return bool(found == len(TABLES))


async def refuse_missing(connection: Connection[Any], location: Location) -> None:
    """Raise WrongDatabase where there is no log."""
    if not await is_log(connection):
        raise WrongDatabase(
            f"there is no Runoff log in {location.url}.",
            remedy="check DATABASE_URL; `runoff seed` and `runoff import` start a new one there.",
        )
