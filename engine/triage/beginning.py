"""The beginning of a session: what it takes over from those before it."""

from __future__ import annotations

from collections.abc import Iterator

from engine.events import AnyEvent, SessionPartLost
from engine.triage.reasons import Ground
from projections.board import Board
from projections.sessions import RESTING, part_ms


def taken_over(board: Board, ground: Ground) -> Iterator[AnyEvent]:
    """Other sessions whose engine has died.

    A session that an engine holds a lease on is that engine's, until a lapse is recorded.
    """
    for session in board.sessions.values():
        is_other = session.session_id != ground.scope.session_id
        if is_other and session.status not in RESTING and session.leased_by is None:
            active_ms = session.active_ms + part_ms(session)
            yield SessionPartLost(session_id=session.session_id, active_ms=active_ms)
