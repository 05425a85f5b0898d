"""The ledger: what was spent per session, day, run and phase, against the limits in force."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from heapq import nsmallest

import msgspec

from engine.audit.casefile import Around
from engine.errors import UsageProblem
from engine.events import Budget, BudgetScope, Measure
from engine.triage import budgets
from engine.triage.case import seen_from
from engine.triage.scope import Scope
from projections.board import Board
from projections.days import DAY_US, Day
from projections.sessions import SessionStanding

MEASURES: tuple[Measure, ...] = ("tokens", "ms", "attempts")


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one session, day, run or phase has spent, and may.

    ``id``: of the session or run, ``RUN/PHASE`` of a phase, the date of a day (UTC).  ``ms`` is the
    time that attempts took, one by one.  A run's count from its present generation, a phase's from
    its last requeue.  ``limits`` holds the measures that are bounded, ``reached`` those used up.
    """

    scope: BudgetScope
    id: str
    run_id: str | None = None
    phase_id: str | None = None
    tokens: int
    ms: int
    attempts: int
    limits: dict[Measure, int]
    reached: tuple[Measure, ...]


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The whole ledger as of ``position``, seen from ``session_id`` (None before the first).

    ``budgets`` are that session's.  ``lines`` hold the session, then the newest days, then the runs
    and phases that spent most, those with a limit reached first; ``counted`` and ``reached`` count
    all that spent anything, and all of those that reached a limit.
    """

    position: int
    now_us: int
    session_id: str | None
    policy: str
    budgets: tuple[Budget, ...]
    heeds_incident_caps: bool
    lines: tuple[LedgerLine, ...]
    counted: dict[BudgetScope, int]
    reached: dict[BudgetScope, int]


def ledger(board: Board, session_id: str | None, now_us: int, top: int) -> Ledger:
    """The ledger of a session, the newest unless named; at most ``top`` days, runs and phases each.

    Raises UsageProblem for a session that there is not.
    """
    chosen = _session(board, session_id)
    scope, session = seen_from(chosen, now_us)
    by_scope: dict[BudgetScope, list[LedgerLine]] = {
        "session": [] if chosen is None else [_line(scope, "session", chosen, chosen.session_id)],
        "day": [_line(scope, "day", day, _date(day)) for day in board.days.values()],
        "run": [_line(scope, "run", run, run.run_id) for run in board.runs.values()],
        "phase": list(_phases(board, scope)),
    }
    spenders: dict[BudgetScope, list[LedgerLine]] = {
        name: list(filter(_has_spent, lines)) for name, lines in by_scope.items()
    }
    shown = [
        *spenders["session"],
        *sorted(spenders["day"], key=lambda line: line.id, reverse=True)[:top],
        *nsmallest(top, spenders["run"], key=_rank),
        *nsmallest(top, spenders["phase"], key=_rank),
    ]
    return Ledger(
        position=board.head.pos,
        now_us=now_us,
        session_id=session.session_id if chosen is not None else None,
        policy=scope.policy.label,
        budgets=scope.limits.budgets,
        heeds_incident_caps=scope.policy.heed_incident_caps,
        lines=tuple(shown),
        counted=_counts(spenders, lambda _line: True),
        reached=_counts(spenders, lambda line: bool(line.reached)),
    )


def _counts(
    lines: Mapping[BudgetScope, list[LedgerLine]], wanted: Callable[[LedgerLine], bool]
) -> dict[BudgetScope, int]:
    return {name: sum(map(wanted, found)) for name, found in lines.items()}


def _session(board: Board, session_id: str | None) -> SessionStanding | None:
    if session_id is None:
        return Around.of(board).newest()
    found = board.sessions.get(session_id)
    if found is None or found.limits is None:
        raise UsageProblem(
            f"there is no session {session_id[:80]!a}.", remedy="`runoff session list` names them."
        )
    return found


_SPENT: dict[BudgetScope, Callable[..., int]] = {
    "session": budgets.of_session,
    "day": budgets.of_day,
    "run": budgets.of_run,
    "phase": budgets.of_phase,
}


def _line(
    scope: Scope,
    level: BudgetScope,
    spender: object,
    name: str,
    bounds: Iterable[Budget] | None = None,
) -> LedgerLine:
    spent = {measure: _SPENT[level](spender, measure) for measure in MEASURES}
    if bounds is None:
        bounds = (budget for budget in scope.limits.budgets if budget.scope == level)
    limits: dict[Measure, int] = {}
    for budget in bounds:
        limits[budget.measure] = min(budget.limit, limits.get(budget.measure, budget.limit))
    return LedgerLine(
        scope=level,
        id=name,
        run_id=getattr(spender, "run_id", None),
        phase_id=getattr(spender, "phase_id", None),
        tokens=spent["tokens"],
        ms=spent["ms"],
        attempts=spent["attempts"],
        limits=limits,
        reached=tuple(measure for measure, most in limits.items() if spent[measure] >= most),
    )


def _phases(board: Board, scope: Scope) -> Iterator[LedgerLine]:
    for phase in board.backlog.values():
        if phase.number or phase.spent_tokens or phase.spent_ms:
            name = f"{phase.run_id}/{phase.phase_id}"
            yield _line(scope, "phase", phase, name, budgets.phase_budgets(phase, scope))


def _has_spent(line: LedgerLine) -> bool:
    return bool(line.tokens or line.ms or line.attempts)


def _rank(line: LedgerLine) -> tuple[bool, int, int, int, str]:
    return (not line.reached, -line.tokens, -line.ms, -line.attempts, line.id)


def _date(day: Day) -> str:
    try:
        first = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=day.day * DAY_US)
    except OverflowError:
        return f"day {day.day}"  # no calendar reaches there, as a doctored log may
    return f"{first:%Y-%m-%d}"
