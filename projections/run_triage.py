"""Which runs deserve more attempts: one row a run, rebuilt from the log alone."""

from __future__ import annotations

from typing import Literal, assert_never, cast, get_args

import msgspec
from msgspec.structs import replace

from engine.events import (
    AttemptDeferred,
    AttemptFinished,
    AttemptStarted,
    PhaseRegistered,
    RunCooledDown,
    RunJudged,
    RunRegistered,
    RunReinstated,
    RunStopped,
    Seen,
)
from projections.fold import Fold

Standing = Literal["unsampled", "promising", "inconclusive", "deprioritized"]


SESSIONS_KEPT = 32
"""Of how many other sessions a run remembers what they counted, for when one is resumed."""


class InSession(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one session counted of a run, and why it stopped it."""

    session_id: str
    attempts: int = 0
    timeouts: int = 0
    stopped: str | None = None
    stopped_pos: int | None = None


class RunStanding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One run as of one position.

    ``standing`` outlives sessions, until an operator reinstates the run or it has cooled down,
    which begins a new ``generation``; ``spent_*`` count within it.  What stops only one session
    (``stopped``) and what is counted within one (``session_*``) belongs to ``session_id``, starts
    anew in the next, and is found again in ``others`` when that session goes on.
    """

    run_id: str
    origin: str = "unknown"
    registered_state: str = "UNKNOWN"
    phases: int = 0
    standing: Standing = "unsampled"
    because: str | None = None
    verdict_pos: int | None = None
    verdict_us: int = 0
    sample: str | None = None
    generation: int = 1
    open: int = 0
    attempts: int = 0
    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    deferred: int = 0
    yield_events: int = 0
    tokens: int = 0
    spent_attempts: int = 0
    spent_tokens: int = 0
    spent_ms: int = 0
    session_id: str | None = None
    session_attempts: int = 0
    session_timeouts: int = 0
    stopped: str | None = None
    stopped_pos: int | None = None
    others: tuple[InSession, ...] = ()

    def in_session(self, session_id: str) -> InSession:
        """What ``session_id`` counted of the run."""
        if self.session_id == session_id:
            return InSession(
                session_id=session_id,
                attempts=self.session_attempts,
                timeouts=self.session_timeouts,
                stopped=self.stopped,
                stopped_pos=self.stopped_pos,
            )
        known = (other for other in self.others if other.session_id == session_id)
        return next(known, InSession(session_id=session_id))

    def stopped_in(self, session_id: str) -> str | None:
        """Why the run is stopped within ``session_id``, or None."""
        if self.session_id == session_id:
            return self.stopped
        return self.in_session(session_id).stopped if self.others else None

    def timeouts_in(self, session_id: str) -> int:
        """Attempts of the run that timed out within ``session_id``."""
        if self.session_id == session_id:
            return self.session_timeouts
        return self.in_session(session_id).timeouts if self.others else 0


Handled = (
    RunRegistered
    | PhaseRegistered
    | AttemptStarted
    | AttemptFinished
    | AttemptDeferred
    | RunJudged
    | RunStopped
    | RunCooledDown
    | RunReinstated
)


def _keys(seen: Seen) -> tuple[str, ...]:
    event = cast("Handled", seen.event)
    return (event.run_id,)


def _apply(state: RunStanding | None, seen: Seen) -> RunStanding:
    event = cast("Handled", seen.event)
    if state is None:
        state = RunStanding(run_id=event.run_id)
    match event:
        case RunRegistered():
            return replace(state, origin=event.origin, registered_state=event.state)
        case PhaseRegistered():
            return replace(state, phases=state.phases + 1)
        case AttemptStarted():
            state = _in_session(state, event.session_id)
            return replace(
                state,
                open=state.open + 1,
                attempts=state.attempts + 1,
                spent_attempts=state.spent_attempts + 1,
                session_attempts=state.session_attempts + 1,
            )
        case AttemptFinished():
            return _finished(_in_session(state, event.session_id), event)
        case AttemptDeferred():
            return _deferred(state, event)
        case RunJudged():
            return replace(
                state,
                standing=event.verdict,
                because=event.because,
                verdict_pos=seen.pos,
                verdict_us=seen.recorded_us,
                sample=event.attempt_id,
            )
        case RunStopped():
            return _stopped(_in_session(state, event.session_id), event, seen.pos)
        case RunCooledDown() | RunReinstated():
            return _begun_anew(state, event.generation)
        case _:
            assert_never(event)


def _in_session(state: RunStanding, session_id: str) -> RunStanding:
    """Counts of another session do not carry over; those of this one are taken up again."""
    if state.session_id == session_id:
        return state
    others = [other for other in state.others if other.session_id != session_id]
    if state.session_id is not None:
        others.append(state.in_session(state.session_id))
    own = state.in_session(session_id)
    return replace(
        state,
        session_id=session_id,
        session_attempts=own.attempts,
        session_timeouts=own.timeouts,
        stopped=own.stopped,
        stopped_pos=own.stopped_pos,
        others=tuple(others[-SESSIONS_KEPT:]),
    )


def _finished(state: RunStanding, event: AttemptFinished) -> RunStanding:
    timed_out = event.ending == "timed_out"
    return replace(
        state,
        open=state.open - 1,
        succeeded=state.succeeded + (event.ending == "succeeded"),
        failed=state.failed + (event.ending in ("failed", "broke")),
        timed_out=state.timed_out + timed_out,
        session_timeouts=state.session_timeouts + timed_out,
        yield_events=state.yield_events + event.yield_events,
        tokens=state.tokens + event.tokens,
        spent_tokens=state.spent_tokens + event.tokens,
        spent_ms=state.spent_ms + event.duration_ms,
    )


def _deferred(state: RunStanding, event: AttemptDeferred) -> RunStanding:
    return replace(
        state,
        failed=state.failed - (not event.timed_out),
        timed_out=state.timed_out - event.timed_out,
        session_timeouts=state.session_timeouts - event.timed_out,
        deferred=state.deferred + 1,
    )


def _stopped(state: RunStanding, event: RunStopped, pos: int) -> RunStanding:
    standing = "inconclusive" if event.demoted else state.standing
    return replace(state, standing=standing, stopped=event.because, stopped_pos=pos)


def _begun_anew(state: RunStanding, generation: int) -> RunStanding:
    return replace(
        state,
        standing="unsampled",
        because=None,
        verdict_pos=None,
        verdict_us=0,
        sample=None,
        generation=generation,
        spent_attempts=0,
        spent_tokens=0,
        spent_ms=0,
        stopped=None,
        stopped_pos=None,
        others=tuple(replace(o, stopped=None, stopped_pos=None) for o in state.others),
    )


RUN_TRIAGE: Fold[RunStanding] = Fold(
    name="run_triage",
    version=3,
    state=RunStanding,
    handles=frozenset(get_args(Handled)),
    keys=_keys,
    apply=_apply,
)
