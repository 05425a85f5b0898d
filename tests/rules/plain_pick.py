"""What goes next, written a second time: by the words of the reference, without an index.

Shares nothing with ``engine.triage`` but the shapes of standings, so that a mistake in a rule and
the same mistake here would have to be made twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from engine.triage.scope import Scope
from projections.backlog import PhaseStanding
from projections.board import Board
from projections.breakers import BreakerStanding
from projections.run_triage import RunStanding

_WAITED_FOR = ("QUEUED", "EXECUTING", "FAILED")
_PROVED = ("succeeded", "failed", "timed_out", "broke")
_WORDS = (("collection import", 2), ("deliverable missing", 3), ("patch no-op manifest", 4))


class Next(NamedTuple):
    """A pick in plain words."""

    run_id: str
    phase_id: str
    group: str
    probe_of: str | None = None


def next_pick(board: Board, scope: Scope, now_us: int, *, heed_pause: bool = True) -> Next | None:
    """What a session should attempt next, or None."""
    if heed_pause and (is_paused(board, scope, now_us) or not has_room(board, scope)):
        return None
    sampling, probe_of = may_sample(board, scope, now_us)
    phases = list(board.backlog.values())
    ready = [p for p in phases if is_ready(p, phases, board.runs.states[p.run_id], scope)]
    unsampled = [p for p in ready if board.runs.states[p.run_id].standing == "unsampled"]
    if probe_of is not None and unsampled:
        firsts = {p.run_id: p for p in sorted(unsampled, key=lambda p: place(p, scope))[::-1]}
        chosen = max(firsts.values(), key=lambda p: place(p, scope))
        return Next(chosen.run_id, chosen.phase_id, "unsampled", probe_of)
    if sampling and unsampled:
        return _first(unsampled, "unsampled", scope)
    promising = [p for p in ready if board.runs.states[p.run_id].standing == "promising"]
    if promising:
        return _first(promising, "promising", scope)
    others = [p for p in ready if board.runs.states[p.run_id].standing == "inconclusive"]
    others += [p for p in ready if board.runs.states[p.run_id].standing == "deprioritized"]
    return _first(others, "others", scope) if others else None


def _first(phases: Sequence[PhaseStanding], group: str, scope: Scope) -> Next:
    chosen = min(phases, key=lambda p: place(p, scope))
    return Next(chosen.run_id, chosen.phase_id, group)


def place(phase: PhaseStanding, scope: Scope) -> tuple[int, ...]:
    """By the last failure, then earlier in the run first, then by registration."""
    tier = phase.tier_index if scope.policy.order_tiers else 0
    return (failure_class(phase.reason), tier, phase.phase_index, phase.registered_pos)


def failure_class(reason: str | None) -> int:
    """1 none … 6 timeout."""
    if reason is None or reason == "":
        return 1
    said = reason.lower()
    for words, number in _WORDS:
        for word in words.split():
            if word in said:
                return number
    return 6 if "timeout" in said or "timed out" in said else 5


def is_paused(board: Board, scope: Scope, now_us: int) -> bool:
    """Whether the session's account rests."""
    if scope.policy.provider_pause_ms is None or scope.limits.phase_id is not None:
        return False
    name = scope.limits.account
    if not name:
        name = board.sessions.states[scope.session_id].executor
    known = board.accounts.get(name)
    return known is not None and known.until_us > now_us


def has_room(board: Board, scope: Scope) -> bool:
    """Whether another attempt may be on the host of the session's engine."""
    here = board.sessions.states[scope.session_id].host
    busy = [each.open for each in board.sessions.values() if each.host == here]
    return scope.limits.host_workers is None or sum(busy) < scope.limits.host_workers


def may_sample(board: Board, scope: Scope, now_us: int) -> tuple[bool, str | None]:
    """Whether another run may be sampled, and as a probe of which cause."""
    policy = scope.policy
    if scope.limits.phase_id is not None:
        return True, None
    held = _held_by(board, scope)
    if held:
        due = [each for each in held if _probe_is_due(each, scope, now_us)]
        if due and not any(each.probe for each in held):
            return True, due[0].fingerprint
        return False, None
    session = board.sessions.get(scope.session_id)
    if policy.samples_at_first is None or session is None:
        return policy.samples_at_first != 0, None
    room = policy.samples_at_first + 2 * session.telling_samples
    return len(session.open_samples) < room, None


def _held_by(board: Board, scope: Scope) -> list[BreakerStanding]:
    """The open breakers of the log, the one that opened first first."""
    if not scope.policy.breaker_runs:
        return []
    held = list(board.breakers.values())
    return sorted(
        (each for each in held if each.opened_pos is not None),
        key=lambda each: each.opened_pos or 0,
    )


def _probe_is_due(breaker: BreakerStanding, scope: Scope, now_us: int) -> bool:
    policy = scope.policy
    if breaker.probes + 1 <= policy.breaker_probes_max:
        return True
    if policy.breaker_cool_down_ms is None:
        return False
    since_us = breaker.opened_us if breaker.probes == 0 else breaker.last_probe_us
    return now_us - since_us >= policy.breaker_cool_down_ms * 1000


def is_ready(
    phase: PhaseStanding, phases: Sequence[PhaseStanding], run: RunStanding, scope: Scope
) -> bool:
    """Whether this phase could be attempted now, were it the only one."""
    limits = scope.limits
    if limits.run_id is not None and phase.run_id != limits.run_id:
        return False
    if phase.open_attempt is not None:
        return False
    if limits.phase_id is not None:
        return (
            phase.phase_id == limits.phase_id
            and phase.state in _WAITED_FOR
            and not _tried(phase, scope)
            and _is_fit(phase, scope)
        )
    return (
        _is_fit(phase, scope)
        and _run_may_go(run, scope)
        and _phase_may_go(phase, scope)
        and not any(comes_first(other, phase, scope) for other in phases)
    )


def _is_fit(phase: PhaseStanding, scope: Scope) -> bool:
    """Whether the engine has all that the phase asks of a machine."""
    return not set(phase.needs).difference(scope.limits.labels)


def _tried(phase: PhaseStanding, scope: Scope) -> bool:
    return phase.last_session == scope.session_id and phase.last_ending in _PROVED


def _run_may_go(run: RunStanding, scope: Scope) -> bool:
    limits = scope.limits
    if any(run.run_id.startswith(prefix) for prefix in limits.skip_run_prefixes):
        return False
    if run.standing == "deprioritized":
        return False
    if run.session_id == scope.session_id and run.stopped is not None:
        return False
    taken = {"attempts": run.spent_attempts, "tokens": run.spent_tokens, "ms": run.spent_ms}
    if any(b.scope == "run" and taken[b.measure] >= b.limit for b in limits.budgets):
        return False
    most = 1 if run.standing == "unsampled" else limits.per_run_max
    return run.open < most


def _phase_may_go(phase: PhaseStanding, scope: Scope) -> bool:
    policy = scope.policy
    if phase.state not in policy.drains:
        return False
    if policy.attempts_per_phase_max and phase.attempts >= policy.attempts_per_phase_max:
        return False
    if policy.orphans_per_phase_max and phase.orphans >= policy.orphans_per_phase_max:
        return False
    if policy.once_per_session and _tried(phase, scope):
        return False
    taken = {"attempts": phase.number, "tokens": phase.spent_tokens, "ms": phase.spent_ms}
    bounds = [(b.measure, b.limit) for b in scope.limits.budgets if b.scope == "phase"]
    if policy.heed_incident_caps and phase.incident_token_cap:
        bounds.append(("tokens", phase.incident_token_cap))
    return all(taken[measure] < limit for measure, limit in bounds)


def comes_first(other: PhaseStanding, phase: PhaseStanding, scope: Scope) -> bool:
    """Whether ``phase`` waits for ``other``."""
    policy = scope.policy
    if other.run_id != phase.run_id or other.phase_id == phase.phase_id:
        return False
    if other.state not in _WAITED_FOR:
        return False
    if policy.order_deliverables and other.phase_id in phase.after:
        return True
    if other.tier_index != phase.tier_index:
        return policy.order_tiers and other.tier_index < phase.tier_index
    before = (other.phase_index, other.registered_pos) < (phase.phase_index, phase.registered_pos)
    return policy.order_phases and phase.order == "strict" and before
