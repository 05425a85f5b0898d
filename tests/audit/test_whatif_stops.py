"""Where sessions stop, and what another order comes to there: each history has one answer."""

from __future__ import annotations

from typing import Any

import pytest

from engine.audit.whatif_order import IDLE_US
from engine.events import RunRegistered, SessionEnd, Told
from tests.audit.whatif_history import OTHERWISE, WELL, History, free, horizons, not_made, runs
from tests.rules.standings import budget, policy

NEXT = "its next phase would have been attempted"
FIRST = "another phase would have been attempted first"
IN_ITS_PLACE = "another one would have come in its place"
MAYBE_BEFORE = "it may have come before the session stopped"


@pytest.mark.parametrize(
    ("because", "is_from_outside"),
    [
        ("interrupted", True),
        ("storage", True),
        ("total_time", True),
        ("paused", True),
        ("window_closed", True),
        ("zero_yield_streak", False),
    ],
)
def test_a_stop_from_outside_comes_under_any_policy(
    because: SessionEnd, *, is_from_outside: bool
) -> None:
    log = History(policy(), *runs("a", "b"))
    log.start("a1", "a")
    log.end("a1", "a", **WELL)
    log.drain(because)
    ended = log.close(because)
    found = log.under(policy(provider_pause_ms=1))
    assert horizons(found) == ([] if is_from_outside else [("b", ended, NEXT)])


def test_a_budget_that_the_other_policy_reaches_as_well_ends_its_session() -> None:
    log = History(policy(), *runs("a", "b"), budgets=(budget("session", "attempts", 1),))
    log.start("a1", "a")
    log.end("a1", "a", **WELL)
    log.drain("session_budget")
    log.close("session_budget")
    assert horizons(log.under(policy(provider_pause_ms=1))) == []


def test_a_session_that_had_stopped_before_has_no_room_for_more_at_the_recorded_stop() -> None:
    log = History(policy(), *runs("a", "b", "c"), batch_size=2)
    log.start("a1", "a")
    log.end("a1", "a")
    log.start("b1", "b")
    log.end("b1", "b", **WELL)
    log.drain("batch_size")
    log.close("batch_size")
    found = log.under(policy(consecutive_zero_yield_max=1))
    assert not_made(found) == {"b1": "the session had stopped (zero_yield_streak)"}
    assert horizons(found) == []


def test_a_worker_that_idles_once_the_session_has_stopped_has_nothing_to_take() -> None:
    log = History(OTHERWISE, *runs("a", "b", "c"), workers=2)
    log.start("a1", "a")
    log.start("b1", "b")
    log.end("a1", "a")
    log.end("b1", "b", **WELL, after_us=9 * IDLE_US)
    log.close()
    assert horizons(log.under(policy(consecutive_zero_yield_max=1))) == []


def test_the_recorded_order_is_that_of_a_policy_that_picks_alike() -> None:
    """Also where another engine had a part in it."""
    streak = policy(consecutive_zero_yield_max=9)
    log = History(streak, *runs("a", "b"))
    for name in "ba":
        log.start(f"{name}1", name)
        log.end(f"{name}1", name, **WELL)
    log.close()
    assert horizons(log.under(streak)) == []
    assert horizons(log.under(policy(consecutive_zero_yield_max=9, order_tiers=False))) != []


def test_a_session_that_goes_on_under_a_policy_that_picks_otherwise_has_another_order() -> None:
    alike = policy(consecutive_zero_yield_max=9)
    log = History(alike, *runs("a", "b"))
    log.go_on(OTHERWISE)
    at = log.start("b1", "b")
    log.end("b1", "b", **WELL)
    log.start("a1", "a")
    log.end("a1", "a", **WELL)
    log.close()
    before = "what came before had another order"
    assert horizons(log.under(alike)) == [("b", at + 1, before), ("a", at + 3, before)]


def test_where_a_decision_rests_on_the_order_all_that_was_shifted_by_then_is_unknown() -> None:
    log = History(OTHERWISE, *runs("a", "b", "c"), workers=3)
    for name in "bc":
        log.start(f"{name}1", name)
    first = log.end("b1", "b", **WELL)
    log.end("c1", "c", **WELL)
    log.start("a1", "a")
    last = log.end("a1", "a", **WELL)
    log.close()
    before = "what came before had another order"
    found = horizons(log.under(policy(consecutive_zero_yield_max=9)))
    assert found == [("b", first, before), ("c", first, before), ("a", last, before)]


def test_what_counts_as_a_timeout_is_counted_as_one() -> None:
    late: dict[str, Any] = {"exit_code": 124, "told": Told(ended="exited"), "yield_events": 1}
    log = History(policy(), *free("r", "p", "q", "z"), workers=1)
    for number, phase in enumerate("pqz", 1):
        log.start(f"a{number}", "r", phase)
        log.end(f"a{number}", "r", phase, **late)
    log.close()
    found = log.under(policy(timeout_exit_codes=(124,), timeouts_per_run_max=2))
    assert not_made(found) == {"a3": "stopped"}


def test_a_session_that_goes_on_by_other_bounds_picks_by_those() -> None:
    log = History(OTHERWISE, *runs("a", "b"), skip_run_prefixes=("a",))
    log.start("b1", "b")
    log.end("b1", "b", **WELL)
    log.go_on()
    log.start("a1", "a")
    log.end("a1", "a", **WELL)
    log.close()
    assert horizons(log.under(policy(consecutive_zero_yield_max=9))) == []


def bounded(*order: str, of: str) -> tuple[list[tuple[str, int, str]], int, int]:
    """Attempts in an order up to the size of the session; the horizons, the first, the end."""
    log = History(OTHERWISE, *runs(*of), batch_size=len(order), workers=1)
    at = 0
    for name in order:
        at = at or log.start(f"{name}1", name)
        if at and name != order[0]:
            log.start(f"{name}1", name)
        log.end(f"{name}1", name, **WELL)
    log.drain("batch_size")
    ended = log.close("batch_size")
    return horizons(log.under(policy())), at, ended


def test_what_came_instead_before_a_bound_may_not_have_come() -> None:
    found, at, ended = bounded("b", of="abc")
    assert found == [("a", at, FIRST), ("b", at, IN_ITS_PLACE), ("c", ended, MAYBE_BEFORE)]


def test_what_came_late_and_left_another_out_may_not_have_come() -> None:
    found, at, ended = bounded("b", "a", of="abc")
    assert found == [("b", at, IN_ITS_PLACE), ("c", ended, MAYBE_BEFORE)]


def test_another_order_that_leaves_nothing_out_is_no_horizon() -> None:
    assert bounded("b", "a", of="ab")[0] == []
    assert bounded("a", "b", of="abc")[0] == []


@pytest.mark.parametrize("is_bounded", [True, False])
def test_what_would_have_come_in_the_place_of_what_is_left_out_leaves_the_rest_unknown(
    *, is_bounded: bool
) -> None:
    log = History(policy(), *runs("a", "b", "c"), workers=1)
    log.start("a1", "a")
    log.end("a1", "a", yield_events=1)
    at = log.start("a2", "a", number=2, initial_state="FAILED")
    log.end("a2", "a", yield_events=1)
    if is_bounded:
        log.drain("interrupted")
    ended = log.close("interrupted" if is_bounded else "nothing_eligible")
    found = log.under(policy(attempts_per_phase_max=1))
    assert horizons(found) == [("b", at, FIRST), ("c", ended, MAYBE_BEFORE if is_bounded else NEXT)]


def test_where_time_bounds_a_session_what_comes_behind_another_may_not_have_come() -> None:
    log = History(policy(), *runs("a", "b", "c"), workers=1, total_ms_max=10**9)
    log.start("a1", "a")
    log.end("a1", "a", yield_events=1)
    at = log.start("a2", "a", number=2, initial_state="FAILED")
    log.end("a2", "a", yield_events=1)
    ended = log.close("nothing_eligible")
    found = log.under(policy(attempts_per_phase_max=1))
    assert horizons(found) == [("b", at, FIRST), ("c", ended, MAYBE_BEFORE)]


def test_a_session_that_left_an_attempt_out_comes_further_before_it_is_stopped() -> None:
    log = History(policy(), *runs("a", "b", "c"), workers=1)
    for number, initial_state in ((1, "QUEUED"), (2, "FAILED")):
        log.start(f"a{number}", "a", number=number, initial_state=initial_state)
        log.end(f"a{number}", "a", yield_events=1)
    log.start("b1", "b")
    log.end("b1", "b", **WELL)
    log.drain("interrupted")
    ended = log.close("interrupted")
    found = log.under(policy(attempts_per_phase_max=1))
    assert horizons(found) == [("c", ended, MAYBE_BEFORE)]


def test_where_nothing_bounds_a_session_what_came_instead_would_have_come_too() -> None:
    log = History(OTHERWISE, *runs("a", "b"), workers=1)
    at = log.start("b1", "b")
    log.end("b1", "b", **WELL)
    log.close()
    assert horizons(log.under(policy())) == [("a", at, FIRST)]


def test_what_should_have_come_first_leaves_the_rest_unknown_though_it_may_come_no_more() -> None:
    log = History(OTHERWISE, *free("a", "p", "q"), *runs("b"), batch_size=2, workers=1)
    at = log.start("b1", "b")
    log.end("b1", "b", **WELL)
    log.start("a1", "a", "q")
    log.end("a1", "a", "q", ending="timed_out", yield_events=1)
    log.drain("batch_size")
    log.close("batch_size")
    found = log.under(policy(timeouts_per_run_max=1))
    assert horizons(found) == [("a", at, FIRST), ("b", at, IN_ITS_PLACE)]


def test_all_that_should_have_come_first_is_told_from_where_it_should_have_on() -> None:
    log = History(OTHERWISE, *free("a", "p", "q"), *runs("b", "c", "d"), workers=1)
    before_a = log.start("c1", "c")
    log.end("c1", "c", **WELL)
    log.start("a1", "a", "q")
    log.end("a1", "a", "q", ending="timed_out", yield_events=1)
    before_b = log.start("d1", "d")
    log.end("d1", "d", **WELL)
    log.close()
    told = [
        each for each in horizons(log.under(policy(timeouts_per_run_max=1))) if each[2] == FIRST
    ]
    assert told == [("a", before_a, FIRST), ("b", before_b, FIRST)]


def test_of_a_run_without_phases_nothing_would_have_been_attempted() -> None:
    log = History(policy(), *runs("a", "b"), workers=1)
    log.add(RunRegistered(run_id="empty", origin="test", state="NEW"))
    log.start("a1", "a")
    log.end("a1", "a", **WELL)
    ended = log.close()
    assert horizons(log.under(policy())) == [("b", ended, NEXT)]


def test_the_order_of_a_part_that_has_ended_is_no_matter_to_the_next() -> None:
    log = History(OTHERWISE, *runs("a", "b", "c"), workers=1, skip_run_prefixes=("c",))
    for name in "ba":
        log.start(f"{name}1", name)
        log.end(f"{name}1", name, **WELL)
    log.close()
    log.go_on()
    log.start("c1", "c")
    log.end("c1", "c", by="f")
    log.close()
    found = log.under(policy(breaker_runs=1, attempts_per_phase_max=1))
    assert found.differing[-1].instead[-1] == "breaker opened: f"
    assert horizons(found) == []


def test_a_stop_for_its_size_leaves_as_much_room_as_was_left_out() -> None:
    log = History(policy(), *runs("a", "b", "c"), workers=1, batch_size=3)
    for number in (1, 2, 3):
        log.start(f"a{number}", "a", number=number)
        log.end(f"a{number}", "a", yield_events=1)
    at = log.drain("batch_size")
    log.close("batch_size")
    found = log.under(policy(attempts_per_phase_max=1))
    room = "the session would have had 2 attempts more"
    assert horizons(found)[1:] == [("c", at, room)]


def test_a_run_that_cools_down_once_the_session_has_stopped_is_left_to_another() -> None:
    """Neither the start of another run nor its own brings back what a session stopped before."""
    log = History(OTHERWISE, *runs("b"), *free("a", "p", "q"), *runs("c", "d"), workers=1)
    for name in "ba":
        log.start(f"{name}1", name)
        log.end(f"{name}1", name, by="f")
    at = log.start("d1", "d")
    log.end("d1", "d", after_us=9000)
    log.start("a2", "a", "q")
    log.end("a2", "a", "q")
    log.close()
    other = policy(attempts_per_phase_max=1, consecutive_zero_yield_max=3, cool_down_ms=5)
    found = log.under(other)
    assert not_made(found) == {"a2": "the session had stopped (zero_yield_streak)"}
    assert horizons(found) == [("c", at, FIRST), ("d", at, IN_ITS_PLACE)]


def test_what_a_session_took_before_it_ended_counts_when_it_goes_on() -> None:
    log = History(policy(), *runs("a", "b"), skip_run_prefixes=("b",))
    log.start("a1", "a")
    log.end("a1", "a", **WELL)
    log.close(active_ms=60_000)
    log.go_on(total_ms_max=60_000)
    log.drain("zero_yield_streak")
    log.close("zero_yield_streak")
    assert horizons(log.under(policy(provider_pause_ms=1))) == []


def test_of_a_session_for_one_phase_nothing_else_would_have_been_attempted() -> None:
    log = History(policy(), *free("r", "p", "q"), run_id="r", phase_id="p")
    log.start("a1", "r", "p", group="named")
    log.end("a1", "r", "p", **WELL)
    log.close()
    assert horizons(log.under(OTHERWISE)) == []


def test_a_session_whose_time_was_up_would_not_have_gone_on() -> None:
    """By the time at which it stopped: three milliseconds after it began."""
    log = History(policy(), *runs("a", "b"), total_ms_max=3)
    log.start("a1", "a")
    log.end("a1", "a", **WELL)
    log.drain("zero_yield_streak")
    log.close("zero_yield_streak")
    assert horizons(log.under(OTHERWISE)) == []


@pytest.mark.parametrize("cools", [True, False])
def test_a_run_that_has_cooled_down_by_the_end_would_have_been_sampled_again(
    *, cools: bool
) -> None:
    log = History(policy(), *runs("b"), *free("a", "p", "q"), *free("c", "p", "q"))
    for name in "bac":
        log.start(f"{name}1", name)
        log.end(f"{name}1", name, by="f")
    ended = log.close(after_us=9000)
    other = policy(attempts_per_phase_max=1, cool_down_ms=9 if cools else None)
    both = [("a", ended, NEXT), ("c", ended, NEXT)]
    assert horizons(log.under(other)) == (both if cools else [])


def test_an_open_breaker_holds_back_what_is_unsampled_and_nothing_else() -> None:
    log = History(policy(), *free("c", "p", "q"), *runs("a", "b"))
    log.start("c1", "c")
    log.end("c1", "c", **WELL)
    log.start("a1", "a")
    log.end("a1", "a", by="f")
    ended = log.close()
    other = policy(breaker_runs=1, breaker_probes_max=0, attempts_per_phase_max=1)
    assert [(run, pos) for run, pos, _ in horizons(log.under(other))] == [("c", ended)]


@pytest.mark.parametrize("probes", [True, False])
def test_a_sample_that_would_have_been_a_probe_is_noted(*, probes: bool) -> None:
    """One that was a probe, and would have been none, tells nothing new."""
    breaker = policy(breaker_runs=1, attempts_per_phase_max=1)
    log = History(policy() if probes else breaker, *runs("a", "b"), workers=1)
    log.start("a1", "a")
    log.end("a1", "a", by="f")
    log.start("b1", "b", probe_of=None if probes else "f")
    log.end("b1", "b", **WELL)
    log.close()
    note = "probes: the next recorded sample is taken for each of them"
    found = log.under(breaker if probes else policy(attempts_per_phase_max=1))
    assert found.notes == ((note,) if probes else ())
