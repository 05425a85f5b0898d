"""Budgets, whole: what counts against which bound, and that it is said exactly once."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import get_args

import pytest

from engine.errors import UsageProblem
from engine.events import AttemptFinished, Budget, BudgetReached
from engine.events.session import BudgetScope, Measure
from engine.triage.budgets import (
    budget_from,
    of_phase,
    of_run,
    phase_budgets,
    phase_is_over,
    reached_by_end,
    reached_by_start,
    run_is_over,
    sentence_of,
    session_reached,
)
from projections.board import Board
from projections.days import Day
from projections.run_triage import RunStanding
from tests.rules.standings import (
    NOW_US,
    because,
    board,
    budget,
    finished,
    ground,
    phase,
    policy,
    run,
    scope,
    session,
    started,
)

MEASURES: tuple[Measure, ...] = get_args(Measure)
# Every count of a standing has a value of its own, so that no other can be taken for it.
PHASE = phase(
    number=3,
    attempts=51,
    attempts_total=52,
    orphans=1,
    deferrals=2,
    spent_tokens=5,
    spent_ms=7,
    tokens=53,
)
RUN = run(attempts=61, spent_attempts=4, spent_tokens=6, spent_ms=8, tokens=63)
SESSION = session(attempts=14, tokens=16, busy_ms=18, open=71)
TODAY = Day(day=NOW_US // 86_400_000_000, attempts=24, tokens=26, busy_ms=28, yield_events=81)
SPENT = {
    "phase": {"attempts": 3, "tokens": 5, "ms": 7},
    "run": {"attempts": 4, "tokens": 6, "ms": 8},
    "session": {"attempts": 14, "tokens": 16, "ms": 18},
    "day": {"attempts": 24, "tokens": 26, "ms": 28},
}


@pytest.mark.parametrize("measure", MEASURES)
def test_what_a_phase_and_a_run_took_is_counted_since_they_began_anew(measure: Measure) -> None:
    assert of_phase(PHASE, measure) == SPENT["phase"][measure]
    assert of_run(RUN, measure) == SPENT["run"][measure]


def test_a_scope_is_over_its_budget_from_the_limit_on() -> None:
    for where, measure, off in product(get_args(BudgetScope), MEASURES, (-1, 0, 1)):
        bound = budget(where, measure, SPENT[where][measure] + off)
        of, over = scope(budgets=(bound,)), off <= 0
        assert phase_is_over(PHASE, of) == (over and where == "phase")
        assert run_is_over(RUN, of) == (over and where == "run")
        found = session_reached(board(PHASE, RUN, SESSION, TODAY), of, NOW_US)
        if over and where in ("session", "day"):
            assert found == (bound, SPENT[where][measure])
        else:
            assert found is None


@pytest.mark.parametrize(("limit", "cap", "over"), [(5, 9, True), (9, 5, True), (9, 9, False)])
def test_a_cap_counts_beside_a_budget_of_the_same_measure(
    limit: int, cap: int, *, over: bool
) -> None:
    of = scope(policy(heed_incident_caps=True), budgets=(budget("phase", "tokens", limit),))
    assert phase_is_over(phase(spent_tokens=5, incident_token_cap=cap), of) == over


def test_one_budget_of_several_is_enough() -> None:
    loose, tight = budget("phase", "ms", 8), budget("phase", "ms", 7)
    assert phase_is_over(PHASE, scope(budgets=(loose, tight)))
    assert phase_is_over(PHASE, scope(budgets=(tight, loose)))
    assert not phase_is_over(PHASE, scope(budgets=(loose, loose)))
    assert not phase_is_over(PHASE, scope())
    of_runs = (budget("run", "ms", 9), budget("run", "ms", 8))
    assert run_is_over(RUN, scope(budgets=of_runs))
    assert not run_is_over(RUN, scope(budgets=of_runs[:1]))
    assert not run_is_over(RUN, scope())


def test_the_first_budget_that_is_used_up_ends_the_session() -> None:
    whole = board(SESSION, TODAY)
    loose, day = budget("session", "ms", 19), budget("day", "tokens", 20)
    own = budget("session", "attempts", 9)
    ignored = (budget("phase", "ms", 0), budget("run", "ms", 0))
    assert session_reached(whole, scope(budgets=(*ignored, loose, day, own)), NOW_US) == (day, 26)
    assert session_reached(whole, scope(budgets=(*ignored, loose, own, day)), NOW_US) == (own, 14)
    assert session_reached(whole, scope(budgets=(*ignored, loose)), NOW_US) is None
    assert session_reached(whole, scope(), NOW_US) is None


@pytest.mark.parametrize("where", ["session", "day"])
def test_a_used_up_budget_ends_the_session_behind_any_number_of_others(where: BudgetScope) -> None:
    loose = [budget(each, name, 99) for each in ("session", "day") for name in MEASURES]
    used_up = budget(where, "tokens", 1)
    for behind in range(len(loose) + 1):
        of = scope(budgets=(*loose[:behind], used_up, *loose[behind:]))
        assert session_reached(board(SESSION, TODAY), of, NOW_US) == (
            used_up,
            SPENT[where]["tokens"],
        )


def test_a_day_is_utc_and_one_that_nothing_happened_on_has_spent_nothing() -> None:
    of = scope(budgets=(budget("day", "attempts", 1),))
    midnight_us = TODAY.day * 86_400_000_000
    for now_us, spent in (
        (midnight_us, 24),
        (midnight_us + 86_400_000_000 - 1, 24),
        (midnight_us - 1, None),
        (midnight_us + 86_400_000_000, None),
    ):
        found = session_reached(board(SESSION, TODAY), of, now_us)
        assert (found and found[1]) == spent
    nothing = scope(budgets=(budget("day", "attempts", 0),))
    assert session_reached(board(SESSION), nothing, NOW_US) == (nothing.limits.budgets[0], 0)


def test_the_cap_that_a_phase_came_with_counts_where_the_policy_heeds_it() -> None:
    for heed, cap in product((False, True), (None, 0, 4, 5, 6)):
        of = scope(
            policy(heed_incident_caps=heed),
            budgets=(budget("run", "ms", 1), budget("phase", "ms", 99)),
        )
        capped = phase(spent_tokens=5, incident_token_cap=cap)
        expected = [budget("phase", "ms", 99)]
        if heed and cap:
            expected.append(budget("phase", "tokens", cap))
        assert list(phase_budgets(capped, of)) == expected
        assert phase_is_over(capped, of) == (heed and cap in (4, 5))
        assert phase_is_over(capped, scope(policy(heed_incident_caps=heed))) == (
            heed and cap in (4, 5)
        )


# What a person writes.


def test_a_budget_is_written_as_its_scope_its_measure_and_its_limit() -> None:
    for where, (word, measure, factor) in product(
        get_args(BudgetScope),
        (("tokens", "tokens", 1), ("attempts", "attempts", 1), ("minutes", "ms", 60_000)),
    ):
        for limit in (1, 90, 999_999_999_999_999):
            assert budget_from(f"{where}:{word}={limit}") == budget(where, measure, limit * factor)


@pytest.mark.parametrize(
    "text",
    [
        *("day:tokens=0", "day:tokens=-1", "day:tokens=1.5", "day:tokens=", "day:tokens=1k"),
        *("day:tokens", "day=1", "tokens=1", ":tokens=1", "week:tokens=1", "day:ms=1", ""),
        *("day:hours=1", " day:tokens=1", "day:tokens=1\n", "day:tokens=1 ", "Day:tokens=1"),
        "day:tokens=1000000000000000",
    ],
)
def test_what_is_no_budget_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        budget_from(text)
    assert refused.value.problem == f"--budget {text!a} cannot be read."
    assert refused.value.remedy == (
        "write SCOPE:MEASURE=N: phase, run, session or day; tokens, minutes or attempts; and N of 1"
        " or more, such as day:tokens=1000000."
    )


def test_a_long_text_that_is_no_budget_is_told_shortened() -> None:
    with pytest.raises(UsageProblem) as refused:
        budget_from("x" * 81)
    assert refused.value.problem == f"--budget '{'x' * 80}' cannot be read."


# What is said when a budget is used up.


def reached(bound: Budget, spent: int, sentence: str, phase_id: str | None) -> BudgetReached:
    return BudgetReached(
        session_id="s",
        run_id="r",
        phase_id=phase_id,
        scope=bound.scope,
        measure=bound.measure,
        limit=bound.limit,
        spent=spent,
        reason=because(
            "budget",
            sentence,
            scope=bound.scope,
            measure=bound.measure,
            spent=spent,
            limit=bound.limit,
        ),
    )


@pytest.mark.parametrize(
    ("where", "measure", "sentence"),
    [
        ("phase", "tokens", "The phase has used 9 tokens of the 8 that it may use."),
        ("run", "ms", "The run has used 9 ms of work of the 8 that it may use."),
        ("session", "attempts", "The session has used 9 attempts of the 8 that it may use."),
        ("day", "attempts", "This day has used 9 attempts of the 8 that it may use."),
    ],
)
def test_a_used_up_budget_says_whose_it_was_and_how_much(
    where: str, measure: str, sentence: str
) -> None:
    assert sentence_of(budget(where, measure, 8), 9) == sentence


def test_the_start_that_uses_up_attempts_says_so_and_no_other() -> None:
    for limit in range(1, 8):
        mine, runs = budget("phase", "attempts", limit), budget("run", "attempts", limit)
        others = (budget("phase", "ms", 7), budget("run", "tokens", 6), budget("day", "ms", 1))
        of = ground(scope(budgets=(*others, runs, mine, budget("session", "attempts", limit))))
        found = list(reached_by_start(board(PHASE, RUN), started(), of))
        expected: list[BudgetReached] = []
        if limit == 3:  # the start is counted already
            said = "The phase has used 3 attempts of the 3 that it may use."
            expected.append(reached(mine, 3, said, "p"))
        if limit == 4:
            said = "The run has used 4 attempts of the 4 that it may use."
            expected.append(reached(runs, 4, said, None))
        assert found == expected, limit


def ends(
    tokens: int, ms: int, budgets: Iterable[Budget], *rows: RunStanding
) -> list[BudgetReached]:
    end = finished(tokens=tokens, duration_ms=ms)
    of = ground(scope(budgets=tuple(budgets)))
    return list(reached_by_end(board(PHASE, *(rows or (RUN,))), end, of))


def test_the_end_that_uses_up_tokens_or_time_says_so_and_no_other() -> None:
    for where, measure, took in product(("phase", "run"), ("tokens", "ms"), (0, 1, 2, 9)):
        before = SPENT[where][measure]
        for limit in range(1, before + 12):
            bound = budget(where, measure, limit)
            other = 100 if measure == "ms" else 200  # of the other measure; must not count here
            tokens, ms = (other, took) if measure == "ms" else (took, other)
            found = ends(tokens, ms, (bound,))
            now = before + took
            unit = "ms of work" if measure == "ms" else "tokens"
            said = f"The {where} has used {now} {unit} of the {limit} that it may use."
            crossed = before < limit <= now
            expected = [reached(bound, now, said, "p" if where == "phase" else None)]
            assert found == (expected if crossed else []), (where, measure, took, limit)


def test_an_end_counts_no_attempts_and_reaches_no_sessions_and_no_days() -> None:
    bounds = [budget(w, m, n) for w in ("session", "day") for m in MEASURES for n in (1, 9, 20)]
    bounds += [budget(w, "attempts", n) for w in ("phase", "run") for n in range(9)]
    assert ends(100, 100, bounds) == []


def test_budgets_of_the_phase_come_first_and_each_in_the_order_given() -> None:
    bounds = [
        budget("run", "ms", 10),
        budget("phase", "ms", 9),
        budget("run", "tokens", 7),
        budget("phase", "tokens", 6),
    ]
    told = [(each.scope, each.measure) for each in ends(5, 5, bounds)]
    assert told == [("phase", "ms"), ("phase", "tokens"), ("run", "ms"), ("run", "tokens")]


def test_the_cap_of_an_incident_is_reached_like_any_budget_of_the_phase() -> None:
    of = ground(policy(heed_incident_caps=True))
    capped = phase(spent_tokens=5, incident_token_cap=7)
    for tokens, expected in (
        (1, []),
        (2, [("phase", "tokens", 7, 7)]),
        (3, [("phase", "tokens", 7, 8)]),
    ):
        found = reached_by_end(board(capped, RUN), finished(tokens=tokens), of)
        assert [(e.scope, e.measure, e.limit, e.spent) for e in found] == expected


def test_what_is_used_up_is_that_of_the_attempts_own_phase_and_run() -> None:
    other = phase(run_id="r2", phase_id="p2", spent_ms=0)
    rows = (PHASE, RUN, other, run(run_id="r2", spent_ms=90))
    of = ground(scope(budgets=(budget("phase", "ms", 9), budget("run", "ms", 91))))
    whole: Board = board(*rows)

    def told(end: AttemptFinished) -> list[tuple[str, str | None]]:
        return [(each.run_id, each.phase_id) for each in reached_by_end(whole, end, of)]

    assert told(finished(duration_ms=2)) == [("r", "p")]
    assert told(finished(run_id="r2", phase_id="p2", duration_ms=2)) == [("r2", None)]
