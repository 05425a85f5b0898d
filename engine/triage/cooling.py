"""Cooling down: when a deprioritized run may be sampled again.

Only one with a phase that could be the sample is (``select``): a verdict set aside for nothing
would leave the run without one for ever.
"""

from __future__ import annotations

from engine.events import RunCooledDown
from engine.triage.policy import Policy
from engine.triage.reasons import Facts, Ground
from engine.triage.scope import Scope
from projections.run_triage import RunStanding

RULE = "cool_down"


def cools_us(run: RunStanding, policy: Policy) -> int | None:
    """When a run's verdict is set aside by itself (Unix microseconds); None for never."""
    if policy.cool_down_ms is None or run.standing != "deprioritized":
        return None
    return run.verdict_us + policy.cool_down_ms * 1000


def is_cool(run: RunStanding, scope: Scope, now_us: int) -> bool:
    """Whether a session may sample a deprioritized run again at ``now_us``."""
    due_us = cools_us(run, scope.policy)
    return due_us is not None and now_us >= due_us and may_touch(run, scope)


def may_touch(run: RunStanding, scope: Scope) -> bool:
    """Whether the session is for this run, and triage is asked at all."""
    limits = scope.limits
    wanted = limits.run_id in (None, run.run_id)
    skipped = run.run_id.startswith(limits.skip_run_prefixes or "\0")
    return wanted and not skipped and not scope.is_named_phase


def cooled_down(run: RunStanding, ground: Ground) -> RunCooledDown:
    """The event that begins a new generation of a run."""
    hours = (ground.now_us - run.verdict_us) / 3.6e9
    facts: Facts = {
        "verdict_pos": run.verdict_pos,
        "verdict_us": run.verdict_us,
        "now_us": ground.now_us,
    }
    return RunCooledDown(
        session_id=ground.scope.session_id,
        run_id=run.run_id,
        generation=run.generation + 1,
        reason=ground.reason(
            RULE,
            facts,
            f"The run was deprioritized {hours:.1f} hours ago and may be sampled again.",
        ),
    )
