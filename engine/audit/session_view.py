"""A session as it is shown: how it stands, and the decision by which it starts nothing more."""

from __future__ import annotations

import msgspec

from engine.events import Seen, SessionDraining, SessionEnd
from engine.store.boards import seen_page
from engine.store.moments import position_at
from engine.store.protocol import PAGE_ROWS, LogReader
from projections.sessions import SessionStanding, SessionStatus

WINDOWS = 4


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """The newest session, from which things are seen.

    ``sentence`` is why it starts nothing more, as decided at ``pos``; None while it runs, and where
    nothing was decided (a session that ran out of work just ends).
    """

    session_id: str
    status: SessionStatus
    because: SessionEnd | None
    policy: str
    pos: int | None = None
    sentence: str | None = None


async def session_view(
    reader: LogReader, session: SessionStanding | None, end: int
) -> SessionView | None:
    """The session as it is shown, with the decision by which it starts nothing more."""
    if session is None:
        return None
    draining = None if session.status == "running" else await _draining(reader, session, end)
    event = draining.event if draining else None
    return SessionView(
        session_id=session.session_id,
        status=session.status,
        because=session.because,
        policy=session.policy,
        pos=draining.pos if draining else None,
        sentence=event.reason.sentence if isinstance(event, SessionDraining) else None,
    )


async def _draining(reader: LogReader, session: SessionStanding, end: int) -> Seen | None:
    """The newest ``session.draining`` of a session, sought a few pages before its last event."""
    until = min(end, await position_at(reader, session.last_us))
    for _ in range(WINDOWS):
        rows = await reader.fold_rows(
            max(0, until - PAGE_ROWS), until, frozenset({"session.draining"})
        )
        for seen in reversed(seen_page(rows)):
            event = seen.event
            assert isinstance(event, SessionDraining)
            if event.session_id == session.session_id:
                # One of an earlier part says nothing of why this part ended.
                return seen if event.because == session.because else None
        until -= PAGE_ROWS
        if until <= 0:
            return None
    return None
