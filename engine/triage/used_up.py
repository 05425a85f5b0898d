"""Used up: runs of which no phase can be attempted, so that nothing samples them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from engine.triage.budgets import cap_is_used_up
from engine.triage.case import beginning, newest_session, seen_from
from engine.triage.eligible import phase_hindrance
from engine.triage.ordering import RunOrder
from engine.triage.scope import Scope
from engine.triage.typed import quoted
from projections.backlog import PhaseStanding
from projections.board import Board

NAMES_SHOWN = 3
_SPENT = {
    "exhausted": "is exhausted",
    "lost_too_often": "was lost too often",
    "cap_used_up": "has used up its token cap",
}
_OTHERWISE = ("open", "tried_this_session", "over_budget", "label_missing")
"""What lifts without a person's word on the phase."""


class UsedUp(NamedTuple):
    """Which phases have used up their attempts, as a clause; and what helps, as a sentence."""

    clause: str
    remedy: str


def may_be_sampled(phases: Iterable[PhaseStanding], scope: Scope) -> bool:
    """Whether a run with these ``phases`` has one that could be its sample in this session."""
    order = _order(phases, scope)
    return any(_first_hindrance(order, phase, scope) is None for phase in order.phases.values())


def used_up(phases: Iterable[PhaseStanding], scope: Scope) -> UsedUp | None:
    """Why no phase of a run can be attempted until a person requeues one; None when one can.

    ``phases``: all of the run.  What a budget, a label or an open attempt holds up is not used up;
    what has used up the token cap that it came with is, for no session can raise that.
    """
    order = _order(phases, scope)
    found = {p: _what_holds(order, p, scope) for p in order.phases.values()}
    if any(kind is None or kind in _OTHERWISE for kind in found.values()):
        return None
    spent = [(phase, _SPENT[kind]) for phase, kind in found.items() if kind in _SPENT]
    if not spent:
        return None
    told = ", ".join(f"{phase.phase_id} {text}" for phase, text in spent[:NAMES_SHOWN])
    more = f" and {len(spent) - NAMES_SHOWN} more are" if len(spent) > NAMES_SHOWN else ""
    first = spent[0][0]
    clause = f"none of its phases can be attempted ({told}{more})"
    return UsedUp(clause, requeueing(first, "gives it new attempts", scope))


def requeueing(phase: PhaseStanding, does: str, scope: Scope) -> str:
    """The command that puts ``phase`` back and what that ``does``, as a sentence.

    What was put back is QUEUED, so under a policy that drains no such phases that is not enough.
    """
    command = quoted("phase requeue", phase.run_id, phase.phase_id, options="--why TEXT")
    goes = scope.is_named_phase or "QUEUED" in scope.policy.drains
    then = "" if goes else "; a policy that drains QUEUED, such as default, attempts it then"
    return f"`{command}` {does}{then}."


def used_up_run(board: Board, run_id: str) -> UsedUp | None:
    """The same of a run on ``board``, for a session that begins now like the newest.

    Raises LogUnreadable when the policy of that session cannot be read here.
    """
    newest = newest_session(tuple(board.sessions.values()))
    before, _ = seen_from(newest, 0)
    scope, _ = beginning(newest, before.policy, 0)
    return used_up((p for p in board.backlog.values() if p.run_id == run_id), scope)


def _order(phases: Iterable[PhaseStanding], scope: Scope) -> RunOrder:
    order = RunOrder(scope.policy)
    for phase in phases:
        order.update(phase)
    return order


def _what_holds(order: RunOrder, phase: PhaseStanding, scope: Scope) -> str | None:
    first = _first_hindrance(order, phase, scope)
    if first == "over_budget" and cap_is_used_up(phase, scope):
        return "cap_used_up"
    return first


def _first_hindrance(order: RunOrder, phase: PhaseStanding, scope: Scope) -> str | None:
    return phase_hindrance(phase, scope) or ("waits" if order.waits(phase.phase_id) else None)
