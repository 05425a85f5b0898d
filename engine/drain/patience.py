"""Patience: how long an engine leaves work to the others of a shared log, before it takes it.

Nothing stands idle because another engine is slow: what is still there after a moment is taken by
whoever has room, and an engine that let it lie is not waited for again until it starts something.
"""

from __future__ import annotations

from engine.clock import Clock
from engine.triage.fair_share import Turn
from engine.triage.scope import Scope
from engine.triage.select import Queue
from projections.backlog import PhaseStanding
from projections.board import Board
from projections.fold import join

LEAVE_S = 0.25
"""Twice the longest that an engine took to claim new work, on a busy machine of two cores."""


class Patience:
    """What an engine has left to others, and since when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: PhaseStanding | None = None
        self._since_s = 0.0
        self._idle: dict[str, int] = {}

    def turn(self, board: Board, queue: Queue, scope: Scope, room: int) -> Turn | None:
        """What the next pick goes by; None: it takes all that there is room for.

        Nobody is waited for when a person named a phase, or once the patience is at its end.
        """
        if scope.is_named_phase:
            return None
        if self._was_taken(board):
            self._left = None
        if self.left_s() == 0:
            self._left = None
            self._idle = {
                session.session_id: session.attempts
                for session in board.sessions.values()
                if session.leased_by is not None
            }
            return None
        return Turn(queue, scope, room, self._idle)

    def heed(self, board: Board, turn: Turn | None) -> None:
        """Take notice of what a pick has left; what was left before counts from then."""
        if turn is None or turn.left is None:
            self._left = None
        elif self._left is None or self._was_taken(board):
            self._left = board.backlog.states[turn.left]
            self._since_s = self._clock.monotonic_s()

    def _was_taken(self, board: Board) -> bool:
        left = self._left
        return left is not None and board.backlog.states[join(left.run_id, left.phase_id)] != left

    def left_s(self) -> float | None:
        """How long to wait for the others still; None when nothing is left to them."""
        if self._left is None:
            return None
        return max(0.0, self._since_s + LEAVE_S - self._clock.monotonic_s())
