"""The dry run: which attempts a session would make, if each succeeded.  Writes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec

from engine.events import (
    AttemptFinished,
    AttemptStarted,
    SessionDraining,
    SessionStarted,
)
from engine.triage.beginning import taken_over
from engine.triage.decide import Facts, decisions
from engine.triage.picking import Picker, next_event
from engine.triage.reasons import Ground
from engine.triage.scope import Scope
from engine.triage.select import Queue
from projections.board import Board
from projections.fold import join


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt that would be made."""

    run_id: str
    phase_id: str
    group: str
    category: str
    tier_index: int
    phase_index: int
    sentence: str


def planned(board: Board, scope: Scope, executor: str, now_us: int) -> Iterator[Step]:
    """The attempts in order, one at a time, if each succeeded; ``board`` is used up by it."""
    if board.sessions.get(scope.session_id) is None:
        _begin(board, scope, executor, now_us)
    queue = Queue(board, scope)
    numbers = itertools.count()
    picker = Picker(board, queue, scope, now_us, lambda: f"att_dry_{next(numbers)}")
    while (event := next_event(picker)) is not None and not isinstance(event, SessionDraining):
        board.fold_next(event, now_us)
        queue.heed(event)
        if isinstance(event, AttemptStarted):
            yield _step(event, board)
            _succeed(picker, event)


def _begin(board: Board, scope: Scope, executor: str, now_us: int) -> None:
    """What a drain records first; open breakers go on holding runs back."""
    begun = SessionStarted(session_id=scope.session_id, executor=executor, limits=scope.limits)
    board.fold_next(begun, now_us)
    ground = Ground(scope, board.head.pos, now_us)
    for event in list(taken_over(board, ground)):
        board.fold_next(event, now_us)


def _step(started: AttemptStarted, board: Board) -> Step:
    phase = board.backlog.states[join(started.run_id, started.phase_id)]
    return Step(
        run_id=started.run_id,
        phase_id=started.phase_id,
        group=started.group,
        category=started.category,
        tier_index=phase.tier_index,
        phase_index=phase.phase_index,
        sentence=started.reason.sentence,
    )


def _succeed(picker: Picker, started: AttemptStarted) -> None:
    """Feed the board an attempt that succeeds, and the decisions that follow."""
    finished = AttemptFinished(
        session_id=started.session_id,
        run_id=started.run_id,
        phase_id=started.phase_id,
        attempt_id=started.attempt_id,
        number=started.number,
        ending="succeeded",
        final_state="COMPLETE",
        duration_ms=0,
        timeout_ms=started.timeout_ms,
    )
    board = picker.board
    for event in [finished, *decisions(board, Facts(finished), picker.ground())]:
        if not isinstance(event, SessionDraining):  # a success without usage would be no news
            board.fold_next(event, picker.now_us)
            picker.queue.heed(event)
