"""Why: the sentence for a run or a phase, with rule, facts and positions, from the log alone."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from engine.errors import UsageProblem
from engine.events import (
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    BoundaryDetected,
    FailureFingerprinted,
    Limits,
    PhaseRequeued,
    Record,
    RunJudged,
    RunReinstated,
    RunStopped,
    ZeroYieldExplained,
    decode,
    event_type,
)
from engine.store.protocol import LogReader, Query
from engine.triage.eligible import phase_hindrance, run_hindrance
from engine.triage.ordering import waits_for
from engine.triage.policy import policy_from_json, policy_named
from engine.triage.scope import Scope
from projections.backlog import PhaseStanding
from projections.board import Board
from projections.fold import join
from projections.run_triage import RunStanding

EVIDENCE_MAX = 12
RECORDS_MAX = 4 * EVIDENCE_MAX
_OF_RUN = tuple(event_type(kind) for kind in (RunJudged, RunStopped, RunReinstated))
_OWN = tuple(
    event_type(kind)
    for kind in (
        AttemptStarted,
        AttemptFinished,
        FailureFingerprinted,
        BoundaryDetected,
        ZeroYieldExplained,
        PhaseRequeued,
    )
)

HINDRANCES = {
    "done": "it is finished",
    "not_drained": "its state is not one that the policy drains",
    "open": "an attempt of it is running",
    "exhausted": "it has used up its attempts",
    "lost_too_often": "its attempts were lost with their engine too often",
    "tried_this_session": "the policy tries a phase once in a session",
    "deprioritized": "its run is deprioritized",
    "stopped": "its run is stopped for the rest of the session",
    "sample_in_flight": "the sample of its run is running and the verdict is not in yet",
    "run_is_full": "its run has as many attempts running as it may",
    "filtered": "the session is for another run",
    "prefix_skipped": "the session skips its run by prefix",
}

REMEDIES = {
    "done": "`runoff phase requeue` would have it done again.",
    "not_drained": "`runoff phase requeue` would queue it.",
    "open": "The end of that attempt.",
    "exhausted": "`runoff phase requeue` gives it new attempts.",
    "lost_too_often": "`runoff phase requeue` gives it new attempts.",
    "tried_this_session": "A new session may try it again.",
    "deprioritized": "`runoff run reinstate` has it sampled again.",
    "stopped": "A new session may try it again.",
    "sample_in_flight": "The end of the sample brings the verdict.",
    "run_is_full": "The end of one of its attempts.",
    "filtered": "A session without --run-id, or with this one.",
    "prefix_skipped": "A session without that --skip-run-prefix.",
}


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Something the log says, and where."""

    pos: int
    text: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run or phase stands where it stands: the sentence first, the evidence after it.

    ``change`` says what would make a difference; None when nothing needs to.
    """

    run_id: str
    phase_id: str | None
    sentence: str
    change: str | None
    rule: str | None
    facts: tuple[Fact, ...]


class _Answer(NamedTuple):
    sentence: str
    change: str | None


async def explanation(
    reader: LogReader, board: Board, run_id: str, phase_id: str | None
) -> Explanation:
    """Explain a run, or one of its phases, as of ``board``'s position.

    Raises UsageProblem for an id that the log does not hold.
    """
    run = board.runs.get(run_id)
    if run is None:
        raise UsageProblem(
            f"there is no run {run_id[:80]!a}.", remedy="`runoff run list` names the runs."
        )
    if phase_id is None:
        answer = _of_run(run, board)
    else:
        phase = board.backlog.get(join(run_id, phase_id))
        if phase is None:
            raise UsageProblem(
                f"the run has no phase {phase_id[:80]!a}.",
                remedy="`runoff run show RUN` names its phases.",
            )
        answer = _of_phase(phase, run, board)
    events = await _evidence(reader, board, run_id, phase_id)
    facts = [Fact(pos=pos, text=text) for pos, event in events if (text := _text(event))]
    rules = [event.reason for _, event in events if isinstance(event, RunJudged | RunStopped)]
    rule = f"{rules[-1].rule} version {rules[-1].version} ({rules[-1].policy})" if rules else None
    return Explanation(
        run_id=run_id,
        phase_id=phase_id,
        sentence=answer.sentence,
        change=answer.change,
        rule=rule,
        facts=tuple(facts[-EVIDENCE_MAX:]),
    )


async def _evidence(
    reader: LogReader, board: Board, run_id: str, phase_id: str | None
) -> list[tuple[int, AnyEvent]]:
    """The newest events that matter, in order; a phase's are joined by what its run met."""
    until = board.head.pos
    own = Query(run=run_id, phase=phase_id, until=until, types=_OWN, newest_first=True)
    of_run = Query(run=run_id, until=until, types=_OF_RUN, newest_first=True)
    records = await reader.records(own, limit=RECORDS_MAX)
    records += await reader.records(of_run, limit=EVIDENCE_MAX)
    unique = {record.pos: record for record in records}
    return [(pos, _event(unique[pos])) for pos in sorted(unique)]


async def explain(reader: LogReader, board: Board, run_id: str, phase_id: str | None) -> str:
    """The explanation in words; ids and facts in it are as the log has them, not yet escaped."""
    found = await explanation(reader, board, run_id, phase_id)
    lines = [f"Why {run_id}{'/' + phase_id if phase_id else ''}?", f"  {found.sentence}"]
    if found.change:
        lines.append(f"  what would change it: {found.change}")
    if found.rule:
        lines.append(f"  rule: {found.rule}")
    lines += [f"  @{fact.pos}  {fact.text}" for fact in found.facts]
    return "\n".join(lines)


def _event(record: Record) -> AnyEvent:
    return decode(record.data, event_type=record.type, schema=record.schema, pos=record.pos)


def _scope(run: RunStanding, board: Board) -> Scope:
    """The scope of the last session that touched the run, or of a new one under the default."""
    session = board.sessions.get(run.session_id) if run.session_id else None
    if session is None or session.limits is None:
        limits = Limits(
            batch_size=10, workers=1, per_run_max=1, phase_timeout_ms=900_000, grace_ms=5000
        )
        return Scope("none", policy_named("default"), limits)
    return Scope(session.session_id, policy_from_json(session.policy_json), session.limits)


def _of_run(run: RunStanding, board: Board) -> _Answer:
    scope = _scope(run, board)
    phases = [phase for phase in board.backlog.values() if phase.run_id == run.run_id]
    left = [phase for phase in phases if phase_hindrance(phase, scope) is None]
    base = (
        f"The run is {run.standing}"
        + (f" ({run.because}, decided at position {run.verdict_pos})" if run.because else "")
        + f"; {len(left)} of its {len(phases)} phases could still be attempted"
    )
    hindrance = run_hindrance(run, scope)
    if hindrance is None:
        return _Answer(f"{base}, and nothing holds it back.", None)
    where = f" (at position {run.stopped_pos}, {run.stopped})" if hindrance == "stopped" else ""
    return _Answer(f"{base}, but {HINDRANCES[hindrance]}{where}.", REMEDIES[hindrance])


def _of_phase(phase: PhaseStanding, run: RunStanding, board: Board) -> _Answer:
    scope = _scope(run, board)
    base = f"The phase is {phase.state} after {phase.attempts_total} attempts"
    hindrance = phase_hindrance(phase, scope)
    if hindrance is not None:
        because = f"{base}; it is not attempted because {HINDRANCES[hindrance]}."
        return _Answer(because, REMEDIES[hindrance])
    siblings = [other for other in board.backlog.values() if other.run_id == phase.run_id]
    blockers = waits_for(phase, siblings, scope.policy)
    if blockers:
        names = ", ".join(f"{b.phase_id} ({b.state})" for b in blockers[:3])
        return _Answer(
            f"{base}; it waits for {len(blockers)} earlier phases: {names}.",
            "These phases being finished.",
        )
    of_run = run_hindrance(run, scope)
    if of_run is not None:
        because = f"{base}; it is not attempted because {HINDRANCES[of_run]}."
        return _Answer(because, REMEDIES[of_run])
    return _Answer(
        f"{base}; nothing holds it back, the next session with room will attempt it.", None
    )


def _text(event: AnyEvent) -> str | None:
    match event:
        case AttemptStarted():
            return f"attempt {event.number} of {event.phase_id} started: {event.reason.sentence}"
        case AttemptFinished():
            error = f": {event.error[:160]}" if event.error else ""
            return f"attempt {event.number} of {event.phase_id} {event.ending}{error}"
        case FailureFingerprinted():
            return f"fingerprint {event.fingerprint}, seen {event.seen_before} times before"
        case BoundaryDetected():
            return f"limit {event.kind} ({event.disposition}) by {event.pattern}"
        case ZeroYieldExplained():
            return f"no usage: {event.reason} ({event.evidence})"
        case RunJudged() | RunStopped():
            return event.reason.sentence
        case PhaseRequeued():
            return f"{event.phase_id} requeued by {event.by}: {event.why}"
        case RunReinstated():
            return f"reinstated by {event.by}: {event.why}"
        case _:
            return None
