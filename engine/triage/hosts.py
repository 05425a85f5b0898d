"""Hosts: how many attempts run on one machine at once, over all engines that are at its work.

An attempt counts where the engine of its session was when it took its lease; also after that
engine is gone, for as long as the attempt is open, because its process may live on.  A log in a
file has one host, whose name nobody needs: it is empty.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.triage.scope import Scope
from projections.board import Board
from projections.sessions import SessionStanding


def open_on(sessions: Iterable[SessionStanding], host: str) -> int:
    """How many attempts are open on a host, over all sessions of the log."""
    return sum(session.open for session in sessions if session.host == host)


def is_full(session: SessionStanding, scope: Scope) -> bool:
    """Whether as many of the session's attempts are open as it has workers, wherever they run."""
    return session.open >= scope.limits.workers


def host_is_full(board: Board, scope: Scope) -> bool:
    """Whether the session's host runs as many attempts as the session lets it."""
    most = scope.limits.host_workers
    if most is None:
        return False
    session = board.sessions.get(scope.session_id)
    return open_on(board.sessions.values(), session.host if session else "") >= most
