"""The verdict rules, whole: every case there is, against the tables in docs/reference/triage.md."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest
from hypothesis import given, strategies as st

from engine.events import Ending
from engine.triage.policy import Policy
from engine.triage.rules import Situation, Stop, classic, reason_class, stops, three_way
from projections.run_triage import Standing

CASES = list(product(get_args(Ending), (0, 1), (None, "f"), (0, 1, 2), get_args(Standing)))


def table(case: Situation, rows: list[tuple[bool, str]]) -> str:
    if case.standing != "unsampled" or case.ending in ("abandoned", "orphaned"):
        return "none"
    return next(verdict for holds, verdict in rows if holds)


def expected_three_way(s: Situation) -> str:
    repeats = s.fingerprint is not None and s.seen_before > 0
    return table(
        s,
        [
            (s.ending == "succeeded", "promising success"),
            (s.yield_events > 0, "promising telemetry"),
            (s.ending == "timed_out" and not repeats, "promising timeout"),
            (s.ending == "timed_out", "inconclusive repeated_timeout"),
            (repeats, "deprioritized repeated_failure"),
            (True, "inconclusive new_failure"),
        ],
    )


def expected_classic(s: Situation) -> str:
    return table(
        s,
        [
            (s.ending == "succeeded", "promising success"),
            (s.yield_events > 0, "promising telemetry"),
            (s.ending == "timed_out", "promising timeout"),
            (s.fingerprint is None or s.seen_before == 0, "promising new_failure"),
            (True, "deprioritized repeated_failure"),
        ],
    )


def situations() -> list[Situation]:
    return [
        Situation(ending, usage, fingerprint, standing, seen)
        for ending, usage, fingerprint, seen, standing in CASES
    ]


def test_every_outcome_gets_the_verdict_of_the_table() -> None:
    rules = ((three_way, expected_three_way), (classic, expected_classic))
    for situation, (rule, expected) in product(situations(), rules):
        ruling = rule(situation)
        found = "none" if ruling is None else f"{ruling.verdict} {ruling.because}"
        assert found == expected(situation), situation


STOP_CASES = list(
    product(
        ("succeeded", "failed", "timed_out", "broke", "abandoned", "orphaned"),
        (0, 1),
        (None, "f"),
        (0, 1, 2),
        (0, 1),
        (0, 2),
        (False, True),
        (False, True),
    )
)
POLICY = Policy(
    name="t", fingerprint_repeats_max=2, timeouts_per_run_max=2, consecutive_zero_yield_max=3
)


def expected_stops(s: Situation) -> set[Stop]:
    if s.ending in ("abandoned", "orphaned"):
        return set()
    if s.yield_events == 0 and s.zero_streak_before + 1 >= 3:
        return {"zero_yield_streak"}
    repeats = s.fingerprint is not None and s.seen_before + 1 >= 2
    timeouts = s.ending == "timed_out" and s.timeouts_before + 1 >= 2
    found: set[Stop] = set()
    if repeats and not s.fingerprint_stopped:
        found.add("fingerprint")
    if repeats and not s.run_stopped:
        found.add("run_by_fingerprint")
    if timeouts and not repeats and not s.run_stopped:
        found.add("run_by_timeouts")
    return found


def test_every_stop_condition_holds_exactly_when_the_table_says_so() -> None:
    met = 0
    for ending, usage, fingerprint, seen, timeouts, streak, run, stopped in STOP_CASES:
        situation = Situation(
            ending=ending,  # type: ignore[arg-type]
            yield_events=usage,
            fingerprint=fingerprint,
            standing="promising",
            seen_before=seen,
            timeouts_before=timeouts,
            zero_streak_before=streak,
            run_stopped=run,
            fingerprint_stopped=stopped,
        )
        assert set(stops(situation, POLICY)) == expected_stops(situation)
        met += bool(stops(situation, POLICY))
    assert met > 100


def test_a_policy_without_bounds_stops_nothing() -> None:
    policy = Policy(name="t", fingerprint_repeats_max=None, timeouts_per_run_max=None)
    situation = Situation("timed_out", 0, "f", "promising", 99, 99, 99)
    assert stops(situation, policy) == ()


@given(st.sampled_from(situations()))
def test_a_timeout_never_condemns_a_run(situation: Situation) -> None:
    ruling = three_way(situation)
    if ruling is not None and ruling.verdict == "deprioritized":
        assert situation.ending in ("failed", "broke")
        assert situation.seen_before > 0
        assert situation.yield_events == 0


@pytest.mark.parametrize(
    ("reason", "number"),
    [
        (None, 1),
        ("", 1),
        ("  ", 5),  # blank, but there: as the original had it
        ("Collection error in tests", 2),
        ("ImportError: x", 2),
        ("DELIVERABLES_VALIDATION_FAILED", 3),
        ("file missing", 3),
        ("PATCH_FAILED", 4),
        ("a no-op patch", 4),
        ("manifest invalid", 4),
        ("MAX_ATTEMPTS_EXHAUSTED", 5),
        ("Timeout after 900 s", 6),
        ("it timed out", 6),
        ("import timed out", 2),
    ],
)
def test_a_failure_reason_falls_into_the_first_class_that_names_it(
    reason: str | None, number: int
) -> None:
    assert reason_class(reason) == number
