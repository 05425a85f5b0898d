"""The circuit breaker: a cause that fails run after run holds back those not sampled yet.

The pattern is that of M. Nygard, "Release It!" (2007): closed, open, and half-open while a probe is
out.  Before it can know, a slow start bounds how many runs are sampled at once, so that sixty-four
workers do not spend sixty-four samples on one broken key; TCP's slow start (RFC 5681) is the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from engine.amounts import counted
from engine.events import (
    AnyEvent,
    AttemptFinished,
    BreakerClosed,
    BreakerOpened,
    BreakerProbed,
    FailureFingerprinted,
)
from engine.triage.policy import Policy
from engine.triage.reasons import Facts, Ground
from projections.breakers import BreakerStanding
from projections.causes import CauseStanding
from projections.sessions import SessionStanding

RULE = "breaker"
GROWTH = 2
"""By how many samples at once the slow start grows with every sample that tells something new."""

ProbeOutcome = Literal["did_well", "failed_alike", "failed_otherwise", "unproved"]


def open_breakers(breakers: Iterable[BreakerStanding]) -> list[BreakerStanding]:
    """Those that hold back every session of the log, in the order they opened."""
    found = [b for b in breakers if b.opened_pos is not None]
    return sorted(found, key=lambda breaker: breaker.opened_pos or 0) if found else found


class Gate(NamedTuple):
    """Whether an unsampled run may be sampled now: ``hindrance`` None, then as probe of what."""

    hindrance: Literal["breaker_open", "slow_start"] | None
    probe_of: str | None = None


def sampling_gate(
    session: SessionStanding,
    breakers: Iterable[BreakerStanding],
    policy: Policy,
    now_us: int,
) -> Gate:
    """Whether the session may sample another run at ``now_us``."""
    held = open_breakers(breakers) if policy.breaker_runs else []
    if held:
        if any(breaker.probe is not None for breaker in held):
            return Gate("breaker_open")
        for breaker in held:
            if may_probe(breaker, policy, now_us):
                return Gate(None, breaker.fingerprint)
        return Gate("breaker_open")
    allowed = samples_allowed(session.telling_samples, policy)
    if allowed is not None and len(session.open_samples) >= allowed:
        return Gate("slow_start")
    return Gate(None)


def may_probe(breaker: BreakerStanding, policy: Policy, now_us: int) -> bool:
    """Whether a breaker without a probe out may get one: a few at once, then one per cool-down."""
    if breaker.probes < policy.breaker_probes_max:
        return True
    due_us = next_probe_us(breaker, policy)
    return due_us is not None and now_us >= due_us


def next_probe_us(breaker: BreakerStanding, policy: Policy) -> int | None:
    """When the next probe of a breaker is due that has used up its first ones; None for never."""
    if policy.breaker_cool_down_ms is None:
        return None
    since_us = breaker.last_probe_us if breaker.probes else breaker.opened_us
    return since_us + policy.breaker_cool_down_ms * 1000


def samples_allowed(telling_samples: int, policy: Policy) -> int | None:
    """How many samples may be in flight, after so many that told something; None = no bound."""
    if policy.samples_at_first is None:
        return None
    return policy.samples_at_first + GROWTH * telling_samples


def opens(runs_before: int, policy: Policy) -> bool:
    """Whether one more run that fails by a cause makes the cause systemic."""
    return policy.breaker_runs is not None and runs_before + 1 >= policy.breaker_runs


def opened(fingerprinted: FailureFingerprinted, runs_before: int, ground: Ground) -> BreakerOpened:
    """The event by which a cause is called systemic."""
    runs = runs_before + 1
    facts: Facts = {"fingerprint": fingerprinted.fingerprint, "runs": runs}
    sentence = (
        f"{fingerprinted.fingerprint} failed the samples of {counted(runs, 'run')} without any"
        " usage, so it is taken for systemic: runs without a verdict are held back."
    )
    return BreakerOpened(
        session_id=ground.scope.session_id,
        fingerprint=fingerprinted.fingerprint,
        template=fingerprinted.template,
        runs=runs,
        reason=ground.reason(RULE, facts, sentence),
    )


def outcome_of(
    cause: str,
    finished: AttemptFinished,
    fingerprint: str | None,
    *,
    deferred: bool,
) -> ProbeOutcome:
    """What the end of an attempt says about a cause, given the fingerprint of its own failure."""
    if deferred or finished.ending in ("abandoned", "orphaned"):
        return "unproved"
    if finished.ending == "succeeded" or finished.yield_events > 0:
        return "did_well"
    return "failed_alike" if fingerprint == cause else "failed_otherwise"


def settled(
    breakers: Iterable[BreakerStanding],
    causes: Mapping[str, CauseStanding],
    finished: AttemptFinished,
    fingerprint: str | None,
    ground: Ground,
    *,
    deferred: bool,
) -> Iterator[AnyEvent]:
    """What the end of an attempt does to the breakers.

    A probe that does well closes every open one: whatever the causes were, an unsampled run got
    through.  An attempt of a run that had failed by a cause, and now does well, closes that one.
    """
    held = open_breakers(breakers)
    probed = next((b for b in held if b.probe == finished.attempt_id), None)
    if not held:
        return
    cause = probed.fingerprint if probed else ""
    outcome = outcome_of(cause, finished, fingerprint, deferred=deferred)
    if probed is not None and outcome != "did_well":
        yield _probed(probed, outcome, finished, ground)
    elif probed is not None:
        yield from (_closed(b, finished, ground, by="A probe") for b in held)
    elif outcome == "did_well" and ground.policy.breaker_runs:
        by = f"{finished.run_id}, whose sample had failed by it,"
        failed = (b for b in held if _failed_run(b, causes, finished))
        yield from (_closed(b, finished, ground, by=by) for b in failed)


def _probed(
    breaker: BreakerStanding,
    outcome: Literal["failed_alike", "failed_otherwise", "unproved"],
    finished: AttemptFinished,
    ground: Ground,
) -> BreakerProbed:
    said = {
        "failed_alike": "failed by the same cause",
        "failed_otherwise": "failed by another cause",
        "unproved": "proved nothing; another may go in its place",
    }[outcome]
    facts: Facts = {"ending": finished.ending, "probes_before": breaker.probes}
    return BreakerProbed(
        session_id=finished.session_id,
        fingerprint=breaker.fingerprint,
        attempt_id=finished.attempt_id,
        outcome=outcome,
        reason=ground.reason(
            RULE,
            facts,
            f"The probe of {breaker.fingerprint} {said}.",
        ),
    )


def _failed_run(
    breaker: BreakerStanding, causes: Mapping[str, CauseStanding], finished: AttemptFinished
) -> bool:
    cause = causes.get(breaker.fingerprint)
    return cause is not None and finished.run_id in cause.runs


def _closed(
    breaker: BreakerStanding, finished: AttemptFinished, ground: Ground, *, by: str
) -> BreakerClosed:
    facts: Facts = {"ending": finished.ending, "yield_events": finished.yield_events}
    how = "succeeded" if finished.ending == "succeeded" else "yielded usage"
    return BreakerClosed(
        session_id=finished.session_id,
        fingerprint=breaker.fingerprint,
        attempt_id=finished.attempt_id,
        reason=ground.reason(
            RULE,
            facts,
            f"{by} {how}, so {breaker.fingerprint} no longer holds runs back.",
        ),
    )
