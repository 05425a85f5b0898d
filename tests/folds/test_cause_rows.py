"""Fingerprints and breakers, whole: each event on a row whose every count is there already."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from engine.events import (
    AttemptDeferred,
    BreakerClosed,
    BreakerOpened,
    BreakerProbed,
    BreakerReset,
    FingerprintStopped,
    RunJudged,
)
from projections.breakers import BREAKERS, BreakerStanding
from projections.causes import CAUSES, RUNS_MAX as CAUSE_RUNS_MAX
from projections.fingerprints import FINGERPRINTS, RUNS_MAX, FingerprintCount
from tests.folds.rows import POS, US, after, changes, keys, taken
from tests.rules.standings import because, breaker, cause, count_of, fingerprinted, started

WHY = because("r", "")

COUNT = count_of(
    "f",
    template="older",
    count=2,
    first_pos=3,
    last_pos=4,
    runs=("q",),
    deferred=5,
    stopped_pos=6,
)
STOPPED = FingerprintStopped(session_id="s", fingerprint="f", repeats=3, reason=WHY)
CLOSED = BreakerClosed(session_id="s", fingerprint="f", attempt_id="a", reason=WHY)
RESET = BreakerReset(session_id="s", fingerprint="f", by="x", why="y")


def deferred(fingerprint: str | None = "f") -> AttemptDeferred:
    return AttemptDeferred(
        session_id="s",
        run_id="r",
        phase_id="p",
        attempt_id="a",
        state="FAILED",
        kind="quota",
        fingerprint=fingerprint,
        reason=WHY,
    )


def judged(barren: str | None = "f", run_id: str = "r") -> RunJudged:
    return RunJudged(
        session_id="s",
        run_id=run_id,
        attempt_id="a",
        generation=1,
        verdict="inconclusive",
        because="new_failure",
        barren=barren,
        reason=WHY,
    )


def opened() -> BreakerOpened:
    return BreakerOpened(session_id="s9", fingerprint="f", template="words9", runs=7, reason=WHY)


def probed(outcome: Any) -> BreakerProbed:
    return BreakerProbed(
        session_id="s", fingerprint="f", attempt_id="a", outcome=outcome, reason=WHY
    )


# Fingerprints.


def test_a_fingerprint_is_touched_in_its_own_session_by_events_that_name_it() -> None:
    events = (fingerprinted(), STOPPED, deferred())
    assert FINGERPRINTS.name == "fingerprints"
    assert taken(FINGERPRINTS) == {type(event).__name__ for event in events}
    assert {keys(FINGERPRINTS, event) for event in events} == {("s\nf",)}
    assert keys(FINGERPRINTS, deferred(None)) == ()


def test_a_failure_is_counted_with_where_it_stood_and_whose_it_was() -> None:
    assert after(FINGERPRINTS, None, fingerprinted(template="words")) == FingerprintCount(
        session_id="s",
        fingerprint="f",
        template="words",
        count=1,
        first_pos=POS,
        last_pos=POS,
        runs=("r",),
    )
    assert changes(FINGERPRINTS, COUNT, fingerprinted(template="newer")) == {
        "template": "newer",
        "count": 3,
        "last_pos": POS,
        "runs": ("q", "r"),
    }
    again = changes(FINGERPRINTS, COUNT, fingerprinted(template="older", run_id="q"))
    assert again == {"count": 3, "last_pos": POS}


@pytest.mark.parametrize("known", [RUNS_MAX - 1, RUNS_MAX, RUNS_MAX + 1])
def test_so_many_runs_are_listed_and_no_more(known: int) -> None:
    assert RUNS_MAX == 20
    runs = tuple(f"r{n}" for n in range(known))
    row = count_of("f", runs=runs, first_pos=1)
    listed = after(FINGERPRINTS, row, fingerprinted()).runs
    assert listed == ((*runs, "r") if known < 20 else runs)


def test_what_is_not_counted_after_all_is_taken_back() -> None:
    assert changes(FINGERPRINTS, COUNT, deferred()) == {"count": 1, "deferred": 6}
    fresh = after(FINGERPRINTS, None, fingerprinted())
    back = after(FINGERPRINTS, fresh, deferred())
    assert (back.count, back.deferred) == (0, 1)


def test_a_stop_stands_where_it_was_said() -> None:
    assert changes(FINGERPRINTS, COUNT, STOPPED) == {"stopped_pos": POS}


def test_a_fingerprint_that_is_new_has_nothing_counted() -> None:
    fresh = FingerprintCount(session_id="s", fingerprint="f", template="t")
    shown = {name: getattr(fresh, name) for name in fresh.__struct_fields__[3:]}
    assert shown == {
        "count": 0,
        "first_pos": 0,
        "last_pos": 0,
        "runs": (),
        "deferred": 0,
        "stopped_pos": None,
    }


# Causes.


def test_a_cause_is_touched_in_whatever_session_a_sample_fails_by_it() -> None:
    events = (judged(), CLOSED, RESET)
    assert CAUSES.name == "causes"
    assert taken(CAUSES) == {type(event).__name__ for event in events}
    assert {keys(CAUSES, event) for event in events} == {("f",)}
    assert keys(CAUSES, judged(None)) == ()


def test_a_barren_sample_counts_its_run_once() -> None:
    known = cause("f", "q", "u")
    assert changes(CAUSES, known, judged()) == {"runs": ("q", "u", "r")}
    for again in known.runs:
        assert changes(CAUSES, known, judged(run_id=again)) == {}, again
    assert after(CAUSES, None, judged()) == cause("f", "r")


@pytest.mark.parametrize("known", [CAUSE_RUNS_MAX - 1, CAUSE_RUNS_MAX, CAUSE_RUNS_MAX + 1])
def test_as_many_runs_are_counted_as_a_breaker_may_wait_for(known: int) -> None:
    assert CAUSE_RUNS_MAX == 1000
    runs = tuple(f"r{n}" for n in range(known))
    found = after(CAUSES, cause("f", *runs), judged())
    assert found.runs == ((*runs, "r") if known < 1000 else runs)


@pytest.mark.parametrize("event", [CLOSED, RESET])
def test_a_breaker_that_closes_counts_its_cause_from_nothing(
    event: BreakerClosed | BreakerReset,
) -> None:
    assert changes(CAUSES, cause("f", "q"), event) == {"runs": ()}
    assert after(CAUSES, None, event) == cause("f")


# Breakers.

BREAKER = breaker(
    "f",
    template="older",
    runs=2,
    opened_pos=3,
    opened_us=4,
    probe="a0",
    probes=5,
    last_probe_us=6,
    closed_pos=7,
)


def test_a_breaker_is_touched_by_what_names_its_cause_and_by_the_start_of_its_probe() -> None:
    events = (opened(), probed("unproved"), CLOSED, RESET, started(probe_of="f"))
    assert BREAKERS.name == "breakers"
    assert taken(BREAKERS) == {type(event).__name__ for event in events}
    assert {keys(BREAKERS, event) for event in events} == {("f",)}
    assert keys(BREAKERS, started()) == ()


def test_a_breaker_that_a_session_of_an_early_program_took_over_stands_as_it_stood() -> None:
    carried = replace(opened(), carried=True)
    assert after(BREAKERS, BREAKER, carried) == BREAKER
    assert after(BREAKERS, None, carried) == after(BREAKERS, None, opened())


@pytest.mark.parametrize("before", [None, BREAKER])
def test_a_breaker_that_opens_knows_nothing_of_earlier_probes(
    before: BreakerStanding | None,
) -> None:
    assert after(BREAKERS, before, opened()) == BreakerStanding(
        fingerprint="f",
        session_id="s9",
        template="words9",
        runs=7,
        opened_pos=POS,
        opened_us=US,
        probe=None,
        probes=0,
        last_probe_us=0,
        closed_pos=None,
    )


def test_a_probe_is_out_from_its_start_to_its_end() -> None:
    assert changes(BREAKERS, BREAKER, started(probe_of="f", attempt_id="a9")) == {"probe": "a9"}
    assert changes(BREAKERS, BREAKER, probed("unproved")) == {"probe": None}
    for outcome in ("failed_alike", "failed_otherwise"):
        assert changes(BREAKERS, BREAKER, probed(outcome)) == {
            "probe": None,
            "probes": 6,
            "last_probe_us": US,
        }


@pytest.mark.parametrize("event", [CLOSED, RESET])
def test_a_closed_breaker_holds_nothing_back(event: BreakerClosed | BreakerReset) -> None:
    assert changes(BREAKERS, BREAKER, event) == {
        "opened_pos": None,
        "probe": None,
        "closed_pos": POS,
    }


def test_a_breaker_that_is_new_is_closed_and_unprobed() -> None:
    fresh = BreakerStanding(fingerprint="f", session_id="s")
    shown = {name: getattr(fresh, name) for name in fresh.__struct_fields__[2:]}
    assert shown == {
        "template": "",
        "runs": 0,
        "opened_pos": None,
        "opened_us": 0,
        "probe": None,
        "probes": 0,
        "last_probe_us": 0,
        "closed_pos": None,
    }
