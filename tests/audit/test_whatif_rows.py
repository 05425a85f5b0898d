"""What a what-if says of short histories made by hand, line by line, where each has one answer."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from engine.audit.whatif_order import IDLE_US
from engine.events import BreakerReset, PhaseRequeued, RunReinstated
from engine.triage.policy import Policy
from tests.audit.whatif_history import OTHERWISE, WELL, History, free, horizons, not_made, runs
from tests.harness.backlogs import queued
from tests.rules.standings import budget, policy


def test_a_run_that_is_full_delays_an_attempt_and_hinders_none() -> None:
    log = History(policy(), *free("r", "p", "q", "z"), per_run_max=1)
    log.start("a1", "r", "p")
    log.end("a1", "r", "p", ending="succeeded", final_state="COMPLETE", yield_events=1)
    log.start("a2", "r", "q", group="promising")
    log.start("a3", "r", "z", group="promising")
    log.end("a2", "r", "q", ending="succeeded", final_state="COMPLETE")
    log.end("a3", "r", "z", ending="succeeded", final_state="COMPLETE")
    log.close()
    assert not_made(log.under(policy(order_tiers=False))) == {}


def test_a_sample_in_flight_delays_an_attempt_and_hinders_none() -> None:
    log = History(policy(), *free("r", "p", "q"), per_run_max=2)
    log.start("a1", "r", "p")
    log.start("a2", "r", "q")
    assert not_made(log.under(policy(order_tiers=False))) == {}


def test_a_slow_start_delays_an_attempt_and_hinders_none() -> None:
    log = History(policy(), queued("a", "p"), queued("b", "p"))
    log.start("a1", "a")
    log.start("b1", "b")
    log.end("a1", "a", ending="succeeded", final_state="COMPLETE")
    log.end("b1", "b", ending="succeeded", final_state="COMPLETE")
    log.close()
    found = log.under(policy(samples_at_first=1))
    assert (not_made(found), found.attempts_made) == ({}, 2)


def test_a_sample_that_a_breaker_holds_back_may_come_later() -> None:
    log = History(policy(), queued("a", "p"), queued("b", "p"), workers=1)
    log.start("a1", "a")
    log.end("a1", "a", by="f")
    held = log.start("b1", "b")
    log.end("b1", "b", ending="succeeded", final_state="COMPLETE", tokens=9)
    log.close()
    found = log.under(policy(breaker_runs=1, breaker_probes_max=0, attempts_per_phase_max=1))
    assert not_made(found) == {"b1": "breaker_open"}
    assert (found.attempts_saved, found.attempts_unknown, found.tokens_saved) == (0, 1, 0)
    assert horizons(found) == [("b", held, "when its sample would have been made")]


@pytest.mark.parametrize(("idle_us", "is_idle"), [(IDLE_US - 1, False), (IDLE_US, True)])
def test_a_worker_that_was_idle_for_a_second_would_have_taken_what_there_was(
    idle_us: int, *, is_idle: bool
) -> None:
    failed = replace(queued("c", "p"), state="FAILED")
    log = History(policy(drains=("QUEUED",)), queued("a", "p"), failed, workers=2)
    log.start("a1", "a")
    at = log.end("a1", "a", ending="succeeded", final_state="COMPLETE", after_us=idle_us)
    ended = log.close()
    first = (at, "another phase would have been attempted first")
    last = (ended, "its next phase would have been attempted")
    assert horizons(log.under(policy())) == [("c", *(first if is_idle else last))]


@pytest.mark.parametrize("workers", [1, 2])
def test_only_a_worker_without_an_attempt_was_idle(workers: int) -> None:
    failed = replace(queued("c", "p"), state="FAILED")
    log = History(policy(drains=("QUEUED",)), queued("a", "p"), failed, workers=workers)
    log.start("a1", "a")
    at = log.end("a1", "a", ending="succeeded", final_state="COMPLETE", after_us=9 * IDLE_US)
    ended = log.close()
    assert [pos for _, pos, _ in horizons(log.under(policy()))] == [ended if workers == 1 else at]


def test_a_second_of_idleness_is_a_second() -> None:
    assert IDLE_US == 1_000_000


def test_a_requeue_of_an_open_phase_counts_no_attempt_anew() -> None:
    log = History(policy(), queued("r", "p"))
    log.start("a1", "r")
    log.add(PhaseRequeued(run_id="r", phase_id="p", by="x", why="y"))
    log.end("a1", "r", yield_events=1)
    log.start("a2", "r", number=2, initial_state="FAILED")
    log.end("a2", "r", yield_events=1)
    log.close()
    assert not_made(log.under(policy(attempts_per_phase_max=1))) == {"a2": "exhausted"}


def test_a_requeue_of_a_closed_phase_counts_its_attempts_anew() -> None:
    log = History(policy(), queued("r", "p"))
    log.start("a1", "r")
    log.end("a1", "r", yield_events=1)
    log.add(PhaseRequeued(run_id="r", phase_id="p", by="x", why="y"))
    log.start("a2", "r")
    log.end("a2", "r", yield_events=1)
    log.close()
    assert not_made(log.under(policy(attempts_per_phase_max=1))) == {}


@pytest.mark.parametrize(
    ("other", "left_out"),
    [(policy(provider_pause_ms=1), {"a2": "over_budget"}), (policy(order_tiers=False), {})],
    ids=["still-unsampled", "judged"],
)
def test_a_run_that_has_no_verdict_is_not_reinstated(
    other: Policy, left_out: Mapping[str, str]
) -> None:
    """The attempt that met a provider's limit is deferred, and judges nothing."""
    once = (budget("run", "attempts", 1),)
    log = History(policy(), queued("r", "p"), budgets=once)
    log.start("a1", "r")
    log.end("a1", "r", by="f", limit="quota")
    log.add(RunReinstated(run_id="r", generation=2, by="x", why="y"))
    log.start("a2", "r", number=2, initial_state="FAILED")
    log.end("a2", "r", by="f")
    log.close()
    assert not_made(log.under(other)) == left_out


def test_a_phase_whose_attempt_is_deferred_stands_as_it_stood_under_the_other_policy() -> None:
    """Its first attempt would not have been made, so it never failed, and is waiting still."""
    log = History(policy(), *free("r", "p", "q"), workers=1)
    log.start("a1", "r", "p")
    log.end("a1", "r", "p", ending="timed_out", yield_events=1)
    log.start("a2", "r", "q")
    log.end("a2", "r", "q", yield_events=1)
    log.close()
    log.begin()
    third = log.start("a3", "r", "q", number=2, initial_state="FAILED")
    log.end("a3", "r", "q", limit="quota", yield_events=1)
    log.start("a4", "r", "q", number=3, initial_state="FAILED")
    log.end("a4", "r", "q", ending="succeeded", final_state="COMPLETE")
    log.close()
    other = policy(drains=("QUEUED",), timeouts_per_run_max=1, provider_pause_ms=1)
    found = log.under(other)
    assert not_made(found) == {"a2": "stopped"}
    unknown = "its attempt 1 would have been made where 2 was"
    assert horizons(found) == [("r", third, unknown)]


def test_while_a_probe_is_out_no_sample_is_another_one() -> None:
    log = History(policy(), *runs("a", "b", "c"), workers=2)
    log.start("a1", "a")
    log.end("a1", "a", by="f")
    log.start("b1", "b")
    log.start("c1", "c")
    log.end("b1", "b", **WELL)
    log.end("c1", "c", **WELL)
    log.close()
    found = log.under(policy(breaker_runs=1, attempts_per_phase_max=1))
    assert not_made(found) == {"c1": "breaker_open"}


def test_beside_an_open_breaker_a_run_that_does_well_goes_on_and_probes_nothing() -> None:
    log = History(policy(), *free("d", "p", "q"), *runs("a", "b"), workers=2)
    log.start("d1", "d")
    log.end("d1", "d", **WELL)
    log.start("a1", "a")
    log.end("a1", "a", by="f")
    log.start("d2", "d", "q")
    log.start("b1", "b")
    log.end("b1", "b", **WELL)
    log.end("d2", "d", "q", **WELL)
    log.close()
    for probes_max in (0, 1):
        breaker = policy(breaker_runs=1, breaker_probes_max=probes_max, attempts_per_phase_max=1)
        left_out = not_made(log.under(breaker))
        assert left_out == ({} if probes_max else {"b1": "breaker_open"})


def test_what_samples_a_run_under_the_other_policy_holds_up_the_next_sample() -> None:
    """The first attempt would not have been made, so the second one is the sample."""
    failed = replace(queued("a", "p"), state="FAILED", order="free")
    log = History(policy(), failed, *free("a", "q"), *runs("c", "b"), workers=2)
    log.start("a1", "a", initial_state="FAILED")
    log.end("a1", "a", yield_events=1)
    log.start("a2", "a", "q", group="promising")
    log.start("b1", "b")
    log.end("a2", "a", "q", **WELL)
    log.end("b1", "b", **WELL)
    ended = log.close()
    found = log.under(policy(drains=("QUEUED",), samples_at_first=1))
    assert not_made(found) == {"a1": "not_drained"}
    assert horizons(found) == [("c", ended, "its next phase would have been attempted")]


def test_a_phase_that_was_asked_for_holds_up_no_sample() -> None:
    log = History(policy(), *runs("a", "c", "b"), run_id="a", phase_id="p", workers=2)
    log.start("a1", "a", group="named")
    log.go_on(workers=2)
    at = log.start("b1", "b")
    log.end("b1", "b", **WELL)
    log.end("a1", "a", **WELL)
    log.close()
    found = log.under(policy(samples_at_first=1))
    assert horizons(found) == [("c", at, "another phase would have been attempted first")]


def test_a_phase_that_was_asked_for_waits_for_none() -> None:
    log = History(policy(), queued("r", "p"), queued("r", "q"), run_id="r", phase_id="q")
    log.start("a1", "r", "q", group="named")
    log.end("a1", "r", "q", **WELL)
    log.close()
    assert not_made(log.under(OTHERWISE)) == {}


def test_a_reset_forgets_nothing_where_the_breaker_had_closed_already() -> None:
    log = History(policy(), *runs(*"abcde"), workers=1)
    for name in "abcd":
        log.start(f"{name}1", name)
        log.end(f"{name}1", name, **(WELL if name == "c" else {"by": "f"}))
    log.add(BreakerReset(session_id="s1", fingerprint="f", by="x", why="y"))
    log.start("e1", "e")
    log.end("e1", "e", by="f")
    log.close()
    found = log.under(policy(breaker_runs=2, attempts_per_phase_max=1))
    opened = [each.run_id for each in found.differing if "breaker opened: f" in each.instead]
    assert opened == ["b", "e"]
