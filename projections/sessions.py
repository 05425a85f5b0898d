"""Drain sessions: limits, counts and how each stands, one row a session."""

from __future__ import annotations

from typing import Literal, cast, get_args

import msgspec
from msgspec.structs import replace

from engine.events import (
    AttemptDeferred,
    AttemptFinished,
    AttemptStarted,
    BoundaryDetected,
    Limits,
    PolicyAdopted,
    RunCooledDown,
    RunJudged,
    Seen,
    SessionDraining,
    SessionEnd,
    SessionEnded,
    SessionLapsed,
    SessionLeased,
    SessionPartLost,
    SessionResumed,
    SessionStarted,
)
from projections.fold import Fold

SessionStatus = Literal["running", "draining", "lost", "ended"]


RESTING: frozenset[SessionStatus] = frozenset({"lost", "ended"})
"""No engine is at such a session, so no time of it passes."""


class SessionStanding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One session as of one position.

    ``active_ms`` is time spent in parts of the session that have ended; the part that runs began
    at ``part_started_us``.  ``zero_streak`` counts the latest finished attempts without yield,
    and ``streak_before`` is what it was before the last one ended; of the ``lossy`` ones, what an
    attempt yielded before its deadline does not count.
    ``deferred_timeouts``: so many of the deferred had timed out, the others failed.
    ``open_samples`` are the attempts in flight that sample a run; ``telling_samples`` counts those
    that ended other than as an earlier one did.  ``busy_ms``: what attempts took, one by one.
    ``leased_by``: in a shared log the epoch of the engine that is at it, until its lease lapses;
    ``heir``: that of the engine which noticed, and takes over the attempts that were left.
    ``host``: where the engine is or was that leased it last; empty in a log that is not shared.
    """

    session_id: str
    status: SessionStatus = "running"
    because: SessionEnd | None = None
    executor: str = ""
    limits: Limits | None = None
    policy: str = ""
    policy_json: str = ""
    started_us: int = 0
    part_started_us: int = 0
    last_us: int = 0
    active_ms: int = 0
    parts: int = 0
    open: int = 0
    attempts: int = 0
    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    abandoned: int = 0
    orphaned: int = 0
    deferred: int = 0
    deferred_timeouts: int = 0
    busy_ms: int = 0
    yield_events: int = 0
    tokens: int = 0
    zero_streak: int = 0
    streak_before: int = 0
    lossy_streak: int = 0
    lossy_streak_before: int = 0
    boundary_hits: int = 0
    open_samples: tuple[str, ...] = ()
    telling_samples: int = 0
    work_left: int | None = None
    leased_by: int | None = None
    heir: int | None = None
    host: str = ""

    @property
    def is_at_work(self) -> bool:
        """Whether an engine of a shared log is at it and starts attempts; of a file nobody says."""
        return self.leased_by is not None and self.status == "running"


Handled = (
    PolicyAdopted
    | SessionLeased
    | SessionLapsed
    | SessionStarted
    | SessionResumed
    | SessionPartLost
    | SessionDraining
    | SessionEnded
    | AttemptStarted
    | AttemptFinished
    | AttemptDeferred
    | RunJudged
    | RunCooledDown
    | BoundaryDetected
)


def _keys(seen: Seen) -> tuple[str, ...]:
    event = cast("Handled", seen.event)
    return (event.session_id,)


def _apply(state: SessionStanding | None, seen: Seen) -> SessionStanding:
    event = cast("Handled", seen.event)
    state = state or SessionStanding(session_id=event.session_id)
    # These two begin a part; the last word of the part before them is still wanted.
    match event:
        case PolicyAdopted():
            return replace(state, policy=event.policy, policy_json=event.policy_json)
        case SessionLeased():
            return replace(state, leased_by=event.epoch, heir=None, host=event.host)
        case SessionStarted() | SessionResumed():
            return _begun(state, event, seen.recorded_us)
        case SessionLapsed():
            return _lapsed(state, event)  # by another; the last word of its own engine still counts
        case _:
            return _within(replace(state, last_us=seen.recorded_us), event)


def _within(
    state: SessionStanding,
    event: SessionPartLost
    | SessionDraining
    | SessionEnded
    | AttemptStarted
    | AttemptFinished
    | AttemptDeferred
    | RunJudged
    | RunCooledDown
    | BoundaryDetected,
) -> SessionStanding:
    """What happens inside a part of the session."""
    match event:
        case SessionPartLost():
            return replace(state, status="lost", active_ms=event.active_ms)
        case SessionDraining():
            status: SessionStatus = "lost" if state.status == "lost" else "draining"
            return replace(state, status=status, because=event.because)
        case SessionEnded():
            return _ended(state, event)
        case AttemptStarted():
            return _started(state, event)
        case AttemptFinished():
            return _finished(state, event)
        case AttemptDeferred():
            return _deferred(state, event)
        case RunJudged():
            told = event.because != "repeated_failure"
            return replace(state, telling_samples=state.telling_samples + told)
        case RunCooledDown():
            return state  # a sign of life, no more
        case BoundaryDetected():
            hit = event.disposition == "stopped_by"
            return replace(state, boundary_hits=state.boundary_hits + hit)


def _begun(
    state: SessionStanding, event: SessionStarted | SessionResumed, now_us: int
) -> SessionStanding:
    # A part that ended by a crash has no end event; its time runs to the last thing it recorded.
    lost = part_ms(state) if state.parts and state.status not in RESTING else 0
    return replace(
        state,
        status="running",
        because=None,
        executor=event.executor,
        limits=event.limits,
        started_us=state.started_us or now_us,
        part_started_us=now_us,
        last_us=now_us,
        active_ms=state.active_ms + lost,
        parts=state.parts + 1,
        work_left=None,
    )


def part_ms(state: SessionStanding) -> int:
    """How long a part that crashed had been at it: to the last thing it recorded."""
    return max(0, state.last_us - state.part_started_us) // 1000


def _lapsed(state: SessionStanding, event: SessionLapsed) -> SessionStanding:
    """Its engine may say nothing more; a session that had ended stays as it is."""
    state = replace(state, leased_by=None, heir=event.noticed_by)
    if state.status in RESTING:
        return state
    return replace(state, status="lost", active_ms=state.active_ms + part_ms(state))


def _ended(state: SessionStanding, event: SessionEnded) -> SessionStanding:
    return replace(
        state,
        status="ended",
        because=event.because,
        active_ms=event.active_ms,
        work_left=event.work_left,
        leased_by=None,
    )


def _started(state: SessionStanding, event: AttemptStarted) -> SessionStanding:
    sampling = event.group == "unsampled"
    samples = (*state.open_samples, event.attempt_id) if sampling else state.open_samples
    return replace(state, open=state.open + 1, attempts=state.attempts + 1, open_samples=samples)


def _deferred(state: SessionStanding, event: AttemptDeferred) -> SessionStanding:
    return replace(
        state,
        failed=state.failed - (not event.timed_out),
        timed_out=state.timed_out - event.timed_out,
        deferred=state.deferred + 1,
        deferred_timeouts=state.deferred_timeouts + event.timed_out,
        zero_streak=state.streak_before,
        lossy_streak=state.lossy_streak_before,
    )


def _finished(state: SessionStanding, event: AttemptFinished) -> SessionStanding:
    unproved = event.ending in ("abandoned", "orphaned")
    streak = state.zero_streak if unproved else state.zero_streak + 1
    lossy_streak = state.lossy_streak if unproved else state.lossy_streak + 1
    return replace(
        state,
        open=state.open - 1,
        succeeded=state.succeeded + (event.ending == "succeeded"),
        failed=state.failed + (event.ending in ("failed", "broke")),
        timed_out=state.timed_out + (event.ending == "timed_out"),
        abandoned=state.abandoned + (event.ending == "abandoned"),
        orphaned=state.orphaned + (event.ending == "orphaned"),
        yield_events=state.yield_events + event.yield_events,
        tokens=state.tokens + event.tokens,
        zero_streak=0 if event.yield_events else streak,
        streak_before=state.zero_streak,
        lossy_streak=0 if event.yield_events and not event.passed_its_deadline else lossy_streak,
        lossy_streak_before=state.lossy_streak,
        busy_ms=state.busy_ms + event.duration_ms,
        open_samples=_without(state.open_samples, event.attempt_id),
    )


def _without(samples: tuple[str, ...], attempt_id: str) -> tuple[str, ...]:
    if attempt_id not in samples:
        return samples
    return tuple(sample for sample in samples if sample != attempt_id)


SESSIONS: Fold[SessionStanding] = Fold(
    name="sessions",
    version=8,
    state=SessionStanding,
    handles=frozenset(get_args(Handled)),
    keys=_keys,
    apply=_apply,
)
