"""Decide: the events that follow from facts, each with its reason.

Pure: everything they need comes in as arguments, the board at the head among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from engine.events import (
    AnyEvent,
    AttemptFinished,
    FailureFingerprinted,
    FingerprintStopped,
    Input,
    Reason,
    RunJudged,
    RunStopped,
    SessionDraining,
)
from engine.triage.eligible import Scope
from engine.triage.rules import (
    REASON_CLASS_NAMES,
    VERDICT_RULES,
    Ruling,
    Situation,
    Stop,
    stops,
)
from engine.triage.select import Choice
from projections.board import Board
from projections.fold import join

PICK_RULE = "pick"
STOP_RULE = "stops"
RULE_VERSION = 1


def situation_of(
    board: Board, finished: AttemptFinished, fingerprinted: FailureFingerprinted | None
) -> Situation:
    """What the rules read of an outcome, from the board as it stood before it."""
    run = board.runs.states[finished.run_id]
    session = board.sessions.states[finished.session_id]
    seen = None
    if fingerprinted is not None:
        seen = board.fingerprints.get(join(finished.session_id, fingerprinted.fingerprint))
    return Situation(
        ending=finished.ending,
        yield_events=finished.yield_events,
        fingerprint=fingerprinted.fingerprint if fingerprinted else None,
        standing=run.standing,
        seen_before=seen.count if seen else 0,
        timeouts_before=run.timeouts_in(finished.session_id),
        zero_streak_before=session.zero_streak,
        run_stopped=run.stopped_in(finished.session_id) is not None,
        fingerprint_stopped=seen is not None and seen.stopped_pos is not None,
        session_stopping=session.status != "running",
    )


def decisions(
    situation: Situation, finished: AttemptFinished, scope: Scope, basis: int, generation: int
) -> Iterator[AnyEvent]:
    """The verdict and the stops that an outcome calls for, in the order they are recorded."""
    policy = scope.policy
    if scope.is_named_phase:
        # A person asked for this one phase; it says nothing about triage.
        return
    ruling = VERDICT_RULES[policy.verdict_rule](situation)
    if ruling is not None:
        reason = _reason(
            f"verdict/{policy.verdict_rule}",
            scope,
            basis,
            situation,
            _verdict_sentence(ruling, situation),
        )
        yield RunJudged(
            session_id=finished.session_id,
            run_id=finished.run_id,
            attempt_id=finished.attempt_id,
            generation=generation,
            verdict=ruling.verdict,
            because=ruling.because,
            reason=reason,
        )
    for stop in stops(situation, policy):
        yield _stopped(stop, situation, finished, scope, basis)


def _verdict_sentence(ruling: Ruling, situation: Situation) -> str:
    because = {
        "success": "its sample succeeded",
        "telemetry": f"its sample yielded {situation.yield_events} usage records",
        "timeout": "its sample timed out, and that failure is new in this session",
        "repeated_timeout": "its sample timed out as an earlier attempt of this session did",
        "new_failure": "its sample failed in a way not seen before in this session",
        "repeated_failure": "its sample failed without any usage, as"
        f" {situation.seen_before} earlier attempts of this session did",
    }[ruling.because]
    return f"The run is {ruling.verdict} because {because}."


def _inputs(situation: Situation) -> tuple[Input, ...]:
    return tuple(Input(name, value) for name, value in situation._asdict().items())


def _stopped(
    stop: Stop, situation: Situation, finished: AttemptFinished, scope: Scope, basis: int
) -> AnyEvent:
    session_id, run_id = finished.session_id, finished.run_id
    reason = _reason(STOP_RULE, scope, basis, situation, _stop_sentence(stop, situation))
    match stop:
        case "zero_yield_streak":
            return SessionDraining(session_id=session_id, because=stop, reason=reason)
        case "fingerprint":
            return FingerprintStopped(
                session_id=session_id,
                fingerprint=situation.fingerprint or "",
                repeats=situation.seen_before + 1,
                reason=reason,
            )
        case "run_by_fingerprint":
            return RunStopped(
                session_id=session_id, run_id=run_id, because="fingerprint_repeats", reason=reason
            )
        case "run_by_timeouts":
            return RunStopped(
                session_id=session_id, run_id=run_id, because="timeouts", reason=reason
            )
        case _:
            assert_never(stop)


def _stop_sentence(stop: Stop, situation: Situation) -> str:
    seen = situation.seen_before + 1
    return {
        "zero_yield_streak": f"{situation.zero_streak_before + 1} attempts in a row yielded no"
        " usage, which is the limit.",
        "fingerprint": f"{situation.fingerprint} was seen {seen} times in this session.",
        "run_by_fingerprint": f"The run carries {situation.fingerprint}, seen {seen} times in"
        " this session.",
        "run_by_timeouts": f"{situation.timeouts_before + 1} attempts of the run timed out in this"
        " session, which is the limit.",
    }[stop]


def _reason(rule: str, scope: Scope, basis: int, situation: Situation, sentence: str) -> Reason:
    return Reason(
        rule=rule,
        version=RULE_VERSION,
        policy=scope.policy.label,
        basis=basis,
        inputs=_inputs(situation),
        sentence=sentence,
    )


def pick_reason(choice: Choice, scope: Scope, basis: int) -> Reason:
    """Why this phase and not another, as recorded with its attempt."""
    key, phase, run = choice.key, choice.phase, choice.run
    failure = REASON_CLASS_NAMES[key.reason_class]
    if scope.is_named_phase:
        sentence = "A person asked for this phase."
    else:
        sentence = (
            f"Its run is {run.standing}, so it stands in the group {choice.group!r};"
            f" there it came first by last failure ({failure}), then by its place in the run"
            f" (tier {phase.tier_index}, phase {phase.phase_index})."
        )
    return Reason(
        rule=PICK_RULE,
        version=RULE_VERSION,
        policy=scope.policy.label,
        basis=basis,
        inputs=(
            Input("standing", run.standing),
            Input("reason_class", key.reason_class),
            Input("tier_index", phase.tier_index),
            Input("phase_index", phase.phase_index),
            Input("attempts_before", phase.attempts),
        ),
        sentence=sentence,
    )
