"""Triage: verdicts on runs, and what the stop conditions stopped."""

from __future__ import annotations

from typing import Literal

from engine.events.base import Event, Reason

Verdict = Literal["promising", "inconclusive", "deprioritized"]
VerdictCause = Literal[
    "success", "telemetry", "timeout", "new_failure", "repeated_timeout", "repeated_failure"
]
RunStopCause = Literal["fingerprint_repeats", "timeouts"]


class RunJudged(Event, frozen=True, kw_only=True, tag="triage.run_judged"):
    """The sample is in: what it says about the run, once per generation."""

    session_id: str
    run_id: str
    attempt_id: str
    generation: int
    verdict: Verdict
    because: VerdictCause
    reason: Reason


class FingerprintStopped(Event, frozen=True, kw_only=True, tag="triage.fingerprint_stopped"):
    """A failure repeated too often in this session."""

    session_id: str
    fingerprint: str
    repeats: int
    reason: Reason


class RunStopped(Event, frozen=True, kw_only=True, tag="triage.run_stopped"):
    """A run gets no more attempts in this session."""

    session_id: str
    run_id: str
    because: RunStopCause
    reason: Reason
