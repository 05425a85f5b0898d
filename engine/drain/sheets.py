"""From a started attempt to the assignment its executor gets."""

from __future__ import annotations

import msgspec

from engine.clock import Clock
from engine.drain.read_ahead import ReadAhead
from engine.events import (
    AttemptEstimated,
    AttemptStarted,
    PhaseRegistered,
    Record,
    event_of,
)
from engine.executors.port import Assignment, PhaseSheet
from engine.store.recorder import Recorder
from engine.triage.scope import Scope
from projections.backlog import REASON_CHARS_MAX
from projections.fold import join


def started_in(record: Record) -> AttemptStarted:
    """The start of an attempt that a record holds."""
    event = event_of(record)
    assert isinstance(event, AttemptStarted)
    return event


async def assignment_for(
    recorder: Recorder,
    started: AttemptStarted,
    scope: Scope,
    clock: Clock,
    *,
    estimated: Record | None = None,
    ahead: ReadAhead | None = None,
) -> Assignment:
    """Everything an executor is told about an attempt, from the phase as it was registered.

    ``estimated``: the record of its estimate, if it has one.  ``ahead``: what was read before.
    """
    phase = recorder.board.backlog.states[join(started.run_id, started.phase_id)]
    reading = ReadAhead(recorder.store) if ahead is None else ahead
    registered = await reading.registered(phase.registered_pos)
    return Assignment(
        session_id=started.session_id,
        attempt_id=started.attempt_id,
        sheet=_sheet(registered, started, phase.reason, estimated),
        timeout_s=started.timeout_ms / 1000,
        grace_s=scope.limits.grace_ms / 1000,
        deadline_us=clock.now_us() + started.timeout_ms * 1000,
    )


def _sheet(
    registered: PhaseRegistered,
    started: AttemptStarted,
    reason: str | None,
    estimated: Record | None,
) -> PhaseSheet:
    known = None if estimated is None else event_of(estimated)
    tokens, budget = None, None
    if isinstance(known, AttemptEstimated):
        tokens, budget = known.estimated_tokens, known.budget_tokens
    return PhaseSheet(
        run_id=registered.run_id,
        tier_id=registered.tier_id,
        phase_id=registered.phase_id,
        phase_index=registered.phase_index,
        name=registered.name,
        goal=registered.goal,
        state=started.initial_state,
        category=registered.category,
        complexity=registered.complexity,
        deliverables=registered.deliverables,
        read_only_context=registered.read_only_context,
        scope=_raw_json(registered.scope_json),
        attempt=started.number,
        last_failure_reason=_whole_reason(registered, reason),
        estimate_tokens=tokens,
        budget_tokens=registered.incident_token_cap,
        output_budget_tokens=budget,
    )


def _whole_reason(registered: PhaseRegistered, known: str | None) -> str | None:
    """The whole of a reason that the backlog's source gave; the board keeps its start."""
    whole = registered.last_failure_reason
    return whole if whole and whole[:REASON_CHARS_MAX] == known else known


def _raw_json(text: str | None) -> msgspec.Raw | None:
    """A scope that is not JSON, or nested too deep to be read, goes along as a JSON string."""
    if text is None:
        return None
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode(text))
    return msgspec.Raw(text.encode())
