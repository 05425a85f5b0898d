"""Decide: the events that follow from an attempt's end, each with its reason.

Pure: everything they need comes in as arguments, the board as it stood before the end among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, assert_never

from msgspec.structs import replace

from engine import amounts
from engine.events import (
    AnyEvent,
    AttemptFinished,
    BoundaryDetected,
    FailureFingerprinted,
    FingerprintStopped,
    RunJudged,
    RunStopCause,
    RunStopped,
    SessionDraining,
    ZeroYieldExplained,
)
from engine.triage import breaker, budgets, provider
from engine.triage.policy import Policy
from engine.triage.reasons import Ground
from engine.triage.rules import (
    JUDGED_ENDINGS,
    VERDICT_RULES,
    Ruling,
    Situation,
    Stop,
    outranked,
    stops,
)
from engine.triage.scope import Scope
from engine.triage.select import account_of
from projections.accounts import AccountStanding
from projections.board import Board
from projections.fingerprints import FingerprintCount
from projections.fold import join
from projections.run_triage import RunStanding

STOP_RULE = "stops"


class Facts(NamedTuple):
    """What is known of an attempt when it has ended, before triage says anything.

    ``fingerprinted`` may not know yet how often its failure was seen before.
    """

    finished: AttemptFinished
    fingerprinted: FailureFingerprinted | None = None
    boundaries: Sequence[BoundaryDetected] = ()
    zero_yield: ZeroYieldExplained | None = None

    @classmethod
    def recorded(cls, finished: AttemptFinished, events: Sequence[AnyEvent]) -> Facts:
        """An end with the diagnosis among the events that were recorded behind it."""
        return cls(
            finished,
            next((e for e in events if isinstance(e, FailureFingerprinted)), None),
            tuple(e for e in events if isinstance(e, BoundaryDetected)),
            next((e for e in events if isinstance(e, ZeroYieldExplained)), None),
        )

    @property
    def fingerprint(self) -> str | None:
        """The identity of the failure, None for a success or an end that proves nothing."""
        return None if self.fingerprinted is None else self.fingerprinted.fingerprint


def seen_of(board: Board, facts: Facts) -> FingerprintCount | None:
    """What the session knew of this failure before."""
    if facts.fingerprint is None:
        return None
    return board.fingerprints.get(join(facts.finished.session_id, facts.fingerprint))


def situation_of(board: Board, facts: Facts, policy: Policy) -> Situation:
    """What the verdict and the stops read of an outcome, from the board as it stood before it."""
    finished, seen = facts.finished, seen_of(board, facts)
    loses = policy.timeouts_lose_yield
    run = board.runs.states[finished.run_id]
    session = board.sessions.states[finished.session_id]
    return Situation(
        ending=finished.ending,
        yield_events=0 if loses and finished.passed_its_deadline else finished.yield_events,
        fingerprint=facts.fingerprint,
        standing=run.standing,
        seen_before=seen.count if seen else 0,
        timeouts_before=run.timeouts_in(finished.session_id),
        zero_streak_before=session.lossy_streak if loses else session.zero_streak,
        run_stopped=run.stopped_in(finished.session_id) is not None,
        fingerprint_stopped=seen is not None and seen.stopped_pos is not None,
        session_stopping=session.because is not None,
    )


def following(board: Board, facts: Facts, ground: Ground) -> Iterator[AnyEvent]:
    """What is recorded behind an end: its diagnosis, then what triage decides.

    ``board`` stands before the end; ``ground.basis`` is the position before it.
    """
    if facts.fingerprinted is not None:
        yield counted(board, facts, facts.fingerprinted)
    yield from facts.boundaries
    if facts.zero_yield is not None:
        yield facts.zero_yield
    yield from decisions(board, facts, ground)


def counted(
    board: Board, facts: Facts, fingerprinted: FailureFingerprinted
) -> FailureFingerprinted:
    """``fingerprinted`` with the number of times that the session had seen its failure before."""
    seen = seen_of(board, facts)
    return replace(fingerprinted, seen_before=seen.count if seen else 0)


def decisions(board: Board, facts: Facts, ground: Ground) -> Iterator[AnyEvent]:
    """All that an attempt's end calls for, in the order it is recorded.

    ``board`` stands before the end, and ``ground.basis`` is its position there.
    """
    finished = facts.finished
    met = provider.limit_met(finished, facts.boundaries, ground.policy)
    phase = board.backlog.states[join(finished.run_id, finished.phase_id)]
    deferred = met is not None and provider.is_deferred(phase, ground.policy)
    account = _account(board, ground.scope)
    if deferred and met is not None:
        yield provider.deferral(finished, met, facts.fingerprint, phase, ground)
    elif not ground.scope.is_named_phase:
        # What a person asked for by name says nothing about triage.
        yield from _judgement(board, facts, ground)
    if met is not None:
        yield from provider.paused(account, finished, met, ground)
    yield from provider.recovered(account, finished, ground)
    held, causes = board.breakers.values(), board.causes.states
    yield from breaker.settled(held, causes, finished, facts.fingerprint, ground, deferred=deferred)
    yield from budgets.reached_by_end(board, finished, ground)


def _account(board: Board, scope: Scope) -> AccountStanding:
    name = account_of(board, scope)
    return board.accounts.get(name) or AccountStanding(account=name)


def _judgement(board: Board, facts: Facts, ground: Ground) -> Iterator[AnyEvent]:
    """The verdict, the stops, and a breaker that opens with them."""
    policy = ground.policy
    situation = situation_of(board, facts, policy)
    if situation.ending not in JUDGED_ENDINGS:
        return
    run = board.runs.states[facts.finished.run_id]
    found = stops(situation, policy)
    ruling = VERDICT_RULES[policy.verdict_rule](situation)
    if policy.stop_outranks_verdict:
        ruling = outranked(ruling, found)
    barren = ruling is not None and _is_barren(situation)
    if ruling is not None:
        yield _judged(ruling, situation, facts, run, ground, barren=barren)
    for stop in found:
        yield _stopped(stop, situation, facts, run, ground)
    if barren and facts.fingerprinted is not None:
        yield from _breaker_opened(board, facts, facts.fingerprinted, ground)


def _is_barren(situation: Situation) -> bool:
    """Whether a sample failed in a way that has a name, and taught nothing."""
    failed = situation.ending != "succeeded" and situation.yield_events == 0
    return failed and situation.fingerprint is not None


def _breaker_opened(
    board: Board,
    facts: Facts,
    fingerprinted: FailureFingerprinted,
    ground: Ground,
) -> Iterator[AnyEvent]:
    cause = board.causes.get(fingerprinted.fingerprint)
    before = cause.runs if cause else ()
    known = board.breakers.get(fingerprinted.fingerprint)
    is_open = known is not None and known.opened_pos is not None
    if is_open or facts.finished.run_id in before or not breaker.opens(len(before), ground.policy):
        return
    yield breaker.opened(fingerprinted, len(before), ground)


def _judged(
    ruling: Ruling,
    situation: Situation,
    facts: Facts,
    run: RunStanding,
    ground: Ground,
    *,
    barren: bool,
) -> RunJudged:
    finished = facts.finished
    return RunJudged(
        session_id=finished.session_id,
        run_id=finished.run_id,
        attempt_id=finished.attempt_id,
        generation=run.generation,
        verdict=ruling.verdict,
        because=ruling.because,
        barren=facts.fingerprint if barren else None,
        reason=ground.reason(
            f"verdict/{ground.policy.verdict_rule}",
            situation._asdict(),
            _verdict_sentence(ruling, situation),
        ),
    )


def _verdict_sentence(ruling: Ruling, situation: Situation) -> str:
    usage = amounts.counted(situation.yield_events, "usage record")
    earlier = amounts.counted(situation.seen_before, "earlier attempt")
    novelty = "and that failure is new in this session"
    if situation.seen_before:  # only the original's rule takes no heed of that
        novelty = f"which is promising to this rule although {earlier} of this session failed so"
    because = {
        "success": "its sample succeeded",
        "telemetry": f"its sample yielded {usage}",
        "timeout": f"its sample timed out, {novelty}",
        "repeated_timeout": "its sample timed out as an earlier attempt of this session did",
        "new_failure": "its sample failed in a way not seen before in this session",
        "repeated_failure": f"its sample failed as {earlier} of this session did, and without any"
        " usage",
        "stopped": "its sample met a stop condition, and what is stopped is not promising",
    }[ruling.because]
    return f"The run is {ruling.verdict} because {because}."


def _stopped(
    stop: Stop,
    situation: Situation,
    facts: Facts,
    run: RunStanding,
    ground: Ground,
) -> AnyEvent:
    session_id = facts.finished.session_id
    sentence = _stop_sentence(stop, situation)
    why = ground.reason(STOP_RULE, situation._asdict(), sentence)
    match stop:
        case "zero_yield_streak":
            return SessionDraining(session_id=session_id, because=stop, reason=why)
        case "fingerprint":
            return FingerprintStopped(
                session_id=session_id,
                fingerprint=situation.fingerprint or "",
                repeats=situation.seen_before + 1,
                reason=why,
            )
        case "run_by_fingerprint" | "run_by_timeouts":
            by_time = stop == "run_by_timeouts"
            because: RunStopCause = "timeouts" if by_time else "fingerprint_repeats"
            return RunStopped(
                session_id=session_id,
                run_id=run.run_id,
                because=because,
                reason=why,
                demoted=ground.policy.stop_outranks_verdict and run.standing == "promising",
            )
        case _:
            assert_never(stop)


def _stop_sentence(stop: Stop, situation: Situation) -> str:
    seen = amounts.counted(situation.seen_before + 1, "time")
    silent = amounts.counted(situation.zero_streak_before + 1, "attempt")
    late = amounts.counted(situation.timeouts_before + 1, "attempt")
    return {
        "zero_yield_streak": f"{silent} in a row yielded no usage, which is the limit.",
        "fingerprint": f"{situation.fingerprint} was seen {seen} in this session.",
        "run_by_fingerprint": f"The run carries {situation.fingerprint}, seen {seen} in this"
        " session.",
        "run_by_timeouts": f"{late} of the run timed out in this session, which is the limit.",
    }[stop]
