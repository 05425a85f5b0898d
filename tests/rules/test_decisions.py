"""What follows an attempt's end, whole: what is read, what is recorded, and in which order."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from engine.events import (
    AnyEvent,
    Ended,
    Ending,
    FingerprintStopped,
    Reason,
    RunJudged,
    RunStopped,
    SessionDraining,
    Told,
)
from engine.triage.decide import Facts, counted, decisions, following, seen_of, situation_of
from engine.triage.policy import POLICIES
from engine.triage.rules import Situation
from projections.board import Board
from projections.run_triage import Standing
from tests.rules.ends import SILENT, a_board, failed, judged, of
from tests.rules.standings import (
    because,
    boundary,
    count_of,
    fingerprinted,
    finished,
    ground,
    policy,
    run,
    session,
    started,
)

# What the rules read.


def test_a_fingerprint_is_known_exactly_when_a_failure_was_fingerprinted() -> None:
    assert failed("f9").fingerprint == "f9"
    assert failed(None).fingerprint is None
    assert (failed().boundaries, failed().zero_yield) == ((), None)


def test_recorded_facts_are_the_diagnosis_among_what_was_recorded_behind_an_end() -> None:
    end, met, other = finished(), boundary(), boundary(kind="overloaded")
    failure, start = fingerprinted(), started()
    among: list[AnyEvent] = [start, met, SILENT, failure, other]
    for events in (among, among[::-1]):
        limits = tuple(e for e in events if e in (met, other))
        assert Facts.recorded(end, events) == Facts(end, failure, limits, SILENT)
    assert Facts.recorded(end, [start]) == Facts(end)


def test_what_was_seen_before_is_that_of_the_attempts_own_session() -> None:
    mine, other = count_of("f", count=2), count_of("f", session_id="other", count=9)
    rows = a_board(mine, other)
    assert seen_of(rows, failed("f")) == mine
    assert seen_of(rows, failed("f", session_id="other")) == other
    assert seen_of(rows, failed("g")) is None
    assert seen_of(rows, failed(None)) is None


def test_a_situation_is_read_from_the_board_before_the_end() -> None:
    rows = a_board(
        run(standing="inconclusive", session_id="s", session_timeouts=3, timed_out=9, stopped="x"),
        session(zero_streak=4, status="running"),
        count_of("f", count=5, stopped_pos=7, deferred=8),
    )
    facts = failed("f", ending="timed_out", yield_events=2)
    assert situation_of(rows, facts, policy()) == Situation(
        ending="timed_out",
        yield_events=2,
        fingerprint="f",
        standing="inconclusive",
        seen_before=5,
        timeouts_before=3,
        zero_streak_before=4,
        run_stopped=True,
        fingerprint_stopped=True,
        session_stopping=False,
    )


def test_an_attempt_is_judged_in_its_own_session_whoever_closes_it() -> None:
    rows = a_board(
        session(),
        session(session_id="other", zero_streak=4, because="interrupted"),
        run(session_id="other", session_timeouts=3, stopped="timeouts"),
        count_of("f", count=1),
        count_of("f", session_id="other", count=5, stopped_pos=7),
    )
    found = situation_of(rows, failed("f", session_id="other"), policy())
    assert found == Situation("failed", 0, "f", "unsampled", 5, 3, 4, True, True, True)


@pytest.mark.parametrize("ended", get_args(Ended))
@pytest.mark.parametrize("loses", [False, True])
def test_only_what_our_deadline_ended_loses_its_usage_where_that_is_lost(
    ended: Ended, *, loses: bool
) -> None:
    rows = a_board(session(zero_streak=4, lossy_streak=6))
    facts = failed("f", ending="timed_out", yield_events=2, told=Told(ended=ended))
    found = situation_of(rows, facts, policy(timeouts_lose_yield=loses))
    assert found.yield_events == (0 if loses and ended == "timed_out" else 2)
    assert found.zero_streak_before == (6 if loses else 4)
    untold = failed("f", ending="timed_out", yield_events=2, told=None)
    assert situation_of(rows, untold, policy(timeouts_lose_yield=loses)).yield_events == 2


def test_what_another_session_counted_or_stopped_is_not_read() -> None:
    rows = a_board(
        run(session_id="other", session_timeouts=3, stopped="timeouts"),
        count_of("f", session_id="other", count=5, stopped_pos=7),
    )
    found = situation_of(rows, failed("f"), policy())
    assert found == Situation("failed", 0, "f", "unsampled", 0)
    unstopped = a_board(count_of("f", count=1, stopped_pos=None))
    assert situation_of(unstopped, failed("f"), policy()).fingerprint_stopped is False
    assert situation_of(unstopped, failed(None), policy()) == Situation(
        "failed", 0, None, "unsampled", 0
    )


@pytest.mark.parametrize("status", ["running", "draining", "ended", "lost"])
def test_a_session_is_stopping_when_something_has_ended_its_starts(status: str) -> None:
    for said in (None, "interrupted", "zero_yield_streak"):
        rows = a_board(session(status=status, because=said))
        assert situation_of(rows, failed(), policy()).session_stopping == (said is not None)


# The diagnosis comes first.


def test_a_failure_is_recorded_with_how_often_it_was_seen_before() -> None:
    rows = a_board(count_of("f", count=4))
    for name, before in (("f", 4), ("g", 0)):
        found = fingerprinted(fingerprint=name, seen_before=77)
        assert counted(rows, Facts(finished(), found), found) == replace(found, seen_before=before)


def test_behind_an_end_come_fingerprint_limits_silence_and_then_what_is_decided() -> None:
    limits = (boundary(kind="context_window"), boundary(disposition="suspected"))
    facts = Facts(finished(), fingerprinted(), limits, SILENT)
    rows = a_board(count_of("f", count=1))
    told = list(following(rows, facts, ground(policy(breaker_runs=1))))
    assert told[:4] == [fingerprinted(seen_before=1), *limits, SILENT]
    assert told[4:] == list(decisions(rows, facts, ground(policy(breaker_runs=1))))
    assert of(told[4:]) == ["RunJudged", "BreakerOpened"]
    bare = Facts(finished(ending="succeeded"))
    assert of(following(rows, bare, ground())) == ["RunJudged"]


# The verdict.


def reads(situation: Situation) -> dict[str, Any]:
    return dict(situation._asdict())


NEW = "failed in a way not seen before in this session"
VERDICTS = [
    # outcome, seen before, verdict and cause, barren, what the sample did
    (failed(None, ending="succeeded"), 0, "promising success", None, "succeeded"),
    (failed("f", yield_events=3), 0, "promising telemetry", None, "yielded 3 usage records"),
    (
        failed("f", ending="timed_out"),
        0,
        "promising timeout",
        "f",
        "timed out, and that failure is new in this session",
    ),
    (
        failed("f", ending="timed_out"),
        1,
        "inconclusive repeated_timeout",
        "f",
        "timed out as an earlier attempt of this session did",
    ),
    (failed("f"), 0, "inconclusive new_failure", "f", NEW),
    (failed(None), 0, "inconclusive new_failure", None, NEW),
    (
        failed("f", ending="broke"),
        1,
        "deprioritized repeated_failure",
        "f",
        "failed as 1 earlier attempt of this session did, and without any usage",
    ),
]


THOUGH = "which is promising to this rule although"


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (0, "and that failure is new in this session"),
        (1, f"{THOUGH} 1 earlier attempt of this session failed so"),
        (2, f"{THOUGH} 2 earlier attempts of this session failed so"),
    ],
)
def test_classic_calls_a_timeout_new_only_where_it_is(seen: int, told: str) -> None:
    rows = a_board(count_of("f", count=seen))
    (verdict, *_) = judged(rows, failed("f", ending="timed_out"), POLICIES["classic"])
    assert isinstance(verdict, RunJudged)
    assert (verdict.verdict, verdict.because) == ("promising", "timeout")
    sentence = f"The run is promising because its sample timed out, {told}."
    assert verdict.reason.sentence == sentence


@pytest.mark.parametrize(("facts", "seen", "ruling", "barren", "did"), VERDICTS)
def test_a_verdict_names_its_sample_generation_cause_and_everything_it_read(
    facts: Facts, seen: int, ruling: str, barren: str | None, did: str
) -> None:
    facts = facts._replace(finished=replace(facts.finished, attempt_id="a9"))
    rows = a_board(run(generation=3, open=1), count_of("f", count=seen))
    verdict, why = ruling.split()
    sentence = f"The run is {verdict} because its sample {did}."
    assert judged(rows, facts) == [
        RunJudged(
            session_id="s",
            run_id="r",
            attempt_id="a9",
            generation=3,
            verdict=verdict,  # type: ignore[arg-type]
            because=why,  # type: ignore[arg-type]
            reason=because(
                "verdict/three-way-1", sentence, **reads(situation_of(rows, facts, policy()))
            ),
            barren=barren,
        )
    ]


def test_a_verdict_is_the_rules_that_the_policy_names() -> None:
    rows = a_board(count_of("f", count=0))
    for name, verdict in (("three-way-1", "inconclusive"), ("classic-1", "promising")):
        (event,) = judged(rows, failed("f"), policy(verdict_rule=name))
        assert isinstance(event, RunJudged)
        assert (event.verdict, event.reason.rule) == (verdict, f"verdict/{name}")


def test_only_a_sample_is_judged_and_only_by_an_end_that_proves_something() -> None:
    for standing, ending in product(get_args(Standing), get_args(Ending)):
        rows = a_board(run(standing=standing, open=1))
        told = judged(rows, failed("f", ending=ending))
        proved = ending not in ("abandoned", "orphaned")
        assert of(told) == (["RunJudged"] if standing == "unsampled" and proved else [])


# The stops.


def stop_reason(rows: Board, facts: Facts, sentence: str) -> Reason:
    return because("stops", sentence, **reads(situation_of(rows, facts, policy())))


def test_a_stopped_fingerprint_says_how_often_it_was_seen_and_stops_its_carrier() -> None:
    rows = a_board(run(standing="promising", open=1), count_of("f", count=2))
    assert judged(rows, failed("f")) == [
        FingerprintStopped(
            session_id="s",
            fingerprint="f",
            repeats=3,
            reason=stop_reason(rows, failed("f"), "f was seen 3 times in this session."),
        ),
        RunStopped(
            session_id="s",
            run_id="r",
            because="fingerprint_repeats",
            demoted=False,
            reason=stop_reason(
                rows, failed("f"), "The run carries f, seen 3 times in this session."
            ),
        ),
    ]


def test_a_run_that_times_out_too_often_is_stopped() -> None:
    facts = failed("f", ending="timed_out")
    rows = a_board(run(standing="promising", open=1, session_id="s", session_timeouts=1))
    assert judged(rows, facts) == [
        RunStopped(
            session_id="s",
            run_id="r",
            because="timeouts",
            demoted=False,
            reason=stop_reason(
                rows, facts, "2 attempts of the run timed out in this session, which is the limit."
            ),
        )
    ]


def test_a_streak_ends_the_session_behind_the_verdict() -> None:
    rows = a_board(session(zero_streak=4))
    told = judged(rows, failed("f"), policy(consecutive_zero_yield_max=5))
    assert of(told) == ["RunJudged", "SessionDraining"]
    assert told[1] == SessionDraining(
        session_id="s",
        because="zero_yield_streak",
        reason=stop_reason(
            rows, failed("f"), "5 attempts in a row yielded no usage, which is the limit."
        ),
    )


@pytest.mark.parametrize("outranks", [False, True])
@pytest.mark.parametrize("standing", get_args(Standing))
def test_a_run_is_demoted_that_was_promising_where_a_stop_has_the_last_word(
    standing: Standing,
    outranks: bool,
) -> None:
    rows = a_board(run(standing=standing, open=1), count_of("f", count=2))
    rules = policy(stop_outranks_verdict=outranks)
    for facts in (failed("f"), failed("f", yield_events=1)):
        told = judged(rows, facts, rules)
        (stopped,) = [event for event in told if isinstance(event, RunStopped)]
        assert stopped.demoted == (outranks and standing == "promising")
        verdicts = [(e.verdict, e.because) for e in told if isinstance(e, RunJudged)]
        if standing != "unsampled":
            assert verdicts == []
        elif not facts.finished.yield_events:
            assert verdicts == [("deprioritized", "repeated_failure")]
        elif outranks:
            assert verdicts == [("inconclusive", "stopped")]
            assert told[0].reason.sentence == (  # type: ignore[union-attr]
                "The run is inconclusive because its sample met a stop condition, and what is"
                " stopped is not promising."
            )
        else:
            assert verdicts == [("promising", "telemetry")]


# The breaker that opens.
