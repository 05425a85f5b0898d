"""Picking, whole: limits of a session, what goes before what, and what a start says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, get_args

import pytest

from engine.events import (
    GENESIS,
    AnyEvent,
    AttemptStarted,
    BudgetReached,
    Head,
    PhaseRequeued,
    Reason,
    RunCooledDown,
    Seen,
    SessionDraining,
    SessionEnd,
)
from engine.triage.breaker import Gate
from engine.triage.cooling import cooled_down
from engine.triage.eligible import SortKey
from engine.triage.picking import (
    Picker,
    draining,
    limit_reached,
    next_event,
    pick_reason,
    picks,
    started,
)
from engine.triage.policy import Policy
from engine.triage.scope import Scope
from engine.triage.select import (
    GROUPS,
    Choice,
    Queue,
    account_of,
    gate_of,
    group_of,
    paused_until_us,
    pick_by_scan,
)
from projections.board import Board
from projections.days import Day
from projections.run_triage import Standing
from tests.rules.standings import (
    BASIS,
    NOW_US,
    account,
    because,
    board,
    breaker,
    budget,
    ground,
    named,
    phase,
    policy,
    run,
    scope,
    session,
)

# Groups and accounts.


def test_the_groups_go_unsampled_then_promising_then_others() -> None:
    assert GROUPS == ("unsampled", "promising", "others")
    expected = ("unsampled", "promising", "others", "others")
    standings: tuple[Standing, ...] = get_args(Standing)
    assert tuple(group_of(each) for each in standings) == expected


@pytest.mark.parametrize(("given", "name"), [(None, "x"), ("", "x"), ("key", "key")])
def test_limits_pause_the_account_that_was_named_or_that_of_the_executor(
    given: str | None, name: str
) -> None:
    assert account_of(board(session(executor="x")), scope(account=given)) == name


def test_an_account_rests_to_the_last_microsecond_where_pauses_count() -> None:
    for of, left_us in product((policy(), policy(provider_pause_ms=5)), (-1, 0, 1, 9)):
        rows = board(session(), account("x", until_us=NOW_US + left_us))
        rests = of.provider_pause_ms is not None and left_us > 0
        expected = NOW_US + left_us if rests else None
        assert paused_until_us(rows, scope(of), NOW_US) == expected
        assert paused_until_us(rows, named(of), NOW_US) is None
        assert paused_until_us(rows, scope(of, account="key"), NOW_US) is None
    assert paused_until_us(board(session()), scope(policy(provider_pause_ms=5)), NOW_US) is None


def test_sampling_is_gated_by_the_sessions_own_standing() -> None:
    of = scope(policy(samples_at_first=1, breaker_runs=1, breaker_probes_max=0))
    held = breaker("f", opened_pos=1)
    assert gate_of(board(session(open_samples=("a",))), of, NOW_US) == Gate("slow_start")
    assert gate_of(board(session(open_samples=("a",), telling_samples=1)), of, NOW_US) == Gate(None)
    assert gate_of(board(session(), held), of, NOW_US) == Gate("breaker_open")
    assert gate_of(board(session(), held), named(of.policy), NOW_US) == Gate(None)
    # A dry run asks for a session that has not begun.
    assert gate_of(board(), of, NOW_US) == Gate(None)
    assert gate_of(board(), scope(policy(samples_at_first=0)), NOW_US) == Gate("slow_start")
    assert gate_of(board(held), of, NOW_US) == Gate("breaker_open")


def test_a_gate_reads_the_time() -> None:
    rules = policy(breaker_runs=1, breaker_probes_max=0, breaker_cool_down_ms=5)
    rows = board(session(), breaker("f", opened_pos=1, opened_us=NOW_US - 5000))
    assert gate_of(rows, scope(rules), NOW_US - 1) == Gate("breaker_open")
    assert gate_of(rows, scope(rules), NOW_US) == Gate(None, "f")


# Limits of the session.


def ends(because_: SessionEnd, sentence: str, **inputs: str | float) -> SessionDraining:
    why = because("session_limits", sentence, **inputs)
    return SessionDraining(session_id="s", because=because_, reason=why)


def limited(of: Scope, *rows: Day, **standing: object) -> SessionDraining | None:
    began = {"part_started_us": NOW_US - 120_000_000, **standing}
    return limit_reached(board(session(**began), *rows), ground(of))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (8, None),
        (9, "The session has made 9 attempts, its limit."),
        (10, "The session has made 10 attempts, its limit."),
    ],
)
def test_a_session_makes_so_many_attempts(made: int, expected: str | None) -> None:
    found = limited(scope(batch_size=9), attempts=made)
    wanted = expected and ends("batch_size", expected, attempts=made, elapsed_ms=120_000)
    assert found == wanted


@pytest.mark.parametrize("kind", ["deferred", "orphaned", "abandoned", "succeeded", "timed_out"])
def test_of_the_attempts_that_a_session_may_make_every_one_counts_however_it_ended(
    kind: str,
) -> None:
    assert limited(scope(batch_size=9), attempts=8, **{kind: 3}) is None
    found = limited(scope(batch_size=9), attempts=9, **{kind: 3})
    assert found is not None
    assert found.because == "batch_size"


@pytest.mark.parametrize(
    ("earlier_ms", "said"),
    [(0, "2.0 minutes"), (30_000, "2.5 minutes"), (6_000_000_000, "69.4 days")],
)
def test_a_session_runs_for_so_long_over_all_its_parts(earlier_ms: int, said: str) -> None:
    elapsed_ms = 120_000 + earlier_ms
    for limit in (None, 0, 1, elapsed_ms - 1, elapsed_ms, elapsed_ms + 1):
        found = limited(scope(total_ms_max=limit), active_ms=earlier_ms, attempts=3)
        sentence = f"The session has run for {said}, its limit."
        told = ends("total_time", sentence, attempts=3, elapsed_ms=elapsed_ms)
        assert found == (told if limit and limit <= elapsed_ms else None)


@pytest.mark.parametrize(
    ("where", "because_", "whose"),
    [("session", "session_budget", "The session"), ("day", "day_budget", "This day")],
)
def test_a_session_ends_with_its_budget_or_that_of_the_day(
    where: str, because_: SessionEnd, whose: str
) -> None:
    today = Day(day=NOW_US // 86_400_000_000, tokens=50)
    for limit in (49, 50, 51):
        of = scope(budgets=(budget(where, "tokens", limit),))
        found = limited(of, today, tokens=50)
        if limit == 51:
            assert found is None
            continue
        said = f"{whose} has used 50 tokens of the {limit} that it may use."
        assert found == ends(because_, said, measure="tokens", spent=50, limit=limit)


def test_of_several_limits_attempts_are_told_then_time_then_budgets() -> None:
    bounds = (budget("session", "tokens", 1),)
    found = [
        limited(scope(batch_size=size, total_ms_max=ms, budgets=bounds), attempts=5, tokens=5)
        for size, ms in ((5, 1), (6, 1), (6, None))
    ]
    assert [each and each.because for each in found] == [
        "batch_size",
        "total_time",
        "session_budget",
    ]


def test_a_session_that_is_told_to_stop_says_why() -> None:
    found = draining("interrupted", "A person asked.", {"n": 1}, ground())
    assert found == ends("interrupted", "A person asked.", n=1)


# What a start says of itself.


def choice(group: str = "promising", probe_of: str | None = None, number: int = 6) -> Choice:
    chosen = phase(
        run_id="r9",
        phase_id="p9",
        state="FAILED",
        state_before="QUEUED",
        number=4,
        attempts=3,
        attempts_total=8,
        tier_index=2,
        phase_index=5,
        registered_pos=7,
    )
    key = SortKey(number, 2, 5, 7)
    standing = "inconclusive" if group == "others" else group
    of = run(run_id="r9", standing=standing)
    return Choice(chosen, of, group, key, probe_of)  # type: ignore[arg-type]


def why(standing: str, sentence: str, number: int = 6) -> Reason:
    return because(
        "pick",
        sentence,
        standing=standing,
        reason_class=number,
        tier_index=2,
        phase_index=5,
        attempts_before=3,
    )


@pytest.mark.parametrize(
    ("number", "words"),
    list(enumerate(["unknown", "collection", "deliverable", "patch", "other", "timeout"], 1)),
)
@pytest.mark.parametrize(
    ("group", "standing"),
    [("unsampled", "unsampled"), ("promising", "promising"), ("others", "inconclusive")],
)
def test_a_start_names_its_phase_its_place_and_the_bounds_it_runs_under(
    number: int, words: str, group: str, standing: str
) -> None:
    of = ground(scope(phase_timeout_ms=77, run_id="r9"))
    said = "none known" if words == "unknown" else words
    found = started(choice(group, None, number), "x9", "a9", of)
    assert found == AttemptStarted(
        session_id="s",
        run_id="r9",
        phase_id="p9",
        attempt_id="a9",
        number=5,
        group=group,  # type: ignore[arg-type]
        category=words,
        initial_state="FAILED",
        phase_index=5,
        executor="x9",
        timeout_ms=77,
        reason=why(
            standing,
            f"Its run is {standing}, so it stands in the group {group!r}; there it came first by"
            f" last failure ({said}), then by its place in the run (tier 2, phase 5).",
            number,
        ),
        probe_of=None,
    )


def test_a_probe_says_of_which_cause_and_that_its_run_came_last() -> None:
    found = started(choice("unsampled", "f9"), "x", "a", ground())
    assert found.probe_of == "f9"
    assert found.reason.sentence == (
        "Its run is unsampled, so it stands in the group 'unsampled'; there its run came last by"
        " last failure (timeout), then by its place in the run (tier 2, phase 5), so it probes the"
        " open breaker of f9."
    )


def test_a_named_phase_was_asked_for_by_a_person() -> None:
    of = ground(named())
    found = started(choice("unsampled"), "x", "a", of)
    assert found.group == "named"
    assert found.category == "timeout"
    assert found.reason == why("unsampled", "A person asked for this phase.")
    assert pick_reason(choice("unsampled"), of) == found.reason


# One event after another.


class Turn:
    """A board that takes the events of ``picks``, and the queue that is told of them."""

    def __init__(self, rows: Board, of: Scope, now_us: int = NOW_US) -> None:
        self.board, self.queue = rows, Queue(rows, of)
        ids: Iterator[str] = (f"a{n}" for n in range(1, 99))
        self.picker = Picker(rows, self.queue, of, now_us, lambda: next(ids))

    def take(self, capacity: int) -> list[AnyEvent]:
        told: list[AnyEvent] = []
        for event in picks(self.picker, capacity):
            pos = self.board.head.pos + 1
            self.board.feed(Seen(pos, self.picker.now_us, event))
            self.board.head = Head(pos, GENESIS)
            self.queue.heed(event)
            told.append(event)
        return told


ROOM: dict[str, object] = {"workers": 9}


def backlog(
    runs: int, of: Policy | None = None, *, left: int = 0, **fields: object
) -> tuple[Board, Scope]:
    rows = [run(run_id=f"r{n}") for n in range(runs)]
    phases = [phase(run_id=f"r{n}", registered_pos=n + 1) for n in range(runs)]
    begun = session(part_started_us=NOW_US, open=left)
    return board(begun, *rows, *phases), scope(of, **ROOM | fields)


def kinds(events: list[AnyEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


@pytest.mark.parametrize("capacity", [0, -1, 1, 2, 3, 4, 5])
def test_as_many_attempts_start_as_there_is_room_for_or_work(capacity: int) -> None:
    turn = Turn(*backlog(4))
    told = turn.take(capacity)
    assert kinds(told) == ["AttemptStarted"] * max(0, min(4, capacity))
    found = [event for event in told if isinstance(event, AttemptStarted)]
    assert [event.run_id for event in found] == [f"r{n}" for n in range(len(found))]
    assert [event.attempt_id for event in found] == [f"a{n + 1}" for n in range(len(found))]
    # Each decision stands on the position before it.
    assert [event.reason.basis for event in found] == [BASIS + n for n in range(len(found))]
    assert all(event.executor == "x" for event in found)


@pytest.mark.parametrize(("left", "starts"), [(0, 3), (1, 2), (2, 1), (3, 0), (4, 0)])
def test_no_more_start_than_the_session_has_workers_for_beside_what_a_dead_engine_left(
    left: int, starts: int
) -> None:
    turn = Turn(*backlog(4, left=left, workers=3))
    assert kinds(turn.take(9)) == ["AttemptStarted"] * starts


def test_a_limit_is_said_once_and_ends_the_picks() -> None:
    turn = Turn(*backlog(4, batch_size=2))
    assert kinds(turn.take(9)) == ["AttemptStarted", "AttemptStarted", "SessionDraining"]
    assert kinds(turn.take(9)) == []


@pytest.mark.parametrize("status", ["draining", "ended"])
def test_a_session_that_does_not_run_starts_nothing(status: str) -> None:
    rows, of = backlog(2)
    stopped = board(session(status=status), *rows.runs.values(), *rows.backlog.values())
    assert Turn(stopped, of).take(9) == []


def test_a_start_is_followed_by_the_budgets_that_it_uses_up() -> None:
    bound = budget("phase", "attempts", 1)
    turn = Turn(*backlog(2, budgets=(bound,)))
    told = turn.take(2)
    assert kinds(told) == ["AttemptStarted", "BudgetReached"] * 2
    found = [event for event in told if isinstance(event, BudgetReached)]
    assert [(event.run_id, event.spent) for event in found] == [("r0", 1), ("r1", 1)]
    assert found[0].reason.basis == BASIS + 1


def test_runs_that_have_cooled_down_come_back_before_anything_starts() -> None:
    cool = {"standing": "deprioritized", "verdict_us": NOW_US - 5000, "verdict_pos": 3}
    rows = board(
        session(part_started_us=NOW_US),
        run(run_id="r1", **cool),
        run(run_id="r2", **{**cool, "verdict_us": NOW_US - 6000}),
        run(run_id="r3", **{**cool, "verdict_us": NOW_US - 4999}),
        *[phase(run_id=f"r{n}", registered_pos=n) for n in (1, 2, 3)],
    )
    of = scope(policy(cool_down_ms=5))
    turn = Turn(rows, of)
    second = run(run_id="r2", **{**cool, "verdict_us": NOW_US - 6000})
    assert next_event(turn.picker) == cooled_down(second, turn.picker.ground())
    told = turn.take(9)
    assert kinds(told) == ["RunCooledDown", "RunCooledDown", "AttemptStarted", "AttemptStarted"]
    assert [event.run_id for event in told if isinstance(event, RunCooledDown)] == ["r2", "r1"]


@pytest.mark.parametrize(
    "fields",
    [
        {"attempts": 2},
        {"orphans": 5},
        {"state": "COMPLETE"},
        {"open_attempt": "a"},
        {"needs": ("x",)},
    ],
)
def test_a_run_without_a_phase_to_sample_keeps_its_verdict(fields: dict[str, Any]) -> None:
    used_up = phase(phase_id="q", attempts=2, registered_pos=2)  # and waits for the other
    of = scope(policy(cool_down_ms=5, attempts_per_phase_max=2, orphans_per_phase_max=5))
    standing = run(standing="deprioritized", verdict_us=NOW_US - 9000)
    rows = board(session(part_started_us=NOW_US), standing, phase(**fields), used_up)
    turn = Turn(rows, of)
    assert turn.take(9) == []
    assert turn.picker.queue.cools_next_us() is None
    free = board(session(part_started_us=NOW_US), standing, phase(), used_up)
    assert kinds(Turn(free, of).take(1)) == ["RunCooledDown", "AttemptStarted"]


def test_a_run_cools_down_once_a_phase_of_it_is_requeued() -> None:
    of = scope(policy(cool_down_ms=5, attempts_per_phase_max=2))
    standing = run(standing="deprioritized", verdict_us=NOW_US - 9000)
    turn = Turn(board(session(part_started_us=NOW_US), standing, phase(attempts=2)), of)
    assert turn.take(9) == []
    requeued = PhaseRequeued(run_id="r", phase_id="p", by="x", why="y")
    turn.picker.board.fold_next(requeued, NOW_US)
    turn.picker.queue.heed(requeued)
    assert kinds(turn.take(1)) == ["RunCooledDown", "AttemptStarted"]


def test_a_run_that_comes_back_takes_up_no_room() -> None:
    rows = board(
        session(part_started_us=NOW_US), run(standing="deprioritized", verdict_us=0), phase()
    )
    turn = Turn(rows, scope(policy(cool_down_ms=5), budgets=(budget("run", "attempts", 9),)))
    assert kinds(turn.take(1)) == ["RunCooledDown", "AttemptStarted"]


def test_a_limit_goes_before_a_run_that_has_cooled_down() -> None:
    rows = board(
        session(attempts=9, part_started_us=NOW_US),
        run(standing="deprioritized", verdict_us=0),
        phase(),
    )
    turn = Turn(rows, scope(policy(cool_down_ms=5), batch_size=9))
    assert kinds(turn.take(1)) == ["SessionDraining"]


def test_nothing_starts_on_an_account_that_rests_though_runs_cool_down() -> None:
    rules = policy(cool_down_ms=5, provider_pause_ms=5)
    rows = board(
        session(part_started_us=NOW_US),
        account("x", until_us=NOW_US + 1),
        run(standing="deprioritized", verdict_us=0),
        phase(),
    )
    assert kinds(Turn(rows, scope(rules)).take(9)) == ["RunCooledDown"]
    assert kinds(Turn(rows, scope(rules), NOW_US + 1).take(9)) == ["AttemptStarted"]


def test_one_probe_goes_to_the_far_end_and_what_is_sampled_goes_on() -> None:
    rows, of = backlog(4, policy(breaker_runs=1))
    known = board(
        session(part_started_us=NOW_US),
        breaker("f", opened_pos=1),
        run(run_id="ok", standing="promising"),
        phase(run_id="ok", registered_pos=9),
        *rows.runs.values(),
        *rows.backlog.values(),
    )
    expected = pick_by_scan(known, of, NOW_US)
    assert expected is not None
    assert (expected.run.run_id, expected.probe_of) == ("r3", "f")
    found = [each for each in Turn(known, of).take(9) if isinstance(each, AttemptStarted)]
    assert [(each.run_id, each.group, each.probe_of) for each in found] == [
        ("r3", "unsampled", "f"),
        ("ok", "promising", None),
    ]


@pytest.mark.parametrize(
    "later",
    [
        {"reason": "timed out"},
        {"tier_index": 1},
        {"phase_index": 1},
        {"registered_pos": 9},
        {"tier_index": 1, "phase_index": -1},
        {"reason": "timed out", "tier_index": -1, "registered_pos": 1},
    ],
)
def test_the_far_end_is_told_by_every_part_of_the_order(later: dict[str, Any]) -> None:
    of = scope(policy(breaker_runs=1))
    for last in ("a", "b", "c"):
        phases = [
            phase(**{"run_id": name, "registered_pos": pos} | (later if name == last else {}))
            for pos, name in enumerate("abc", start=3)
        ]
        runs = [run(run_id=name) for name in "abc"]
        rows = board(session(), breaker("f", opened_pos=1), *runs, *phases)
        picked = Queue(rows, of).pick(NOW_US)
        assert picked is not None
        assert (picked.run.run_id, picked.probe_of) == (last, "f")
        assert pick_by_scan(rows, of, NOW_US) == picked


def test_a_probe_of_several_phases_is_the_first_of_the_last_run() -> None:
    of = scope(policy(breaker_runs=1, order_phases=False))
    rows = board(
        session(),
        breaker("f", opened_pos=1),
        *[run(run_id=run_id) for run_id in ("a", "b")],
        *[
            phase(run_id=run_id, phase_id=f"p{n}", phase_index=n, registered_pos=pos)
            for run_id, n, pos in (("a", 0, 1), ("a", 9, 2), ("b", 5, 3), ("b", 3, 4))
        ],
    )
    picked = pick_by_scan(rows, of, NOW_US)
    assert picked is not None
    assert (picked.run.run_id, picked.phase.phase_id) == ("b", "p3")
    assert Queue(rows, of).pick(NOW_US) == picked


def test_the_first_of_a_run_is_told_whatever_keeps_the_run_back() -> None:
    rows = board(
        session(),
        *[run(run_id=name, standing="deprioritized") for name in ("r", "done", "bare")],
        phase(phase_id="late", registered_pos=2),
        phase(phase_id="early"),
        phase(run_id="done", state="COMPLETE"),
    )
    queue = Queue(rows, scope())
    assert [queue.first_of(name) for name in ("r", "done", "bare", "nobody")] == [
        "early",
        None,
        None,
        None,
    ]


def test_a_probe_is_waited_for_only_while_it_is_out_and_has_something_to_wait() -> None:
    of = scope(policy(breaker_runs=1, breaker_probes_max=0))
    for probe, standing, waits in (
        ("a1", "unsampled", True),
        (None, "unsampled", False),
        ("a1", "promising", False),
    ):
        open_one = breaker(opened_pos=5, probe=probe)
        rows = board(session(), open_one, run(standing=standing), phase())
        assert Queue(rows, of).awaits_a_probe(NOW_US) == waits


def test_sampling_is_held_back_only_for_a_breaker_and_only_with_something_to_hold() -> None:
    rules = policy(breaker_runs=1, breaker_probes_max=0, samples_at_first=1)
    rows, of = backlog(1, rules)
    held = board(session(), breaker("f", opened_pos=1), *rows.runs.values(), *rows.backlog.values())
    assert Queue(held, of).is_held_back(NOW_US)
    slow = board(session(open_samples=("a",)), *rows.runs.values(), *rows.backlog.values())
    assert not Queue(slow, of).is_held_back(NOW_US)
    sampled = board(
        session(),
        breaker("f", opened_pos=1),
        run(run_id="r0", standing="promising"),
        *rows.backlog.values(),
    )
    assert not Queue(sampled, of).is_held_back(NOW_US)
