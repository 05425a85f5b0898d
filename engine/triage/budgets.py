"""Budgets: what was spent against what may be, per phase, run, session and day.

The ledger is the log: every count is a projection's, so that a restart forgets nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from engine.errors import UsageProblem
from engine.events import AttemptFinished, AttemptStarted, Budget, BudgetReached, Measure
from engine.triage.reasons import Facts, Ground
from engine.triage.scope import Scope
from projections.backlog import PhaseStanding
from projections.board import Board
from projections.days import Day, day_key
from projections.fold import join
from projections.run_triage import RunStanding
from projections.sessions import SessionStanding

RULE = "budget"
_UNITS: Mapping[Measure, str] = {"tokens": "tokens", "ms": "ms of work", "attempts": "attempts"}

_WRITTEN = re.compile(
    r"(?P<scope>phase|run|session|day):(?P<measure>tokens|minutes|attempts)=(?P<limit>\d{1,15})"
)


def budget_from(text: str) -> Budget:
    """A budget such as ``day:tokens=1000000`` or ``run:minutes=90``.

    Raises UsageProblem for anything else.
    """
    match = _WRITTEN.fullmatch(text)
    if match is None or int(match["limit"]) < 1:
        raise UsageProblem(
            f"--budget {text[:80]!a} cannot be read.",
            remedy="write SCOPE:MEASURE=N: phase, run, session or day; tokens, minutes or attempts;"
            " and N of 1 or more, such as day:tokens=1000000.",
        )
    limit, measure = int(match["limit"]), match["measure"]
    if measure == "minutes":
        measure, limit = "ms", limit * 60_000
    return msgspec.convert({"scope": match["scope"], "measure": measure, "limit": limit}, Budget)


def of_phase(phase: PhaseStanding, measure: Measure) -> int:
    """What a phase took since it was last requeued."""
    return {"tokens": phase.spent_tokens, "ms": phase.spent_ms, "attempts": phase.number}[measure]


def of_run(run: RunStanding, measure: Measure) -> int:
    """What a run took in its present generation."""
    spent = {"tokens": run.spent_tokens, "ms": run.spent_ms, "attempts": run.spent_attempts}
    return spent[measure]


def of_session(session: SessionStanding, measure: Measure) -> int:
    """What a session took, over all its parts."""
    spent = {"tokens": session.tokens, "ms": session.busy_ms, "attempts": session.attempts}
    return spent[measure]


def of_day(day: Day, measure: Measure) -> int:
    """What a day took."""
    return {"tokens": day.tokens, "ms": day.busy_ms, "attempts": day.attempts}[measure]


def phase_budgets(phase: PhaseStanding, scope: Scope) -> Iterator[Budget]:
    """The bounds on one phase: the session's, and the cap that the phase came with."""
    for budget in scope.limits.budgets:
        if budget.scope == "phase":
            yield budget
    if scope.policy.heed_incident_caps and phase.incident_token_cap:
        yield Budget(scope="phase", measure="tokens", limit=phase.incident_token_cap)


def phase_is_over(phase: PhaseStanding, scope: Scope) -> bool:
    """Whether a phase has used up a budget."""
    if not scope.limits.budgets and not phase.incident_token_cap:
        return False
    return any(of_phase(phase, b.measure) >= b.limit for b in phase_budgets(phase, scope))


def cap_is_used_up(phase: PhaseStanding, scope: Scope) -> bool:
    """Whether a phase has used up the cap that it came with, which no session can raise."""
    cap = phase.incident_token_cap if scope.policy.heed_incident_caps else None
    return bool(cap) and of_phase(phase, "tokens") >= (cap or 0)


def run_is_over(run: RunStanding, scope: Scope) -> bool:
    """Whether a run has used up a budget."""
    if not scope.limits.budgets:
        return False
    return any(
        of_run(run, budget.measure) >= budget.limit
        for budget in scope.limits.budgets
        if budget.scope == "run"
    )


def session_reached(board: Board, scope: Scope, now_us: int) -> tuple[Budget, int] | None:
    """The first budget of the session or the day that is used up, with what was spent."""
    if not scope.limits.budgets:
        return None
    session = board.sessions.states[scope.session_id]
    spends = session_spends(session, board.days.get(day_key(now_us)), scope)
    return next(((b, spent) for b, spent in spends if spent >= b.limit), None)


def session_spends(
    session: SessionStanding, day: Day | None, scope: Scope
) -> Iterator[tuple[Budget, int]]:
    """The budgets of the session and of ``day``, each with what was spent."""
    for budget in scope.limits.budgets:
        if budget.scope == "session":
            yield budget, of_session(session, budget.measure)
        elif budget.scope == "day":
            yield budget, of_day(day, budget.measure) if day else 0


def reached_by_start(
    board: Board, started: AttemptStarted, ground: Ground
) -> Iterator[BudgetReached]:
    """The budgets of attempts that this start, folded already, uses up."""
    if not ground.scope.limits.budgets:
        return
    spend = _Spend(_phase_of(board, started), board.runs.states[started.run_id], counted=True)
    yield from _crossed(spend, {"attempts": 1}, ground)


def reached_by_end(
    board: Board, finished: AttemptFinished, ground: Ground
) -> Iterator[BudgetReached]:
    """The budgets of tokens and time that this end, not folded yet, uses up."""
    phase = _phase_of(board, finished)
    if not ground.scope.limits.budgets and not phase.incident_token_cap:
        return
    spend = _Spend(phase, board.runs.states[finished.run_id], counted=False)
    yield from _crossed(spend, {"tokens": finished.tokens, "ms": finished.duration_ms}, ground)


def _phase_of(board: Board, event: AttemptStarted | AttemptFinished) -> PhaseStanding:
    return board.backlog.states[join(event.run_id, event.phase_id)]


class _Spend(NamedTuple):
    """Who spent; ``counted``: the standings hold it already."""

    phase: PhaseStanding
    run: RunStanding
    counted: bool


def _crossed(spend: _Spend, took: Mapping[Measure, int], ground: Ground) -> Iterator[BudgetReached]:
    scope = ground.scope
    found = [(b, of_phase(spend.phase, b.measure)) for b in phase_budgets(spend.phase, scope)]
    found += [(b, of_run(spend.run, b.measure)) for b in scope.limits.budgets if b.scope == "run"]
    for budget, known in found:
        more = took.get(budget.measure, 0)
        spent = known if spend.counted else known + more
        if spent - more < budget.limit <= spent:
            yield _reached(budget, spent, spend.phase, ground)


def _reached(budget: Budget, spent: int, phase: PhaseStanding, ground: Ground) -> BudgetReached:
    facts: Facts = {
        "scope": budget.scope,
        "measure": budget.measure,
        "spent": spent,
        "limit": budget.limit,
    }
    return BudgetReached(
        session_id=ground.scope.session_id,
        run_id=phase.run_id,
        phase_id=phase.phase_id if budget.scope == "phase" else None,
        scope=budget.scope,
        measure=budget.measure,
        limit=budget.limit,
        spent=spent,
        reason=ground.reason(RULE, facts, sentence_of(budget, spent)),
    )


def sentence_of(budget: Budget, spent: int) -> str:
    """What a used-up budget says to a person."""
    where = {"phase": "The phase", "run": "The run", "session": "The session", "day": "This day"}
    return f"{clause_of(where[budget.scope], budget, spent)}."


def clause_of(who: str, budget: Budget, spent: int) -> str:
    """The same as a clause about ``who``."""
    return f"{who} has used {spent} {_UNITS[budget.measure]} of the {budget.limit} that it may use"
