"""What another policy would have picked, held against recorded starts on boards made by hand."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from engine.audit.whatif_order import (
    Ahead,
    SessionOrder,
    carriers,
    is_out_of_turn,
    rests_on_order,
)
from engine.events import GENESIS, AttemptStarted, BudgetReached, Head, RunJudged, RunStopped, Seen
from engine.triage.decide import Facts
from projections.board import Board
from projections.fingerprints import RUNS_MAX
from tests.rules.standings import (
    NOW_US,
    because,
    board,
    boundary,
    count_of,
    fingerprinted,
    finished,
    judged,
    phase,
    policy,
    run,
    scope,
    session,
    started,
)


def ready(*run_ids: str) -> Board:
    """Runs with one phase each, of which the first goes first."""
    runs = [run(run_id=name) for name in run_ids]
    phases = [phase(run_id=name, registered_pos=n) for n, name in enumerate(run_ids, 1)]
    return board(session(), *runs, *phases)


def start(run_id: str) -> AttemptStarted:
    return started(run_id=run_id, attempt_id=f"att-{run_id}")


def test_a_start_that_comes_first_under_both_shifts_nothing() -> None:
    order = SessionOrder(ready("a", "b"), scope())
    order.hold(5, NOW_US, start("a"))
    assert (order.ahead, order.shifted, order.shifted_since()) == ({}, {}, [])


def test_what_should_have_come_first_is_ahead_and_what_came_instead_is_shifted() -> None:
    order = SessionOrder(ready("a", "b"), scope(workers=2))
    order.hold(5, NOW_US, start("b"))
    assert order.ahead == {"a\np": Ahead("a", 5)}
    assert order.shifted == {"b": 5}


def test_the_first_place_where_the_order_differed_is_kept() -> None:
    order = SessionOrder(ready("a", "b"), scope())
    for pos in (5, 6):
        order.hold(pos, NOW_US, start("b"))
    assert (order.ahead, order.shifted) == ({"a\np": Ahead("a", 5)}, {"b": 5})


def test_what_was_ahead_and_has_come_is_ahead_no_more() -> None:
    order = SessionOrder(ready("a", "b"), scope())
    order.hold(5, NOW_US, start("b"))
    order.made(start("b"))
    assert set(order.ahead) == {"a\np"}
    order.made(start("a"))
    assert order.ahead == {}


@pytest.mark.parametrize(("workers", "shifted"), [(1, {}), (2, {"a": 5}), (9, {"a": 5})])
def test_a_free_worker_shifts_what_it_would_have_taken_up_unless_it_is_the_only_one(
    workers: int, shifted: dict[str, int]
) -> None:
    order = SessionOrder(ready("a", "b"), scope(workers=workers))
    order.hold(5, NOW_US, None)
    assert (order.ahead, order.shifted) == ({"a\np": Ahead("a", 5)}, shifted)


def test_a_start_where_nothing_would_have_been_picked_is_shifted() -> None:
    order = SessionOrder(board(session()), scope())
    order.hold(5, NOW_US, start("b"))
    order.hold(6, NOW_US, None)
    assert (order.ahead, order.shifted) == ({}, {"b": 5})
    assert order.misplaced == set(), "of a run of which nothing would go, nothing goes first"


def test_every_run_that_is_shifted_is_told_once() -> None:
    order = SessionOrder(ready("a", "b", "c"), scope())
    for run_id in "bb":
        order.hold(5, NOW_US, start(run_id))
    assert order.shifted_since() == ["b"]
    for run_id in "cb":
        order.hold(6, NOW_US, start(run_id))
    assert order.shifted_since() == ["c"]
    assert order.shifted_since() == []


def folded(rows: Board, order: SessionOrder, event: AttemptStarted | RunJudged) -> None:
    pos = rows.head.pos + 1
    rows.feed(Seen(pos, NOW_US, event))
    rows.head = Head(pos, GENESIS)
    order.take(event)


def test_the_next_pick_comes_behind_what_was_folded() -> None:
    order = SessionOrder(rows := ready("a", "b"), scope())
    order.hold(5, NOW_US, start("a"))
    folded(rows, order, start("a"))
    order.hold(6, NOW_US, start("b"))
    assert (order.ahead, order.shifted) == ({}, {})


def test_a_run_cools_down_from_the_verdict_on_that_was_folded_last() -> None:
    order = SessionOrder(rows := ready("a"), scope(policy(cool_down_ms=10)))
    assert order.cool(NOW_US) is None
    folded(rows, order, judged(run_id="a", attempt_id="att-a"))
    assert order.cool(NOW_US + 9_999) is None
    cool = order.cool(NOW_US + 10_000)
    assert cool is not None
    assert cool.run_id == "a"


def test_a_session_that_goes_on_by_other_limits_is_held_against_those() -> None:
    order = SessionOrder(ready("a", "b"), scope(skip_run_prefixes=("a",)))
    order.hold(5, NOW_US, start("b"))
    assert order.ahead == {}
    order.renew(scope())
    order.hold(6, NOW_US, start("a"))
    assert (order.ahead, order.shifted) == ({}, {})
    order.renew(scope(skip_run_prefixes=("a",)))
    order.hold(7, NOW_US, start("a"))
    assert (order.ahead, order.shifted) == ({"b\np": Ahead("b", 7)}, {"a": 7})


def test_only_a_run_of_which_another_phase_goes_first_is_judged_or_stopped_out_of_turn() -> None:
    rows = ready("a", "b", "c")
    order = SessionOrder(rows, scope())
    for run_id, phase_id in (("b", "p"), ("c", "q")):
        order.hold(5, NOW_US, replace(start(run_id), phase_id=phase_id))
    assert (set(order.shifted), order.misplaced) == ({"b", "c"}, {"c"})
    reason = because("stops", "")
    for run_id, is_so in (("a", False), ("b", False), ("c", True)):
        stop = RunStopped(session_id="s", run_id=run_id, because="timeouts", reason=reason)
        assert is_out_of_turn(order, [stop]) is is_so
        assert is_out_of_turn(order, [judged(run_id=run_id)]) is is_so
    assert not is_out_of_turn(order, [])


@pytest.mark.parametrize("workers", [1, 2])
def test_side_by_side_a_run_is_stopped_or_has_used_a_budget_out_of_turn(workers: int) -> None:
    order = SessionOrder(ready("a", "b", "c"), scope(workers=workers))
    order.hold(5, NOW_US, start("b"))
    order.touch("c", 7)
    why = because("stops", "")
    spent: dict[str, Any] = {"phase_id": None, "scope": "run", "limit": 1, "spent": 1}
    for run_id, is_so in (("a", False), ("c", workers > 1)):
        ids: dict[str, Any] = {"session_id": "s", "run_id": run_id, "reason": why}
        assert is_out_of_turn(order, [RunStopped(because="timeouts", **ids)]) is is_so
        assert is_out_of_turn(order, [BudgetReached(measure="ms", **spent, **ids)]) is is_so
        assert not is_out_of_turn(order, [judged(run_id=run_id)])


def asked_of(order: SessionOrder, *run_ids: str) -> dict[str, int]:
    return order.untold_of(lambda: run_ids)


def test_who_was_shifted_is_told_once_and_only_to_whom_it_concerns() -> None:
    order = SessionOrder(ready("a", "b", "c"), scope(workers=1))
    assert asked_of(order, "b") == {}
    order.hold(5, NOW_US, start("b"))
    order.touch("b", 6)
    order.touch("c", 7)
    assert asked_of(order, "a", "c") == {}, "one worker does one thing after the other"
    assert asked_of(order, "c", "b") == {"b": 5}
    assert asked_of(order, "c", "b") == {}
    assert order.untold_beside() == {}


def test_what_several_workers_touched_since_then_is_told_once_too() -> None:
    order = SessionOrder(ready("a", "b", "c"), scope(workers=2))
    order.touch("c", 4)
    order.hold(5, NOW_US, start("b"))
    for run_id, pos in (("b", 6), ("c", 7), ("c", 8)):
        order.touch(run_id, pos)
    assert asked_of(order, "c") == {"c": 7}
    assert asked_of(order, "a", "b", "c") == {"b": 5}, "since it was shifted"
    assert order.untold_beside() == {"b": 6, "c": 7}
    assert order.untold_beside() == {}


def test_those_that_failed_alike_are_listed_and_may_be_all_where_the_list_is_full() -> None:
    facts = Facts(finished(), fingerprinted(fingerprint="f"))
    listed = tuple(f"r{number}" for number in range(RUNS_MAX))
    few, full = (count_of("f", runs=runs) for runs in (listed[1:], listed))
    others = [run(run_id="else"), session()]
    assert list(carriers(board(few, *others), facts)) == list(listed[1:])
    assert list(carriers(board(full, *others), facts)) == ["else"]
    assert list(carriers(board(*others), facts)) == []
    assert list(carriers(board(few, *others), Facts(finished()))) == []


@pytest.mark.parametrize(("pause_ms", "rests"), [(60_000, True), (None, False)])
def test_an_end_that_met_a_limit_rests_on_when_it_came(
    pause_ms: int | None, *, rests: bool
) -> None:
    facts = Facts(finished(), None, (boundary(kind="rate_limit"),))
    of = scope(policy(provider_pause_ms=pause_ms))
    assert rests_on_order(board(), facts, [], of) is rests
