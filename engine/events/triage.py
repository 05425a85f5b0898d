"""Triage: verdicts on runs, what is stopped, held back or paused, and until when."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.events.base import Event, PhaseState, Reason
from engine.events.diagnosis import BoundaryKind
from engine.events.session import BudgetScope, Measure

Verdict = Literal["promising", "inconclusive", "deprioritized"]
VerdictCause = Literal[
    "success",
    "telemetry",
    "timeout",
    "new_failure",
    "repeated_timeout",
    "repeated_failure",
    "stopped",
]
RunStopCause = Literal["fingerprint_repeats", "timeouts"]


class RunJudged(Event, frozen=True, kw_only=True, tag="triage.run_judged"):
    """The sample is in: what it says about the run, once per generation.

    ``barren``: the fingerprint of a sample that failed without usage, which is what the circuit
    breaker counts.
    """

    schema: ClassVar[int] = 2

    session_id: str
    run_id: str
    attempt_id: str
    generation: int
    verdict: Verdict
    because: VerdictCause
    reason: Reason
    barren: str | None = None


class FingerprintStopped(Event, frozen=True, kw_only=True, tag="triage.fingerprint_stopped"):
    """A failure repeated too often in this session."""

    session_id: str
    fingerprint: str
    repeats: int
    reason: Reason


class RunStopped(Event, frozen=True, kw_only=True, tag="triage.run_stopped"):
    """A run gets no more attempts in this session.

    ``demoted``: it counted as promising, and no longer does.
    """

    schema: ClassVar[int] = 2

    session_id: str
    run_id: str
    because: RunStopCause
    reason: Reason
    demoted: bool = False


class RunCooledDown(Event, frozen=True, kw_only=True, tag="triage.run_cooled_down"):
    """A deprioritized run has waited long enough to be sampled again, as a new generation."""

    session_id: str
    run_id: str
    generation: int
    reason: Reason


class BreakerOpened(Event, frozen=True, kw_only=True, tag="triage.breaker_opened"):
    """One cause failed the samples of ``runs`` runs: unsampled runs are held back.

    ``carried``: it was open already when this session began, which only earlier programs say, whose
    sessions each counted for themselves.
    """

    session_id: str
    fingerprint: str
    template: str
    runs: int
    carried: bool = False
    reason: Reason


class BreakerProbed(Event, frozen=True, kw_only=True, tag="triage.breaker_probed"):
    """A probe of an open circuit breaker ended without closing it.

    ``unproved``: the probe was abandoned, orphaned or deferred, and another takes its place.
    """

    session_id: str
    fingerprint: str
    attempt_id: str
    outcome: Literal["failed_alike", "failed_otherwise", "unproved"]
    reason: Reason


class BreakerClosed(Event, frozen=True, kw_only=True, tag="triage.breaker_closed"):
    """The cause is gone: unsampled runs go on, and it is counted from nothing.

    A probe did well, or ``attempt_id`` is of a run whose sample had failed by it.
    """

    session_id: str
    fingerprint: str
    attempt_id: str
    reason: Reason


class AttemptDeferred(Event, frozen=True, kw_only=True, tag="triage.attempt_deferred"):
    """A provider's limit ended the attempt, which says nothing about the phase or its run.

    The phase stands as before, in ``state``; ``fingerprint`` (if any) is not counted, and the
    streak without usage is what it was before: neither longer, where the attempt had ``no_yield``,
    nor ended.  ``timed_out``: it waited for the limit's end until its deadline, and counts for no
    timeout either.
    """

    schema: ClassVar[int] = 2

    session_id: str
    run_id: str
    phase_id: str
    attempt_id: str
    state: PhaseState
    kind: BoundaryKind
    fingerprint: str | None = None
    no_yield: bool = True
    timed_out: bool = False
    reason: Reason


class AccountPaused(Event, frozen=True, kw_only=True, tag="triage.account_paused"):
    """No attempt goes to this account of a provider until its limit is lifted.

    ``until_us`` is Unix time; ``stated`` says that the provider named it.  ``consecutive`` counts
    pauses without a good attempt in between.
    """

    session_id: str
    account: str
    kind: BoundaryKind
    until_us: int
    stated: bool
    consecutive: int
    reason: Reason


class AccountRecovered(Event, frozen=True, kw_only=True, tag="triage.account_recovered"):
    """An attempt did well after a pause, so that the next pause is a short one again."""

    session_id: str
    account: str
    attempt_id: str
    reason: Reason


class BudgetReached(Event, frozen=True, kw_only=True, tag="triage.budget_reached"):
    """What was spent within a scope has reached its limit; ``phase_id`` only for a phase."""

    session_id: str
    run_id: str
    phase_id: str | None
    scope: BudgetScope
    measure: Measure
    limit: int
    spent: int
    reason: Reason
