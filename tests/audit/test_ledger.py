"""The ledger over boards made by hand: who is shown, in which order, and against which limits."""

from __future__ import annotations

import msgspec
import pytest

from engine.audit.ledger import Ledger, ledger
from engine.errors import UsageProblem
from engine.events import Budget, BudgetScope
from projections.days import Day
from tests.rules.standings import NOW_US, board, budget, limits, phase, policy, run, session

DAY = 20_454
"""2026-01-01."""


def told(
    *rows: msgspec.Struct, top: int = 9, cap: bool = False, budgets: tuple[Budget, ...] = ()
) -> Ledger:
    own = policy(heed_incident_caps=cap)
    begun = session(limits=limits(budgets=budgets), policy_json=own.json, part_started_us=1)
    return ledger(board(begun, *rows), None, NOW_US, top)


def ids(found: Ledger, scope: BudgetScope) -> list[str]:
    return [line.id for line in found.lines if line.scope == scope]


def test_of_several_limits_the_tightest_counts_and_is_reached_where_it_is_met() -> None:
    bounds = (budget("run", "tokens", 9), budget("run", "tokens", 5), budget("run", "ms", 7))
    for spent, reached in ((4, ()), (5, ("tokens",)), (9, ("tokens",))):
        (line,) = [
            each
            for each in told(run(spent_tokens=spent, spent_ms=6), budgets=bounds).lines
            if each.scope == "run"
        ]
        assert line.limits == {"tokens": 5, "ms": 7}
        assert line.reached == reached
        assert (line.tokens, line.ms, line.attempts) == (spent, 6, 0)


def test_the_newest_days_are_shown_and_all_are_counted() -> None:
    days = [Day(day=DAY + number, tokens=1) for number in (1, 0, 2, 3)] + [Day(day=DAY + 4)]
    found = told(*days, top=2)
    assert ids(found, "day") == ["2026-01-04", "2026-01-03"], "nothing was spent on the fifth"
    assert found.counted["day"] == 4


def test_whoever_has_reached_a_limit_comes_first_then_whoever_spent_most() -> None:
    spent = {
        "a": (5, 90, 1),
        "b": (7, 1, 1),
        "c": (5, 90, 2),
        "d": (5, 91, 1),
        "e": (5, 90, 2),
        "f": (1, 100, 1),
    }
    runs = [
        run(run_id=name, spent_tokens=tokens, spent_ms=ms, spent_attempts=attempts)
        for name, (tokens, ms, attempts) in reversed(spent.items())
    ]
    found = told(*runs, run(run_id="g"), budgets=(budget("run", "ms", 100),))
    assert ids(found, "run") == [*"fbdcea"]
    assert (found.counted["run"], found.reached["run"]) == (6, 1)
    assert ids(told(*runs, top=2), "run") == ["b", "d"]


def test_a_phase_is_bounded_by_the_cap_that_it_came_with_where_the_policy_heeds_it() -> None:
    one = phase(number=1, spent_tokens=3, incident_token_cap=3)
    bounds = (budget("phase", "tokens", 4), budget("run", "tokens", 1))
    for cap, most, reached in ((False, 4, 0), (True, 3, 1)):
        found = told(one, cap=cap, budgets=bounds)
        (line,) = [each for each in found.lines if each.scope == "phase"]
        assert (line.id, line.run_id, line.phase_id) == ("r/p", "r", "p")
        assert line.limits == {"tokens": most}
        assert found.reached["phase"] == reached
        assert found.heeds_incident_caps is cap


def test_a_session_is_shown_with_its_own_budgets_and_one_that_there_is_not_is_refused() -> None:
    bounds = (budget("session", "attempts", 2), budget("day", "attempts", 1))
    own = policy()
    begun = session(limits=limits(budgets=bounds), policy_json=own.json, attempts=2, busy_ms=5)
    found = ledger(board(begun), "s", NOW_US, 9)
    (line,) = found.lines
    assert (line.id, line.limits, line.reached) == ("s", {"attempts": 2}, ("attempts",))
    assert found.session_id == "s"
    for unknown in ("t", "u" * 99):
        with pytest.raises(UsageProblem, match="there is no session"):
            ledger(board(begun), unknown, NOW_US, 9)
    assert ledger(board(), None, NOW_US, 9).session_id is None


def test_the_session_comes_first_then_days_then_runs_then_phases() -> None:
    begun = session(limits=limits(), policy_json=policy().json, attempts=2)
    rows = (phase(number=1), run(spent_attempts=1), Day(day=DAY, attempts=1), begun)
    found = ledger(board(*rows), None, NOW_US, 9)
    assert [line.scope for line in found.lines] == ["session", "day", "run", "phase"]
