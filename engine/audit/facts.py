"""Facts and evidence: what the log says of a run or an attempt, as things to be shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from engine.amounts import counted
from engine.events import (
    AnyEvent,
    AttemptDeferred,
    AttemptFinished,
    AttemptStarted,
    BoundaryDetected,
    BreakerReset,
    BudgetReached,
    FailureFingerprinted,
    PhaseRegistered,
    PhaseRequeued,
    Reason,
    Reclassified,
    RunCooledDown,
    RunJudged,
    RunReinstated,
    RunStopped,
    Seen,
    Stream,
    ZeroYieldExplained,
    event_type,
)
from engine.events.diagnosis import DECLARED
from engine.store.boards import seen_page
from engine.store.protocol import LogReader, Query
from projections.fingerprints import FINGERPRINTS, FingerprintCount
from projections.fold import join

SIGHTINGS_MAX = 5
EXCERPT_BYTES = 500
"""The log's excerpt of a stream is the end of what was kept of it, so long."""

_FINGERPRINTED = event_type(FailureFingerprinted)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that decided, its version, and the policy in force."""

    rule: str
    version: int
    policy: str

    @classmethod
    def of(cls, reason: Reason) -> Rule:
        """The rule that ``reason`` names."""
        return cls(rule=reason.rule, version=reason.version, policy=reason.policy)


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Something the log says, and where; ``rule`` None for what was not decided."""

    pos: int
    recorded_us: int
    type: str
    text: str
    rule: Rule | None = None


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """Where a failure was seen before."""

    pos: int
    run_id: str
    phase_id: str
    attempt_id: str


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a diagnosis rests on.

    ``name``: the fingerprint, the kind of limit, or the zero-yield reason; ``text``: the template,
    the pattern, or the fact that led to the reason.  ``byte_start`` and ``byte_end`` are offsets
    into the stored bytes under ``digest``, where ``excerpt`` stands; all None without kept output.
    """

    kind: Literal["failure", "limit", "zero_yield"]
    pos: int
    attempt_id: str
    name: str
    text: str
    detector: str
    stream: Literal["stdout", "stderr"] | None = None
    digest: str | None = None
    byte_start: int | None = None
    byte_end: int | None = None
    excerpt: str | None = None


def fact(seen: Seen) -> Fact | None:
    """What an event says; None for one that says nothing here."""
    text = _text(seen.event)
    if text is None:
        return None
    reason = getattr(seen.event, "reason", None)
    return Fact(
        pos=seen.pos,
        recorded_us=seen.recorded_us,
        type=event_type(type(seen.event)),
        text=text,
        rule=Rule.of(reason) if isinstance(reason, Reason) else None,
    )


def _text(event: AnyEvent) -> str | None:
    match event:
        case PhaseRegistered():
            return f"{event.phase_id} registered as {event.state}"
        case AttemptStarted():
            return f"attempt {event.number} of {event.phase_id} started: {event.reason.sentence}"
        case AttemptFinished():
            error = f": {event.error[:160]}" if event.error else ""
            return f"attempt {event.number} of {event.phase_id} {event.ending}{error}"
        case PhaseRequeued():
            return f"{event.phase_id} requeued by {event.by}: {event.why}"
        case RunReinstated():
            return f"reinstated by {event.by}: {event.why}"
        case BreakerReset():
            return f"reset by {event.by}: {event.why}"
        case _:
            reason = getattr(event, "reason", None)
            return reason.sentence if isinstance(reason, Reason) else _diagnosis(event)


def _diagnosis(event: AnyEvent) -> str | None:
    match event:
        case FailureFingerprinted():
            seen = counted(event.seen_before, "time")
            return f"fingerprint {event.fingerprint}, seen {seen} before in its session"
        case BoundaryDetected():
            found = f" by the pattern {event.pattern!r}"
            by = ", declared by the program" if event.pattern == DECLARED else found
            return f"limit {event.kind} ({event.disposition}){by}"
        case ZeroYieldExplained():
            return f"no usage: {event.reason} ({event.evidence})"
        case Reclassified():
            after = event.after.name if event.after else "nothing"
            return f"{event.what} by {event.detector}: {after} ({event.why})"
        case _:
            return None


DECIDED = (RunJudged, RunStopped, RunCooledDown, RunReinstated, BudgetReached, AttemptDeferred)
"""What was decided about a run or one of its phases."""


def evidence(events: Iterable[Seen], attempt_id: str) -> tuple[Evidence, ...]:
    """What the diagnosis of one attempt rests on, in the order of the log."""
    found: list[Evidence] = []
    finished: AttemptFinished | None = None
    for seen in events:
        event = seen.event
        if getattr(event, "attempt_id", None) != attempt_id:
            continue
        if isinstance(event, AttemptFinished):
            finished = event
        one = _evidence(seen.pos, event, finished)
        if one is not None:
            found.append(one)
    return tuple(found)


def _evidence(pos: int, event: AnyEvent, finished: AttemptFinished | None) -> Evidence | None:
    match event:
        case FailureFingerprinted():
            return _failure(pos, event, finished)
        case BoundaryDetected():
            return _limit(pos, event)
        case ZeroYieldExplained():
            detail = f" ({event.detail})" if event.detail else ""
            return Evidence(
                kind="zero_yield",
                pos=pos,
                attempt_id=event.attempt_id,
                name=event.reason,
                text=f"{event.evidence}{detail}",
                detector=event.detector,
            )
        case _:
            return None


def _limit(pos: int, event: BoundaryDetected) -> Evidence:
    shown = Evidence(
        kind="limit",
        pos=pos,
        attempt_id=event.attempt_id,
        name=event.kind,
        text=event.pattern if event.declared is None else event.declared,
        detector=event.detector,
    )
    at = event.evidence
    if at is None:
        return shown
    return msgspec.structs.replace(
        shown,
        stream=at.stream,
        digest=at.digest,
        byte_start=at.byte_start,
        byte_end=at.byte_end,
        excerpt=at.excerpt,
    )


def _failure(pos: int, event: FailureFingerprinted, finished: AttemptFinished | None) -> Evidence:
    kept = _kept(finished)
    shown = Evidence(
        kind="failure",
        pos=pos,
        attempt_id=event.attempt_id,
        name=event.fingerprint,
        text=event.template,
        detector=event.detector,
    )
    if kept is None:
        return shown
    stream, found = kept
    end = found.head_bytes + found.tail_bytes
    return msgspec.structs.replace(
        shown,
        stream=stream,
        digest=found.digest,
        byte_start=max(0, end - EXCERPT_BYTES),
        byte_end=end,
        excerpt=found.excerpt,
    )


def _kept(finished: AttemptFinished | None) -> tuple[Literal["stdout", "stderr"], Stream] | None:
    """The stream that most likely says what went wrong."""
    if finished is None:
        return None
    if finished.stderr.excerpt:
        return "stderr", finished.stderr
    return ("stdout", finished.stdout) if finished.stdout.excerpt else None


async def sightings(reader: LogReader, event: FailureFingerprinted, pos: int) -> list[Sighting]:
    """The first places where a failure was seen in its session before ``pos``.

    A stored row names the runs to look in; if they do not hold what the log said was there, all of
    the log is read.
    """
    wanted = min(SIGHTINGS_MAX, event.seen_before)
    if not wanted:
        return []
    found = await _in_runs(reader, event, pos, await _runs_of(reader, event))
    return found if len(found) >= wanted else await _anywhere(reader, event, pos)


async def _runs_of(reader: LogReader, event: FailureFingerprinted) -> Sequence[str]:
    """The first runs that carried it, as far as a stored row tells."""
    key = join(event.session_id, event.fingerprint)
    row = await reader.projection_row(FINGERPRINTS.name, FINGERPRINTS.version, key)
    try:
        found = msgspec.json.decode(row or "null", type=FingerprintCount | None)
    except msgspec.MsgspecError:
        return ()
    return found.runs[:SIGHTINGS_MAX] if found else ()


async def _in_runs(
    reader: LogReader, event: FailureFingerprinted, pos: int, runs: Sequence[str]
) -> list[Sighting]:
    found: list[Sighting] = []
    for run_id in runs:
        query = Query(run=run_id, types=(_FINGERPRINTED,), until=pos - 1)
        page = await reader.records(query)
        rows = [(r.pos, r.recorded_us, r.type, r.schema, r.data) for r in page]
        found += [_sighting(s) for s in seen_page(rows) if _is_same(s.event, event)]
    return sorted(found, key=lambda sighting: sighting.pos)[:SIGHTINGS_MAX]


async def _anywhere(reader: LogReader, event: FailureFingerprinted, pos: int) -> list[Sighting]:
    found: list[Sighting] = []
    after = 0
    while rows := await reader.fold_rows(after, pos - 1, frozenset({_FINGERPRINTED})):
        found += [_sighting(s) for s in seen_page(rows) if _is_same(s.event, event)]
        if len(found) >= SIGHTINGS_MAX:
            break
        after = rows[-1][0]
    return found[:SIGHTINGS_MAX]


def _is_same(other: AnyEvent, event: FailureFingerprinted) -> bool:
    assert isinstance(other, FailureFingerprinted)
    return (other.session_id, other.fingerprint) == (event.session_id, event.fingerprint)


def _sighting(seen: Seen) -> Sighting:
    event = seen.event
    assert isinstance(event, FailureFingerprinted)
    return Sighting(
        pos=seen.pos,
        run_id=event.run_id,
        phase_id=event.phase_id,
        attempt_id=event.attempt_id,
    )
