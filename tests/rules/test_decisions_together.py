"""What follows an end beyond its run: breakers, accounts, and all that can follow in one order."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from engine.events import (
    BoundaryKind,
    BreakerOpened,
    Ending,
    FailureFingerprinted,
    RunStopped,
)
from engine.triage.breaker import opened, settled
from engine.triage.budgets import reached_by_end
from engine.triage.decide import Facts
from engine.triage.policy import POLICIES
from engine.triage.provider import deferral, paused, recovered
from projections.run_triage import Standing
from tests.rules.ends import SILENT, a_board, failed, judged, of
from tests.rules.standings import (
    account,
    boundary,
    breaker,
    budget,
    cause,
    count_of,
    fingerprinted,
    finished,
    ground,
    named,
    phase,
    policy,
    run,
    scope,
    session,
)


@pytest.mark.parametrize("bound", [None, 1, 2, 3])
@pytest.mark.parametrize("before", [(), ("q",), ("q", "u"), ("q", "u", "v")])
def test_a_breaker_opens_behind_the_sample_that_makes_its_cause_systemic(
    before: tuple[str, ...], bound: int | None
) -> None:
    rules = policy(breaker_runs=bound)
    rows = a_board(cause("f", *before))
    told = [e for e in judged(rows, failed("f"), rules) if isinstance(e, BreakerOpened)]
    opens = bound is not None and len(before) + 1 >= bound
    assert told == ([opened(fingerprinted(), len(before), ground(rules))] if opens else [])


def test_what_teaches_something_or_says_nothing_opens_no_breaker() -> None:
    rules = policy(breaker_runs=1)
    for facts in (
        failed(None),  # a failure without a name
        failed("f", ending="succeeded"),
        failed("f", yield_events=1),
        failed("f", ending="abandoned"),
        failed("f", ending="orphaned"),
    ):
        assert not any(isinstance(e, BreakerOpened) for e in judged(a_board(), facts, rules))
    for standing in ("promising", "inconclusive", "deprioritized"):
        rows = a_board(run(standing=standing, open=1))  # no sample
        assert judged(rows, failed("f"), rules) == []
    assert of(judged(a_board(), failed("f", ending="timed_out"), rules)) == [
        "RunJudged",
        "BreakerOpened",
    ]


def test_a_breaker_that_is_open_or_has_counted_the_run_does_not_open_again() -> None:
    rules = policy(breaker_runs=1)
    for known, opens in (
        (breaker("f", opened_pos=5), False),
        (breaker("f", opened_pos=5, session_id="other"), False),
        (breaker("f", opened_pos=None, closed_pos=9), True),
        (breaker("g", opened_pos=5), True),
    ):
        told = of(judged(a_board(known), failed("f"), rules))
        assert ("BreakerOpened" in told) == opens, known
    counted_already = a_board(cause("f", "r"))
    assert of(judged(counted_already, failed("f"), rules)) == ["RunJudged"]
    sampled_again = a_board(cause("f", "q", "r"), run(open=1, generation=2))
    assert of(judged(sampled_again, failed("f"), policy(breaker_runs=3))) == ["RunJudged"]


def test_a_new_run_counts_beside_those_that_are_counted() -> None:
    rows = a_board(cause("f", "q", "u"))
    (_, event) = judged(rows, failed("f"), policy(breaker_runs=3))
    assert isinstance(event, BreakerOpened)
    assert event.runs == 3


# A provider's limit.

PAUSES = policy(provider_pause_ms=60_000, deferrals_per_phase_max=2, breaker_runs=1)


def limited(**fields: Any) -> Facts:
    return Facts(finished(**fields), fingerprinted(), (boundary(),), SILENT)


def test_an_attempt_that_met_a_limit_is_deferred_and_its_account_rests() -> None:
    rows = a_board(phase(state="EXECUTING", state_before="FAILED", deferrals=1))
    at = ground(PAUSES)
    standing = rows.backlog.states["r\np"]
    assert judged(rows, limited(), PAUSES) == [
        deferral(finished(), boundary(), "f", standing, at),
        *paused(account("x"), finished(), boundary(), at),
    ]


@pytest.mark.parametrize("kind", get_args(BoundaryKind))
def test_whatever_limit_of_a_provider_was_met_the_attempt_is_deferred(kind: BoundaryKind) -> None:
    told = of(judged(a_board(), limited()._replace(boundaries=(boundary(kind=kind),)), PAUSES))
    if kind in ("rate_limit", "quota", "spend_limit", "overloaded"):
        assert told == ["AttemptDeferred", "AccountPaused"]
    else:
        assert told == ["RunJudged", "BreakerOpened"]


def test_a_phase_that_was_deferred_too_often_fails_like_any_other_and_the_account_rests() -> None:
    rows = a_board(phase(state="EXECUTING", deferrals=2))
    assert of(judged(rows, limited(), PAUSES)) == ["RunJudged", "BreakerOpened", "AccountPaused"]


def test_a_limit_that_is_not_heeded_is_a_failure_like_any_other() -> None:
    assert of(judged(a_board(), limited(), policy())) == ["RunJudged"]
    for facts in (limited(ending="timed_out"), limited()._replace(boundaries=())):
        assert of(judged(a_board(), facts, PAUSES)) == ["RunJudged", "BreakerOpened"]


@pytest.mark.parametrize("name", ["x", "key"])
def test_the_account_that_rests_is_the_sessions_own_with_its_own_row(name: str) -> None:
    limits = scope(PAUSES, account=None if name == "x" else name)
    rows = a_board(account(name, consecutive=3), account("other", consecutive=9))
    (_, event) = judged(rows, limited(), limits)
    assert event == next(
        paused(account(name, consecutive=3), finished(), boundary(), ground(limits))
    )


def test_an_attempt_that_does_well_ends_the_row_of_its_account_after_its_verdict() -> None:
    row = account("x", consecutive=3)
    end = finished(ending="succeeded")
    told = judged(a_board(row), Facts(end), PAUSES)
    assert of(told) == ["RunJudged", "AccountRecovered"]
    assert told[1:] == list(recovered(row, end, ground(PAUSES)))


def test_a_limit_with_usage_pauses_the_account_and_ends_the_row_that_was() -> None:
    told = judged(a_board(account("x", consecutive=3)), limited(yield_events=1), PAUSES)
    assert of(told) == ["AttemptDeferred", "AccountPaused", "AccountRecovered"]


# A named phase.


def test_what_a_person_asked_for_by_name_is_not_judged_and_stops_nothing() -> None:
    rules = replace(PAUSES, fingerprint_repeats_max=1)
    of_ = named(rules)
    assert judged(a_board(), failed("f"), of_) == []
    assert of(judged(a_board(), limited(), of_)) == ["AttemptDeferred", "AccountPaused"]
    spent = named(rules, budgets=(budget("phase", "ms", 5),))
    assert of(judged(a_board(), failed("f"), spent)) == ["BudgetReached"]


# Everything at once, in its order.


def test_all_that_can_follow_an_end_comes_in_one_order() -> None:
    rules = replace(PAUSES, fingerprint_repeats_max=1, breaker_runs=1)
    probe = breaker("g", opened_pos=5, probe="a")
    bounds = (budget("run", "ms", 5), budget("phase", "ms", 6))
    limits = scope(rules, budgets=bounds)
    used_up = phase(state="EXECUTING", deferrals=2)
    told = judged(a_board(used_up, probe), limited(), limits)
    assert of(told) == [
        "RunJudged",
        "FingerprintStopped",
        "RunStopped",
        "BreakerOpened",
        "AccountPaused",
        "BreakerProbed",
        "BudgetReached",
        "BudgetReached",
    ]
    at, end = ground(limits), finished()
    assert told[5:6] == list(settled([probe], {}, end, "f", at, deferred=False))
    assert told[6:] == list(reached_by_end(a_board(used_up), end, at))
    deferred = judged(a_board(phase(state="EXECUTING"), probe), limited(), limits)
    assert of(deferred) == [
        "AttemptDeferred",
        "AccountPaused",
        "BreakerProbed",
        "BudgetReached",
        "BudgetReached",
    ]
    assert deferred[2:3] == list(settled([probe], {}, end, "f", at, deferred=True))


def test_a_probe_that_does_well_is_judged_before_its_breakers_close() -> None:
    rows = a_board(breaker("f", opened_pos=5, probe="a"), account("x", consecutive=1))
    told = judged(rows, Facts(finished(ending="succeeded")), PAUSES)
    assert of(told) == ["RunJudged", "AccountRecovered", "BreakerClosed"]


def test_a_probe_by_name_settles_its_breaker_too() -> None:
    rows = a_board(breaker("f", opened_pos=5, probe="a"))
    assert of(judged(rows, failed("f"), named(PAUSES))) == ["BreakerProbed"]


OLD = {"RunJudged", "FingerprintStopped", "RunStopped", "SessionDraining"}


def test_classic_decides_nothing_that_the_original_did_not_know() -> None:
    rules = replace(POLICIES["classic"], consecutive_zero_yield_max=3)
    met: set[str] = set()
    for ending, known, standing, seen, streak, limits in product(
        get_args(Ending),
        (None, "f"),
        get_args(Standing),
        (0, 2, 9),
        (0, 2),
        ((), (boundary(),)),
    ):
        rows = a_board(
            phase(incident_token_cap=1),
            run(standing=standing, open=1, verdict_us=1),
            session(lossy_streak=streak),
            count_of("f", count=seen),
            cause("f", *"quvwxyz"),
            cause("g", "r"),
            account("x", consecutive=2),
            breaker("g", opened_pos=3),
        )
        found: FailureFingerprinted | None = fingerprinted() if known else None
        facts = Facts(finished(ending=ending, tokens=9), found, limits, SILENT)
        told = judged(rows, facts, rules)
        met |= set(of(told))
        assert not any(e.demoted for e in told if isinstance(e, RunStopped))
    assert met == OLD
