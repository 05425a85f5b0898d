"""The policy: every threshold and every switch of triage, as one value that the log records.

Rules and detectors are named with their versions, so that a log can be decided again by the very
ones that were in force.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

import msgspec

from engine.errors import LogUnreadable, UsageProblem
from engine.events import PhaseState, TimeoutFingerprints

VerdictRule = Literal["three-way-1", "classic-1"]


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What triage goes by.  None means no bound.

    ``drains``: the states that are backlog; EXECUTING without an attempt of ours is what an older
    system left.  ``order_*``: what a phase waits for.
    ``attempts_per_phase_max`` counts since the phase was registered or requeued, orphans apart.
    ``once_per_session``: a phase is tried at most once in a session.
    ``fingerprint_repeats_max``: at the Nth carrier a failure is stopped, and each run that carries
    it from there on.  ``timeout_exit_codes``: exit codes taken for timeouts, and
    ``timeouts_lose_yield``: what an attempt yielded before its deadline counts for nothing, as
    only the original had it.

    The improvements on the original, each with its own switch, are off unless a policy names them,
    so that a policy recorded before a switch existed still means what it meant.
    ``timeout_fingerprints``: whether timeouts of different runs count as one failure.
    ``stops_spare_yield``: failures that yielded usage stop nothing by repeating.
    ``stop_outranks_verdict``: what is stopped is not promising.
    ``breaker_*``: the circuit breaker over the causes that fail samples.
    ``samples_at_first``: how many runs are sampled at once before anything is known.
    ``cool_down_ms``: after it a deprioritized run may be sampled again.
    ``provider_pause_*``: how long an account rests when no time could be read.
    ``heed_incident_caps``: a phase's own token cap bounds what its attempts may take.
    """

    name: str
    version: int = 1
    verdict_rule: VerdictRule = "three-way-1"
    detectors: str = "standard-1"
    drains: tuple[PhaseState, ...] = ("QUEUED", "FAILED")
    order_tiers: bool = True
    order_phases: bool = True
    order_deliverables: bool = True
    once_per_session: bool = False
    attempts_per_phase_max: int | None = 2
    orphans_per_phase_max: int | None = 5
    timeouts_per_run_max: int | None = 2
    fingerprint_repeats_max: int | None = 3
    consecutive_zero_yield_max: int | None = None
    timeout_exit_codes: tuple[int, ...] = ()
    timeouts_lose_yield: bool = False
    timeout_fingerprints: TimeoutFingerprints = "detected"
    stops_spare_yield: bool = False
    stop_outranks_verdict: bool = False
    breaker_runs: int | None = None
    breaker_probes_max: int = 2
    breaker_cool_down_ms: int | None = None
    samples_at_first: int | None = None
    cool_down_ms: int | None = None
    provider_pause_ms: int | None = None
    provider_pause_max_ms: int = 3_600_000
    deferrals_per_phase_max: int | None = 5
    heed_incident_caps: bool = False

    @property
    def label(self) -> str:
        """``name@version``, as decisions cite it."""
        return f"{self.name}@{self.version}"

    @property
    def json(self) -> str:
        """The whole policy as canonical JSON."""
        return msgspec.json.encode(self).decode()

    @property
    def sha256(self) -> str:
        """Of the canonical JSON."""
        return hashlib.sha256(self.json.encode()).hexdigest()

    def is_timeout(
        self, exit_code: int | None, signal: int | None, state: PhaseState | None
    ) -> bool:
        """Whether a program that ended by itself counts as timed out.

        ``signal``: the one that ended it, if any; ``state``: what it said of its phase, which has
        not timed out if that is complete.
        """
        code = exit_code if signal is None else -signal
        return code in self.timeout_exit_codes and state != "COMPLETE"


POLICIES: Mapping[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy(
            name="default",
            version=2,
            drains=("QUEUED", "FAILED", "EXECUTING"),
            timeout_fingerprints="run",
            stops_spare_yield=True,
            stop_outranks_verdict=True,
            breaker_runs=3,
            breaker_cool_down_ms=15 * 60_000,
            samples_at_first=3,
            cool_down_ms=24 * 3_600_000,
            provider_pause_ms=60_000,
            heed_incident_caps=True,
        ),
        Policy(
            name="classic",
            version=2,
            verdict_rule="classic-1",
            detectors="classic-1",
            drains=("FAILED",),
            order_tiers=False,
            order_phases=False,
            order_deliverables=False,
            once_per_session=True,
            attempts_per_phase_max=None,
            orphans_per_phase_max=None,
            timeout_exit_codes=(-1, 143),
            timeouts_lose_yield=True,
        ),
    )
}


def policy_named(name: str) -> Policy:
    """A built-in policy.  Raises UsageProblem listing what there is."""
    if name not in POLICIES:
        raise UsageProblem(
            f"there is no policy named {name!r}.", remedy=f"use one of: {', '.join(POLICIES)}."
        )
    return POLICIES[name]


def policy_from_json(text: str) -> Policy:
    """A policy as recorded in the log.

    Raises LogUnreadable for one that a newer program wrote, or that is no policy.
    """
    try:
        return msgspec.json.decode(text, type=Policy)
    except msgspec.MsgspecError as error:
        raise LogUnreadable(
            f"a recorded policy cannot be read: {error}.",
            remedy="use the version of runoff that wrote it, or a newer one.",
        ) from error
