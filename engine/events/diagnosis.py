"""Diagnosis: what a failure is like, whether a limit ended it, and why no usage came."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.events.base import Event, Value

BoundaryKind = Literal[
    "context_window",
    "max_output_tokens",
    "max_turns",
    "message_limit",
    "rate_limit",
    "quota",
    "spend_limit",
    "overloaded",
    "auth",
    "network",
    "unspecified",
]
TimeoutFingerprints = Literal["detected", "run", "session"]
"""Whether timeouts are told apart as the detectors say, by run, or not at all."""

Disposition = Literal["stopped_by", "encountered", "suspected"]

ZeroYieldReason = Literal[
    "success_no_llm_calls",
    "timeout",
    "failed_before_llm",
    "llm_boundary_hit",
    "execution_error",
    "provider_limit",
    "abandoned",
    "orphaned",
    "unknown",
]
"""The seed's six, provider limits, and the two endings that are our own doing."""


class FailureFingerprinted(Event, frozen=True, kw_only=True, tag="diagnosis.fingerprinted"):
    """What is left of a failure when everything incidental is removed.

    ``fingerprint`` is the whole identity within ``detector``; ``template`` the text it came from,
    at most 500 characters; ``seen_before`` counts it earlier in the session.
    """

    session_id: str
    run_id: str
    phase_id: str
    attempt_id: str
    detector: str
    fingerprint: str
    family: str
    template: str
    exit_class: str
    seen_before: int


class Evidence(Value, frozen=True, kw_only=True):
    """Where in a stored stream a detection stands: byte offsets into the stored bytes."""

    stream: Literal["stdout", "stderr"]
    digest: str
    byte_start: int
    byte_end: int
    excerpt: str


class BoundaryDetected(Event, frozen=True, kw_only=True, tag="diagnosis.boundary_detected"):
    """The attempt met a limit of the model or its provider.

    ``evidence`` is None when the child reported the limit itself (by its exit code, its result
    file or a ``boundary`` line); ``declared`` then says which.  When the limit is lifted again, if
    the text says so: ``resets_in_ms`` after the attempt's end, or at ``resets_at_us`` (Unix).
    """

    schema: ClassVar[int] = 2

    session_id: str
    run_id: str
    phase_id: str
    attempt_id: str
    detector: str
    kind: BoundaryKind
    disposition: Disposition
    pattern: str
    declared: str | None = None
    evidence: Evidence | None = None
    resets_in_ms: int | None = None
    resets_at_us: int | None = None


class ZeroYieldExplained(Event, frozen=True, kw_only=True, tag="diagnosis.zero_yield_explained"):
    """Why an attempt produced no usage: exactly one reason, and the fact that led to it."""

    session_id: str
    run_id: str
    phase_id: str
    attempt_id: str
    detector: str
    reason: ZeroYieldReason
    detail: str | None = None
    evidence: str
