"""The stop conditions, whole: every bound at, below and above, none, and the order they come in."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import get_args

import pytest

from engine.events import Ending
from engine.triage.rules import (
    JUDGED_ENDINGS,
    REASON_CLASS_NAMES,
    VERDICT_RULES,
    Ruling,
    Situation,
    Stop,
    classic,
    outranked,
    reason_class,
    stops,
    three_way,
)
from projections.run_triage import Standing
from tests.rules.standings import policy

PROVED = ("succeeded", "failed", "timed_out", "broke")
BOUNDS = (None, 0, 1, 2, 3)
COUNTS = (0, 1, 2, 3)
FLAGS = (False, True)


def situation(
    ending: Ending = "failed",
    usage: int = 0,
    fingerprint: str | None = "f",
    standing: Standing = "promising",
    *,
    seen: int = 0,
    timeouts: int = 0,
    streak: int = 0,
    run_stopped: bool = False,
    fingerprint_stopped: bool = False,
    stopping: bool = False,
) -> Situation:
    return Situation(
        ending,
        usage,
        fingerprint,
        standing,
        seen,
        timeouts,
        streak,
        run_stopped,
        fingerprint_stopped,
        stopping,
    )


def test_what_proves_something_is_whatever_was_not_our_own_doing() -> None:
    assert {*get_args(Ending)} - JUDGED_ENDINGS == {"abandoned", "orphaned"}
    assert set(PROVED) == JUDGED_ENDINGS


def test_what_nobody_counted_was_not_seen() -> None:
    assert Situation("failed", 0, None, "unsampled", 0) == situation(
        fingerprint=None, standing="unsampled"
    )


# Repeats: at the Nth carrier, counting this one.


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_failure_is_stopped_at_its_nth_carrier_and_each_carrier_from_there_on(
    bound: int | None,
) -> None:
    reached = 0
    for seen, known, run_stopped, print_stopped in product(COUNTS, (None, "f"), FLAGS, FLAGS):
        found = stops(
            situation(
                seen=seen,
                fingerprint=known,
                run_stopped=run_stopped,
                fingerprint_stopped=print_stopped,
            ),
            policy(fingerprint_repeats_max=bound, timeouts_per_run_max=None),
        )
        carriers = seen + 1
        expected: tuple[str, ...] = ()
        if known == "f" and bound in range(1, carriers + 1):
            expected += () if print_stopped else ("fingerprint",)
            expected += () if run_stopped else ("run_by_fingerprint",)
        assert found == expected, (seen, known, run_stopped, print_stopped)
        reached += found != ()
    assert (reached > 0) == bool(bound)


@pytest.mark.parametrize("ending", PROVED)
def test_only_a_failure_that_taught_nothing_repeats_where_usage_is_spared(ending: Ending) -> None:
    for spare, usage in product(FLAGS, (0, 1, 2)):
        rules = policy(
            fingerprint_repeats_max=2, timeouts_per_run_max=None, stops_spare_yield=spare
        )
        found = stops(situation(ending, usage, seen=1), rules)
        spared = spare and usage > 0
        assert found == (() if spared else ("fingerprint", "run_by_fingerprint"))


# Timeouts: at the Nth of the run, and only where the failure itself does not stop it.


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("ending", PROVED)
def test_a_run_is_stopped_at_its_nth_timeout(ending: Ending, bound: int | None) -> None:
    for timeouts, run_stopped, usage, known in product(COUNTS, FLAGS, (0, 1), (None, "f")):
        found = stops(
            situation(ending, usage, known, timeouts=timeouts, run_stopped=run_stopped),
            policy(timeouts_per_run_max=bound, fingerprint_repeats_max=None),
        )
        times_out = ending == "timed_out" and bound in range(1, timeouts + 2)
        assert found == (("run_by_timeouts",) if times_out and not run_stopped else ())


def test_a_run_that_meets_both_bounds_is_stopped_once_by_its_failure() -> None:
    rules = policy(fingerprint_repeats_max=2, timeouts_per_run_max=2)
    met = situation("timed_out", seen=1, timeouts=1)
    assert stops(met, rules) == ("fingerprint", "run_by_fingerprint")
    assert stops(met._replace(fingerprint_stopped=True), rules) == ("run_by_fingerprint",)
    assert stops(met._replace(run_stopped=True), rules) == ("fingerprint",)
    assert stops(met._replace(seen_before=0), rules) == ("run_by_timeouts",)
    assert stops(met._replace(fingerprint=None), rules) == ("run_by_timeouts",)


# The streak: ends the session, before anything else is counted.


@pytest.mark.parametrize("bound", BOUNDS)
def test_attempts_in_a_row_without_usage_end_the_session_at_the_nth(bound: int | None) -> None:
    for ending, streak, usage, stopping in product(PROVED, COUNTS, (0, 1), FLAGS):
        found = stops(
            situation(ending, usage, streak=streak, stopping=stopping),  # type: ignore[arg-type]
            policy(consecutive_zero_yield_max=bound),
        )
        ends = bound in range(1, streak + 2) and usage == 0 and not stopping
        assert found == (("zero_yield_streak",) if ends else ())


def test_a_streak_that_ends_the_session_leaves_failures_and_runs_alone() -> None:
    rules = policy(consecutive_zero_yield_max=3, fingerprint_repeats_max=2, timeouts_per_run_max=2)
    met = situation("timed_out", seen=5, timeouts=5, streak=2)
    assert stops(met, rules) == ("zero_yield_streak",)
    # A session that starts nothing more already goes on counting.
    assert stops(met._replace(session_stopping=True), rules) == (
        "fingerprint",
        "run_by_fingerprint",
    )


@pytest.mark.parametrize("ending", ["abandoned", "orphaned"])
def test_an_end_that_proves_nothing_stops_nothing(ending: Ending) -> None:
    rules = policy(consecutive_zero_yield_max=1, fingerprint_repeats_max=1, timeouts_per_run_max=1)
    assert stops(situation(ending, seen=9, timeouts=9, streak=9), rules) == ()


def all_situations() -> Iterator[Situation]:
    for ending, usage, known, seen, timeouts, streak, flags in product(
        get_args(Ending), (0, 1), (None, "f"), (0, 1, 2), (0, 1), (0, 2), product(FLAGS, repeat=3)
    ):
        run_stopped, print_stopped, stopping = flags
        yield situation(
            ending,
            usage,
            known,
            seen=seen,
            timeouts=timeouts,
            streak=streak,
            run_stopped=run_stopped,
            fingerprint_stopped=print_stopped,
            stopping=stopping,
        )


def plainly(s: Situation, *, spare: bool) -> list[str]:
    """The stops of a policy whose bounds are 2 carriers, 2 timeouts and 3 in a row."""
    if s.ending in ("abandoned", "orphaned"):
        return []
    if s.yield_events == 0 and s.zero_streak_before >= 2 and not s.session_stopping:
        return ["zero_yield_streak"]
    repeats = s.fingerprint == "f" and s.seen_before >= 1 and not (spare and s.yield_events)
    times_out = s.ending == "timed_out" and s.timeouts_before >= 1
    said = ["fingerprint"] if repeats and not s.fingerprint_stopped else []
    if not s.run_stopped and (repeats or times_out):
        said.append("run_by_fingerprint" if repeats else "run_by_timeouts")
    return said


@pytest.mark.parametrize("spare", FLAGS)
def test_all_conditions_together_are_recorded_in_one_order(spare: bool) -> None:
    rules = policy(
        fingerprint_repeats_max=2,
        timeouts_per_run_max=2,
        consecutive_zero_yield_max=3,
        stops_spare_yield=spare,
    )
    told: set[tuple[str, ...]] = set()
    for each in all_situations():
        found = stops(each, rules)
        assert list(found) == plainly(each, spare=spare), each
        told.add(found)
    assert told == {
        (),
        ("zero_yield_streak",),
        ("fingerprint",),
        ("run_by_fingerprint",),
        ("run_by_timeouts",),
        ("fingerprint", "run_by_fingerprint"),
        ("fingerprint", "run_by_timeouts"),
    } - {("fingerprint", "run_by_timeouts")}  # one of the two stops a run, never both


# The last word.


def test_only_a_stopped_run_loses_only_a_promising_verdict() -> None:
    rulings = [
        None,
        Ruling("promising", "success"),
        Ruling("promising", "telemetry"),
        Ruling("promising", "timeout"),
        Ruling("inconclusive", "new_failure"),
        Ruling("inconclusive", "repeated_timeout"),
        Ruling("deprioritized", "repeated_failure"),
    ]
    cases: list[tuple[Stop, ...]] = [
        (),
        ("zero_yield_streak",),
        ("fingerprint",),
        ("run_by_fingerprint",),
        ("run_by_timeouts",),
        ("fingerprint", "run_by_fingerprint"),
    ]
    for ruling, found in product(rulings, cases):
        loses = (
            ruling is not None
            and ruling.verdict == "promising"
            and found[-1:] in (("run_by_fingerprint",), ("run_by_timeouts",))
        )
        expected = Ruling("inconclusive", "stopped") if loses else ruling
        assert outranked(ruling, found) == expected, (ruling, found)


def test_a_rule_is_called_by_the_name_and_version_that_logs_cite() -> None:
    assert dict(VERDICT_RULES) == {"three-way-1": three_way, "classic-1": classic}


# The classes of failure reasons: the first that is named wins, wherever it stands.

WORDS = [
    ("collection", 2),
    ("import", 2),
    ("deliverable", 3),
    ("missing", 3),
    ("patch", 4),
    ("no-op", 4),
    ("manifest", 4),
    ("timeout", 6),
    ("timed out", 6),
]


def test_a_reason_is_of_the_first_class_whose_word_it_holds() -> None:
    for (first, number), (second, other) in product(WORDS, WORDS):
        expected = min(number, other)
        assert reason_class(f"x{first}y {second}") == expected
        assert reason_class(f"{second}|{first}".upper()) == expected
    for word, number in WORDS:
        assert reason_class(word) == number
        assert reason_class(f"Some {word.title()}s!") == number
        assert reason_class(word[:-1]) == 5
        assert reason_class(word[1:]) == 5


@pytest.mark.parametrize(("reason", "number"), [(None, 1), ("", 1), (" ", 5), ("x", 5), ("0", 5)])
def test_no_reason_at_all_goes_first_and_an_unknown_one_before_timeouts(
    reason: str | None, number: int
) -> None:
    assert reason_class(reason) == number


def test_every_class_has_its_name() -> None:
    assert REASON_CLASS_NAMES == {
        1: "unknown",
        2: "collection",
        3: "deliverable",
        4: "patch",
        5: "other",
        6: "timeout",
    }
