"""From an executor's report to what the log says of the attempt: facts, then diagnosis.

Pure but for reading and storing the kept output; run it in a thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.detect import Detectors
from engine.detect.diagnosis import Diagnosis, Kept, Streams, clean, diagnosis_of
from engine.detect.known_limits import KnownLimits
from engine.detect.port import ERROR_CHARS_MAX, STORED_CHARS_MAX
from engine.drain.covered import covered
from engine.errors import raise_at_a_limit
from engine.events import (
    TAGS,
    AttemptFinished,
    Ended,
    Ending,
    PhaseState,
    Stream,
    Told,
    UsageRecorded,
    UsageRejected,
)
from engine.executors.port import Assignment, Output, Report
from engine.store.blobs import BlobStore
from engine.triage.decide import Facts
from engine.triage.policy import Policy

EXCERPT_BYTES = 500
REASON_CHARS_MAX = 16_384


class Diagnosed(NamedTuple):
    """All that is recorded of an ended attempt before triage decides."""

    usage: Sequence[UsageRecorded | UsageRejected]
    finished: AttemptFinished
    diagnosis: Diagnosis

    @property
    def facts(self) -> Facts:
        """What triage reads."""
        found = self.diagnosis
        return Facts(self.finished, found.fingerprinted, found.boundaries, found.zero_yield)


def diagnose(
    report: Report | Exception,
    assignment: Assignment,
    policy: Policy,
    detectors: Detectors,
    blobs: BlobStore | None,
    *,
    adopted: bool,
    limits: KnownLimits,
) -> Diagnosed:
    """What ``report`` means; an exception instead of one is an executor's bug (``broke``).

    A guardian that vanished under a living engine was killed by its child or a person: that is a
    failure of the attempt (``broke``).  Only of an ``adopted`` attempt, whose engine had died, it
    proves nothing (``orphaned``).  ``limits``: those of what children said before.
    """
    broke = isinstance(report, Exception) or (report.ended == "lost" and not adopted)
    facts = _of_bug(report) if isinstance(report, Exception) else report
    ending = "broke" if broke else _ending(facts, policy)
    # Nothing is stored or diagnosed that still shows a secret.
    said = covered(facts, _bytes_of(facts.stdout), _bytes_of(facts.stderr))
    streams = (
        _stored(facts.stdout, said.stdout, blobs),
        _stored(facts.stderr, said.stderr, blobs),
    )
    finished = _finished(said.report, assignment, ending, streams)
    finished = msgspec.structs.replace(finished, redacted=said.redacted)
    kept = Streams(Kept.of(said.stdout), Kept.of(said.stderr))
    known = limits.of(finished, kept, detectors)
    found = diagnosis_of(finished, kept, detectors, policy.timeout_fingerprints, known)
    return Diagnosed(
        usage=_usage_events(finished, said.report),
        finished=msgspec.structs.replace(finished, error=found.error),
        diagnosis=found,
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
    if policy.is_timeout(report.exit_code, report.signal, report.final_state):
        return "timed_out"
    return "succeeded" if _ended_well(report) and not report.missing_deliverables else "failed"


def _ended_well(report: Report) -> bool:
    """Whether the child did, as far as it can tell: by its exit and its own word."""
    clean = report.signal is None and (report.exit_code == 0 or report.final_state == "COMPLETE")
    complete = report.final_state in (None, "COMPLETE", "GATE", "CI_RUNNING", "SKIPPED")
    return clean and complete and report.claimed_success is not False


def _final_state(report: Report, ending: Ending, initial: PhaseState) -> PhaseState:
    if ending in ("abandoned", "orphaned"):
        return initial
    if ending == "succeeded":
        return report.final_state or "COMPLETE"
    if report.final_state in ("QUEUED", "SKIPPED"):
        return report.final_state
    return "FAILED"


def _stored(output: Output, data: bytes, blobs: BlobStore | None) -> Stream:
    head = min(output.head_bytes, len(data))
    stream = Stream(
        total_bytes=max(output.total_bytes, len(data)),
        head_bytes=head,
        tail_bytes=len(data) - head,
        digest=hashlib.sha256(data).hexdigest() if blobs and data else None,
        excerpt=data[-EXCERPT_BYTES:].decode(errors="replace"),
    )
    if blobs and data and stream.whole is None:
        blobs.put(data)
    return stream


def _bytes_of(output: Output) -> bytes:
    size = output.head_bytes + output.tail_bytes
    if output.path is None:
        return output.data[:size]
    try:
        return _read(output.path, size)
    except OSError as error:
        raise_at_a_limit(error)
        return b""


def _read(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _told(report: Report, assignment: Assignment, ending: Ending) -> Told:
    # What our timer did, not what a policy makes of an exit code: detectors read facts.
    ended: Ended = "broke" if ending == "broke" else report.ended
    reason, stored = _reason(report), None
    if ending != "succeeded" and not report.clears_reason:
        stored = assignment.sheet.last_failure_reason
    return Told(
        ended=ended,
        state=report.final_state,
        reason=clean(reason[-REASON_CHARS_MAX:]) if reason is not None else None,
        stored_reason=clean(stored[:STORED_CHARS_MAX]) if stored is not None else None,
        declared=report.declared.kind if report.declared else None,
        declared_by=report.declared.how if report.declared else None,
    )


def _finished(
    report: Report,
    assignment: Assignment,
    ending: Ending,
    streams: tuple[Stream, Stream],
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
        final_state=_final_state(report, ending, sheet.state),
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
        stdout=streams[0],
        stderr=streams[1],
        artifacts=tuple(clean(a)[:ERROR_CHARS_MAX] for a in telemetry.artifacts),
        missing_deliverables=tuple(clean(m) for m in report.missing_deliverables[:100]),
        told=_told(report, assignment, ending),
    )


def _reason(report: Report) -> str | None:
    # Whatever else failed left its files unwritten, too: then its output says why.
    if report.reason is None and report.missing_deliverables and _ended_well(report):
        return f"missing deliverables: {', '.join(report.missing_deliverables[:5])}"
    return report.reason


def _usage_events(finished: AttemptFinished, report: Report) -> list[UsageRecorded | UsageRejected]:
    tags = {name: getattr(finished, name) for name in TAGS}
    found: list[UsageRecorded | UsageRejected] = [
        UsageRecorded(**tags, **msgspec.structs.asdict(usage)) for usage in report.telemetry.usage
    ]
    found += [UsageRejected(**tags, **msgspec.structs.asdict(r)) for r in report.telemetry.rejected]
    return found
