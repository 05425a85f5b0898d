"""The circuit breaker, whole: when it opens, who may probe it, what a probe's end does to it."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from engine.events import BreakerClosed, BreakerOpened, BreakerProbed, Ending
from engine.triage.breaker import (
    GROWTH,
    Gate,
    carried,
    may_probe,
    next_probe_us,
    open_breakers,
    opened,
    opens,
    probe_outcome,
    samples_allowed,
    sampling_gate,
    settled,
)
from projections.breakers import BreakerStanding
from tests.rules.standings import (
    NOW_US,
    because,
    breaker,
    fingerprinted,
    finished,
    ground,
    named,
    policy,
    scope,
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
    assert event.carried is False


# Which breakers hold a session back.


def test_only_open_breakers_of_the_session_hold_it_back_in_the_order_they_opened() -> None:
    late, early = breaker("late", opened_pos=9), breaker("early", opened_pos=4)
    closed = breaker("closed", opened_pos=None, closed_pos=5)
    other = breaker("other", opened_pos=3, session_id="another")
    assert open_breakers([late, closed, other, early], "s") == [early, late]
    assert open_breakers([late, closed, other, early], "another") == [other]
    assert open_breakers([], "s") == []


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
    assert gate(breaker(opened_pos=1, session_id="another")) == Gate(None, None)


def test_an_open_breaker_lets_one_probe_through_and_nothing_while_it_is_out() -> None:
    assert gate(breaker("f", opened_pos=1)) == Gate(None, "f")
    assert gate(breaker("f", opened_pos=1, probe="a")) == Gate("breaker_open", None)
    # One probe in the whole session, whatever it probes.
    assert gate(breaker("f", opened_pos=1), breaker("g", opened_pos=2, probe="a")) == Gate(
        "breaker_open", None
    )


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


# What a new session takes over.


def test_a_session_takes_over_what_is_still_open_in_the_order_it_opened() -> None:
    late = breaker("late", session_id="x", opened_pos=9, probes=2, template="l", runs=4)
    early = breaker("early", session_id="y", opened_pos=4, template="e", runs=3)
    closed = breaker("closed", session_id="x", opened_pos=None, closed_pos=5)
    own = breaker("own", session_id="s", opened_pos=2)
    found = list(carried([late, closed, own, early], ground(ON)))
    assert found == [
        BreakerOpened(
            session_id="s",
            fingerprint="early",
            template="e",
            runs=3,
            carried=True,
            reason=because(
                "breaker",
                "early was taken for systemic at position 4 and no probe has done well since.",
                opened_pos=4,
                probes=0,
            ),
        ),
        BreakerOpened(
            session_id="s",
            fingerprint="late",
            template="l",
            runs=4,
            carried=True,
            reason=because(
                "breaker",
                "late was taken for systemic at position 9 and no probe has done well since.",
                opened_pos=9,
                probes=2,
            ),
        ),
    ]


def test_nothing_is_taken_over_where_no_breaker_counts() -> None:
    known = [breaker(session_id="x", opened_pos=4)]
    assert list(carried(known, ground(policy(breaker_runs=None)))) == []
    assert list(carried(known, ground(policy(breaker_runs=0)))) == []
    assert list(carried(known, ground(named(ON)))) == []
    assert len(list(carried(known, ground(scope(ON, run_id="r"))))) == 1


# What the end of a probe says.


def test_the_end_of_a_probe_has_one_of_four_meanings() -> None:
    met: set[str] = set()
    for ending, usage, known, deferred in product(
        get_args(Ending), (0, 1, 2), (None, "f", "g"), FLAGS
    ):
        found = probe_outcome(
            breaker("f"), finished(ending=ending, yield_events=usage), known, deferred=deferred
        )
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
    found = list(settled([*others, PROBED], end, known, ground(ON), deferred=deferred))
    assert found == [
        BreakerProbed(
            session_id="s",
            fingerprint="f",
            attempt_id="a",
            outcome=outcome,  # type: ignore[arg-type]
            reason=because("breaker", SAID[outcome], ending=ending, probes_before=1),
        )
    ]


def closed_by(fingerprint: str, how: str, ending: Ending, usage: int) -> BreakerClosed:
    return BreakerClosed(
        session_id="s",
        fingerprint=fingerprint,
        attempt_id="a",
        reason=because(
            "breaker",
            f"A probe {how}, so {fingerprint} no longer holds runs back.",
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
def test_a_probe_that_does_well_closes_every_open_breaker_of_its_session(
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
    found = list(settled(known, end, None, ground(ON), deferred=False))
    assert found == [closed_by(each, how, ending, usage) for each in ("early", "f", "late")]


def test_what_a_probe_comes_to_is_said_in_the_session_that_holds_its_breaker() -> None:
    """An attempt that outlived its engine may end when another session has taken over."""
    taken_over = breaker("f", session_id="x", opened_pos=5, probe="a")
    (failed,) = settled([taken_over], finished(), "f", ground(ON), deferred=False)
    assert isinstance(failed, BreakerProbed)
    assert failed.session_id == "x"
    well = finished(ending="succeeded")
    others = [breaker("g", session_id="s", opened_pos=4), taken_over]
    (closed,) = settled(others, well, None, ground(ON), deferred=False)
    assert isinstance(closed, BreakerClosed)
    assert (closed.session_id, closed.fingerprint) == ("x", "f")


@pytest.mark.parametrize("ending", get_args(Ending))
def test_an_attempt_that_is_no_probe_does_nothing_to_breakers(ending: Ending) -> None:
    known = [
        breaker("g", opened_pos=1, probe="b"),
        breaker("h", opened_pos=2),
        breaker("i", opened_pos=None, probe="a"),  # closed meanwhile
    ]
    end = finished(ending=ending, attempt_id="a", yield_events=1)
    assert list(settled(known, end, "h", ground(ON), deferred=False)) == []
