"""From an executor's report to what the log says of the attempt: facts, then diagnosis.

Pure but for reading and storing the kept output; run it in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.detect import Boundary, Detectors, Outcome
from engine.detect.port import WINDOW_CHARS_MAX
from engine.events import (
    AnyEvent,
    AttemptFinished,
    BoundaryDetected,
    Ending,
    Evidence,
    FailureFingerprinted,
    PhaseState,
    Stream,
    UsageRecorded,
    UsageRejected,
    ZeroYieldExplained,
    ZeroYieldReason,
)
from engine.executors.port import Assignment, Output, Report
from engine.store.blobs import Blobs
from engine.triage.policy import Policy

EXCERPT_CHARS = 500
EVIDENCE_CHARS = 200
ERROR_CHARS_MAX = 2000


class Kept(NamedTuple):
    """One stream's kept bytes, its entry in the log, and the window detectors read."""

    data: bytes
    stream: Stream
    text: str
    window_start: int


class Diagnosis(NamedTuple):
    """All that is recorded of an ended attempt before triage decides.

    ``fingerprinted`` has ``seen_before`` 0 until the writer, who knows the count, fills it in.
    """

    usage: Sequence[UsageRecorded | UsageRejected]
    finished: AttemptFinished
    fingerprinted: FailureFingerprinted | None
    others: Sequence[AnyEvent]


class _Tags(msgspec.Struct, frozen=True):
    session_id: str
    run_id: str
    phase_id: str
    attempt_id: str

    def asdict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__struct_fields__}


def diagnose(
    report: Report | Exception,
    assignment: Assignment,
    policy: Policy,
    detectors: Detectors,
    blobs: Blobs | None,
    *,
    adopted: bool,
) -> Diagnosis:
    """What ``report`` means; an exception instead of one is an executor's bug (``broke``).

    A guardian that vanished under a living engine was killed by its child or a person: that is a
    failure of the attempt (``broke``).  Only of an ``adopted`` attempt, whose engine had died, it
    proves nothing (``orphaned``).
    """
    broke = isinstance(report, Exception) or (report.ended == "lost" and not adopted)
    facts = _of_bug(report) if isinstance(report, Exception) else report
    stdout, stderr = _kept(facts.stdout, blobs), _kept(facts.stderr, blobs)
    ending = "broke" if broke else _ending(facts, policy)
    final_state = _final_state(facts, ending, assignment.sheet.state)
    outcome = _outcome(facts, assignment, ending, final_state, (stdout, stderr))
    sheet = assignment.sheet
    tags = _Tags(assignment.session_id, sheet.run_id, sheet.phase_id, assignment.attempt_id)
    boundaries = detectors.boundary(outcome)
    finished = _finished(facts, assignment, ending, final_state, (stdout, stderr))
    finished = msgspec.structs.replace(finished, error=_error(detectors, outcome, ending))
    # One limit an attempt, the strongest: several patterns may see the same one.
    strongest = boundaries[:1]
    others = [_boundary_event(tags, detectors, b, facts, (stdout, stderr)) for b in strongest]
    zero = _zero_yield(tags, detectors, outcome, boundaries, ending)
    return Diagnosis(
        usage=_usage_events(tags, facts),
        finished=finished,
        fingerprinted=_fingerprint_event(tags, detectors, outcome, ending),
        others=[*others, *([zero] if zero else [])],
    )


def _of_bug(bug: Exception) -> Report:
    return Report(
        ended="exited", duration_ms=0, reason=f"the executor failed: {type(bug).__name__}: {bug}"
    )


def _ending(report: Report, policy: Policy) -> Ending:
    match report.ended:
        case "timed_out":
            return "timed_out"
        case "abandoned":
            return "abandoned"
        case "lost":
            return "orphaned"
        case "exited":
            pass
    if _code(report) in policy.timeout_exit_codes and report.final_state != "COMPLETE":
        return "timed_out"
    clean = report.signal is None and (report.exit_code == 0 or report.final_state == "COMPLETE")
    claimed = report.claimed_success is not False and not report.missing_deliverables
    complete = report.final_state in (None, "COMPLETE", "GATE", "CI_RUNNING", "SKIPPED")
    return "succeeded" if clean and claimed and complete else "failed"


def _code(report: Report) -> int | None:
    """The exit code, -N for signal N."""
    return report.exit_code if report.signal is None else -report.signal


def _final_state(report: Report, ending: Ending, initial: PhaseState) -> PhaseState:
    if ending in ("abandoned", "orphaned"):
        return initial
    if ending == "succeeded":
        return report.final_state or "COMPLETE"
    if report.final_state in ("QUEUED", "SKIPPED"):
        return report.final_state
    return "FAILED"


def _kept(output: Output, blobs: Blobs | None) -> Kept:
    data = _bytes_of(output)
    digest = blobs.put(data) if blobs and data else None
    start = max(0, len(data) - WINDOW_CHARS_MAX)
    # Surrogates keep every byte apart, so that offsets in the text map to offsets in the bytes.
    text = data[start:].decode(errors="surrogateescape")
    excerpt = data[-EXCERPT_CHARS:].decode(errors="replace")
    head = min(output.head_bytes, len(data))
    stream = Stream(
        total_bytes=max(output.total_bytes, len(data)),
        head_bytes=head,
        tail_bytes=len(data) - head,
        digest=digest,
        excerpt=excerpt,
    )
    return Kept(data, stream, text, start)


def _bytes_of(output: Output) -> bytes:
    size = output.head_bytes + output.tail_bytes
    if output.path is None:
        return output.data[:size]
    try:
        return _read(output.path, size)
    except OSError:
        return b""


def _read(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _outcome(
    report: Report,
    assignment: Assignment,
    ending: Ending,
    final_state: PhaseState,
    streams: tuple[Kept, Kept],
) -> Outcome:
    # What our timer did, not what a policy makes of an exit code: detectors read facts.
    ended = "broke" if ending == "broke" else report.ended
    sheet = assignment.sheet
    return Outcome(
        ended=ended,
        succeeded=ending == "succeeded",
        final_state=report.final_state or final_state,
        exit_code=report.exit_code,
        signal=report.signal,
        reason=_reason(report),
        stored_reason=None if report.clears_reason else sheet.last_failure_reason,
        stdout=streams[0].text,
        stderr=streams[1].text,
        yield_events=len(report.telemetry.usage),
        declared=report.declared.kind if report.declared else None,
        usage_lines_rejected=sum(r.count for r in report.telemetry.rejected),
        run_id=sheet.run_id,
        phase_id=sheet.phase_id,
        attempt_id=assignment.attempt_id,
    )


def _finished(
    report: Report,
    assignment: Assignment,
    ending: Ending,
    final_state: PhaseState,
    streams: tuple[Kept, Kept],
) -> AttemptFinished:
    sheet, telemetry = assignment.sheet, report.telemetry
    tokens = sum((u.input_tokens or 0) + (u.output_tokens or 0) for u in telemetry.usage)
    return AttemptFinished(
        session_id=assignment.session_id,
        run_id=sheet.run_id,
        phase_id=sheet.phase_id,
        attempt_id=assignment.attempt_id,
        number=sheet.attempt,
        ending=ending,
        final_state=final_state,
        exit_code=report.exit_code,
        signal=report.signal,
        duration_ms=report.duration_ms,
        timeout_ms=round(assignment.timeout_s * 1000),
        yield_events=len(telemetry.usage),
        tokens=tokens,
        lines_read=telemetry.lines_read,
        lines_other=telemetry.lines_other,
        lines_rejected=sum(r.count for r in telemetry.rejected),
        killed=report.killed,
        stdout=streams[0].stream,
        stderr=streams[1].stream,
        artifacts=tuple(clean(a)[:ERROR_CHARS_MAX] for a in telemetry.artifacts),
        missing_deliverables=tuple(clean(m) for m in report.missing_deliverables[:100]),
    )


def _error(detectors: Detectors, outcome: Outcome, ending: Ending) -> str | None:
    if ending == "succeeded":
        return None
    text = detectors.error_text(outcome)
    return clean(text)[:ERROR_CHARS_MAX] if text else None


def _reason(report: Report) -> str | None:
    if report.reason is None and report.missing_deliverables:
        return f"missing deliverables: {', '.join(report.missing_deliverables[:5])}"
    return report.reason


def _usage_events(tags: _Tags, report: Report) -> list[UsageRecorded | UsageRejected]:
    named = tags.asdict()
    found: list[UsageRecorded | UsageRejected] = [
        UsageRecorded(**named, **msgspec.structs.asdict(usage)) for usage in report.telemetry.usage
    ]
    found += [
        UsageRejected(**named, **msgspec.structs.asdict(r)) for r in report.telemetry.rejected
    ]
    return found


def _fingerprint_event(
    tags: _Tags, detectors: Detectors, outcome: Outcome, ending: Ending
) -> FailureFingerprinted | None:
    if ending in ("succeeded", "abandoned", "orphaned"):
        return None
    found = detectors.fingerprint(outcome)
    if found is None:
        return None
    return FailureFingerprinted(
        **tags.asdict(),
        detector=detectors.name,
        fingerprint=clean(found.fingerprint),
        family=clean(found.family),
        template=clean(found.template),
        exit_class=found.exit_class,
        seen_before=0,
    )


def _boundary_event(
    tags: _Tags,
    detectors: Detectors,
    boundary: Boundary,
    report: Report,
    streams: tuple[Kept, Kept],
) -> BoundaryDetected:
    evidence = None
    if boundary.stream is not None:
        evidence = _evidence(boundary, streams[0 if boundary.stream == "stdout" else 1])
    declared = report.declared.how if report.declared and boundary.stream is None else None
    return BoundaryDetected(
        **tags.asdict(),
        detector=detectors.name,
        kind=boundary.kind,
        disposition=boundary.disposition,
        pattern=clean(boundary.pattern),
        declared=declared,
        evidence=evidence,
    )


def _evidence(boundary: Boundary, kept: Kept) -> Evidence | None:
    assert boundary.stream is not None
    if kept.stream.digest is None:
        return None
    start = kept.window_start + _byte_length(kept.text[: boundary.start])
    end = start + _byte_length(kept.text[boundary.start : boundary.end])
    return Evidence(
        stream=boundary.stream,
        digest=kept.stream.digest,
        byte_start=start,
        byte_end=end,
        excerpt=kept.data[start:end].decode(errors="replace")[:EVIDENCE_CHARS],
    )


def _byte_length(text: str) -> int:
    return len(text.encode(errors="surrogateescape"))


def _zero_yield(
    tags: _Tags,
    detectors: Detectors,
    outcome: Outcome,
    boundaries: tuple[Boundary, ...],
    ending: Ending,
) -> ZeroYieldExplained | None:
    if outcome.yield_events > 0:
        return None
    reason: ZeroYieldReason
    if ending in ("abandoned", "orphaned"):
        reason, detail, evidence = ending, None, f"the attempt was {ending}"
    else:
        found = detectors.zero_yield(outcome, boundaries)
        assert found is not None, "an attempt without yield has a reason"
        reason, detail, evidence = found.reason, found.detail, found.evidence
    return ZeroYieldExplained(
        **tags.asdict(),
        detector=detectors.name,
        reason=reason,
        detail=clean(detail) if detail else None,
        evidence=clean(evidence)[:ERROR_CHARS_MAX],
    )


def clean(text: str) -> str:
    """``text`` without surrogates, which JSON cannot carry."""
    return text.encode(errors="replace").decode()
