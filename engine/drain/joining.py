"""Joining those who share a log on a server; a log in a file has one engine, and a lock."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from engine.clock import Clock
from engine.drain.loop import Drain
from engine.drain.recovery import open_attempts
from engine.drain.sharing import Share, keeping
from engine.ids import IdMaker
from engine.store.leases import LEASE_S, open_leases
from engine.store.location import Location
from engine.store.recorder import Recorder


async def notice_the_dead(
    location: Location, recorder: Recorder, clock: Clock, ids: IdMaker
) -> None:
    """Append that engines of this machine are gone which are; their sessions can be resumed."""
    async with watching(location, recorder, clock, ids) as share:
        if share is not None:
            # One that has rested knows nothing of sessions that others have begun meanwhile.
            await share.look()


@asynccontextmanager
async def watching(
    location: Location | None, recorder: Recorder, clock: Clock, ids: IdMaker
) -> AsyncGenerator[Share | None, None]:
    """See who lives, at no session and without a lease; None where nobody else can be."""
    leases = None if location is None else await open_leases(location, recorder.leaving)
    if leases is None:
        yield None
        return
    try:
        yield Share(recorder, leases, clock, ids, "")
    finally:
        await leases.close()


@asynccontextmanager
async def joined(
    location: Location | None, drain: Drain, *, end: bool, lease_s: float = LEASE_S
) -> AsyncGenerator[frozenset[str] | None, None]:
    """Hold a lease on the drain's session while the block runs.

    Yields the open attempts that are to be taken over at the start, None for all; later the drain
    is handed what engines leave that lapse.  ``end``: living guardians are told to end theirs.
    ``location`` None joins nobody.  Raises LogHeld when another engine is at the session, and
    Fenced out of the block when this one has lapsed.
    """
    leaving = drain.recorder.leaving
    leases = None if location is None else await open_leases(location, leaving, lease_s)
    if location is None or leases is None:
        yield None
        return
    files_root = location.beside("files")
    try:
        share = Share(
            drain.recorder,
            leases,
            drain.clock,
            drain.ids,
            drain.scope.session_id,
            lease_s=lease_s,
        )

        async def look_after() -> None:
            if drain.is_under_way:
                left = await share.left(drain.attended)
                here = await open_attempts(
                    drain.recorder,
                    drain.clock,
                    end=end,
                    among=left.here,
                    files_root=files_root,
                    tell=drain.tell,
                )
                drain.adopt([*here, *left.over])

        share.look_after = look_after
        await share.join()
        async with keeping(share):
            yield await share.inherited()
    finally:
        await leases.close()
