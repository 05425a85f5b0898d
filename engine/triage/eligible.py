"""Who may be attempted: the conditions on a phase and on a run, each with its reason.

Pure functions over the board; the queue keeps them in an index, ``runoff why`` and the dry run
say them to a person, and the property tests hold both against each other.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from engine.triage import budgets
from engine.triage.policy import Policy
from engine.triage.rules import JUDGED_ENDINGS, reason_class
from engine.triage.scope import Scope
from projections.backlog import UNFINISHED, PhaseStanding
from projections.run_triage import RunStanding

PhaseHindrance = Literal[
    "done",
    "not_drained",
    "open",
    "exhausted",
    "lost_too_often",
    "tried_this_session",
    "over_budget",
    "label_missing",
    "waits",
]
RunHindrance = Literal[
    "filtered",
    "prefix_skipped",
    "deprioritized",
    "stopped",
    "over_budget",
    "sample_in_flight",
    "run_is_full",
]


class SortKey(NamedTuple):
    """The total order among phases of one group; ``registered_pos`` makes it total."""

    reason_class: int
    tier_index: int
    phase_index: int
    registered_pos: int


def sort_key(phase: PhaseStanding, policy: Policy) -> SortKey:
    """Where a phase stands in its group: by its last failure, then earlier in the run first."""
    tier_index = phase.tier_index if policy.order_tiers else 0
    return SortKey(reason_class(phase.reason), tier_index, phase.phase_index, phase.registered_pos)


def is_unfinished(phase: PhaseStanding) -> bool:
    """Whether later phases wait for this one."""
    return phase.state in UNFINISHED


def phase_hindrance(phase: PhaseStanding, scope: Scope) -> PhaseHindrance | None:
    """What keeps a phase from being attempted, apart from the phases it waits for."""
    policy = scope.policy
    if phase.open_attempt is not None:
        return "open"
    tried_now = phase.last_session == scope.session_id and phase.last_ending in JUDGED_ENDINGS
    if scope.is_named_phase:
        # Asked for once, attempted once, however it ends.
        if not is_unfinished(phase):
            return "done"
        return "tried_this_session" if tried_now else _label_hindrance(phase, scope)
    if phase.state not in policy.drains:
        return "done" if not is_unfinished(phase) else "not_drained"
    if policy.attempts_per_phase_max and phase.attempts >= policy.attempts_per_phase_max:
        return "exhausted"
    if policy.orphans_per_phase_max and phase.orphans >= policy.orphans_per_phase_max:
        return "lost_too_often"
    if policy.once_per_session and tried_now:
        return "tried_this_session"
    if budgets.phase_is_over(phase, scope):
        return "over_budget"
    return _label_hindrance(phase, scope)


def _label_hindrance(phase: PhaseStanding, scope: Scope) -> PhaseHindrance | None:
    # Nobody's word gives a machine what it has not got, so this holds for a named phase, too.
    return "label_missing" if missing_labels(phase, scope) else None


def missing_labels(phase: PhaseStanding, scope: Scope) -> tuple[str, ...]:
    """The labels that a phase needs and the session's engine does not offer, by name."""
    offered = scope.limits.labels
    return tuple(label for label in phase.needs if label not in offered)


def run_hindrance(run: RunStanding, scope: Scope) -> RunHindrance | None:
    """What keeps a whole run from being attempted now."""
    limits = scope.limits
    if limits.run_id is not None and run.run_id != limits.run_id:
        return "filtered"
    if scope.is_named_phase:
        return None
    if run.run_id.startswith(limits.skip_run_prefixes):
        return "prefix_skipped"
    if run.standing == "deprioritized":
        return "deprioritized"
    if run.stopped_in(scope.session_id) is not None:
        return "stopped"
    if budgets.run_is_over(run, scope):
        return "over_budget"
    if run.standing == "unsampled" and run.open > 0:
        return "sample_in_flight"
    if run.open >= limits.per_run_max:
        return "run_is_full"
    return None
