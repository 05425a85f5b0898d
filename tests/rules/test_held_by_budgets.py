"""Budgets of runs and phases at a session's end: what they hold back is a decision."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Struct

from engine.events import Budget, SessionDraining
from engine.triage.ending import held_by_budgets, work_left
from engine.triage.scope import Scope
from projections.run_triage import RunStanding
from tests.rules.standings import (
    because,
    board,
    budget,
    ground,
    named,
    phase,
    policy,
    run,
    scope,
    session,
)

TOKENS = budget("run", "tokens", 100)
OF_PHASES = budget("phase", "ms", 10)


def spent(**fields: Any) -> RunStanding:
    return run(**{"standing": "promising", "spent_tokens": 150} | fields)


def held(of: Scope, *rows: Struct, **of_session: Any) -> SessionDraining | None:
    return held_by_budgets(board(session(**of_session), *rows), ground(of))


def test_what_budgets_hold_back_is_said_with_its_counts_and_the_first_of_it() -> None:
    rows = [run(run_id="z", standing="promising"), phase(run_id="z", spent_ms=11)]
    for name in ("a", "b"):
        rows += [
            spent(run_id=name),
            phase(run_id=name, spent_ms=12),
            phase(run_id=name, phase_id="q"),
        ]
    told = {"first_phase": None, "measure": "tokens", "spent": 150, "limit": 100}
    assert held(scope(budgets=(OF_PHASES, TOKENS)), *rows) == SessionDraining(
        session_id="s",
        because="run_budgets",
        reason=because(
            "session_limits",
            "Budgets hold back 2 runs and 1 phase. The run a has used 150 tokens of the 100 that"
            " it may use.",
            runs=2,
            phases=1,
            first_run="a",
            **told,
        ),
    )


@pytest.mark.parametrize(
    "bounds", [(TOKENS, OF_PHASES), (OF_PHASES,), (budget("day", "ms", 1), OF_PHASES)]
)
def test_a_phases_budget_names_the_phase(bounds: tuple[Budget, ...]) -> None:
    rows = [run(standing="promising"), phase(spent_ms=10), phase(phase_id="q", phase_index=1)]
    found = held(scope(budgets=bounds), *rows)
    assert found is not None
    assert found.reason.sentence == (
        "Budgets hold back 1 phase. The phase p of the run r has used 10 ms of work of the 10 that"
        " it may use."
    )
    inputs = {each.name: each.value for each in found.reason.inputs}
    assert inputs == {
        "runs": 0,
        "phases": 1,
        "first_run": "r",
        "first_phase": "p",
        "measure": "ms",
        "spent": 10,
        "limit": 10,
    }


def test_the_first_is_the_first_by_name_in_whatever_order_the_board_has_them() -> None:
    of_runs = [spent(run_id="b"), phase(run_id="b"), spent(run_id="a"), phase(run_id="a")]
    of_phases: list[Struct] = [run(run_id=name, standing="promising") for name in "ba"]
    of_phases += [
        phase(run_id=name, phase_id=each, spent_ms=11, order="free")
        for name, each in (("b", "o"), ("a", "q"), ("a", "p"))
    ]
    for rows in (of_runs, of_phases, of_runs[::-1], of_phases[::-1]):
        found = held(scope(budgets=(OF_PHASES, TOKENS)), *rows)
        assert found is not None
        inputs = {each.name: each.value for each in found.reason.inputs}
        first = ("a", "p" if rows in (of_phases, of_phases[::-1]) else None)
        assert (inputs["first_run"], inputs["first_phase"]) == first


@pytest.mark.parametrize(
    ("of", "rows"),
    [
        (scope(), [spent(), phase()]),
        (scope(budgets=(budget("session", "tokens", 1),)), [spent(), phase()]),
        (scope(budgets=(budget("run", "tokens", 151),)), [spent(), phase()]),
        (scope(budgets=(TOKENS,), run_id="q"), [spent(), phase()]),
        (scope(budgets=(TOKENS,), skip_run_prefixes=("r",)), [spent(), phase()]),
        (named(budgets=(TOKENS,)), [spent(), phase()]),
        # each is held against its own spending only
        (scope(budgets=(TOKENS,)), [run(standing="promising"), phase(spent_tokens=150)]),
        (scope(budgets=(OF_PHASES,)), [spent(spent_ms=99), phase()]),
        (scope(budgets=(budget("run", "ms", 1),)), [run(standing="promising"), phase()]),
        (scope(budgets=(budget("phase", "ms", 1),)), [run(standing="promising"), phase()]),
        (scope(budgets=(TOKENS,)), [spent()]),
        (scope(budgets=(TOKENS,)), [spent(), phase(state="COMPLETE")]),
        (scope(policy(attempts_per_phase_max=2), budgets=(TOKENS,)), [spent(), phase(attempts=2)]),
        (scope(budgets=(TOKENS,)), [spent(standing="deprioritized"), phase()]),
        (scope(budgets=(TOKENS,)), [spent(standing="unsampled", open=1), phase()]),
        (scope(budgets=(TOKENS,)), [spent(session_id="s", stopped="timeouts"), phase()]),
        (scope(budgets=(TOKENS,)), [spent(open=1), phase()]),
        (scope(budgets=(TOKENS,)), [spent(), phase(needs=("gpu",))]),
        (
            scope(policy(heed_incident_caps=True), budgets=(OF_PHASES,)),
            [run(standing="promising"), phase(incident_token_cap=5, spent_tokens=5, spent_ms=11)],
        ),
        (
            scope(budgets=(OF_PHASES,)),
            [
                run(standing="promising"),
                phase(phase_id="x", needs=("gpu",)),
                phase(phase_id="y", phase_index=1, spent_ms=11),  # and waits for x
            ],
        ),
    ],
)
def test_what_could_not_go_without_the_budget_is_not_held_by_it(
    of: Scope, rows: list[Struct]
) -> None:
    assert held(of, *rows) is None


@pytest.mark.parametrize(("limit", "holds"), [(149, True), (150, True), (151, False)])
def test_a_run_is_held_back_from_its_bound_on(limit: int, *, holds: bool) -> None:
    of = scope(budgets=(budget("run", "tokens", limit),))
    assert (held(of, spent(), phase()) is not None) == holds


def test_a_session_that_stopped_for_another_reason_has_said_so() -> None:
    of, rows = scope(budgets=(TOKENS,)), [spent(), phase()]
    assert held(of, *rows) is not None
    assert held(of, *rows, status="draining", because="batch_size") is None


@pytest.mark.parametrize("bound", [TOKENS, OF_PHASES, budget("day", "ms", 1)])
def test_what_a_given_budget_holds_back_is_left(bound: Budget) -> None:
    rows = board(spent(), phase(spent_ms=99), phase(phase_id="q", attempts=9))
    assert work_left(rows, scope(policy(attempts_per_phase_max=9), budgets=(bound,))) == 1


def test_what_used_up_the_cap_that_it_came_with_is_not_left() -> None:
    rows = board(run(), phase(incident_token_cap=5, spent_tokens=5))
    for bounds in ((), (TOKENS, OF_PHASES)):
        assert work_left(rows, scope(policy(heed_incident_caps=True), budgets=bounds)) == 0
