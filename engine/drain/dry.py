"""The dry run: which attempts a session would make, if each succeeded.  Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from engine.events import AttemptFinished, AttemptStarted, Head, RunJudged, Seen
from engine.triage.decide import decisions, pick_reason, situation_of
from engine.triage.eligible import Scope
from engine.triage.rules import REASON_CLASS_NAMES
from engine.triage.select import Choice, Queue
from projections.board import Board
from projections.sessions import SessionStanding


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt that would be made."""

    run_id: str
    phase_id: str
    group: str
    category: str
    tier_index: int
    phase_index: int
    sentence: str


def planned(board: Board, scope: Scope, head: Head) -> Iterator[Step]:
    """The attempts in order, one at a time; ``board`` is used up by it."""
    queue = Queue(board, scope)
    session = board.sessions.get(scope.session_id) or SessionStanding(session_id=scope.session_id)
    pos = head.pos
    for number in range(max(0, scope.limits.batch_size - session.attempts)):
        choice = queue.pick()
        if choice is None:
            return
        reason = pick_reason(choice, scope, head.pos)
        yield _step(choice, reason.sentence)
        started = _started(choice, scope, number)
        pos = _succeed(board, queue, scope, started, pos)


def _step(choice: Choice, sentence: str) -> Step:
    return Step(
        run_id=choice.phase.run_id,
        phase_id=choice.phase.phase_id,
        group=choice.group,
        category=REASON_CLASS_NAMES[choice.key.reason_class],
        tier_index=choice.phase.tier_index,
        phase_index=choice.phase.phase_index,
        sentence=sentence,
    )


def _started(choice: Choice, scope: Scope, number: int) -> AttemptStarted:
    return AttemptStarted(
        session_id=scope.session_id,
        run_id=choice.phase.run_id,
        phase_id=choice.phase.phase_id,
        attempt_id=f"att_dry_{number}",
        number=choice.phase.number + 1,
        group=choice.group,
        category=REASON_CLASS_NAMES[choice.key.reason_class],
        initial_state=choice.phase.state,
        phase_index=choice.phase.phase_index,
        executor="dry-run",
        timeout_ms=scope.limits.phase_timeout_ms,
        reason=pick_reason(choice, scope, 0),
    )


def _succeed(board: Board, queue: Queue, scope: Scope, started: AttemptStarted, pos: int) -> int:
    """Feed the board an attempt that succeeds, and the verdict that follows; the new position."""
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
    board.feed(Seen(pos + 1, 0, started))
    situation = situation_of(board, finished, None)
    board.feed(Seen(pos + 2, 0, finished))
    pos += 2
    for event in decisions(situation, finished, scope, pos, 1):
        if isinstance(event, RunJudged):
            pos += 1
            board.feed(Seen(pos, 0, event))
    queue.touch(started.run_id, started.phase_id)
    return pos
