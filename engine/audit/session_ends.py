"""Why a session ended, found out again: what no stop said follows from what was left to pick."""

from __future__ import annotations

from typing import NamedTuple

from engine.events import SessionEnd
from engine.triage.picking import Picker, next_event
from engine.triage.scope import Scope
from engine.triage.select import Queue
from projections.board import Board


class Between(NamedTuple):
    """When a session found nothing more to start: behind one event, and up to its end.

    Unix microseconds by the writer's clock.  In between only time can have changed anything.
    """

    last_us: int
    end_us: int


def causes(board: Board, queue: Queue, scope: Scope, when: Between) -> frozenset[SessionEnd]:
    """What may be said of the end of a session; empty when it may not end there.

    A stop that was recorded is the cause.  Without one the session ends for lack of work, so the
    picker has nothing for it then, and only an open breaker makes a difference.
    """
    session = board.sessions.states[scope.session_id]
    if session.because is not None:
        return frozenset({session.because})
    if session.leased_by is not None:
        # Others write in between, so what it found when it asked does not show.
        return frozenset({"nothing_eligible", "held_back"})
    pickers = [Picker(board, queue, scope, now_us, str) for now_us in when]
    if session.status == "running" and all(next_event(picker) for picker in pickers):
        return frozenset()
    return frozenset(queue.out_of_work(now_us) for now_us in when)
