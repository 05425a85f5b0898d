"""Detectors as a service: one request as a record, one answer as a record.

This is what ``runoff detect KIND --jsonl`` reads and writes, and how detectors are measured.  The
shapes are in ``docs/reference/detectors.md``.  A request may leave anything out but its id, and
null stands for nothing; text is counted in code points.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import msgspec

from engine.detect.port import Boundary, Detectors, Outcome, StreamName
from engine.prebuilt import prebuilt

Answer: TypeAlias = dict[str, Any]
Kind = Literal["boundary", "fingerprint", "zero-yield"]

_TIMED_OUT = "TIMEOUT"
_CLOSING = "]}\"' \t\r\n,"


class BoundaryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a program printed and how it exited; whether a limit stopped it is asked."""

    id: str | int
    stdout: str | None = None
    stderr: str | None = None
    exit_code: int | None = None


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """The ids that the engine knows and that are no part of a failure's identity."""

    run_id: str | None = None
    phase_id: str | None = None
    attempt_id: str | None = None
    workspace: str | None = None


class FingerprintRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A failure in the words it was told in; what it is like is asked."""

    id: str | int
    error_text: str | None = None
    exit_code: int | None = None
    final_state: str | None = None
    context: Context | None = None


class ZeroYieldRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended; why no usage came is asked.  Null ``telemetry_events`` are none."""

    id: str | int
    success: bool | None = None
    telemetry_events: int | None = None
    exit_code: int | None = None
    timed_out: bool | None = None
    stdout: str | None = None
    stderr: str | None = None
    final_state: str | None = None


Request: TypeAlias = BoundaryRequest | FingerprintRequest | ZeroYieldRequest

REQUESTS: Mapping[Kind, type[Request]] = MappingProxyType(
    {
        "boundary": BoundaryRequest,
        "fingerprint": FingerprintRequest,
        "zero-yield": ZeroYieldRequest,
    }
)


def answer(request: Request, detectors: Detectors, dropped: Mapping[str, int]) -> Answer:
    """What ``detectors`` say.  Pure: the same request has the same answer.

    ``dropped``: how many characters were cut off the front of a field before it got here.
    """
    match request:
        case BoundaryRequest():
            return _boundary(request, detectors, dropped)
        case FingerprintRequest():
            return _fingerprint(request, detectors)
        case ZeroYieldRequest():
            return _zero_yield(request, detectors)


def _boundary(asked: BoundaryRequest, detectors: Detectors, dropped: Mapping[str, int]) -> Answer:
    outcome = boundary_outcome(asked.stdout, asked.stderr, asked.exit_code)
    hit = strongest(outcome, detectors)
    if hit is None:
        return {"id": asked.id, "kind": "none", "disposition": None}
    told: Answer = {"id": asked.id, "kind": hit.kind, "disposition": hit.disposition}
    if hit.disposition != "stopped_by":
        told |= {"kind": "none", "noticed": hit.kind}
    if hit.stream is not None:
        base = dropped.get(hit.stream, 0)
        text = text_of(outcome, hit.stream)[hit.start : hit.end]
        told["evidence"] = {
            "stream": hit.stream,
            "start": hit.start + base,
            "end": hit.end + base,
            "text": text,
        }
    return told


def boundary_outcome(stdout: str | None, stderr: str | None, exit_code: int | None) -> Outcome:
    """The end of a program of which nothing else is known; an exit code of 0 is no failure yet."""
    return Outcome(
        ended="exited",
        succeeded=False,
        final_state="",
        exit_code=exit_code,
        stdout=stdout or "",
        stderr=stderr or "",
    )


def strongest(outcome: Outcome, detectors: Detectors) -> Boundary | None:
    """The one limit that counts.

    Exit code 0 makes words of a limit one that was met and survived.  It does not outvote a record
    that is the last thing the program printed: agents exit 0 on a cut answer (OpenCode, Qwen Code).
    """
    hits = detectors.boundary(outcome)
    if not hits or outcome.exit_code != 0:
        return hits[0] if hits else None
    for hit in hits:
        if hit.disposition == "stopped_by" and _has_the_last_word(outcome, hit):
            return hit
    first = hits[0]
    if first.disposition == "stopped_by":
        return msgspec.structs.replace(first, disposition="encountered")
    return first


def _has_the_last_word(outcome: Outcome, hit: Boundary) -> bool:
    if hit.stream is None or "=" not in hit.pattern:
        return hit.stream is None
    text = text_of(outcome, hit.stream)
    end = text.find("\n", hit.end)
    return end < 0 or not text[end:].strip(_CLOSING)


def text_of(outcome: Outcome, stream: StreamName) -> str:
    """One stream of an outcome."""
    return outcome.stdout if stream == "stdout" else outcome.stderr


def _fingerprint(asked: FingerprintRequest, detectors: Detectors) -> Answer:
    found = detectors.fingerprint(_failure(asked))
    if found is None:
        return {"id": asked.id, "fingerprint": None, "family": None}
    return {"id": asked.id, "fingerprint": found.fingerprint, "family": found.family}


def _failure(asked: FingerprintRequest) -> Outcome:
    context = asked.context or Context()
    return Outcome(
        ended="timed_out" if asked.final_state == _TIMED_OUT else "exited",
        succeeded=False,
        final_state=asked.final_state or "FAILED",
        exit_code=asked.exit_code,
        reason=asked.error_text,
        run_id=context.run_id or "",
        phase_id=context.phase_id or "",
        attempt_id=context.attempt_id or "",
        workspace=context.workspace,
    )


def _zero_yield(asked: ZeroYieldRequest, detectors: Detectors) -> Answer:
    outcome = Outcome(
        ended="timed_out" if asked.timed_out else "exited",
        succeeded=bool(asked.success),
        final_state=asked.final_state or "",
        exit_code=asked.exit_code,
        stdout=asked.stdout or "",
        stderr=asked.stderr or "",
        yield_events=asked.telemetry_events or 0,
    )
    found = detectors.zero_yield(outcome)
    return {"id": asked.id, "reason": None if found is None else found.reason}


prebuilt(BoundaryRequest, FingerprintRequest, ZeroYieldRequest)
