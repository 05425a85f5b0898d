"""Decisions: one object an attempt of a session, in the order in which they were made.

The keys are those by which drains of the system that Runoff replaces were recorded, and what
stands behind them in the log.  Where its words differ from the log's, and only for attempts that
its own detectors (``classic-1``) diagnosed, they are worked out from the fingerprint, which begins
with the state as the original saw it.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from engine.detect.classic import CLASSIC_1
from engine.events import (
    AccountPaused,
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    BoundaryDetected,
    BreakerOpened,
    BudgetReached,
    FailureFingerprinted,
    FingerprintStopped,
    Record,
    RunJudged,
    RunStopped,
    SessionDraining,
    ZeroYieldExplained,
    event_of,
)
from engine.store.protocol import LogReader, Query

TYPES = ("attempt.*", "diagnosis.*", "triage.*", "session.draining")
TIMEOUT_CODE = -1
_TIMEOUT_STATE = "TIMEOUT"

Stop = (
    FingerprintStopped
    | RunStopped
    | SessionDraining
    | BreakerOpened
    | AccountPaused
    | BudgetReached
)
"""Decisions that keep something from being attempted."""


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was stopped because of an attempt: a run, a fingerprint or the session."""

    stopped: str
    id: str
    because: str
    sentence: str
    position: int


class Decision(msgspec.Struct, kw_only=True):
    """One attempt: why it was picked, what it came to, and what was decided from that.

    ``seq`` counts from 1 in the order of picks.  ``fp_class`` numbers the session's fingerprints
    as they first appear, and is left out without one.  ``returncode`` is -1 when our deadline
    ended the attempt, -N for signal N.  ``events`` counts usage records.  ``rule``, ``version`` and
    ``policy`` are those of the verdict, or of the pick where there is none.  ``positions`` says
    where in the log each of its events stands.  What an open attempt has not come to is None.
    """

    seq: int
    run: str
    phase: str
    phase_index: int
    group: str
    category: str
    verdict: str | None = None
    initial_state: str
    final_state: str | None = None
    returncode: int | None = None
    error: str | None = None
    fingerprint: str | None = None
    fp_class: int | msgspec.UnsetType = msgspec.UNSET
    events: int | None = None
    boundary: bool | None = None
    zero_yield: str | None = None
    success: bool | None = None
    rule: str
    version: int
    policy: str
    attempt: str
    positions: dict[str, int]
    stops: list[Stopped] = []


async def decisions_of(reader: LogReader, session_id: str, until: int) -> list[Decision]:
    """Every attempt of a session as of position ``until``; none for a session without attempts.

    Reads the log page by page and keeps one object an attempt.
    """
    gathered = _Gathered()
    query = Query(session=session_id, types=TYPES, until=until)
    after = 0
    while records := await reader.records(query, after=after):
        for record in records:
            gathered.take(record)
        after = records[-1].pos
    return list(gathered.decisions.values())


class _Gathered:
    """What has been read so far, by attempt."""

    def __init__(self) -> None:
        self.decisions: dict[str, Decision] = {}
        self._classes: dict[str, int] = {}
        self._ended: dict[int, str] = {}

    def take(self, record: Record) -> None:
        """Read one more event of the session; those of no attempt that it knows mean nothing."""
        event = event_of(record)
        if isinstance(event, AttemptStarted):
            self.decisions[event.attempt_id] = _started(event, len(self.decisions) + 1)
        attempt_id = record.attempt or self._ended.get(record.cause or 0)
        decision = self.decisions.get(attempt_id or "")
        if decision is None:
            return
        if record.attempt is not None:
            name = record.type.partition(".")[2].removeprefix("run_")
            decision.positions[name] = record.pos
        if isinstance(event, AttemptFinished):
            self._ended[record.pos] = event.attempt_id
        self._add(decision, event, record.pos)

    def _add(self, decision: Decision, event: AnyEvent, pos: int) -> None:
        match event:
            case AttemptFinished():
                _finished(decision, event)
            case FailureFingerprinted():
                decision.fingerprint = event.fingerprint
                known = self._classes
                decision.fp_class = known.setdefault(event.fingerprint, len(known) + 1)
                _as_the_original_saw_it(decision, event)
            case BoundaryDetected():
                decision.boundary = True
            case ZeroYieldExplained():
                decision.zero_yield = event.reason
            case RunJudged():
                decision.verdict = event.verdict
                decision.rule, decision.version = event.reason.rule, event.reason.version
                decision.policy = event.reason.policy
            case (
                FingerprintStopped()
                | RunStopped()
                | SessionDraining()
                | BreakerOpened()
                | AccountPaused()
                | BudgetReached()
            ):
                decision.stops.append(_stopped(event, pos))
            case _:
                pass


def _started(event: AttemptStarted, seq: int) -> Decision:
    return Decision(
        seq=seq,
        run=event.run_id,
        phase=event.phase_id,
        phase_index=event.phase_index,
        group=event.group,
        category=event.category,
        initial_state=event.initial_state,
        rule=event.reason.rule,
        version=event.reason.version,
        policy=event.reason.policy,
        attempt=event.attempt_id,
        positions={},
    )


def _finished(decision: Decision, event: AttemptFinished) -> None:
    code = event.exit_code if event.signal is None else -event.signal
    decision.final_state = event.final_state
    decision.returncode = TIMEOUT_CODE if event.ending == "timed_out" else code
    decision.error = event.error
    decision.events = event.yield_events
    decision.boundary = False
    decision.success = event.ending == "succeeded"


def _as_the_original_saw_it(decision: Decision, event: FailureFingerprinted) -> None:
    """Its words for a failure: its fingerprint begins with the state, then a bucket of codes.

    To it, exit code 143 was a timeout too, but kept its code; and what an attempt wrote before the
    deadline was lost.
    """
    if event.detector != CLASSIC_1.name:
        return
    decision.final_state = event.family.partition("|")[0]
    if decision.final_state == _TIMEOUT_STATE:
        decision.events, decision.zero_yield = None, "timeout"
    elif event.exit_class == "timeout143":
        decision.returncode = 143


def _stopped(event: Stop, pos: int) -> Stopped:
    what, name, because = _target(event)
    sentence = event.reason.sentence
    return Stopped(stopped=what, id=name, because=because, sentence=sentence, position=pos)


def _target(event: Stop) -> tuple[str, str, str]:
    match event:
        case FingerprintStopped():
            return "fingerprint", event.fingerprint, "fingerprint_repeats"
        case RunStopped():
            return "run", event.run_id, event.because
        case SessionDraining():
            return "session", event.session_id, event.because
        case BreakerOpened():
            return "unsampled runs", event.fingerprint, "breaker_open"
        case AccountPaused():
            return "account", event.account, event.kind
        case BudgetReached():
            return event.scope, event.phase_id or event.run_id, f"{event.measure}_budget"
        case _:
            assert_never(event)
