"""Diagnosis: what detectors make of an attempt's end, from what the log and its blobs keep of it.

Pure: the drain calls it when an attempt ends, and an audit calls it again on what was stored.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.detect.port import ERROR_CHARS_MAX, WINDOW_CHARS_MAX, Boundary, Detectors, Outcome
from engine.detect.resets import resets_at_us, resets_clock, resets_in_ms
from engine.events import (
    AttemptFinished,
    BoundaryDetected,
    Evidence,
    FailureFingerprinted,
    Stream,
    TimeoutFingerprints,
    ZeroYieldExplained,
    ZeroYieldReason,
)

EVIDENCE_CHARS = 200
RESET_CHARS = 2000
"""How far behind the evidence of a limit its end is looked for, and a tenth of it before."""


class Kept(NamedTuple):
    """One stream's kept bytes, and the window of them that detectors read."""

    data: bytes
    text: str
    window_start: int

    @classmethod
    def of(cls, data: bytes) -> Kept:
        """The window is the end of ``data``; surrogates keep every byte apart."""
        start = max(0, len(data) - WINDOW_CHARS_MAX)
        return cls(data, data[start:].decode(errors="surrogateescape"), start)


NOTHING_KEPT = Kept(b"", "", 0)


class Streams(NamedTuple):
    """What was kept of both streams."""

    stdout: Kept = NOTHING_KEPT
    stderr: Kept = NOTHING_KEPT


class Diagnosis(NamedTuple):
    """What is recorded of an end beside its facts, in this order.

    ``fingerprinted`` has ``seen_before`` 0 until somebody who knows the count fills it in.
    """

    error: str | None
    fingerprinted: FailureFingerprinted | None
    boundaries: tuple[BoundaryDetected, ...]
    zero_yield: ZeroYieldExplained | None


def outcome_of(finished: AttemptFinished, streams: Streams) -> Outcome:
    """What detectors may read of an end.  ``finished.told`` must be there."""
    told = finished.told
    assert told is not None, "only ends with everything that was told can be diagnosed"
    return Outcome(
        ended=told.ended,
        succeeded=finished.ending == "succeeded",
        final_state=told.state or finished.final_state,
        exit_code=finished.exit_code,
        signal=finished.signal,
        reason=told.reason,
        stored_reason=told.stored_reason,
        stdout=streams.stdout.text,
        stderr=streams.stderr.text,
        yield_events=finished.yield_events,
        declared=told.declared,
        usage_lines_rejected=finished.lines_rejected,
        run_id=finished.run_id,
        phase_id=finished.phase_id,
        attempt_id=finished.attempt_id,
    )


def diagnosis_of(
    finished: AttemptFinished,
    streams: Streams,
    detectors: Detectors,
    timeout_fingerprints: TimeoutFingerprints,
    known: tuple[Boundary, ...] | None = None,
) -> Diagnosis:
    """What ``detectors`` make of an end.

    ``timeout_fingerprints``: whether timeouts are told apart as detected, by run, or not at all.
    ``known``: the limits that the same detectors found in the same output before; None looks.
    """
    outcome = outcome_of(finished, streams)
    found = detectors.boundary(outcome) if known is None else known
    # One limit an attempt, the strongest: several patterns may see the same one.
    strongest = tuple(_boundary(finished, detectors, b, streams) for b in found[:1])
    return Diagnosis(
        error=_error(detectors, outcome),
        fingerprinted=_fingerprinted(finished, detectors, outcome, timeout_fingerprints),
        boundaries=strongest,
        zero_yield=_zero_yield(finished, detectors, outcome, found),
    )


def _error(detectors: Detectors, outcome: Outcome) -> str | None:
    text = None if outcome.succeeded else detectors.error_text(outcome)
    return clean(text)[:ERROR_CHARS_MAX] if text else None


def _fingerprinted(
    finished: AttemptFinished,
    detectors: Detectors,
    outcome: Outcome,
    timeouts: TimeoutFingerprints,
) -> FailureFingerprinted | None:
    if finished.ending in ("succeeded", "abandoned", "orphaned"):
        return None
    found = detectors.fingerprint(outcome)
    if found is None:
        return None
    source = detectors.source("fingerprint")
    identity = clean(found.fingerprint)
    if finished.ending == "timed_out" and timeouts != "detected":
        # A timeout says nothing about its cause, so it is told apart by where it happened.
        identity = f"{source.name}:timeout"
        identity += f":{finished.run_id}" if timeouts == "run" else ""
    return FailureFingerprinted(
        session_id=finished.session_id,
        run_id=finished.run_id,
        phase_id=finished.phase_id,
        attempt_id=finished.attempt_id,
        detector=source.name,
        fingerprint=identity,
        family=clean(found.family),
        template=clean(found.template),
        exit_class=found.exit_class,
        seen_before=0,
        rules_sha256=source.sha256,
    )


def _boundary(
    finished: AttemptFinished, detectors: Detectors, boundary: Boundary, streams: Streams
) -> BoundaryDetected:
    evidence, around = None, ""
    source = detectors.source("boundary")
    declared = finished.told.declared_by if finished.told and boundary.stream is None else None
    if boundary.stream is not None:
        kept = streams.stdout if boundary.stream == "stdout" else streams.stderr
        stream = finished.stdout if boundary.stream == "stdout" else finished.stderr
        evidence = _evidence(boundary, kept, stream)
        around = kept.text[max(0, boundary.start - RESET_CHARS // 10) : boundary.end + RESET_CHARS]
    elif finished.told is not None:
        around = finished.told.reason or ""
    return BoundaryDetected(
        session_id=finished.session_id,
        run_id=finished.run_id,
        phase_id=finished.phase_id,
        attempt_id=finished.attempt_id,
        detector=source.name,
        kind=boundary.kind,
        disposition=boundary.disposition,
        pattern=clean(boundary.pattern),
        declared=declared,
        evidence=evidence,
        resets_in_ms=resets_in_ms(around),
        resets_at_us=resets_at_us(around),
        resets_clock=resets_clock(around),
        rules_sha256=source.sha256,
    )


def _evidence(boundary: Boundary, kept: Kept, stream: Stream) -> Evidence | None:
    assert boundary.stream is not None
    if stream.digest is None:
        return None
    start = kept.window_start + _byte_length(kept.text[: boundary.start])
    end = start + _byte_length(kept.text[boundary.start : boundary.end])
    return Evidence(
        stream=boundary.stream,
        digest=stream.digest,
        byte_start=start,
        byte_end=end,
        excerpt=kept.data[start:end].decode(errors="replace")[:EVIDENCE_CHARS],
    )


def _byte_length(text: str) -> int:
    return len(text.encode(errors="surrogateescape"))


def _zero_yield(
    finished: AttemptFinished,
    detectors: Detectors,
    outcome: Outcome,
    boundaries: tuple[Boundary, ...],
) -> ZeroYieldExplained | None:
    if finished.yield_events > 0:
        return None
    reason: ZeroYieldReason
    source = detectors.source("zero_yield")
    if finished.ending in ("abandoned", "orphaned"):
        reason, detail, evidence = finished.ending, None, f"the attempt was {finished.ending}"
    else:
        found = detectors.zero_yield(outcome, boundaries)
        assert found is not None, "an attempt without yield has a reason"
        reason, detail, evidence = found.reason, found.detail, found.evidence
    return ZeroYieldExplained(
        session_id=finished.session_id,
        run_id=finished.run_id,
        phase_id=finished.phase_id,
        attempt_id=finished.attempt_id,
        detector=source.name,
        reason=reason,
        detail=clean(detail) if detail else None,
        evidence=clean(evidence)[:ERROR_CHARS_MAX],
        rules_sha256=source.sha256,
    )


def clean(text: str) -> str:
    """``text`` without surrogates, which JSON cannot carry."""
    return text.encode(errors="replace").decode()
