"""Picking: the events by which a session goes on, one by one, each with its reason.

Pure: the writer calls it inside its transaction, and an audit calls it again on the same prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from engine.amounts import counted, lasting
from engine.events import (
    AnyEvent,
    AttemptStarted,
    Reason,
    RunCooledDown,
    SessionDraining,
    SessionEnd,
)
from engine.triage import budgets
from engine.triage.cooling import cooled_down
from engine.triage.hosts import is_full
from engine.triage.reasons import Facts, Ground
from engine.triage.rules import REASON_CLASS_NAMES
from engine.triage.scope import Scope
from engine.triage.select import Choice, Queue
from projections.board import Board
from projections.sessions import RESTING, SessionStanding

PICK_RULE = "pick"
LIMIT_RULE = "session_limits"


class Picker(NamedTuple):
    """What picks are made from: the board at the head, its index, the session, and new ids."""

    board: Board
    queue: Queue
    scope: Scope
    now_us: int
    new_attempt_id: Callable[[], str]

    def ground(self) -> Ground:
        """What the next decision stands on."""
        return Ground(self.scope, self.board.head.pos, self.now_us)


def picks(picker: Picker, capacity: int) -> Iterator[AnyEvent]:
    """Up to ``capacity`` starts, with what goes before and after each.

    Fewer where the session has attempts open that a dead engine left to others.
    Every event is folded into the board, and the queue told of it, before the next is asked for.
    """
    while capacity > 0:
        session = picker.board.sessions.states[picker.scope.session_id]
        if session.status != "running" or is_full(session, picker.scope):
            return
        event = next_event(picker)
        if event is None:
            return
        yield event
        if isinstance(event, AttemptStarted):
            capacity -= 1
            yield from budgets.reached_by_start(picker.board, event, picker.ground())


def next_event(picker: Picker) -> SessionDraining | RunCooledDown | AttemptStarted | None:
    """What comes first: a limit of the session, a run that has cooled down, or an attempt."""
    board, ground = picker.board, picker.ground()
    limit = limit_reached(board, ground)
    if limit is not None:
        return limit
    cool = picker.queue.cool(picker.now_us)
    if cool is not None:
        return cooled_down(cool, ground)
    choice = picker.queue.pick(picker.now_us)
    if choice is None:
        return None
    executor = board.sessions.states[picker.scope.session_id].executor
    return started(choice, executor, picker.new_attempt_id(), ground)


def active_ms(session: SessionStanding, now_us: int) -> int:
    """How long the session has been at it, over all its parts, by the writer's clock."""
    running = 0 if session.status in RESTING else now_us - session.part_started_us
    return session.active_ms + max(0, running) // 1000


def limit_reached(board: Board, ground: Ground) -> SessionDraining | None:
    """The event by which a session starts nothing more, if one of its limits is reached."""
    limits, session = ground.scope.limits, board.sessions.states[ground.scope.session_id]
    elapsed_ms = active_ms(session, ground.now_us)
    facts: Facts
    if session.attempts >= limits.batch_size:
        sentence = f"The session has made {counted(session.attempts, 'attempt')}, its limit."
        facts = {"attempts": session.attempts, "elapsed_ms": elapsed_ms}
        return draining("batch_size", sentence, facts, ground)
    if limits.total_ms_max and elapsed_ms >= limits.total_ms_max:
        sentence = f"The session has run for {lasting(elapsed_ms)}, its limit."
        facts = {"attempts": session.attempts, "elapsed_ms": elapsed_ms}
        return draining("total_time", sentence, facts, ground)
    reached = budgets.session_reached(board, ground.scope, ground.now_us)
    if reached is None:
        return None
    budget, spent = reached
    because: SessionEnd = "day_budget" if budget.scope == "day" else "session_budget"
    facts = {"measure": budget.measure, "spent": spent, "limit": budget.limit}
    return draining(because, budgets.sentence_of(budget, spent), facts, ground)


def draining(because: SessionEnd, sentence: str, facts: Facts, ground: Ground) -> SessionDraining:
    """The event after which a session starts nothing more."""
    why = ground.reason(LIMIT_RULE, facts, sentence)
    return SessionDraining(session_id=ground.scope.session_id, because=because, reason=why)


def started(choice: Choice, executor: str, attempt_id: str, ground: Ground) -> AttemptStarted:
    """The start of the attempt that was chosen."""
    phase, scope = choice.phase, ground.scope
    return AttemptStarted(
        session_id=scope.session_id,
        run_id=phase.run_id,
        phase_id=phase.phase_id,
        attempt_id=attempt_id,
        number=phase.number + 1,
        group="named" if scope.is_named_phase else choice.group,
        category=REASON_CLASS_NAMES[choice.key.reason_class],
        initial_state=phase.state,
        phase_index=phase.phase_index,
        executor=executor,
        timeout_ms=scope.limits.phase_timeout_ms,
        reason=pick_reason(choice, ground),
        probe_of=choice.probe_of,
    )


def pick_reason(choice: Choice, ground: Ground) -> Reason:
    """Why this phase and not another, as recorded with its attempt."""
    key, phase, run = choice.key, choice.phase, choice.run
    facts: Facts = {
        "standing": run.standing,
        "reason_class": key.reason_class,
        "tier_index": phase.tier_index,
        "phase_index": phase.phase_index,
        "attempts_before": phase.attempts,
    }
    return ground.reason(PICK_RULE, facts, _pick_sentence(choice, ground.scope))


def _pick_sentence(choice: Choice, scope: Scope) -> str:
    if scope.is_named_phase:
        return "A person asked for this phase."
    phase, failure = choice.phase, _failure_words(choice.key.reason_class)
    came, so = "it came first", ""
    if choice.probe_of is not None:
        came, so = "its run came last", f", so it probes the open breaker of {choice.probe_of}"
    return (
        f"Its run is {choice.run.standing}, so it stands in the group {choice.group!r};"
        f" there {came} by last failure ({failure}), then by its place in the run"
        f" (tier {phase.tier_index}, phase {phase.phase_index}){so}."
    )


def _failure_words(reason_class: int) -> str:
    """The class of phases that have not failed, or did without a word, has no better name."""
    return "none known" if reason_class == 1 else REASON_CLASS_NAMES[reason_class]
