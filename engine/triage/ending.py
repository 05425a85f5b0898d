"""The end of a session: what held back the rest, and what it came to, counted from the board."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from engine.events import Budget, SessionDraining, SessionEnd, SessionEnded
from engine.triage import budgets
from engine.triage.eligible import phase_hindrance, run_hindrance
from engine.triage.ordering import RunOrder
from engine.triage.picking import active_ms, draining
from engine.triage.reasons import Facts, Ground
from engine.triage.scope import Scope
from projections.backlog import PhaseStanding
from projections.board import Board
from projections.run_triage import RunStanding


def ended(board: Board, scope: Scope, because: SessionEnd, now_us: int) -> SessionEnded:
    """The last event of a session, or of this part of it; ``because`` unless a stop said it."""
    session = board.sessions.states[scope.session_id]
    return SessionEnded(
        session_id=scope.session_id,
        because=session.because or because,
        active_ms=active_ms(session, now_us),
        attempts=session.attempts,
        work_left=work_left(board, scope),
    )


def work_left(board: Board, scope: Scope) -> int:
    """Phases of the session's filter that are still backlog and not used up.

    Those that need another machine's labels are backlog like any other, and so are those that a
    given budget holds back, since a higher one lets them go.
    """
    limits, free = scope.limits, _without_budgets(scope)
    return sum(
        1
        for phase in board.backlog.values()
        if limits.run_id in (None, phase.run_id)
        and limits.phase_id in (None, phase.phase_id)
        and not phase.run_id.startswith(limits.skip_run_prefixes or "\0")
        and phase_hindrance(phase, free) in (None, "label_missing")
    )


def held_by_budgets(board: Board, ground: Ground) -> SessionDraining | None:
    """That budgets of runs and phases hold back what is left; None when none does.

    For a session that found nothing more to start: what it might start without these budgets is
    what they hold back.  A token cap that a phase came with is no bound that could be raised, but
    a use that is over.
    """
    scope = ground.scope
    session = board.sessions.states[scope.session_id]
    bounded = any(each.scope in ("phase", "run") for each in scope.limits.budgets)
    if session.status != "running" or scope.is_named_phase or not bounded:
        return None
    held = _held(board, scope)
    if not held.runs and not held.phases:
        return None
    # By name, for a board that was loaded has another order than one that was folded.
    first = min(held.runs or held.phases)
    facts: Facts = {
        "runs": len(held.runs),
        "phases": len(held.phases),
        "first_run": first.run_id,
        "first_phase": first.phase_id,
        "measure": first.budget.measure,
        "spent": first.spent,
        "limit": first.budget.limit,
    }
    return draining("run_budgets", _sentence(held, first), facts, ground)


class _Holding(NamedTuple):
    """A budget that holds back a run, or one phase of it; compared by their ids, which differ."""

    run_id: str
    phase_id: str | None
    budget: Budget
    spent: int


class _Held(NamedTuple):
    """What budgets hold back."""

    runs: list[_Holding]
    phases: list[_Holding]


def _without_budgets(scope: Scope) -> Scope:
    """The same session, had it been given none."""
    return Scope(scope.session_id, scope.policy, replace(scope.limits, budgets=()))


def _held(board: Board, scope: Scope) -> _Held:
    free, found = _without_budgets(scope), _Held([], [])
    for run_id, order in _orders(board, scope).items():
        run = board.runs.states[run_id]
        if run_hindrance(run, free) is not None:
            continue
        could_go = [
            phase
            for phase_id, phase in order.phases.items()
            if phase_hindrance(phase, free) is None and not order.waits(phase_id)
        ]
        bound = _reached_by_run(run, scope)
        if bound is not None and could_go:
            found.runs.append(bound)
        elif bound is None:
            found.phases.extend(filter(None, (_reached_by_phase(p, scope) for p in could_go)))
    return found


def _orders(board: Board, scope: Scope) -> Mapping[str, RunOrder]:
    """The runs that a budget of theirs or of a phase may hold back, with their phases."""
    concerned = {run.run_id for run in board.runs.values() if _reached_by_run(run, scope)}
    concerned |= {p.run_id for p in board.backlog.values() if _reached_by_phase(p, scope)}
    orders: dict[str, RunOrder] = {}
    for phase in board.backlog.values():
        if phase.run_id in concerned:
            orders.setdefault(phase.run_id, RunOrder(scope.policy)).update(phase)
    return orders


def _reached_by_run(run: RunStanding, scope: Scope) -> _Holding | None:
    for each in scope.limits.budgets:
        spent = budgets.of_run(run, each.measure) if each.scope == "run" else 0
        if spent >= each.limit:
            return _Holding(run.run_id, None, each, spent)
    return None


def _reached_by_phase(phase: PhaseStanding, scope: Scope) -> _Holding | None:
    for each in scope.limits.budgets:
        spent = budgets.of_phase(phase, each.measure) if each.scope == "phase" else 0
        if spent >= each.limit:
            return _Holding(phase.run_id, phase.phase_id, each, spent)
    return None


def _sentence(held: _Held, first: _Holding) -> str:
    counts = ((len(held.runs), "run"), (len(held.phases), "phase"))
    what = [f"{count} {name}{'s' if count > 1 else ''}" for count, name in counts if count]
    who = f"The run {first.run_id}"
    if first.phase_id is not None:
        who = f"The phase {first.phase_id} of the run {first.run_id}"
    return (
        f"Budgets hold back {' and '.join(what)}."
        f" {budgets.clause_of(who, first.budget, first.spent)}."
    )
