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

    ``fingerprint`` is the whole identity within ``detector``, the rule set that named it;
    ``template`` the text it came from, at most 500 characters; ``seen_before`` counts it earlier
    in the session; ``rules_sha256`` is the digest of the rule set's file.
    """

    schema: ClassVar[int] = 2

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
    rules_sha256: str | None = None


class Evidence(Value, frozen=True, kw_only=True):
    """Where in a stored stream a detection stands: byte offsets into the stored bytes."""

    stream: Literal["stdout", "stderr"]
    digest: str
    byte_start: int
    byte_end: int
    excerpt: str


class ClockTime(Value, frozen=True, kw_only=True):
    """A time of day: minutes after midnight in ``zone``, as the text names it, if it does."""

    minute: int
    zone: str | None = None


DECLARED = "declared"
"""The pattern of a limit that the program told of itself."""


class BoundaryDetected(Event, frozen=True, kw_only=True, tag="diagnosis.boundary_detected"):
    """The attempt met a limit of the model or its provider.

    ``evidence`` is None when the child reported the limit itself (by its exit code, its result
    file or a ``boundary`` line); ``declared`` then says which.  When the limit is lifted again, if
    the text says so: ``resets_in_ms`` after the attempt's end, at ``resets_at_us`` (Unix), or when
    clocks next show ``resets_clock``.
    """

    schema: ClassVar[int] = 4

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
    resets_clock: ClockTime | None = None
    rules_sha256: str | None = None


class ZeroYieldExplained(Event, frozen=True, kw_only=True, tag="diagnosis.zero_yield_explained"):
    """Why an attempt produced no usage: exactly one reason, and the fact that led to it."""

    schema: ClassVar[int] = 2

    session_id: str
    run_id: str
    phase_id: str
    attempt_id: str
    detector: str
    reason: ZeroYieldReason
    detail: str | None = None
    evidence: str
    rules_sha256: str | None = None


class Classified(Value, frozen=True, kw_only=True):
    """One word of a rule set on one attempt.

    ``name``: the fingerprint, the kind of limit, or the reason; ``detail``: the family, the
    disposition, or the finer reason; ``text``: the template, the pattern, or the fact behind it.
    """

    detector: str
    name: str
    detail: str | None = None
    text: str | None = None
    evidence: Evidence | None = None


Diagnosed = Literal["fingerprint", "boundary", "zero_yield"]


class Reclassified(Event, frozen=True, kw_only=True, tag="diagnosis.reclassified"):
    """What a rule set says of an attempt that was diagnosed before, where it says otherwise.

    Nothing of before is edited, and no decision is taken again; statistics go by the newest word.
    ``what`` was classified: ``before`` and ``after`` are None where there was, or is, nothing to
    say.  ``detector`` names the rule set that was asked, and ``timeouts`` how it told timeouts
    apart.
    """

    session_id: str
    run_id: str
    phase_id: str
    attempt_id: str
    what: Diagnosed
    detector: str
    timeouts: TimeoutFingerprints
    before: Classified | None
    after: Classified | None
    by: str
    why: str
    rules_sha256: str | None = None
