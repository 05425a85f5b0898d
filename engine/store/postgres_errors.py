"""What PostgreSQL's errors mean to the person running this, by their SQLSTATE."""

from __future__ import annotations

import ssl
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from engine.clock import REAL_WORK
from engine.errors import (
    AppendRefused,
    Fenced,
    LogHeld,
    LogUnreadable,
    RunoffError,
    ServerLost,
    StorageFailed,
    UsageProblem,
    WrongDatabase,
)
from engine.store.leaving import Silent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncpg import Connection

_OVERTAKEN, _REFUSED = "RO001", "RO002"
_LOST = ("08", "57", "25P03", "25P04", "53300", "25006")
"""Connection failures, shutdowns, what an operator ended, the server's own end of a writer that
stood still, and a server that has no connection left for now, or takes no writes."""
_NOT_LET_IN = ("28",)
_UNSUITED_TEXT = ("22021", "22P05")
SESSION_ATTRIBUTES = "any, primary, standby, read-write, read-only, prefer-standby"
_NOT_THERE = ("42P01", "3F000")
"""What is said, too, of a schema that the role may not use: names in it are then not found."""
_LOCKED = ("55P03", "40P01", "40001")


class NotUnderstood(UsageProblem):
    """What answers, if anything is a server there, does not speak as DATABASE_URL asks."""


@contextmanager
def translated(driver: Connection[Any] | None = None) -> Generator[None, None, None]:
    """The driver's errors as ours; the work is done elsewhere, so it is real work.

    ``driver``: the connection that is used, which tells a wrong call from one behind its end.  One
    over which no answer came in time is let go of: whoever asks next needs another.
    """
    # Imported when the first connection is; by then it is there.
    import asyncpg  # noqa: PLC0415

    try:
        with REAL_WORK:
            yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        is_closed = driver is not None and driver.is_closed()
        raise translation(error, is_closed=is_closed) from error
    except ssl.SSLError as error:
        raise _not_trusted(error) from error
    except (OSError, TimeoutError) as error:
        if "rejected SSL upgrade" in str(error):
            raise NotUnderstood(
                "the database server speaks no TLS, or what answers there is none.",
                remedy="check host, port and sslmode in DATABASE_URL, or switch TLS on there.",
            ) from error
        if driver is not None:
            driver.terminate()
        raise lost(error) from error


def lost(error: BaseException) -> ServerLost:
    """The server is not to be reached, or no longer."""
    import asyncpg  # noqa: PLC0415

    silent = "it gave no answer in time" if isinstance(error, TimeoutError) else None
    said = error.problem if isinstance(error, RunoffError) else str(error)
    if "()" in said:  # the driver tells which of its functions met the end of a connection
        said = "the connection was closed"
    text = said.rstrip(".") or silent or type(error).__name__
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        text = "no server is what target_session_attrs asks for"
    remedy = "check that it runs and can be reached from here; what was acknowledged is safe."
    if isinstance(error, asyncpg.TooManyConnectionsError):
        remedy = "raise its limit of connections, or start fewer engines: each holds up to four."
    if isinstance(error, Silent):
        remedy = "start again once it answers: what was left is taken over then; nothing is lost."
    return ServerLost(f"the database server cannot be reached: {text}.", remedy=remedy)


def translation(error: BaseException, *, is_closed: bool = False) -> RunoffError:
    """The error of ours that says the same; ``is_closed``: the connection is gone by now."""
    import asyncpg  # noqa: PLC0415

    state = getattr(error, "sqlstate", None) or ""
    text = str(error)
    if state == _OVERTAKEN:
        return Fenced.overtaken()
    if state == _REFUSED or state.startswith("23"):
        return AppendRefused(f"the log refused an append: {text}.", remedy="read the log again.")
    if state in _UNSUITED_TEXT or _is_about_input(error):
        return AppendRefused(
            f"PostgreSQL cannot hold a text of this append: {text}.",
            remedy="it holds no NUL and no half characters in texts; leave them out of ids.",
        )
    if isinstance(error, asyncpg.ClientConfigurationError):
        return _not_understood(text)
    # The second is what the driver says when the server's good-bye crosses a question.
    if is_closed or isinstance(error, asyncpg.InternalClientError) or _starts(state, _LOST):
        return lost(error)
    return _of_the_server(state, text)


def _not_understood(text: str) -> UsageProblem:
    """What the driver says of a URL, in a line; of one setting it names methods, not values."""
    said = text.partition("\n")[0].rstrip(".")
    if said.startswith("target_session_attrs"):
        said = f"target_session_attrs must be one of: {SESSION_ATTRIBUTES}"
    return UsageProblem(
        f"the driver for PostgreSQL does not understand DATABASE_URL: {said}.",
        remedy="check the settings behind the ? and the files that they name.",
    )


def _not_trusted(error: ssl.SSLError) -> RunoffError:
    """A certificate that cannot be used, or a server whose own is not to be trusted."""
    if any(part in str(error) for part in ("PEM", "X509")):  # OpenSSL's names of its readers
        return UsageProblem(
            f"the certificates that DATABASE_URL names cannot be used: {error}.",
            remedy="check what the files hold that sslrootcert, sslcert, sslkey and sslcrl name.",
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message.rstrip(".")
        return WrongDatabase(
            f"the certificate of the database server is not trusted: {said}.",
            remedy="check the host's name, and sslrootcert in DATABASE_URL.",
        )
    return lost(error)


def _of_the_server(state: str, text: str) -> RunoffError:
    if _starts(state, _NOT_LET_IN) or state in ("3D000", "42501"):
        return WrongDatabase(
            f"the database server refused: {text}.",
            remedy="check user, password and name in DATABASE_URL, and the role's rights.",
        )
    if state in _LOCKED:
        return LogHeld(f"the log is locked: {text}.", remedy="end what locks it, then start again.")
    if state in _NOT_THERE:
        return LogUnreadable(
            f"the log's tables are not there, or not for this role: {text}.",
            remedy="check the role's rights (USAGE on the schema runoff); if the tables are gone,"
            " restore them from a backup.",
        )
    if _starts(state, ("42", "XX")):
        return LogUnreadable(
            f"the database cannot be read: {text}.",
            remedy="restore it from a backup; `runoff verify` names what is damaged.",
        )
    return StorageFailed(
        f"the database could not be used: {text}.",
        remedy="see the server's own log; what was acknowledged is safe.",
    )


def _starts(state: str, prefixes: Iterable[str]) -> bool:
    return bool(state) and state.startswith(tuple(prefixes))


def _is_about_input(error: BaseException) -> bool:
    import asyncpg  # noqa: PLC0415

    return isinstance(error, asyncpg.DataError) and "invalid input for query" in str(error)
