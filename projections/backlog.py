"""The backlog: where every phase stands, one row a phase."""

from __future__ import annotations

from sys import intern
from typing import assert_never, cast, get_args

import msgspec
from msgspec.structs import replace

from engine.events import (
    AttemptDeferred,
    AttemptFinished,
    AttemptStarted,
    Ending,
    Order,
    PhaseRegistered,
    PhaseRequeued,
    PhaseState,
    Seen,
)
from projections.fold import Fold, join

REASON_CHARS_MAX = 4096

UNFINISHED: frozenset[PhaseState] = frozenset({"QUEUED", "EXECUTING", "FAILED"})
"""States that later phases wait for.  GATE and CI_RUNNING are past execution: what remains of
them is not ours to drain."""


class PhaseStanding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One phase as of one position.

    Since the last requeue: ``number`` attempts were started, ``attempts`` of them proved something
    or are still open, ``orphans`` were lost with their engine and guardian, ``deferrals`` met a
    provider's limit; ``spent_tokens`` and ``spent_ms`` are what they took.  ``state_before`` and
    ``reason_before`` are what the newest attempt began from.  ``registered_pos`` is where its
    whole description stands in the log and the last tie-breaker of the queue.  ``reason`` is the
    newest failure's own text, never an older one's.  ``needs``: the labels that an engine must
    offer to attempt it.
    """

    run_id: str
    phase_id: str
    tier_id: str
    tier_index: int
    phase_index: int
    order: Order
    after: tuple[str, ...]
    needs: tuple[str, ...] = ()
    state: PhaseState
    state_before: PhaseState = "QUEUED"
    category: str | None
    complexity: str | None
    reason: str | None
    reason_before: str | None = None
    registered_pos: int
    incident_token_cap: int | None = None
    deliverables: int = 0
    number: int = 0
    attempts: int = 0
    orphans: int = 0
    deferrals: int = 0
    spent_tokens: int = 0
    spent_ms: int = 0
    attempts_total: int = 0
    open_attempt: str | None = None
    last_session: str | None = None
    last_ending: Ending | None = None
    last_pos: int = 0
    yield_events: int = 0
    tokens: int = 0


Handled = PhaseRegistered | PhaseRequeued | AttemptStarted | AttemptFinished | AttemptDeferred


def _keys(seen: Seen) -> tuple[str, ...]:
    event = cast("Handled", seen.event)
    return (join(event.run_id, event.phase_id),)


def _apply(state: PhaseStanding | None, seen: Seen) -> PhaseStanding:
    event = cast("Handled", seen.event)
    if isinstance(event, PhaseRegistered):
        return _registered(event, seen.pos)
    assert state is not None, f"{event.run_id}/{event.phase_id} was never registered"
    match event:
        case PhaseRequeued():
            return replace(
                state,
                state="QUEUED",
                reason=None,
                number=0,
                attempts=0,
                orphans=0,
                deferrals=0,
                spent_tokens=0,
                spent_ms=0,
                last_pos=seen.pos,
            )
        case AttemptStarted():
            return replace(
                state,
                state="EXECUTING",
                state_before=event.initial_state,
                reason_before=state.reason,
                number=event.number,
                attempts=state.attempts + 1,
                attempts_total=state.attempts_total + 1,
                open_attempt=event.attempt_id,
                last_session=intern(event.session_id),
                last_pos=seen.pos,
            )
        case AttemptFinished():
            return _finished(state, event, seen.pos)
        case AttemptDeferred():
            return replace(
                state,
                state=event.state,
                reason=state.reason_before,
                attempts=max(0, state.attempts - 1),
                deferrals=state.deferrals + 1,
                last_pos=seen.pos,
            )
        case _:
            assert_never(event)


def _registered(event: PhaseRegistered, pos: int) -> PhaseStanding:
    return PhaseStanding(
        run_id=intern(event.run_id),
        phase_id=event.phase_id,
        tier_id=intern(event.tier_id),
        tier_index=event.tier_index,
        phase_index=event.phase_index,
        order=event.order,
        after=event.after,
        needs=event.needs,
        state=event.state,
        category=event.category and intern(event.category),
        complexity=event.complexity and intern(event.complexity),
        reason=event.last_failure_reason and event.last_failure_reason[:REASON_CHARS_MAX],
        registered_pos=pos,
        incident_token_cap=event.incident_token_cap,
        deliverables=len(event.deliverables),
        last_pos=pos,
    )


def _finished(state: PhaseStanding, event: AttemptFinished, pos: int) -> PhaseStanding:
    unproved = event.ending in ("abandoned", "orphaned")
    return replace(
        state,
        state=event.final_state,
        attempts=max(0, state.attempts - unproved),  # 0 when it was requeued meanwhile
        orphans=state.orphans + (event.ending == "orphaned"),
        open_attempt=None,
        reason=state.reason if unproved else event.error and event.error[:REASON_CHARS_MAX],
        last_ending=event.ending,
        last_pos=pos,
        yield_events=state.yield_events + event.yield_events,
        tokens=state.tokens + event.tokens,
        spent_tokens=state.spent_tokens + event.tokens,
        spent_ms=state.spent_ms + event.duration_ms,
    )


BACKLOG: Fold[PhaseStanding] = Fold(
    name="backlog",
    version=5,
    state=PhaseStanding,
    handles=frozenset(get_args(Handled)),
    keys=_keys,
    apply=_apply,
)
