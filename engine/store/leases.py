"""Leases of a shared log: who lives, renewed by heartbeats that are counted.

They are no events, and nothing is decided by them alone: whoever sees one run out appends that, and
only what is appended counts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import anyio

from engine.clock import Clock
from engine.errors import ServerLost
from engine.store.leaving import Leaving
from engine.store.link import PAUSE_S, Link
from engine.store.location import Location
from engine.store.postgres import CHANNEL

if TYPE_CHECKING:
    from asyncpg import Connection

LEASE_S = 15.0
BEATS_PER_LEASE = 3
_ASIDE = "$1::text || ' beside'"
"""Where a lease is renewed whose row a process of the server holds that was stopped or hangs in the
middle of a renewal: nothing ends its transaction.  Names of sessions have no spaces."""
_RENEW = f"""
WITH free AS (SELECT FROM leases WHERE session = $1 FOR UPDATE SKIP LOCKED),
    there AS (SELECT FROM leases WHERE session = $1)
INSERT INTO leases
SELECT CASE WHEN EXISTS (TABLE there) AND NOT EXISTS (TABLE free) THEN {_ASIDE} ELSE $1 END,
       $2, $3, $4, $5, clock_timestamp() + $6 * interval '1 second', 1
ON CONFLICT (session) DO UPDATE
   SET epoch = excluded.epoch, place = excluded.place, pid = excluded.pid,
       start_ticks = excluded.start_ticks, expires = excluded.expires,
       renewals = leases.renewals + 1
 WHERE leases.epoch <= excluded.epoch"""  # noqa: S608  fixed names
_ALL = """
SELECT DISTINCT ON (name) split_part(session, ' ', 1) AS name, epoch, place, pid, start_ticks,
       sum(renewals)::bigint
  FROM leases GROUP BY name, epoch, place, pid, start_ticks ORDER BY name, epoch DESC"""
_NOW_US = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_GIVE_BACK = f"""
DELETE FROM leases WHERE session IN (
    SELECT session FROM leases WHERE session IN ($1, {_ASIDE}) AND epoch = $2
       FOR UPDATE SKIP LOCKED)"""  # noqa: S608  fixed names


class Holder(NamedTuple):
    """Who is at a session: an engine by its epoch, and its process.

    ``place`` names machine, boot and space of process numbers; ``start_ticks`` tells a process
    from a later one of the same number, None where that is not known.
    """

    session_id: str
    epoch: int
    place: str
    pid: int
    start_ticks: int | None


class Lease(NamedTuple):
    """A lease as it stands; one whose engine lives is renewed."""

    holder: Holder
    renewals: int


class Leases(Protocol):
    """The table of leases, over a connection of its own that no append or reading holds up."""

    async def renew(self, holder: Holder, lease_s: float) -> None:
        """Let it live for ``lease_s`` from now; a newer engine's lease is left alone."""
        ...

    async def all(self) -> list[Lease]:
        """Every lease that has not been given back."""
        ...

    async def give_back(self, session_id: str, epoch: int) -> None:
        """Forget the lease of an engine."""
        ...

    async def now_us(self) -> int:
        """What time it is there, in Unix microseconds."""
        ...

    async def until_hint(self, limit_s: float) -> None:
        """Until something may have been appended, or ``limit_s`` have passed."""
        ...

    async def until_back(self) -> None:
        """Wait until the server can be reached again."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class MemoryLeases:
    """Leases of a simulation; ``clock`` is the server's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[str, Lease] = {}

    async def renew(self, holder: Holder, lease_s: float) -> None:  # noqa: ARG002  nothing shows it
        """Count it."""
        before = self._rows.get(holder.session_id)
        if before is None or before.holder.epoch <= holder.epoch:
            renewals = before.renewals + 1 if before else 1
            self._rows[holder.session_id] = Lease(holder, renewals)

    async def all(self) -> list[Lease]:
        """Every lease that has not been given back."""
        return list(self._rows.values())

    async def give_back(self, session_id: str, epoch: int) -> None:
        """Forget the lease of an engine."""
        if session_id in self._rows and self._rows[session_id].holder.epoch == epoch:
            del self._rows[session_id]

    async def now_us(self) -> int:
        """What that clock shows."""
        return self._clock.now_us()

    async def until_hint(self, limit_s: float) -> None:
        """Nobody hints here."""
        await anyio.sleep(limit_s)

    async def until_back(self) -> None:
        """It never goes away."""

    async def close(self) -> None:
        """Nothing to let go of."""


class PostgresLeases:
    """Leases in a server's table; made by ``open_leases``.

    ``answer_s``: how long an answer may take, before another connection is tried.
    """

    def __init__(self, link: Link, answer_s: float) -> None:
        self._link = link
        self._answer_s = answer_s
        self._turn = anyio.Lock()
        self._hint = anyio.Event()

    @asynccontextmanager
    async def _asking(self) -> AsyncGenerator[Connection[Any], None]:
        """The connection to ask over, one question at a time."""
        async with self._turn:
            try:
                with self._link.asking() as driver, anyio.fail_after(self._answer_s):
                    yield driver
            except ServerLost:
                # It may be open still, and would be asked again without a pause.
                self._link.driver.terminate()
                raise

    async def listen(self) -> None:
        """Take the server's hints from here on."""
        async with self._asking() as driver:
            await driver.add_listener(CHANNEL, self._hinted)

    def _hinted(self, *_: object) -> None:
        self._hint.set()

    async def renew(self, holder: Holder, lease_s: float) -> None:
        """Let it live for ``lease_s`` from now; a newer engine's lease is left alone."""
        async with self._asking() as driver:
            await driver.execute(_RENEW, *holder, lease_s)

    async def all(self) -> list[Lease]:
        """Every lease that has not been given back."""
        async with self._asking() as driver:
            rows = await driver.fetch(_ALL)
        return [Lease(Holder(*tuple(row)[:5]), row[5]) for row in rows]

    async def give_back(self, session_id: str, epoch: int) -> None:
        """Forget the lease of an engine; what a process that hangs holds of it stays."""
        async with self._asking() as driver:
            await driver.execute(_GIVE_BACK, session_id, epoch)

    async def now_us(self) -> int:
        """What the server's clock shows, in Unix microseconds."""
        async with self._asking() as driver:
            return int(await driver.fetchval(_NOW_US))

    async def until_hint(self, limit_s: float) -> None:
        """Until the server hints at an append, or ``limit_s`` have passed."""
        with anyio.move_on_after(limit_s):
            await self._hint.wait()
        self._hint = anyio.Event()

    async def until_back(self) -> None:
        """Wait until the server can be reached again; at once where somebody else has waited."""
        while True:
            async with self._turn:
                if self._link.driver.is_closed():
                    await self._link.until_back()
            try:
                await self.listen()
            except ServerLost:  # once more
                await anyio.sleep(PAUSE_S)
            else:
                return

    async def close(self) -> None:
        """Let go of the connection."""
        await self._link.close()


async def open_leases(
    location: Location, leaving: Leaving, lease_s: float = LEASE_S
) -> Leases | None:
    """The leases of a log on a server; None for one in a file, which has a lock instead.

    ``leaving``: of the process, as its store has it.  A server that was there for that, and is away
    now, is waited for.  ``lease_s``: what is renewed lives so long, and has to be in time for that.
    """
    if location.address is None:
        return None
    from engine.store.postgres_connection import KEEPER, linked  # noqa: PLC0415

    link = await linked(location, KEEPER, leaving, is_waited_for=True)
    leases = PostgresLeases(link, lease_s / BEATS_PER_LEASE)
    try:
        await leases.listen()
    except ServerLost:
        await leases.until_back()
    return leases
