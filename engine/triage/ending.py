"""The end of a session: what it came to, counted from the board."""

from __future__ import annotations

from engine.events import SessionEnd, SessionEnded
from engine.triage.eligible import phase_hindrance
from engine.triage.picking import active_ms
from engine.triage.scope import Scope
from projections.board import Board


def ended(board: Board, scope: Scope, because: SessionEnd, now_us: int) -> SessionEnded:
    """The last event of a session, or of this part of it; ``because`` unless a stop said it."""
    session = board.sessions.states[scope.session_id]
    return SessionEnded(
        session_id=scope.session_id,
        because=session.because or because,
        active_ms=active_ms(session, now_us),
        attempts=session.attempts,
        work_left=work_left(board, scope),
    )


def work_left(board: Board, scope: Scope) -> int:
    """Phases of the session's filter that are still backlog and not used up.

    Those that need another machine's labels are backlog like any other.
    """
    limits = scope.limits
    return sum(
        1
        for phase in board.backlog.values()
        if limits.run_id in (None, phase.run_id)
        and limits.phase_id in (None, phase.phase_id)
        and not phase.run_id.startswith(limits.skip_run_prefixes or "\0")
        and phase_hindrance(phase, scope) in (None, "label_missing")
    )
