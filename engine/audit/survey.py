"""Survey the newest session and the whole backlog: what runs, what is held back, what is next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from engine.audit.casefile import Around
from engine.audit.facts import Rule
from engine.audit.overview import READY, Example, Next, OpenAttempt, Overview, answer_of
from engine.audit.session_view import session_view
from engine.events import AttemptStarted, RunCooledDown, SessionStarted, event_of
from engine.store.protocol import LogReader, Query
from engine.triage.beginning import taken_over
from engine.triage.breaker import sampling_gate
from engine.triage.case import NEW_SESSION, Case
from engine.triage.eligible import is_unfinished, phase_hindrance, run_hindrance
from engine.triage.hindrance import Hindrance
from engine.triage.hindrances import of_account, of_samples, of_session
from engine.triage.ordering import RunOrder
from engine.triage.picking import Picker, next_event
from engine.triage.reasons import Ground
from engine.triage.scope import Scope
from engine.triage.select import Queue
from projections.backlog import PhaseStanding
from projections.board import Board
from projections.run_triage import RunStanding

OPEN_SHOWN = 20


class _Counted(NamedTuple):
    phases: Counter[str]
    examples: dict[str, Example]
    unfinished: int


async def survey(
    reader: LogReader, board: Board, now_us: int, holder: str | None = None
) -> Overview:
    """Look at the newest session and the whole backlog; ``board`` is used up by it."""
    around = Around.of(board)
    case = around.case(RunStanding(run_id=""), (), now_us)
    newest = await session_view(reader, around.newest(), board.head.pos)
    goes_on = not case.is_over and case.session.status == "running" and holder != ""
    if not goes_on:
        case = case.anew()
    counted = _counted(board, case)
    open_phases = [p for p in board.backlog.values() if p.open_attempt is not None]
    shown = tuple([await _open(reader, p, now_us) for p in _newest(open_phases)])
    found = Overview(
        position=board.head.pos,
        now_us=now_us,
        sentence="",
        change=None,
        session=newest,
        holder=holder,
        open=len(open_phases),
        open_attempts=shown,
        seen_from="session" if goes_on else "new_session",
        phases=dict(counted.phases.most_common()),
        unfinished=counted.unfinished,
        examples=counted.examples,
        gates=(*_samples(case, counted), *of_account(case), *of_session(case)),
        next=_next(board, case),
    )
    answer = answer_of(found)
    return msgspec.structs.replace(found, sentence=answer.sentence, change=answer.change)


def _samples(case: Case, counted: _Counted) -> Iterable[Hindrance]:
    """What holds back runs without a verdict, if there are any that could go otherwise."""
    return (gate for gate in of_samples(case) if gate.kind in counted.phases)


def _newest(phases: Iterable[PhaseStanding]) -> list[PhaseStanding]:
    return sorted(phases, key=lambda phase: -phase.last_pos)[:OPEN_SHOWN]


async def _open(reader: LogReader, phase: PhaseStanding, now_us: int) -> OpenAttempt:
    records = await reader.records(
        Query(attempt=phase.open_attempt, types=("attempt.started",)), limit=1
    )
    record = records[0]
    event = event_of(record)
    assert isinstance(event, AttemptStarted)
    return OpenAttempt(
        attempt_id=event.attempt_id,
        session_id=event.session_id,
        run_id=event.run_id,
        phase_id=event.phase_id,
        number=event.number,
        started_pos=record.pos,
        started_us=record.recorded_us,
        age_us=max(0, now_us - record.recorded_us),
        timeout_ms=event.timeout_ms,
    )


def _counted(board: Board, case: Case) -> _Counted:
    """Every phase by its first hindrance, apart from what holds for all."""
    by_run: dict[str, list[PhaseStanding]] = {}
    # Stored rows come in another order than events, and examples shall not depend on that.
    for phase in sorted(board.backlog.values(), key=lambda each: each.registered_pos):
        by_run.setdefault(phase.run_id, []).append(phase)
    gate = sampling_gate(case.session, case.breakers, case.scope.policy, case.now_us).hindrance
    counts, examples, unfinished = Counter[str](), dict[str, Example](), 0
    for run_id, phases in by_run.items():
        run, order = board.runs.states[run_id], RunOrder(case.scope.policy)
        for phase in phases:
            order.update(phase)
        held = run_hindrance(run, case.scope) or (gate if run.standing == "unsampled" else None)
        for phase in phases:
            kind = _kind(phase, case.scope, order) or held or READY
            counts[kind] += 1
            unfinished += is_unfinished(phase)
            examples.setdefault(kind, Example(run_id=run_id, phase_id=phase.phase_id))
    return _Counted(counts, examples, unfinished)


def _kind(phase: PhaseStanding, scope: Scope, order: RunOrder) -> str | None:
    if scope.limits.phase_id not in (None, phase.phase_id):
        return "filtered"
    found = phase_hindrance(phase, scope)
    if found is not None or scope.is_named_phase:
        return found
    return "waits" if order.waits(phase.phase_id) else None


def _next(board: Board, case: Case) -> Next | None:
    """What would be recorded next; in a session that begins now, if none goes on."""
    scope = case.scope
    if case.is_new:
        _begin(board, case)
    picker = Picker(board, Queue(board, scope), scope, case.now_us, lambda: "att_next")
    event = next_event(picker)
    if event is None:
        return None
    what: Literal["attempt", "cool_down", "limit"] = "limit"
    if isinstance(event, AttemptStarted | RunCooledDown):
        what = "attempt" if isinstance(event, AttemptStarted) else "cool_down"
    return Next(
        what=what,
        run_id=getattr(event, "run_id", None),
        phase_id=getattr(event, "phase_id", None),
        group=getattr(event, "group", None),
        sentence=event.reason.sentence,
        rule=Rule.of(event.reason),
    )


def _begin(board: Board, case: Case) -> None:
    """Feed the board what a drain records first."""
    executor, limits = case.session.executor, case.scope.limits
    begun = SessionStarted(session_id=NEW_SESSION, executor=executor, limits=limits)
    board.fold_next(begun, case.now_us)
    ground = Ground(case.scope, board.head.pos, case.now_us)
    for event in list(taken_over(board, ground)):
        board.fold_next(event, case.now_us)
