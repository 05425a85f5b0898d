"""The circuit breaker, whole: when it opens, who may probe it, what a probe's end does to it."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from engine.events import BreakerClosed, BreakerOpened, BreakerProbed, Ending
from engine.triage.breaker import (
    GROWTH,
    Gate,
    may_probe,
    next_probe_us,
    open_breakers,
    opened,
    opens,
    outcome_of,
    samples_allowed,
    sampling_gate,
    settled,
)
from projections.breakers import BreakerStanding
from tests.rules.standings import (
    NOW_US,
    because,
    breaker,
    cause,
    fingerprinted,
    finished,
    ground,
    policy,
    session,
)

FLAGS = (False, True)
ON = policy(breaker_runs=3)


# When a cause is systemic.


@pytest.mark.parametrize("bound", [None, 0, 1, 2, 3])
def test_a_breaker_opens_with_the_nth_run_counting_this_one(bound: int | None) -> None:
    for before in range(5):
        expected = bound is not None and before >= bound - 1
        assert opens(before, policy(breaker_runs=bound)) == expected, before


def test_the_opening_tells_the_cause_the_runs_and_why() -> None:
    event = opened(fingerprinted(fingerprint="f1", template="no key"), 2, ground(ON))
    assert event == BreakerOpened(
        session_id="s",
        fingerprint="f1",
        template="no key",
        runs=3,
        reason=because(
            "breaker",
            "f1 failed the samples of 3 runs without any usage, so it is taken for systemic: runs"
            " without a verdict are held back.",
            fingerprint="f1",
            runs=3,
        ),
    )


# Which breakers hold a session back.


def test_every_open_breaker_of_the_log_holds_back_in_the_order_they_opened() -> None:
    late, early = breaker("late", opened_pos=9), breaker("early", opened_pos=4)
    closed = breaker("closed", opened_pos=None, closed_pos=5)
    other = breaker("other", opened_pos=3, session_id="another")
    assert open_breakers([late, closed, other, early]) == [other, early, late]
    assert open_breakers([]) == []


# The gate.


def gate(
    *breakers: BreakerStanding, runs: int | None = 3, now_us: int = NOW_US, **of_session: object
) -> Gate:
    of_session.setdefault("open_samples", ())
    first = of_session.pop("samples_at_first", None)
    rules = policy(breaker_runs=runs, samples_at_first=first, breaker_probes_max=1)
    return sampling_gate(session(**of_session), breakers, rules, now_us)


def test_with_nothing_open_and_no_slow_start_any_run_may_be_sampled() -> None:
    assert gate() == Gate(None, None)
    assert gate(breaker(opened_pos=None, probe="a")) == Gate(None, None)


def test_an_open_breaker_lets_one_probe_through_and_nothing_while_it_is_out() -> None:
    assert gate(breaker("f", opened_pos=1)) == Gate(None, "f")
    assert gate(breaker("f", opened_pos=1, probe="a")) == Gate("breaker_open", None)
    # One probe in the whole log, whatever it probes and whoever opened.
    theirs = breaker("g", opened_pos=2, probe="a", session_id="another")
    assert gate(breaker("f", opened_pos=1), theirs) == Gate("breaker_open", None)
    assert gate(breaker("f", opened_pos=1, session_id="another")) == Gate(None, "f")


def test_the_first_breaker_that_may_be_probed_is_probed() -> None:
    used_up, fresh = breaker("u", opened_pos=1, probes=1), breaker("v", opened_pos=2)
    third = breaker("w", opened_pos=3)
    assert gate(third, used_up, fresh) == Gate(None, "v")
    assert gate(third, fresh) == Gate(None, "v")
    assert gate(used_up) == Gate("breaker_open", None)


@pytest.mark.parametrize("runs", [None, 0])
def test_a_policy_without_breakers_heeds_none(runs: int | None) -> None:
    assert gate(breaker(opened_pos=1, probe="a"), runs=runs) == Gate(None, None)


def test_a_probe_is_not_held_back_by_the_slow_start() -> None:
    samples = ("a", "b", "c")
    opened_one = breaker("f", opened_pos=1)
    assert gate(opened_one, samples_at_first=1, open_samples=samples) == Gate(None, "f")


def test_the_slow_start_holds_samples_back_at_its_bound() -> None:
    for first, telling, flying in product((None, 0, 1, 2, 3), (0, 1, 2), range(9)):
        found = gate(
            samples_at_first=first,
            telling_samples=telling,
            open_samples=tuple(f"a{n}" for n in range(flying)),
        )
        held = first is not None and flying >= first + 2 * telling
        assert found == Gate("slow_start" if held else None, None), (first, telling, flying)


@pytest.mark.parametrize(
    ("first", "telling", "allowed"),
    [
        (None, 0, None),
        (None, 9, None),
        (0, 0, 0),
        (0, 1, 2),
        (1, 0, 1),
        (3, 0, 3),
        (3, 1, 5),
        (3, 4, 11),
    ],
)
def test_samples_in_flight_grow_by_two_with_each_that_tells_something(
    first: int | None, telling: int, allowed: int | None
) -> None:
    assert GROWTH == 2
    assert samples_allowed(telling, policy(samples_at_first=first)) == allowed


# When the next probe is due.


def test_a_few_probes_go_at_once_and_then_one_per_cool_down() -> None:
    for most, cool_ms, probes, passed_us in product(
        (0, 1, 2), (None, 0, 5), (0, 1, 2, 3), (0, 4999, 5000, 5001)
    ):
        rules = policy(breaker_probes_max=most, breaker_cool_down_ms=cool_ms)
        # The clock runs from the last probe, and from the opening before there was any.
        opened_us, last_us = (NOW_US - 77, NOW_US) if probes else (NOW_US, NOW_US - 77)
        standing = breaker(opened_pos=1, probes=probes, opened_us=opened_us, last_probe_us=last_us)
        if cool_ms is None:
            assert next_probe_us(standing, rules) is None
        else:
            assert next_probe_us(standing, rules) == NOW_US + cool_ms * 1000
        due = cool_ms is not None and passed_us >= cool_ms * 1000
        found = may_probe(standing, rules, NOW_US + passed_us)
        assert found == (probes < most or due), (most, cool_ms, probes, passed_us)


def test_a_gate_opens_at_the_very_moment_that_the_next_probe_is_due() -> None:
    rules = policy(breaker_runs=1, breaker_probes_max=1, breaker_cool_down_ms=5)
    waiting = breaker("f", opened_pos=1, probes=1, last_probe_us=NOW_US)
    for passed_us, expected in (
        (4999, Gate("breaker_open")),
        (5000, Gate(None, "f")),
        (5001, Gate(None, "f")),
    ):
        assert sampling_gate(session(), [waiting], rules, NOW_US + passed_us) == expected


# What the end of a probe says.


def test_the_end_of_a_probe_has_one_of_four_meanings() -> None:
    met: set[str] = set()
    for ending, usage, known, deferred in product(
        get_args(Ending), (0, 1, 2), (None, "f", "g"), FLAGS
    ):
        end = finished(ending=ending, yield_events=usage)
        found = outcome_of("f", end, known, deferred=deferred)
        if deferred or ending in ("abandoned", "orphaned"):
            expected = "unproved"
        elif ending == "succeeded" or usage:
            expected = "did_well"
        else:
            expected = "failed_alike" if known == "f" else "failed_otherwise"
        assert found == expected, (ending, usage, known, deferred)
        met.add(found)
    assert met == {"unproved", "did_well", "failed_alike", "failed_otherwise"}


PROBED = breaker("f", opened_pos=5, probe="a", probes=1)
FAILED = {each: cause(each, "q", "r") for each in "fgh"}
"""The run of the attempts below, ``r``, is among those whose samples failed by them."""

SAID = {
    "failed_alike": "The probe of f failed by the same cause.",
    "failed_otherwise": "The probe of f failed by another cause.",
    "unproved": "The probe of f proved nothing; another may go in its place.",
}


@pytest.mark.parametrize(
    ("ending", "known", "deferred", "outcome"),
    [
        ("failed", "f", False, "failed_alike"),
        ("timed_out", "g", False, "failed_otherwise"),
        ("broke", None, False, "failed_otherwise"),
        ("failed", "f", True, "unproved"),
        ("abandoned", None, False, "unproved"),
        ("orphaned", None, False, "unproved"),
    ],
)
def test_a_probe_that_does_not_do_well_is_told_of_its_breaker_alone(
    ending: Ending,
    known: str | None,
    deferred: bool,
    outcome: str,
) -> None:
    others = [breaker("g", opened_pos=1), breaker("h", opened_pos=9, session_id="x")]
    end = finished(ending=ending, attempt_id="a")
    found = list(settled([*others, PROBED], FAILED, end, known, ground(ON), deferred=deferred))
    assert found == [
        BreakerProbed(
            session_id="s",
            fingerprint="f",
            attempt_id="a",
            outcome=outcome,  # type: ignore[arg-type]
            reason=because("breaker", SAID[outcome], ending=ending, probes_before=1),
        )
    ]


def closed_by(
    fingerprint: str, how: str, ending: Ending, usage: int, who: str = "A probe"
) -> BreakerClosed:
    return BreakerClosed(
        session_id="s",
        fingerprint=fingerprint,
        attempt_id="a",
        reason=because(
            "breaker",
            f"{who} {how}, so {fingerprint} no longer holds runs back.",
            ending=ending,
            yield_events=usage,
        ),
    )


@pytest.mark.parametrize(
    ("ending", "usage", "how"),
    [
        ("succeeded", 0, "succeeded"),
        ("succeeded", 2, "succeeded"),
        ("failed", 1, "yielded usage"),
        ("timed_out", 3, "yielded usage"),
    ],
)
def test_a_probe_that_does_well_closes_every_open_breaker(
    ending: Ending, usage: int, how: str
) -> None:
    known = [
        breaker("late", opened_pos=9),
        PROBED,
        breaker("early", opened_pos=2),
        breaker("closed", opened_pos=None, closed_pos=3),
        breaker("other", opened_pos=1, session_id="x"),
    ]
    end = finished(ending=ending, yield_events=usage, attempt_id="a")
    found = list(settled(known, {}, end, None, ground(ON), deferred=False))
    order = ("other", "early", "f", "late")
    assert found == [closed_by(each, how, ending, usage) for each in order]


def test_what_an_attempt_comes_to_is_said_in_its_own_session() -> None:
    """An attempt that outlived its engine may end when another session has taken over."""
    theirs = breaker("f", session_id="x", opened_pos=5, probe="a")
    failing, well = finished(session_id="z"), finished(session_id="z", ending="succeeded")
    (told,) = settled([theirs], {}, failing, "f", ground(ON), deferred=False)
    assert isinstance(told, BreakerProbed)
    assert told.session_id == "z"
    (closed,) = settled([theirs], {}, well, None, ground(ON), deferred=False)
    assert isinstance(closed, BreakerClosed)
    assert closed.session_id == "z"


@pytest.mark.parametrize("runs", [None, 0, 3])
@pytest.mark.parametrize("deferred", FLAGS)
@pytest.mark.parametrize("usage", [0, 1])
@pytest.mark.parametrize("ending", get_args(Ending))
def test_a_run_that_failed_by_a_cause_and_does_well_now_closes_its_breaker(
    ending: Ending, usage: int, deferred: bool, runs: int | None
) -> None:
    known = [
        breaker("g", opened_pos=2, probe="b", session_id="x"),
        breaker("other", opened_pos=1),
        breaker("h", opened_pos=3),
        breaker("f", opened_pos=None, probe="a"),  # closed meanwhile
    ]
    causes = {**FAILED, "other": cause("other", "q")}
    end = finished(ending=ending, attempt_id="a", yield_events=usage)
    at = ground(policy(breaker_runs=runs))
    found = list(settled(known, causes, end, "h", at, deferred=deferred))
    well = ending == "succeeded" or (usage and ending not in ("abandoned", "orphaned"))
    if runs and well and not deferred:
        how = "succeeded" if ending == "succeeded" else "yielded usage"
        who = "r, whose sample had failed by it,"
        assert found == [closed_by(each, how, ending, usage, who) for each in "gh"]
    else:
        assert found == []


@pytest.mark.parametrize("recovered", ["q", "r", "u", "v"])
def test_whichever_of_the_runs_that_failed_by_a_cause_does_well_closes_its_breaker(
    recovered: str,
) -> None:
    known, causes = [breaker("f", opened_pos=1)], {"f": cause("f", "q", "r", "u", "v")}
    end = finished(run_id=recovered, ending="succeeded")
    (told,) = settled(known, causes, end, None, ground(ON), deferred=False)
    who = f"{recovered}, whose sample had failed by it,"
    assert told == closed_by("f", "succeeded", "succeeded", 0, who)


@pytest.mark.parametrize("ending", get_args(Ending))
def test_an_attempt_of_any_other_run_that_is_no_probe_does_nothing(ending: Ending) -> None:
    known = [breaker("g", opened_pos=1, probe="b"), breaker("h", opened_pos=2)]
    end = finished(ending=ending, attempt_id="a", yield_events=1)
    causes = {"g": cause("g", "q"), "h": cause("h")}
    assert list(settled(known, causes, end, "h", ground(ON), deferred=False)) == []
    assert list(settled(known, {}, end, "h", ground(ON), deferred=False)) == []
